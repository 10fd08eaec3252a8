"""Questions that many merges answer together: which value of a recipe is best, and is that beyond chance."""
