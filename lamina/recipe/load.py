"""A recipe from a file, a published merge, text or a mapping; the changes of `--set` on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lamina.errors import Problem, RecipeError, nearest
from lamina.recipe.faults import Draft
from lamina.recipe.mending import changes_of
from lamina.recipe.plain_values import plain_values
from lamina.recipe.recipe import Border as Border
from lamina.recipe.recipe import Recipe as Recipe
from lamina.recipe.recipe import line_of
from lamina.recipe.schema import VALUES, RecipeSchema
from lamina.recipe.steps import Put
from lamina.recipe.text import Document, read_yaml, with_values
from lamina.recipe.ways import Way, parse_way

CARRIED_RECIPES = ("lamina.yml", "mergekit_config.yml")  # what a published merge keeps its recipe as

RECIPE_ENDINGS = (".yml", ".yaml")

RecipeLike = str | Path | Mapping[str, Any] | Recipe


def names_a_recipe(path: Path) -> bool:
    """True where, of a recipe's file and a model, a path can only be the file: it is one, or ends as one would."""
    return path.suffix in RECIPE_ENDINGS or path.is_file()


def load_recipe(source: RecipeLike, *, border: Border = "normal", set_values: Sequence[str] = ()) -> Recipe:
    """A recipe from a file, a published merge's folder, YAML text (of more than one line), or a mapping.

    A mapping may name a merge method of one's own by the function itself, and models by their paths.
    `set_values` are changes like `stack[1].at=8`. Raises RecipeError where nothing can be understood.
    """
    if isinstance(source, Recipe):
        changed = set_values or border != "normal"
        return parse_recipe(source.text, source.file, border, set_values) if changed else source
    if isinstance(source, Mapping):
        return parse_recipe(yaml.safe_dump(plain_values(source), sort_keys=False), "recipe", border, set_values)
    if isinstance(source, str) and "\n" in source:
        return parse_recipe(source, "recipe", border, set_values)
    path = _recipe_file(Path(source))
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError([_absent(path)]) from error
    except OSError as error:
        raise RecipeError([Problem("no-recipe", f"{path}: {(error.strerror or str(error)).lower()}.")]) from error
    except UnicodeDecodeError as error:
        raise RecipeError([Problem("yaml", f"{path} is not text in UTF-8 ({error.reason}).")]) from error
    return parse_recipe(text, str(path), border, set_values)


def parse_recipe(text: str, file: str, border: Border = "normal", set_values: Sequence[str] = ()) -> Recipe:
    """Read a recipe's text; `file` is how its problems call it, and where its models are looked for.

    Raises RecipeError where nothing can be understood.
    """
    document, written = read_yaml(text, file), text
    overrides = _overrides(set_values)
    if overrides and isinstance(document.content, dict):
        document = _overridden(document, overrides)
        text = yaml.safe_dump(document.content, sort_keys=False)
    if not isinstance(document.content, dict):
        raise RecipeError(document.problems or [_no_mapping(document, text, file)])
    blank = Recipe(file, text, written, RecipeSchema(), document.places, border=border, overrides=overrides)
    return Draft(document, blank).recipe()


def _no_mapping(document: Document, text: str, file: str) -> Problem:
    """The letter for a text that holds one word, or a list."""
    message = "a recipe is a mapping, at least `models: [{model: org/name}]` and `merge_method: passthrough`."
    entries, steps = document.content, []
    if isinstance(entries, list) and entries and all(isinstance(entry, dict) and "model" in entry for entry in entries):
        message = (
            "a recipe is a mapping: this list stands under `models`, and beside it `merge_method`, the way in which "
            "they are merged: `linear` with equal weights, for instance."
        )
        weighted = [{**entry, "parameters": {"weight": 1, **_parameters(entry)}} for entry in entries]
        steps = [Put((), {"models": weighted, "merge_method": "linear"})]
    return Problem("yaml", message, 1, 1, file, excerpt=line_of(text, 1), changes=changes_of(text, steps))


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of an entry; none where they are no mapping, which is told once they stand in a recipe."""
    given = entry.get("parameters")
    return given if isinstance(given, dict) else {}


def _recipe_file(path: Path) -> Path:
    """The file itself, or the recipe that a published merge's folder carries."""
    if not path.is_dir():
        return path
    for name in CARRIED_RECIPES:
        if (path / name).is_file():
            return path / name
    raise RecipeError([Problem("no-recipe", f"{path} is a folder without a recipe ({' or '.join(CARRIED_RECIPES)}).")])


def _absent(path: Path) -> Problem:
    """The letter for a file that is not there, with the one that may be meant."""
    if not path.parent.is_dir():
        return Problem("no-recipe", f"{path}: no such file, and no folder {path.parent}.")
    near = recipe_like(path)
    if near is None:
        return Problem("no-recipe", f"{path}: no such file.")
    return Problem("no-recipe", f"{path}: no such file. Did you mean `{near}`?", suggestion=str(near))


def recipe_like(path: Path) -> Path | None:
    """The recipe in the same folder whose name, but for its ending, is the path's or near it."""
    try:
        files = sorted(each.name for each in path.parent.iterdir() if each.suffix in RECIPE_ENDINGS)
    except OSError:  # a folder that may not be listed, or none: nothing is known to be near
        return None
    stems = {Path(name).stem: name for name in files}
    near = nearest(path.stem, list(stems))
    return None if near is None else path.with_name(stems[near])


def _overrides(set_values: Sequence[str]) -> dict[Way, str]:
    """The changes by their ways. Raises RecipeError with all that are malformed."""
    found: dict[Way, str] = {}
    problems = []
    for written in set_values:
        name, equals, _ = written.partition("=")
        try:
            if not equals:
                valid = f", VALUE one of {', '.join(VALUES[written])}" if written in VALUES else ""
                raise ValueError(f"`{written}` sets nothing; the form is `--set {written}=VALUE`{valid}.")
            found[parse_way(name)] = written
        except ValueError as error:
            problems.append(Problem("set", str(error), file="--set"))
    if problems:
        raise RecipeError(problems)
    return found


def _overridden(document: Document, overrides: Mapping[Way, str]) -> Document:
    values, problems = {}, list(document.problems)
    for way, written in overrides.items():
        value = read_yaml(written.partition("=")[2] or "null", f"--set {written}")
        values[way] = value.content
        if not value.is_empty:  # no value is a value here: it takes out what was set
            problems += [replace(problem, line=0, column=0) for problem in value.problems]
    try:
        changed = with_values(document, values)
    except ValueError as error:
        problems.append(Problem("set", str(error), file="--set"))
        raise RecipeError(problems) from error
    return replace(changed, problems=problems)
