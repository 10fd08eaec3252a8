"""A checkpoint as a model: every tensor is read as it lies in the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lamina.architectures.infer import Architecture, infer_architecture
from lamina.architectures.layer_config import Decoder
from lamina.checkpoints.checkpoint import Checkpoint, LocalFiles, ModelFiles, open_checkpoint, parse_json
from lamina.checkpoints.files import is_folder
from lamina.checkpoints.hub import open_hub_files
from lamina.checkpoints.hub_client import HubOptions
from lamina.errors import CheckpointError, nearest
from lamina.expressions.nodes import Expr, Read
from lamina.model_ref import ModelRef


@dataclass(frozen=True)
class PlainModel:
    """A model under the name that the recipe gives it."""

    name: str
    checkpoint: Checkpoint
    config: Mapping[str, Any]

    @cached_property
    def architecture(self) -> Architecture:
        """Layers and ends. Raises CheckpointError where the tensors make no single decoder."""
        try:
            return infer_architecture(self.checkpoint.specs, self.config)
        except ValueError as error:
            raise CheckpointError(f"{self.checkpoint.files.label}: {error}") from error

    @cached_property
    def decoder(self) -> Decoder:
        """Config and architecture, for moving layers."""
        return Decoder(self.name, self.config, self.architecture)

    def expr(self, name: str) -> Expr | None:
        """The tensor `name`; a tied model's head is its embedding; None where the model has no such tensor."""
        if name not in self.checkpoint.specs or (self.architecture.tied and name == self.architecture.head):
            if name != self.architecture.head:
                return None
            name = self.architecture.embedding
        return Read(self.name, name, self.checkpoint.specs[name])


def open_model(name: str, source: Path | ModelFiles) -> PlainModel:
    """Open a model: config.json and headers. Raises CheckpointError where it cannot be trusted."""
    checkpoint = open_checkpoint(source)
    files = checkpoint.files
    return PlainModel(name, checkpoint, parse_json(files.read("config.json"), f"{files.label}/config.json"))


def files_of(ref: ModelRef, beside: Path, hub: HubOptions) -> ModelFiles:
    """The files of the model that a recipe in the folder `beside` means.

    A folder beside the recipe, else one in the working directory, else a model of the Hub. Raises
    CheckpointError where there is none of them.
    """
    try:
        path = Path(ref.path).expanduser()
    except (RuntimeError, ValueError) as error:  # `~` of an unknown user, or of a zero byte
        raise CheckpointError(f"`{ref.path}` cannot be looked for: {error}") from error
    # The shortened way is for a recipe whose own folder is still to be made: no file system goes back from there.
    for folder in dict.fromkeys((beside / path, Path(os.path.normpath(beside / path)), path)):
        if is_folder(folder):
            return LocalFiles(folder)
    if ref.is_hub_id:
        return open_hub_files(ref.path, hub.commits.get(str(ref)) or ref.revision or hub.revision, hub)
    looked = f"{beside / path}" if path.is_absolute() or beside == Path() else f"{beside / path} or {path}"
    near = _folder_like(path)
    hint = "" if near is None else f" Did you mean `{near}`?"
    raise CheckpointError(f"there is no folder {looked}, and a model of the Hub is written `org/name`.{hint}")


def _folder_like(path: Path) -> Path | None:
    """The folder whose path is this one's but for slips in its parts; None where a part has none that is near."""
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if not is_folder(found / part):
            try:
                near = nearest(part, sorted(each.name for each in found.iterdir() if is_folder(each)))
            except OSError:  # a folder that may not be listed: nothing is known to be near
                return None
            if near is None:
                return None
            part = near
        found /= part
    return found
