"""Read a recipe: YAML text to values, and every fault of form with its line and column.

PyYAML composes the tree; we keep where each key and value stands, so that all later faults can be placed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lamina.errors import Problem, RecipeError, did_you_mean
from lamina.recipe.schema import (
    InputModel,
    OutputSlice,
    RecipeSchema,
    SliceSource,
    StackEntry,
    TokenizerSettings,
    WeightedModel,
)

Way = tuple[str | int, ...]  # the way to a value: ("slices", 0, "sources", 1, "model")
MOST_REPAIRS = 20
MOST_NODES = 200_000  # a recipe has hundreds; a bomb of nested aliases has billions

_LEVELS: tuple[type[BaseModel], ...] = (
    RecipeSchema, OutputSlice, SliceSource, InputModel, StackEntry, WeightedModel, TokenizerSettings,
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What the user asked for: the values, the text they come from, and where in it each stands."""

    file: str
    text: str
    schema: RecipeSchema
    places: Mapping[Way, tuple[int, int]]
    ignored: tuple[Problem, ...] = ()  # keys without a meaning anywhere: worth a notice, no more
    problems: tuple[Problem, ...] = ()  # faults of form that leave the rest readable

    def problem(self, code: str, message: str, way: Way = ()) -> Problem:
        """A fault at a value, or at the nearest thing around it that the text shows."""
        while way and way not in self.places:
            way = way[:-1]
        line, column = self.places.get(way, (0, 0))
        return Problem(code, message, line, column, self.file)

    def written(self, way: Way) -> str:
        """A plain value as its letters stand in the text: `8:32`, where YAML has made 512 of it."""
        line, column = self.places.get(way, (0, 0))
        rest = self.text.splitlines()[line - 1][column - 1 :] if line else ""
        return re.split(r"[\s,\]}#]", rest, maxsplit=1)[0]

    @property
    def folder(self) -> Path:
        """What relative model paths are relative to."""
        return Path(self.file).parent


