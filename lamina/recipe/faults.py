"""Every fault of a recipe's form, and the recipe as it reads without them.

Faults are collected, not raised at the first: a key that is misspelt is read as what was meant, one that
means nothing is left out, an entry that lacks what it needs is left aside. So all that is wrong with a recipe,
here and in the planner, is told in one go.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lamina.errors import Problem, RecipeError, nearest
from lamina.recipe.mending import Misformed, Move, Put, Remove, Rename, Rewrite, Step, within
from lamina.recipe.recipe import Recipe, line_of
from lamina.recipe.schema import (
    UNTOLD,
    InputModel,
    OutputModule,
    OutputSlice,
    RecipeSchema,
    SliceSource,
    StackEntry,
    TokenizerSettings,
    WeightedModel,
    range_in_words,
)
from lamina.recipe.text import KEY, Document, Way

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


class Draft:
    """A recipe's content on its way to the schema: checked, repaired, checked again."""

    def __init__(self, document: Document, blank: Recipe) -> None:
        self._content = _without_empty(document.content)
        self._places = dict(document.places)
        self._blank = blank
        self._problems = [
            replace(problem, excerpt=line_of(blank.written, problem.line)) for problem in document.problems
        ]
        self._origins = {way: way for way in self._places if way[-1:] != (KEY,)}
        self._slips: list[Problem] = []
        self._incomplete: set[Way] = set()

    def recipe(self) -> Recipe:
        """The recipe, with what was wrong in it. Raises RecipeError where no repair helps."""
        self._leave_architectures_out(self._content, ())
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
                    origins={way: origin for way, origin in self._origins.items() if way != origin},
                    problems=tuple(dict.fromkeys(self._problems)),
                    slips=tuple(dict.fromkeys(self._slips)),
                    incomplete=frozenset(self._incomplete),
                )
        raise RecipeError(self._problems)

    def _leave_architectures_out(self, content: Any, way: Way) -> None:
        """`override_architecture`, which MergeKit takes in a reference: an architecture is read off the model here."""
        if isinstance(content, dict) and "model" in content and content.pop(_OVERRIDE, None) is not None:
            message = f"`{_OVERRIDE}` has no effect: a model's architecture is read off its tensors and config.json."
            problem = self._problem("no-effect", message, (*way, _OVERRIDE, KEY), "", [Remove((*way, _OVERRIDE))])
            (self._problems if self._blank.border == "strict" else self._slips).append(problem)
        for key, value in _items(content):
            self._leave_architectures_out(value, (*way, key))

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
            if self._takes_untold_layers(detail, way):
                continue
            if way[-1] in _NEEDED and _value_meant(detail) is not None:
                self._read_as_meant(self._value_steps(detail, way))
                continue
            if detail["type"] == "literal_error" and self._blank.says(way):
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

    def _read_as_meant(self, steps: Sequence[Step]) -> None:
        """Put what a letter offers into the content."""
        for step in steps:
            if isinstance(step, Put):
                around = self._content
                for part in step.way[:-1]:
                    around = around.setdefault(part, {}) if isinstance(around, dict) else around[part]
                around[step.way[-1]] = step.value

    def _takes_untold_layers(self, detail: ErrorDetails, way: Way) -> bool:
        """True for a source whose layers are missing, or unreadable: told again where the model's are known."""
        if way[-1] != "layer_range" or "sources" not in way:
            return False
        if detail["type"] != "missing" and (detail["type"] != "value_error" or "id you mean" in str(detail["msg"])):
            return False
        self._at(way[:-1])["layer_range"] = [0, UNTOLD]
        return True

    def _unknown_key(self, way: Way) -> set[Way]:
        """Tell of an unknown key; read it as what was meant. Returns the way that it now has, if any."""
        name, around = str(way[-1]), way[:-1]
        valid = [key for key in _keys_at(around) if key not in self._at(around)]
        meant = nearest(name, valid) or next((key for key in _OTHER_NAMES.get(name, ()) if key in valid), None)
        elsewhere = [where for level, where in _LEVELS.items() if name in level.model_fields]
        message, suggestion, misplaced = f"unknown key `{name}`.", "", False
        steps: tuple[Step, ...] = (Remove(way),)
        if meant is not None:
            message, suggestion, steps = f"{message} Did you mean `{meant}`?", meant, (Rename(way, meant),)
        elif name in _PARAMETERS and "parameters" in _keys_at(around):
            value = self._at(way)
            written = json.dumps(value) if isinstance(value, bool | int | float) else "..."
            suggestion = f"parameters: {{{name}: {written}}}"
            message += f" It belongs under `parameters`: `{suggestion}`."
            misplaced = True
            inside = self._at(around).get("parameters")
            if inside is None:
                steps = (Rewrite(way, "parameters", {name: value}),)
            elif isinstance(inside, dict) and name not in inside:
                steps = (Move(way, (*around, "parameters", name)),)
        elif elsewhere:
            message += f" It belongs {elsewhere[0]}; valid here: {', '.join(_keys_at(around))}."
            steps = self._steps_home(name, way, elsewhere)
        else:
            near = nearest(name, [key for level in _LEVELS for key in level.model_fields])
            message += f" Did you mean `{near}`, which belongs elsewhere?" if near else " It has no effect."
            suggestion = near or ""
        is_near = bool(suggestion or elsewhere)
        problem = self._problem("unknown-key", message, (*way, KEY), suggestion, steps)
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

    def _steps_home(self, name: str, way: Way, elsewhere: Sequence[str]) -> tuple[Step, ...]:
        """What to do with a key that belongs on another level."""
        homes = self._homes(name, way, elsewhere)
        if homes:
            return (Move(way, homes[0]), *(Put(home, self._at(way)) for home in homes[1:]))
        models = self._content.get("models")
        in_models = way[:1] == ("models",) and isinstance(models, list)
        if in_models and name in ("layers", "layer_range") and all(isinstance(m, dict) and name in m for m in models):
            if self._content.get("merge_method") == "passthrough":
                return (Rename(("models",), "stack"),)
            sources = [{key: each for key, each in model.items() if key != name} for model in models]
            try:
                ranges = [range_in_words(model[name]) for model in models]
            except ValueError:
                return (Remove(way),)
            base = self._content.get("base_model")
            if base is not None and base not in [source.get("model") for source in sources]:
                sources, ranges = [*sources, {"model": base}], [*ranges, ranges[0]]
            sources = [
                {"model": source.pop("model", None), "layer_range": written, **source}
                for source, written in zip(sources, ranges, strict=True)
            ]
            return (Rewrite(("models",), "slices", [{"sources": sources}]),)
        return (Remove(way),)

    def _move_home(self, name: str, way: Way, elsewhere: Sequence[str]) -> set[Way]:
        """Read a misplaced key as if it stood where it is missing: at the top, or in the sources of its slice."""
        value, homes = self._at(way), self._homes(name, way, elsewhere)
        for home in homes:
            self._at(home[:-1])[name] = value
            self._move_places(way, home)
        return set(homes)

    def _homes(self, name: str, way: Way, elsewhere: Sequence[str]) -> list[Way]:
        """Where a misplaced key is missing."""
        homes: list[Way] = []
        if _LEVELS[RecipeSchema] in elsewhere and name not in self._content:
            homes.append((name,))
        around = way[:-1]
        sources = self._at(around).get("sources")
        if _LEVELS[SliceSource] in elsewhere and isinstance(sources, list):
            homes += [
                (*around, "sources", number, name)
                for number, source in enumerate(sources)
                if isinstance(source, dict) and name not in source
            ]
        return homes

    def _wrong(self, detail: ErrorDetails, way: Way) -> Problem:
        kind, name = detail["type"], str(way[-1]) if way else ""
        steps: Sequence[Step]
        if kind == "missing":
            form = _FORMS.get(name, f"`{name}: ...`")
            steps = [Put(way, model) for model in self._named()[:1] if name == "model"]
            return self._problem("missing-key", f"`{name}` is missing here: {form}.", way[:-1], name, steps)
        if kind == "literal_error":
            meant = _meant(detail)
            valid = ", ".join(f"`{choice}`" for choice in _choices(detail))
            hint = f" Did you mean `{meant}`?" if meant else f" Valid are {valid}."
            steps = [Put(way, meant or _STAND_IN[name])]
            message = f"`{name}` cannot be `{detail['input']}`.{hint}"
            return self._problem("wrong-value", message, way, meant or "", steps)
        if kind == "value_error":
            message = str(detail["msg"]).removeprefix("Value error, ")
            hinted = re.search(r"[Dd]id you mean `(.+?)`", message)
            end = "" if message.endswith("?") else "."
            steps = self._value_steps(detail, way)
            return self._problem("wrong-value", message + end, way, hinted[1] if hinted else "", steps)
        key = next((str(part) for part in reversed(way) if isinstance(part, str)), "")
        form = f": {_FORMS[key]}" if key in _FORMS else ""
        if kind in ("model_type", "model_attributes_type") and isinstance(way[-1], int):
            meant = f"model: {detail['input']}" if key == "models" and isinstance(detail["input"], str) else ""
            hint = f" Did you mean `{meant}`?" if meant else ""
            message = f"an entry of `{key}` is a mapping, and this is {_shown(detail['input'])}{form}.{hint}"
            steps = [Put(way, value) for value in [_as_entry(key, detail["input"])] if value is not None]
            return self._problem("wrong-value", message, way, meant, steps)
        expected = _EXPECTED.get(kind, str(detail["msg"]).lower().removeprefix("input should be "))
        given = detail["input"]
        shown = f"the text {_shown(given)}" if isinstance(given, str) and kind == "int_type" else _shown(given)
        meant = given if isinstance(given, str) and kind == "int_type" and given.isdecimal() else ""
        hint = f" Did you mean `{meant}` without quotes?" if meant else ""
        message = f"`{key}` takes {expected}, and this is {shown}{form}.{hint}"
        if key == "at" and not meant:
            message += " Left out, the entry starts after the one above it."
        return self._problem("wrong-value", message, way, meant, _form_steps(kind, key, given, way))

    def _value_steps(self, detail: ErrorDetails, way: Way) -> Sequence[Step]:
        """How to mend a value that a reader of its own refuses."""
        while way not in self._places and len(way) > 1:
            way = way[:-1]  # pydantic's way leads on into what it tried
        given, error = detail["input"], detail.get("ctx", {}).get("error")
        if isinstance(error, Misformed) and error.steps:
            return within(way, error.steps)
        if (meant := _value_meant(detail)) is not None:
            extra = given if way[-1] == "layer_range" and isinstance(given, dict) else {}
            parameters = {key: value for key, value in extra.items() if key in _PARAMETERS}
            return (
                Put(way, meant),
                *(Put((*way[:-1], "parameters", name), value) for name, value in parameters.items()),
            )
        if way[-1] in ("model", "base_model", "embed", "norm", "head", "tokenizer_source", "source"):
            if isinstance(given, list) and given and isinstance(given[0], str):
                return (Put(way, given[0]),)
            return [Put(way, model) for model in self._named()[:1]]
        return ()

    def _named(self) -> list[str]:
        """The models that the recipe names, as it names them."""
        found: list[str] = []

        def look(content: Any) -> None:
            for key, value in _items(content):
                if key == "model" and isinstance(value, str):
                    found.append(value)
                look(value)

        look(self._content)
        return found

    def _problem(self, code: str, message: str, way: Way, suggestion: str = "", steps: Sequence[Step] = ()) -> Problem:
        now = replace(self._blank, places=self._places, origins=self._origins)
        return now.problem(code, message, way, suggestion, steps)

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
        self._origins = {
            _moved_up(other, prefix, index): origin
            for other, origin in self._origins.items()
            if other[: len(prefix) + 1] != (*prefix, index)
        }
        self._incomplete.add(prefix[:-1] if prefix[-1] == "sources" else ())
        return way

    def _move_places(self, old: Way, new: Way) -> None:
        for way in [way for way in self._places if way[: len(old)] == old]:
            self._places[new + way[len(old) :]] = self._places[way]
            if way in self._origins:
                self._origins[new + way[len(old) :]] = self._origins[way]


