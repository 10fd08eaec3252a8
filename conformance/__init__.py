"""Does Lamina give MergeKit's result? Random recipes, carried out by both, compared by rules fixed beforehand.

    python -m conformance --recipes 520 --record tests/conformance/digests.csv

`recipes.py` draws them, `rows.py` says before anything runs which rows of docs/mergekit.md a recipe touches,
`peer.py` has MergeKit 0.1.5 carry them out in its own environment, `compare.py` holds the rules, `report.py` tells.
"""
