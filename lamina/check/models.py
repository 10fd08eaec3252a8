"""Open whole models for looking at, with all their files here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamina.checkpoints.checkpoint import ModelFiles
from lamina.checkpoints.hub_client import HubOptions
from lamina.errors import CheckpointError
from lamina.model_ref import ModelRef, parse_model_ref
from lamina.models.plain import PlainModel, files_of, folder_like, open_model
from lamina.planners.side_files import OTHER_FILES, TOKENIZER_FILES
from lamina.planners.small_files import small_files
from lamina.recipe.load import RECIPE_ENDINGS


@contextmanager
def opened(source: str | Path, hub: HubOptions) -> Iterator[PlainModel]:
    """A folder, or a model of the Hub, for as long as it is looked at; fetched where it is not here."""
    try:
        ref = parse_model_ref(str(source))
    except ValueError as error:
        raise CheckpointError(f"{error}.") from error
    if ref.adapters:
        raise CheckpointError(f"`{source}` names an adapter: merge it first, then look at what comes out.")
    with kept(open_model(str(source), _files_of(ref, hub))) as model:
        model.checkpoint.fetch(model.checkpoint.specs)
        names = small_files(model, (*TOKENIZER_FILES, *OTHER_FILES)).names
        model.checkpoint.files.fetch(names, lambda _file, _nbytes: None)
        yield model


def _files_of(ref: ModelRef, hub: HubOptions) -> ModelFiles:
    try:
        return files_of(ref, Path(), hub)
    except CheckpointError as error:
        path = Path(ref.path)
        if path.suffix in RECIPE_ENDINGS and path.is_file():
            raise CheckpointError(
                f"{path} is a recipe, and what is looked at here is a model's folder: `lamina merge {path} OUT` makes "
                "it, and with `--check` it is checked too."
            ) from error
        meant = folder_like(ref.path, Path())
        if meant is None:
            raise
        raise CheckpointError(f"{error} Did you mean `{meant}`?") from error


@contextmanager
def kept(model: PlainModel) -> Iterator[PlainModel]:
    """The model, closed in the end."""
    try:
        yield model
    finally:
        model.checkpoint.close()
