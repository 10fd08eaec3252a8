"""Open whole models for looking at, with all their files here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamina.checkpoints.hub_client import HubOptions
from lamina.errors import CheckpointError
from lamina.model_ref import parse_model_ref
from lamina.models.plain import PlainModel, files_of, open_model
from lamina.planners.side_files import OTHER_FILES, TOKENIZER_FILES
from lamina.planners.small_files import small_files


@contextmanager
def opened(source: str | Path, hub: HubOptions) -> Iterator[PlainModel]:
    """A folder, or a model of the Hub, for as long as it is looked at; fetched where it is not here."""
    try:
        ref = parse_model_ref(str(source))
    except ValueError as error:
        raise CheckpointError(f"{error}.") from error
    if ref.adapters:
        raise CheckpointError(f"`{source}` names an adapter: merge it first, then look at what comes out.")
    with kept(open_model(str(source), files_of(ref, Path(), hub))) as model:
        model.checkpoint.fetch(model.checkpoint.specs)
        names = small_files(model, (*TOKENIZER_FILES, *OTHER_FILES)).names
        model.checkpoint.files.fetch(names, lambda _file, _nbytes: None)
        yield model


@contextmanager
def kept(model: PlainModel) -> Iterator[PlainModel]:
    """The model, closed in the end."""
    try:
        yield model
    finally:
        model.checkpoint.close()
