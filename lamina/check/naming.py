"""How models are called in what is told."""

from __future__ import annotations


def short_name(name: str) -> str:
    """A model's own name, without the folders before it."""
    return name.rstrip("/").rpartition("/")[2] or name
