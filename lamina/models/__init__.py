"""A model is whatever gives an expression for a tensor name."""