def load_recipe(path: Path) -> Recipe:
    """Read a recipe's file. Raises RecipeError."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RecipeError([Problem("no-recipe", f"{path}: {(error.strerror or str(error)).lower()}.")]) from error
    except UnicodeDecodeError as error:
        raise RecipeError([Problem("yaml", f"{path} is not text in UTF-8 ({error.reason}).")]) from error
    return parse_recipe(text, str(path))


def parse_recipe(text: str, file: str) -> Recipe:
    """Read a recipe's text.

    Faults of form are collected in the recipe's `problems` as long as the rest can be understood: a key
    that is misspelt is read as what was meant, one that means nothing is left out. Raises RecipeError where
    too much is missing.
    """
    content, places, problems = _Reader(file).read(text)
    recipe = Recipe(file, text, RecipeSchema(), places)
    if not isinstance(content, dict):
        form = recipe.problem("yaml", "a recipe is a mapping: `merge_method: linear`, `models: ...`")
        raise RecipeError(problems or [form])
    content = _without_empty(content)
    ignored: list[Problem] = []
    for _ in range(MOST_REPAIRS):
        try:
            schema = RecipeSchema.model_validate(content)
        except ValidationError as error:
            details = error.errors(include_url=False)
        else:
            return Recipe(file, text, schema, places, tuple(ignored), tuple(problems))
        repaired = False
        for detail in details:
            if _is_foreign_key(detail):
                message = f"unknown key `{detail['loc'][-1]}` has no effect."
                ignored.append(recipe.problem("unknown-key", message, (*detail["loc"], "<key>")))
            elif detail["type"] != "missing" or not any(other["type"] == "extra_forbidden" for other in details):
                # A key that is missing may be there misspelt: told in the next round, if it still is.
                problems.append(_problem(recipe, detail))
            repaired |= _repair(content, detail, places)
        if not repaired:
            break
    raise RecipeError(problems)


class _Reader:
    """One pass over the composed YAML: values, the places of keys and values, and faults of the text."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[Way, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._constructor = yaml.constructor.SafeConstructor()
        self._nodes = 0
        self._open: set[int] = set()

    def read(self, text: str) -> tuple[Any, dict[Way, tuple[int, int]], list[Problem]]:
        """The content (None where there is none to speak of), the places, the problems."""
        try:
            documents = list(yaml.compose_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            message = f"this is not valid YAML: {error.problem or error.context}."
            place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            return None, {}, [Problem("yaml", message, *place, self.file)]
        except yaml.YAMLError as error:
            return None, {}, [Problem("yaml", f"this is not valid YAML: {error}.", file=self.file)]
        if not documents or documents[0] is None:
            return None, {}, [Problem("yaml", "the file is empty.", file=self.file)]
        if len(documents) > 1:
            line = documents[1].start_mark.line + 1
            message = "several recipes in one file are not run yet; write one file each."
            return None, {}, [Problem("not-yet", message, line, 1, self.file)]
        try:
            return self._value(documents[0], ()), self.places, self.problems
        except _TooMuch:
            return None, {}, [Problem("yaml", "the text refers to itself too often to be a recipe.", file=self.file)]

    def _value(self, node: yaml.Node, way: Way) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES or id(node) in self._open:
            raise _TooMuch
        self.places.setdefault(way, (node.start_mark.line + 1, node.start_mark.column + 1))
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, way)
            if isinstance(node, yaml.SequenceNode):
                return [self._value(item, (*way, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, way)
        finally:
            self._open.remove(id(node))

    def _mapping(self, node: yaml.MappingNode, way: Way) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        self._constructor.flatten_mapping(node)  # `<<: *other`
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem("yaml", "a key is a word, not a list or mapping.", *place, self.file))
                continue
            key = key_node.value  # as written: `on: ...` is no truth value here
            if written.count(key) > 1 and key in result:
                self.problems.append(Problem("duplicate-key", f"`{key}` is given twice; keep one.", *place, self.file))
            self.places[(*way, key, "<key>")] = place
            self.places.pop((*way, key), None)
            result[key] = self._value(value_node, (*way, key))
        return result

    def _scalar(self, node: yaml.Node, way: Way) -> Any:
        try:
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            line, column = self.places[way]
            reason = getattr(error, "problem", None) or str(error)
            self.problems.append(Problem("yaml", f"this value cannot be read: {reason}.", line, column, self.file))
            return None


class _TooMuch(Exception):
    """The YAML refers to itself, or unfolds without end."""


def _is_foreign_key(detail: ErrorDetails) -> bool:
    """A key that is unknown at every level and like none: MergeKit ignores it, and so do we, aloud."""
    if detail["type"] != "extra_forbidden":
        return False
    name = str(detail["loc"][-1])
    known = [key for level in _LEVELS for key in level.model_fields]
    return name not in known and "Did you mean" not in did_you_mean(name, known)


def _problem(recipe: Recipe, detail: ErrorDetails) -> Problem:
    way, kind = tuple(detail["loc"]), detail["type"]
    name = str(way[-1]) if way else ""
    if kind == "extra_forbidden":
        valid = _keys_at(way[:-1])
        places = [level for level in _LEVELS if name in level.model_fields]
        hint = did_you_mean(name, valid)
        if places and "Did you mean" not in hint:
            hint = f" It belongs {_WHERE[places[0]]}." + hint
        elif name in ("weight", "density", "scale", "normalize", "t", "lambda") and "parameters" in valid:
            hint = f" It belongs under `parameters`: `parameters: {{{name}: ...}}`."
        return recipe.problem("unknown-key", f"unknown key `{name}`.{hint}", (*way, "<key>"))
    if kind == "missing":
        return recipe.problem("missing-key", f"`{name}` is missing here.", way[:-1])
    message = str(detail["msg"]).removeprefix("Value error, ")
    found = f", not `{detail['input']}`" if kind not in ("value_error",) and _is_short(detail["input"]) else ""
    key = next((str(part) for part in reversed(way) if isinstance(part, str)), "")
    return recipe.problem("wrong-value", f"`{key}`: {message[:1].lower()}{message[1:]}{found}.", way)


_WHERE: dict[type[BaseModel], str] = {
    RecipeSchema: "at the top level",
    OutputSlice: "to an entry of `slices`",
    SliceSource: "to an entry of `sources`",
    InputModel: "to an entry of `models`",
    StackEntry: "to an entry of `stack`",
    WeightedModel: "to an entry of `embed`, `norm` or `head`",
    TokenizerSettings: "under `tokenizer`",
}


def _keys_at(way: Way) -> Sequence[str]:
    names = [part for part in way if isinstance(part, str)]
    by_name: dict[str, type[BaseModel]] = {
        "models": InputModel, "slices": OutputSlice, "sources": SliceSource, "stack": StackEntry,
        "embed": WeightedModel, "norm": WeightedModel, "head": WeightedModel,
        "tokenizer": TokenizerSettings,
    }  # fmt: skip
    return list(by_name.get(names[-1] if names else "", RecipeSchema).model_fields)


def _is_short(value: object) -> bool:
    return isinstance(value, str | int | float | bool) and len(str(value)) < 60


def _without_empty(content: Any) -> Any:
    """The content without keys that have no value: `parameters:` and nothing after it is as good as absent."""
    if isinstance(content, dict):
        return {key: _without_empty(value) for key, value in content.items() if value is not None}
    return [_without_empty(value) for value in content] if isinstance(content, list) else content


def _repair(content: Any, detail: ErrorDetails, places: dict[Way, tuple[int, int]]) -> bool:
    """Make the content readable where one fault is known: rename what is misspelt, leave out what is wrong.

    False where that is not possible: a value that has to be there is missing or wrong.
    """
    if detail["type"] == "missing":
        return False
    *around, name = detail["loc"]
    for part in around:
        content = content[part]
    if detail["type"] == "extra_forbidden":
        meant = get_close_matches(str(name), _keys_at(tuple(around)), n=1)
        if meant and meant[0] not in content:
            content[meant[0]] = content[name]
            _rename(places, (*around, str(name)), (*around, meant[0]))
    elif isinstance(content, list) or name in ("model", "layer_range", "sources"):
        return False
    del content[name]
    return True


def _rename(places: dict[Way, tuple[int, int]], old: Way, new: Way) -> None:
    for way in [way for way in places if way[: len(old)] == old]:
        places[new + way[len(old) :]] = places[way]
