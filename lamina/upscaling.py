"""Deeper models from one, as a call: the recipe is written for you, and merged like any other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Unpack

from lamina.api import Options, Result, merge
from lamina.checkpoints.files import exists, read_all, write_file
from lamina.checkpoints.hub_client import HubOptions
from lamina.checkpoints.layout import DEFAULT_SHARD_SIZE
from lamina.errors import CheckpointError, OutputError, Problem, RecipeError
from lamina.ledger.notebook import Notebook
from lamina.model_ref import ModelRef, parse_model_ref
from lamina.models.plain import files_of, open_model
from lamina.planners.training import training_files
from lamina.planners.upscale import Overlap, llama_pro, solar
from lamina.recipe.load import Recipe, parse_recipe

Method = Literal["solar", "llama-pro"]


def upscale(
    model: str | Path,
    out: str | Path,
    *,
    method: Method = "solar",
    to: int | None = None,
    drop: int | None = None,
    first: int | None = None,
    overlap: Overlap = "cut",
    scale_repeated: float | None = None,
    add: int | None = None,
    at: Sequence[int] = (),
    workers: int | None = None,
    memory: int | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    force: bool = False,
    notebook: Notebook | None = None,
    **options: Unpack[Options],
) -> Result:
    """Make a model deeper, into the folder `out`. `upscale_recipe` has the ways, `merge` all else.

    The recipe that it stands for is written beside the folder, as `OUT.yml`; merging that makes the same bytes. In
    the folder `training.md` and `training.json` say which layers to train. Raises LaminaError.
    """
    recipe = upscale_recipe(
        model, out, method=method, to=to, drop=drop, first=first, overlap=overlap, scale_repeated=scale_repeated,
        add=add, at=at, cache_dir=options.get("cache_dir"), token=options.get("token"),
        offline=options.get("offline", False), revision=options.get("revision"),
    )  # fmt: skip
    check_beside(recipe, force=force)
    result = merge(
        recipe, out, workers=workers, memory=memory, shard_size=shard_size, force=force, notebook=notebook, **options
    )
    keep_beside(recipe)
    return result


def upscale_recipe(
    model: str | Path,
    out: str | Path | None = None,
    *,
    method: Method = "solar",
    to: int | None = None,
    drop: int | None = None,
    first: int | None = None,
    overlap: Overlap = "cut",
    scale_repeated: float | None = None,
    add: int | None = None,
    at: Sequence[int] = (),
    cache_dir: str | Path | None = None,
    token: str | None = None,
    offline: bool = False,
    revision: str | None = None,
) -> Recipe:
    """The recipe of an up-scaling, to be planned, merged or loaded like any other. Reads config and headers only.

    "solar" lays the model over itself: `to` layers in all, or `drop` from each copy, the copies cut after the first
    copy's `first` layers, or blended where they cross (`overlap`); `scale_repeated` is a factor on the outputs of
    layers that are there twice. "llama-pro" adds layers that change nothing until they are trained: `add` of them
    evenly spread, or `at` output layers.

    With `out` the recipe is for the file `OUT.yml`, else for the working directory. Raises RecipeError where the
    model cannot be up-scaled as asked, with the reason.
    """
    file = Path("recipe.yml") if out is None else _recipe_file(Path(out))
    hub = HubOptions(None if cache_dir is None else Path(cache_dir), token, offline, revision)
    try:
        ref = parse_model_ref(str(model))
        opened = open_model(_name_beside(ref, file), files_of(ref, Path(), hub))
        _ = opened.architecture
    except (CheckpointError, ValueError) as error:
        raise RecipeError([Problem("model", f"{error}")]) from error
    try:
        if lists := opened.architecture.parts:
            message = (
                f"`{opened.name}` has its layers in {len(lists)} lists ({', '.join(lists)}), so what to train of it "
                "cannot be said as `training.md` does. A recipe with `stack` moves its layers all the same."
            )
            raise RecipeError([Problem("upscale", message)])
        if method == "solar":
            _refuse_unless_none(method, add=add, at=at or None)
            found = solar(opened, to=to, drop=drop, first=first, overlap=overlap, scale_repeated=scale_repeated)
        else:
            own = None if overlap == "cut" else overlap
            _refuse_unless_none(method, to=to, drop=drop, first=first, overlap=own, scale_repeated=scale_repeated)
            found = llama_pro(opened, add=add, at=at)
        return replace(parse_recipe(found.text, str(file)), notes=training_files(opened, found))
    finally:
        opened.checkpoint.close()


def check_beside(recipe: Recipe, *, force: bool) -> None:
    """Raises OutputError where another file has the name that the recipe is to have."""
    file = Path(recipe.file)
    if exists(file) and read_all(file) != recipe.text.encode() and not force:
        raise OutputError(f"{file} is there and holds something else; name another output, or replace it: --force")


def keep_beside(recipe: Recipe) -> None:
    """Write the recipe beside the folder that was made of it."""
    write_file(Path(recipe.file), recipe.text.encode())


def _recipe_file(out: Path) -> Path:
    return out.with_name(f"{out.name}.yml")


def _name_beside(ref: ModelRef, file: Path) -> str:
    """How a recipe at `file` calls the model: a folder by the way to it from there, if that way is told at all."""
    folder = Path(ref.path)
    if folder.is_absolute() or ref.path.startswith("~") or not folder.is_dir():
        return str(ref)
    return str(replace(ref, path=os.path.relpath(folder, file.parent)))


_TAKES = {"solar": "`--to`, `--drop`, `--first`, `--overlap` and `--scale-repeated`", "llama-pro": "`--add` and `--at`"}


def _refuse_unless_none(method: str, **given: object) -> None:
    if foreign := [f"`--{name.replace('_', '-')}`" for name, value in given.items() if value is not None]:
        message = f"{', '.join(foreign)} says nothing to --method {method}, which takes {_TAKES[method]}."
        raise RecipeError([Problem("upscale", message)])
