"""A recipe from YAML, and every fault of its form.

Faults are collected, not raised at the first: a key that is misspelt is read as what was meant, one that
means nothing is left out, an entry that lacks what it needs is left aside. So all that is wrong with a recipe,
here and in the planner, is told in one go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lamina.errors import Problem, RecipeError, nearest
from lamina.recipe.schema import (
    InputModel,
    OutputModule,
    OutputSlice,
    RecipeSchema,
    SliceSource,
    StackEntry,
    TokenizerSettings,
    WeightedModel,
)
from lamina.recipe.text import KEY, Document, Way, parse_way, read_yaml, with_values

# Which slips are errors: misspelt and misplaced keys (normal), also keys and parameters without effect
# (strict), or none of them, as in MergeKit (lenient).
Border = Literal["strict", "normal", "lenient"]

CARRIED_RECIPES = ("lamina.yml", "mergekit_config.yml")  # what a published merge keeps its recipe as
MOST_ROUNDS = 50

_LEVELS: dict[type[BaseModel], str] = {
    RecipeSchema: "at the top level",
    OutputSlice: "in an entry of `slices`",
    SliceSource: "in an entry of `sources`",
    InputModel: "in an entry of `models`",
    OutputModule: "in an entry of `modules`",
    StackEntry: "in an entry of `stack`",
    WeightedModel: "in an entry of `embed`, `norm` or `head`",
    TokenizerSettings: "under `tokenizer`",
}


@dataclass(frozen=True)
class Recipe:
    """What the user asked for: the values, the text they come from, and where in it each stands.

    `text` has the changes of `--set` in it, `written` has not: the places are places of that.
    `slips` are faults that the border lets pass: worth a notice. `incomplete` are the ways of slices from
    which an entry had to be left out (the empty way: of the whole recipe). `notes` are small files, by name,
    that whoever made the recipe wants to lie beside the result.
    """

    file: str
    text: str
    written: str
    schema: RecipeSchema
    places: Mapping[Way, tuple[int, int]]
    problems: tuple[Problem, ...] = ()
    slips: tuple[Problem, ...] = ()
    incomplete: frozenset[Way] = frozenset()
    border: Border = "normal"
    overrides: Mapping[Way, str] = field(default_factory=dict)
    notes: Mapping[str, bytes] = field(default_factory=dict)

    def problem(self, code: str, message: str, way: Way = (), suggestion: str = "") -> Problem:
        """A fault at a value, or at the nearest thing around it that the text shows."""
        if (flag := self._flag_of(way)) is not None:
            return Problem(code, message, file=flag, suggestion=suggestion)
        while way and way not in self.places:
            way = way[:-1]
        line, column = self.places.get(way, (0, 0))
        return Problem(code, message, line, column, self.file, suggestion, _line(self.written, line))

    def says(self, way: Way) -> bool:
        """True when the text, or a `--set`, gives the value at this very place."""
        return way in self.places or self._flag_of(way) is not None

    def _flag_of(self, way: Way) -> str | None:
        """The `--set` that gives a value, None where the text does."""
        return next(
            (f"--set {flag}" for changed, flag in self.overrides.items() if way[: len(changed)] == changed), None
        )

    @property
    def folder(self) -> Path:
        """What relative model paths are relative to."""
        return Path(self.file).parent


RecipeLike = str | Path | Mapping[str, Any] | Recipe


def load_recipe(source: RecipeLike, *, border: Border = "normal", set_values: Sequence[str] = ()) -> Recipe:
    """A recipe from a file, a published merge's folder, YAML text (of more than one line), or a mapping.

    `set_values` are changes like `stack[1].at=8`. Raises RecipeError where nothing can be understood.
    """
    if isinstance(source, Recipe):
        changed = set_values or border != "normal"
        return parse_recipe(source.text, source.file, border, set_values) if changed else source
    if isinstance(source, Mapping):
        return parse_recipe(yaml.safe_dump(dict(source), sort_keys=False), "recipe", border, set_values)
    if isinstance(source, str) and "\n" in source:
        return parse_recipe(source, "recipe", border, set_values)
    path = _recipe_file(Path(source))
    try:
        text = path.read_bytes().decode("utf-8-sig")
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
        form = Problem("yaml", "a recipe is a mapping: `merge_method: linear`, `models: ...`", 1, 1, file)
        raise RecipeError(document.problems or [form])
    blank = Recipe(file, text, written, RecipeSchema(), document.places, border=border, overrides=overrides)
    return _Draft(document, blank).recipe()


def _recipe_file(path: Path) -> Path:
    """The file itself, or the recipe that a published merge's folder carries."""
    if not path.is_dir():
        return path
    for name in CARRIED_RECIPES:
        if (path / name).is_file():
            return path / name
    raise RecipeError([Problem("no-recipe", f"{path} is a folder without a recipe ({' or '.join(CARRIED_RECIPES)}).")])