_OVERRIDE = "override_architecture"
_NEEDED = ("model", "layer_range", "sources")  # an entry without them cannot be looked at any further
_PARAMETERS = ("weight", "density", "scale", "normalize", "t", "lambda", "gamma", "epsilon", "rescale")
_LAYERS = {"models", "slices"}  # what a module has
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


def _value_meant(detail: ErrorDetails) -> Any:
    """What a letter takes a value for, None where it does not know."""
    hinted = re.search(r"[Dd]id you mean `(.+?)`", str(detail["msg"])) if detail["type"] == "value_error" else None
    return yaml.safe_load(hinted[1]) if hinted else None


def _as_entry(key: str, given: Any) -> Any:
    """What stands for an entry of a list, as an entry; None where nobody can tell."""
    if key in ("models", "sources") and isinstance(given, str):
        return {"model": given}
    if key == "slices" and isinstance(given, list):
        return {"sources": given}
    return None


def _form_steps(kind: str, key: str, given: Any, way: Way) -> Sequence[Step]:
    """How to mend a value of another kind than the key takes."""
    match kind, given:
        case "list_type", dict() if key == "models" and given and "model" not in given:
            return [Put(way, [{"model": model} | _as_parameters(value) for model, value in given.items()])]
        case "list_type", dict() | list() | str():
            return [Put(way, [entry if (entry := _as_entry(key, given)) is not None else given])]
        case "dict_type", [dict() as module] if key == "modules" and len(module) == 1 and module.keys() <= _LAYERS:
            return [Rewrite(way, *next(iter(module.items())))]
        case "dict_type", list() if key == "parameters" and all(isinstance(part, dict) for part in given):
            return [Put(way, {key: value for part in given for key, value in part.items()})]
        case "dict_type", int() | float() if key == "parameters":
            return [Put(way, {"weight": given})]
        case "string_type", [str() as text]:
            return [Put(way, text)]
        case "int_type", str() if given.isdecimal():
            return [Put(way, int(given))]
        case "int_type", float() if math.isfinite(given) and given >= 0:
            return [Put(way, int(given))]
        case "too_short", _:
            return [Remove(way)] if key == "sources" else []
        case (("int_type" | "greater_than_equal" | "string_type"), _) if (
            key in RecipeSchema.model_fields or key == "at"
        ):
            return [Remove(way)] if key != "merge_method" else []
    return []


def _as_parameters(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value if "parameters" in value else {"parameters": value}
    return {} if value is None else {"parameters": {"weight": value}}


def _items(content: Any) -> list[tuple[str | int, Any]]:
    """What stands in a mapping or a list, by key or number."""
    if isinstance(content, dict):
        return list(content.items())
    return list(enumerate(content)) if isinstance(content, list) else []


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
