"""Which tensors of a model are layers and which are its ends: names and config only, no tensors."""
