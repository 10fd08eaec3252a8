"""Which format a tensor file has, by its name. A format is one function, from a header to tensors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

from lamina.checkpoints.entries import Entry, ReadAt
from lamina.checkpoints.files import read_at, size_of
from lamina.checkpoints.safetensors import read_safetensors
from lamina.checkpoints.torch_pickle import read_torch_pickle
from lamina.errors import CheckpointError


class Format(Protocol):
    """From the header of a file to its tensors, checked so that reading them needs no further check.

    Reads no tensor. Where the file is not `here`, an entry's offset may stay open (None). Raises ValueError
    with a sentence for what is not allowed.
    """

    def __call__(self, read: ReadAt, size: int, here: bool, /) -> dict[str, Entry]: ...


PICKLES = (".bin", ".pt", ".pth")


def format_of(name: str) -> Format:
    """The format of a tensor file of this name."""
    return read_torch_pickle if Path(name).suffix in PICKLES else read_safetensors


def open_tensors(path: Path) -> dict[str, Entry]:
    """Every tensor of a file, by name. Reads headers only.

    Raises CheckpointError, naming the file and the broken rule, for anything its format does not allow.
    """
    return read_tensors(path.name, str(path), partial(read_at, path), size_of(path), here=True)


def read_tensors(name: str, label: str, read: ReadAt, size: int, *, here: bool) -> dict[str, Entry]:
    """The same of a file that is read through `read`, here or elsewhere; letters call it `label`."""
    try:
        return format_of(name)(read, size, here)
    except ValueError as error:
        raise CheckpointError(f"{label}: {str(error).rstrip('.')}.") from error