def _overrides(set_values: Sequence[str]) -> dict[Way, str]:
    """The changes by their ways. Raises RecipeError with all that are malformed."""
    found: dict[Way, str] = {}
    problems = []
    for written in set_values:
        name, equals, _ = written.partition("=")
        try:
            if not equals:
                raise ValueError(f"`{written}` sets nothing; the form is `--set stack[1].at=8`")
            found[parse_way(name)] = written
        except ValueError as error:
            problems.append(Problem("set", f"{error}.", file="--set"))
    if problems:
        raise RecipeError(problems)
    return found


def _overridden(document: Document, overrides: Mapping[Way, str]) -> Document:
    values, problems = {}, list(document.problems)
    for way, written in overrides.items():
        value = read_yaml(written.partition("=")[2] or "null", f"--set {written}")
        values[way] = value.content
        problems += [replace(problem, line=0, column=0) for problem in value.problems if problem.message != _EMPTY]
    try:
        changed = with_values(document, values)
    except ValueError as error:
        problems.append(Problem("set", f"{error}.", file="--set"))
        raise RecipeError(problems) from error
    return replace(changed, problems=problems)


_EMPTY = "the file is empty."


class _Draft:
    """A recipe's content on its way to the schema: checked, repaired, checked again."""

    def __init__(self, document: Document, blank: Recipe) -> None:
        self._content = _without_empty(document.content)
        self._places = dict(document.places)
        self._blank = blank
        self._problems = [replace(problem, excerpt=_line(blank.written, problem.line)) for problem in document.problems]
        self._slips: list[Problem] = []
        self._incomplete: set[Way] = set()

    def recipe(self) -> Recipe:
        """The recipe, with what was wrong in it. Raises RecipeError where no repair helps."""
        for _ in range(MOST_ROUNDS):
            try:
                schema = RecipeSchema.model_validate(self._content)
            except ValidationError as error:
                if not self._repair(error.errors(include_url=False)):
                    break
            else:
                return replace(
                    self._blank,
                    schema=schema,
                    places=self._places,
                    problems=tuple(dict.fromkeys(self._problems)),
                    slips=tuple(dict.fromkeys(self._slips)),
                    incomplete=frozenset(self._incomplete),
                )
        raise RecipeError(self._problems)

    def _repair(self, details: Sequence[ErrorDetails]) -> bool:
        """Tell every fault, and make the content readable without it; false where that is not possible."""
        before = json.dumps(self._content, default=str)
        hopeless: set[Way] = set()
        renamed: set[Way] = set()
        for detail in details:
            way = tuple(detail["loc"])
            if detail["type"] == "extra_forbidden":
                renamed |= self._unknown_key(way)
        for detail in details:
            way = tuple(detail["loc"])
            if detail["type"] == "extra_forbidden" or way in renamed:
                continue
            self._problems.append(self._wrong(detail, way))
            if detail["type"] == "literal_error" and way in self._places:
                self._at(way[:-1])[way[-1]] = _meant(detail) or _STAND_IN[str(way[-1])]
            elif detail["type"] != "missing" and isinstance(way[-1], str) and way[-1] not in _NEEDED:
                self._delete(way)
            else:
                hopeless.add(_entry_of(way))
        removed: list[Way] = []
        for way in sorted(hopeless, key=_in_order, reverse=True):  # from the end, so that the others stay in place
            if not any(way[: len(other)] == other[: len(way)] for other in removed):
                removed.append(self._leave_out(way))
        return json.dumps(self._content, default=str) != before

    def _unknown_key(self, way: Way) -> set[Way]:
        """Tell of an unknown key; read it as what was meant. Returns the way that it now has, if any."""
        name, around = str(way[-1]), way[:-1]
        valid = [key for key in _keys_at(around) if key not in self._at(around)]
        meant = nearest(name, valid) or next((key for key in _OTHER_NAMES.get(name, ()) if key in valid), None)
        elsewhere = [where for level, where in _LEVELS.items() if name in level.model_fields]
        message, suggestion, misplaced = f"unknown key `{name}`.", "", False
        if meant is not None:
            message, suggestion = f"{message} Did you mean `{meant}`?", meant
        elif name in _PARAMETERS and "parameters" in _keys_at(around):
            value = self._at(way)
            written = json.dumps(value) if isinstance(value, bool | int | float) else "..."
            suggestion = f"parameters: {{{name}: {written}}}"
            message += f" It belongs under `parameters`: `{suggestion}`."
            misplaced = True
        elif elsewhere:
            message += f" It belongs {elsewhere[0]}; valid here: {', '.join(_keys_at(around))}."
        else:
            near = nearest(name, [key for level in _LEVELS for key in level.model_fields])
            message += f" Did you mean `{near}`, which belongs elsewhere?" if near else " It has no effect."
            suggestion = near or ""
        is_near = bool(suggestion or elsewhere)
        problem = self._problem("unknown-key", message, (*way, KEY), suggestion)
        is_error = self._blank.border == "strict" or (is_near and self._blank.border == "normal")
        (self._problems if is_error else self._slips).append(problem)
        if meant is not None and self._blank.border != "lenient":
            target = self._at(around)
            target[meant] = target[name]
            self._move_places((*around, name), (*around, meant))
            target.pop(name)
            return {(*around, meant)}
        if misplaced and self._blank.border != "lenient" and isinstance(self._at(around).get("parameters", {}), dict):
            self._at(around).setdefault("parameters", {}).setdefault(name, self._at(way))
            self._move_places(way, (*around, "parameters", name))
        homes = self._move_home(name, way, elsewhere) if self._blank.border != "lenient" and not misplaced else set()
        self._at(around).pop(name)
        return homes

    def _move_home(self, name: str, way: Way, elsewhere: Sequence[str]) -> set[Way]:
        """Read a misplaced key as if it stood where it is missing: at the top, or in the sources of its slice."""
        value, around, homes = self._at(way), way[:-1], set[Way]()
        if _LEVELS[RecipeSchema] in elsewhere and name not in self._content:
            homes.add((name,))
        sources = self._at(around).get("sources")
        if _LEVELS[SliceSource] in elsewhere and isinstance(sources, list):
            homes |= {
                (*around, "sources", number, name)
                for number, source in enumerate(sources)
                if isinstance(source, dict) and name not in source
            }
        for home in homes:
            self._at(home[:-1])[name] = value
            self._move_places(way, home)
        return homes

    def _wrong(self, detail: ErrorDetails, way: Way) -> Problem:
        kind, name = detail["type"], str(way[-1]) if way else ""
        if kind == "missing":
            form = _FORMS.get(name, f"`{name}: ...`")
            return self._problem("missing-key", f"`{name}` is missing here: {form}.", way[:-1], name)
        if kind == "literal_error":
            meant = _meant(detail)
            valid = ", ".join(f"`{choice}`" for choice in _choices(detail))
            hint = f" Did you mean `{meant}`?" if meant else f" Valid are {valid}."
            return self._problem("wrong-value", f"`{name}` cannot be `{detail['input']}`.{hint}", way, meant or "")
        if kind == "value_error":
            message = str(detail["msg"]).removeprefix("Value error, ")
            hinted = re.search(r"[Dd]id you mean `(.+?)`", message)
            end = "" if message.endswith("?") else "."
            return self._problem("wrong-value", message + end, way, hinted[1] if hinted else "")
        key = next((str(part) for part in reversed(way) if isinstance(part, str)), "")
        form = f": {_FORMS[key]}" if key in _FORMS else ""
        if kind in ("model_type", "model_attributes_type") and isinstance(way[-1], int):
            meant = f"model: {detail['input']}" if key == "models" and isinstance(detail["input"], str) else ""
            hint = f" Did you mean `{meant}`?" if meant else ""
            message = f"an entry of `{key}` is a mapping, and this is {_shown(detail['input'])}{form}.{hint}"
            return self._problem("wrong-value", message, way, meant)
        expected = _EXPECTED.get(kind, str(detail["msg"]).lower().removeprefix("input should be "))
        given = detail["input"]
        shown = f"the text {_shown(given)}" if isinstance(given, str) and kind == "int_type" else _shown(given)
        meant = given if isinstance(given, str) and kind == "int_type" and given.isdecimal() else ""
        hint = f" Did you mean `{meant}` without quotes?" if meant else ""
        return self._problem("wrong-value", f"`{key}` takes {expected}, and this is {shown}{form}.{hint}", way, meant)

    def _problem(self, code: str, message: str, way: Way, suggestion: str = "") -> Problem:
        return replace(self._blank, places=self._places).problem(code, message, way, suggestion)

    def _at(self, way: Way) -> Any:
        content = self._content
        for part in way:
            content = content[part]
        return content

    def _delete(self, way: Way) -> None:
        """Take a key out, and the whole top-level key where the fault lies deeper than the text goes.

        What hangs on it is set apart or gets a value that stands in, so that it is no second fault.
        """
        if way[-2:-1] == ("parameters",):
            self._at(way[:-1])[way[-1]] = 1.0
        elif way == ("merge_method",) and isinstance(given := self._at(way), list) and given:
            self._content["merge_method"] = str(given[0])
        elif len(way) == 1 or not isinstance(around := self._at(way[:-1]), dict):
            self._drop(str(way[0]))
        else:
            around.pop(way[-1], None)
            if way[-1] in ("parameters", "base_model"):
                self._incomplete.add(way[:2] if way[0] == "slices" else ())

    def _drop(self, key: str) -> None:
        """Take a top-level key out. Without its layers, models or base a recipe cannot be looked at any further."""
        self._content.pop(key, None)
        if key in ("models", "slices", "stack", "modules", "base_model", "parameters"):
            self._incomplete.add(())
        if key == "stack":
            self._content.setdefault("merge_method", "linear")

    def _leave_out(self, way: Way) -> Way:
        """Take an entry of a list out; those after it move up, and so do their places. Returns what was taken out.

        With the last entry goes what the list stands in: that it is empty then is no second fault.
        """
        *around, index = way
        prefix = tuple(around)
        entries = self._at(prefix) if isinstance(index, int) else None
        if not isinstance(index, int) or not isinstance(entries, list):
            self._drop(str(way[0]))
            return way[:1]
        if len(entries) == 1:
            return self._leave_out(_entry_of(prefix))
        del entries[index]
        self._incomplete = {_moved_up(other, prefix, index) for other in self._incomplete}
        self._places = {
            _moved_up(other, prefix, index): place
            for other, place in self._places.items()
            if other[: len(prefix) + 1] != (*prefix, index)
        }
        self._incomplete.add(prefix[:-1] if prefix[-1] == "sources" else ())
        return way

    def _move_places(self, old: Way, new: Way) -> None:
        for way in [way for way in self._places if way[: len(old)] == old]:
            self._places[new + way[len(old) :]] = self._places[way]


