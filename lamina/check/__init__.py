"""What a merge has become: how it differs from its parents, and whether it is sound."""
