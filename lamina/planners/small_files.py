"""The small files beside a model's tensors, as far as planning looks into them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch

from lamina.checkpoints.files import read_all
from lamina.models.plain import PlainModel


def small_files(model: PlainModel, patterns: Sequence[str]) -> dict[str, bytes]:
    """The files of a model whose names match one of the patterns, by name in order."""
    names = sorted(path.name for path in model.folder.iterdir() if path.is_file())
    return {name: read_all(model.folder / name) for name in names if any(fnmatch(name, each) for each in patterns)}
