"""Folders of tensors: opened (headers only), read (bytes at offsets), laid out and written."""
