"""Carrying out a plan: worker threads that compute blocks, and what takes the blocks."""
