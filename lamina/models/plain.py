"""A checkpoint as a model: every tensor is read as it lies in the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
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


def files_of(ref: ModelRef, beside: Path, hub: HubOptions, *, first: Sequence[Path] = ()) -> ModelFiles:
    """The files of the model that a recipe in the folder `beside` means.

    A folder beside the recipe, else one in the working directory, else a model of the Hub; before all of these one in
    a folder of `first`. Raises CheckpointError, with the places, where there is none of them.
    """
    try:
        path = Path(ref.path).expanduser()
    except (RuntimeError, ValueError) as error:  # `~` of an unknown user, or of a zero byte
        raise CheckpointError(f"`{ref.path}` cannot be looked for: {error}") from error
    places = [*(folder / path for folder in first), beside / path]
    # The shortened way is for a recipe whose own folder is still to be made: no file system goes back from there.
    shortened = (each for place in places for each in (place, Path(os.path.normpath(place))))
    for folder in dict.fromkeys((*shortened, path)):
        if is_folder(folder):
            return LocalFiles(folder)
    looked = list(dict.fromkeys(map(str, (*places, path))))
    if ref.is_hub_id:
        try:
            return open_hub_files(ref.path, hub.commits.get(str(ref)) or ref.revision or hub.revision, hub)
        except CheckpointError as error:
            if len(looked) == 1:
                raise
            raise CheckpointError(f"{error} As a folder it was looked for at {' and '.join(looked)}.") from error
    raise CheckpointError(f"there is no folder {' or '.join(looked)}, and a model of the Hub is written `org/name`.")


def folder_like(path: str, beside: Path) -> str | None:
    """The model's folder that a path which leads to none is likely meant for; None where none is near.

    That of the file to which it leads, or the one whose path is this one's but for slips in its parts.
    """
    meant = PurePath(path)
    found = PurePath(meant.anchor)
    try:
        if (beside / meant).is_file():
            return str(meant.parent)
        for part in meant.relative_to(meant.anchor).parts:
            near = part if is_folder(beside / found / part) else _near(part, beside / found)
            if near is None:
                return None
            found /= near
        return str(found) if found != meant and (beside / found / "config.json").is_file() else None
    except (OSError, ValueError):  # a folder that may not be listed, or none; ValueError: a zero byte in the name
        return None


def _near(name: str, folder: Path) -> str | None:
    there = sorted(each.name for each in folder.iterdir() if is_folder(each))
    # Letters that changed places make a word of three too unlike.
    return nearest(name, there) or next((each for each in there if sorted(each) == sorted(name)), None)
