"""Make a recipe that fails smaller, as long as it fails: fewer slices, layers, models, parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

Recipe = dict[str, Any]
Path = tuple[Any, ...]

MOST_TRIALS = 150


def shrunk(recipe: Recipe, fails: Callable[[Recipe], bool]) -> Recipe:
    """A recipe of which nothing can be left out without its failing no more, as far as so many trials lead."""
    trials = MOST_TRIALS
    while True:
        for candidate in simpler(recipe):
            if trials == 0:
                return recipe
            trials -= 1
            if fails(candidate):
                recipe = candidate
                break
        else:
            return recipe


def simpler(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe with one thing less, in turn."""
    if "slices" in recipe and any(end - start > 1 for start, end in _ranges(recipe)):
        yield _one_layer_each(recipe)
    for path in _paths(recipe):
        less = copy.deepcopy(recipe)
        holder = _at(less, path[:-1])
        if len(holder) > 1 or path[-1] == "parameters":
            del holder[path[-1]]
            yield less
        for plainer in _plainer(_at(recipe, path)):
            plain = copy.deepcopy(recipe)
            _at(plain, path[:-1])[path[-1]] = plainer
            yield plain


def _ranges(recipe: Recipe) -> Iterator[tuple[int, int]]:
    for part in recipe["slices"]:
        for source in part["sources"]:
            yield source["layer_range"]


def _one_layer_each(recipe: Recipe) -> Recipe:
    less = copy.deepcopy(recipe)
    for part in less["slices"]:
        for source in part["sources"]:
            source["layer_range"] = [source["layer_range"][0], source["layer_range"][0] + 1]
    return less


def _at(recipe: Recipe, path: Path) -> Any:
    found: Any = recipe
    for step in path:
        found = found[step]
    return found


def _paths(recipe: Recipe) -> Iterator[Path]:
    """Where something can be left out: slices, sources, models, `parameters` and each of them, the stored dtype."""
    for index, part in enumerate(recipe.get("slices", ())):
        yield ("slices", index)
        for number, source in enumerate(part["sources"]):
            yield ("slices", index, "sources", number)
            yield from _parameters(source, ("slices", index, "sources", number))
        yield from _parameters(part, ("slices", index))
    for number, entry in enumerate(recipe.get("models", ())):
        yield ("models", number)
        yield from _parameters(entry, ("models", number))
    yield from _parameters(recipe, ())
    if "out_dtype" in recipe:
        yield ("out_dtype",)


def _parameters(holder: Recipe, path: Path) -> Iterator[Path]:
    if "parameters" in holder:
        yield (*path, "parameters")
        for name in holder["parameters"]:
            yield (*path, "parameters", name)


def _plainer(value: Any) -> Iterator[Any]:
    """Of a list of filters or a gradient its first and its last value."""
    if isinstance(value, list) and value:
        yield from (item["value"] if isinstance(item, dict) else item for item in (value[0], value[-1]))
