"""The small files beside a model's tensors, as far as planning looks into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from lamina.models.plain import PlainModel


@dataclass(frozen=True)
class SmallFiles(Mapping[str, bytes]):
    """Files of one model by name. Each is read when it is asked for and not kept: a tokenizer can be 30 MB."""

    model: PlainModel
    names: tuple[str, ...]

    def __getitem__(self, name: str) -> bytes:
        if name not in self.names:
            raise KeyError(name)
        return self.model.checkpoint.files.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def small_files(model: PlainModel, patterns: Sequence[str]) -> SmallFiles:
    """The files of a model whose names match one of the patterns, in the order of their names."""
    names = model.checkpoint.files.names()
    return SmallFiles(model, tuple(name for name in names if any(fnmatch(name, each) for each in patterns)))
