"""A checkpoint as a model: every tensor is read as it lies in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lamina.architectures.infer import Architecture, infer_architecture
from lamina.checkpoints.checkpoint import Checkpoint, open_checkpoint, read_json
from lamina.errors import CheckpointError
from lamina.expressions.nodes import Expr, Read


@dataclass(frozen=True)
class PlainModel:
    """A model folder under the name that the recipe gives it."""

    name: str
    checkpoint: Checkpoint
    config: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return self.checkpoint.folder

    @cached_property
    def architecture(self) -> Architecture:
        """Layers and ends. Raises CheckpointError where the tensors make no single decoder."""
        try:
            return infer_architecture(self.checkpoint.specs, self.config)
        except ValueError as error:
            raise CheckpointError(f"{self.folder}: {error}") from error

    def expr(self, name: str) -> Expr | None:
        """The tensor `name`; a tied model's head is its embedding; None where the model has no such tensor."""
        if name not in self.checkpoint.specs or (self.architecture.tied and name == self.architecture.head):
            if name != self.architecture.head:
                return None
            name = self.architecture.embedding
        return Read(self.name, name, self.checkpoint.specs[name])


def open_model(name: str, folder: Path) -> PlainModel:
    """Open a model's folder: config.json and headers. Raises CheckpointError where it cannot be trusted."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder.")
    return PlainModel(name, open_checkpoint(folder), read_json(folder / "config.json"))