_NEEDED = ("model", "layer_range", "sources")  # an entry without them cannot be looked at any further
_PARAMETERS = ("weight", "density", "scale", "normalize", "t", "lambda", "gamma", "epsilon", "rescale")
_STAND_IN = {"overlap": "average", "gradient_ends": "own"}  # never a fault by itself
_OTHER_NAMES = {  # what people call a key, and no slip of the finger
    "method": ("merge_method",), "merge_type": ("merge_method",), "merge": ("merge_method",),
    "base": ("base_model",), "basemodel": ("base_model",), "range": ("layer_range", "layers"),
    "params": ("parameters",), "type": ("dtype",), "torch_dtype": ("dtype",), "precision": ("dtype",),
    "output_dtype": ("out_dtype",), "name": ("model",), "path": ("model",), "start": ("at",), "offset": ("at",),
    "lm_head": ("head",), "embed_tokens": ("embed",), "embeddings": ("embed",),
}  # fmt: skip
_FORMS = {
    "models": "`models: [{model: org/name}]`",
    "slices": "`slices: [{sources: [{model: org/name, layer_range: [0, 8]}]}]`",
    "sources": "`sources: [{model: org/name, layer_range: [0, 8]}]`",
    "stack": "`stack: [{model: org/name, layers: 0-7}]`",
    "modules": "`modules: {text_decoder: {models: [{model: org/name}]}}`",
    "model": "`model: org/name`",
    "layer_range": "`layer_range: [start, end]`, the end not included",
    "parameters": "`parameters: {weight: 0.5}`",
}
_EXPECTED = {
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "text",
    "int_type": "a whole number",
    "too_short": "a list with at least one entry",
    "greater_than_equal": "a whole number from 0 on",
}


