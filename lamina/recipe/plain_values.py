"""A recipe that a program has as a mapping, as what YAML can say: text, numbers, lists and mappings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any

from lamina.errors import Problem, RecipeError
from lamina.merge_methods.own import OWN_MODULE, declared
from lamina.model_ref import ModelRef
from lamina.recipe.text import MOST_DEPTH, Way, written_way


def plain_values(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping in plain values: of a path its text, of numpy's numbers the numbers, of one's own method the name.

    Raises RecipeError, with a letter for each value that no recipe can hold.
    """
    problems: list[Problem] = []
    found: dict[str, Any] = _plain(recipe, (), problems)
    if problems:
        raise RecipeError(problems)
    return found


def _plain(value: Any, way: Way, problems: list[Problem]) -> Any:
    if len(way) > MOST_DEPTH:
        problems.append(Problem("wrong-value", f"`{written_way(way[:1])}` is nested too deep.", file="recipe"))
        return None
    if isinstance(value, Mapping):
        return {_key(key, way, problems): _plain(each, (*way, str(key)), problems) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, (*way, number), problems) for number, each in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | PurePath | ModelRef):
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if callable(value):
        return _method_name(value, way, problems)
    message = f"`{written_way(way)}` is a {type(value).__name__}, and a recipe holds text, numbers, lists and mappings."
    problems.append(Problem("wrong-value", message, file="recipe"))
    return None


def _key(key: Any, way: Way, problems: list[Problem]) -> Any:
    if isinstance(key, str):
        return str(key)
    message = f"a key is a word, and here is `{key}`{f' within `{written_way(way)}`' if way else ''}."
    problems.append(Problem("wrong-value", message, file="recipe"))
    return str(key)


def _method_name(function: Any, way: Way, problems: list[Problem]) -> str | None:
    """How a recipe names a function: by its module, where that can be imported, else by its file."""
    name, module = getattr(function, "__name__", type(function).__name__), str(getattr(function, "__module__", ""))
    file = Path(getattr(getattr(function, "__code__", None), "co_filename", ""))
    if way != ("merge_method",):
        message = f"`{written_way(way)}` is a function; one may stand as `merge_method`."
    elif declared(function) is None:
        message = f"`{name}` is no merge method yet: put `@lamina.merge_method` above it."
    elif module == "__main__" or not file.is_file():
        message = (
            f"`{name}` belongs to the program that runs: put it into a file of its own, `mine.py`, and write "
            f"`merge_method: mine.py:{name}`. The text of that file is part of the merge."
        )
    else:
        is_importable = getattr(sys.modules.get(module), name, None) is function and not module.startswith(OWN_MODULE)
        return f"{module}:{name}" if is_importable else f"{file}:{name}"
    problems.append(Problem("own-code", message, file="recipe"))
    return None