def _choices(detail: ErrorDetails) -> list[str]:
    """The values that pydantic names in `'cut', 'average' or 'ramp'`."""
    return re.findall(r"'(.+?)'", str(detail.get("ctx", {}).get("expected", "")))


def _meant(detail: ErrorDetails) -> str | None:
    return nearest(str(detail["input"]), _choices(detail))


def _in_order(way: Way) -> list[tuple[bool, str | int]]:
    """Sorts ways as the recipe has them, whatever stands in one place of two of them."""
    return [(isinstance(part, str), part) for part in way]


def _entry_of(way: Way) -> Way:
    """The innermost list entry that a way leads into, else its top-level key."""
    for end in range(len(way) - (isinstance(way[-1], int) is False), 0, -1):
        if isinstance(way[end - 1], int):
            return way[:end]
    return way[:1]


def _moved_up(way: Way, prefix: Way, removed: int) -> Way:
    place = len(prefix)
    if way[:place] == prefix and len(way) > place:
        index = way[place]
        if isinstance(index, int) and index > removed:
            return (*prefix, index - 1, *way[place + 1 :])
    return way


def _keys_at(way: Way) -> list[str]:
    names = [part for part in way if isinstance(part, str)]
    if names[:1] == ["modules"] and len(names) == 2:
        return list(OutputModule.model_fields)
    by_name: dict[str, type[BaseModel]] = {
        "models": InputModel, "slices": OutputSlice, "sources": SliceSource, "stack": StackEntry,
        "embed": WeightedModel, "norm": WeightedModel, "head": WeightedModel,
        "tokenizer": TokenizerSettings,
    }  # fmt: skip
    return list(by_name.get(names[-1] if names else "", RecipeSchema).model_fields)


def _without_empty(content: Any) -> Any:
    """The content without keys that have no value: `parameters:` and nothing after it is as good as absent."""
    if isinstance(content, dict):
        return {key: _without_empty(value) for key, value in content.items() if value is not None}
    return [_without_empty(value) for value in content] if isinstance(content, list) else content


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if len(str(value)) < 60 else "something else"


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number - 1] if 0 < number <= len(lines) else ""
