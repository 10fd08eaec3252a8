"""Every fault of a recipe's form, and the recipe as it reads without them.

Faults are collected, not raised at the first: a key that is misspelt is read as what was meant, one that
means nothing is left out, an entry that lacks what it needs is left aside. So all that is wrong with a recipe,
here and in the planner, is told in one go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lamina.errors import Problem, RecipeError, nearest
from lamina.recipe.forms import (
    EXPECTED,
    FORMS,
    LEVELS,
    NEEDED,
    OTHER_NAMES,
    OVERRIDE,
    PARAMETERS,
    STAND_IN,
    as_entry,
    choice_meant,
    choices_of,
    entry_of,
    form_steps,
    in_order,
    in_words,
    items_of,
    keys_at,
    moved_up,
    value_meant,
)
from lamina.recipe.recipe import Recipe, line_of
from lamina.recipe.schema import UNTOLD, RecipeSchema, SliceSource, range_in_words
from lamina.recipe.steps import Misformed, Move, Put, Remove, Rename, Rewrite, Step, within
from lamina.recipe.text import KEY, Document, Way

MOST_ROUNDS = 50
_END = "names the model whose %s the result takes, and left out it comes with the layers"
_ROLES = {
    "embed": _END % "embedding", "norm": _END % "final norm", "head": _END % "head",
    "tokenizer_source": "is `base`, `union`, or a model whose tokenizer the result takes",
}  # fmt: skip


class Draft:
    """A recipe's content on its way to the schema: checked, repaired, checked again."""

    def __init__(self, document: Document, blank: Recipe) -> None:
        self._content = document.content
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
        self._content = self._without_empty(self._content, ())
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

    def _without_empty(self, content: Any, way: Way) -> Any:
        """The content without keys that have no value, which are as good as absent, and told of.

        But for the keys of a recipe's own levels: a template may leave its `parameters:` or `base_model:` open.
        """
        if isinstance(content, list):
            return [self._without_empty(value, (*way, index)) for index, value in enumerate(content)]
        if not isinstance(content, dict):
            return content
        known = keys_at(way) if way[-1:] != ("parameters",) else []
        for key in [key for key, value in content.items() if value is None and key not in known]:
            message = f"`{key}` has no value, which is as good as leaving it out: write `{key}: ...`, or remove it."
            self._tell_of_no_effect(message, (*way, key))
        return {key: self._without_empty(value, (*way, key)) for key, value in content.items() if value is not None}

    def _tell_of_no_effect(self, message: str, way: Way) -> None:
        problem = self._problem("no-effect", message, (*way, KEY), "", [Remove(way)])
        (self._problems if self._blank.border == "strict" else self._slips).append(problem)

    def _leave_architectures_out(self, content: Any, way: Way) -> None:
        """`override_architecture`, which MergeKit takes in a reference: an architecture is read off the model here."""
        if isinstance(content, dict) and "model" in content and content.pop(OVERRIDE, None) is not None:
            message = f"`{OVERRIDE}` has no effect: a model's architecture is read off its tensors and config.json."
            self._tell_of_no_effect(message, (*way, OVERRIDE))
        for key, value in items_of(content):
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
            if (
                way[0] == "modules" and len(way) > 1
            ):  # the planner tells that `modules` is not merged, whatever it holds
                self._content["modules"] = {}
                continue
            self._problems.append(self._wrong(detail, way))
            if self._takes_untold_layers(detail, way):
                continue
            if way[-1] in NEEDED and value_meant(detail) is not None:
                self._read_as_meant(self._value_steps(detail, way))
                continue
            if detail["type"] == "literal_error" and self._blank.says(way):
                self._at(way[:-1])[way[-1]] = choice_meant(detail) or STAND_IN[str(way[-1])]
            elif detail["type"] != "missing" and isinstance(way[-1], str) and way[-1] not in NEEDED:
                self._delete(way)
            else:
                hopeless.add(entry_of(way))
        removed: list[Way] = []
        for way in sorted(hopeless, key=in_order, reverse=True):  # from the end, so that the others stay in place
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
        valid = [key for key in keys_at(around) if key not in self._at(around)]
        meant = nearest(name, valid) or next((key for key in OTHER_NAMES.get(name, ()) if key in valid), None)
        elsewhere = [where for level, where in LEVELS.items() if name in level.model_fields]
        parameter = name if name in PARAMETERS else nearest(name, PARAMETERS)
        message, suggestion, misplaced = f"unknown key `{name}`.", "", False
        steps: tuple[Step, ...] = (Remove(way),)
        if meant is not None:
            message, suggestion, steps = f"{message} Did you mean `{meant}`?", meant, (Rename(way, meant),)
        elif parameter is not None and "parameters" in keys_at(around):
            value = self._at(way)
            written = json.dumps(value) if isinstance(value, bool | int | float) else "..."
            suggestion = f"parameters: {{{parameter}: {written}}}"
            message += "" if parameter == name else f" Did you mean `{parameter}`?"
            message += f" It belongs under `parameters`: `{suggestion}`."
            misplaced = True
            inside = self._at(around).get("parameters")
            if inside is None:
                steps = (Rewrite(way, "parameters", {parameter: value}),)
            elif isinstance(inside, dict) and parameter not in inside:
                steps = (Move(way, (*around, "parameters", parameter)),)
        elif elsewhere:
            steps = self._steps_home(name, way, elsewhere)
            form = next((step.name for step in steps if isinstance(step, Rename | Rewrite)), "")
            home = f"`models` takes whole models; layers of them go into a `{form}`" if form == "stack" else ""
            home = f"`models` takes whole models; layers of them go into `{form}`" if form == "slices" else home
            message += f" {home or f'It belongs {elsewhere[0]}'}; valid here: {', '.join(keys_at(around))}."
        else:
            near = nearest(name, [key for level in LEVELS for key in level.model_fields])
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
            self._at(around).setdefault("parameters", {}).setdefault(parameter, self._at(way))
            self._move_places(way, (*around, "parameters", str(parameter)))
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
        if LEVELS[RecipeSchema] in elsewhere and name not in self._content:
            homes.append((name,))
        around = way[:-1]
        sources = self._at(around).get("sources")
        if LEVELS[SliceSource] in elsewhere and isinstance(sources, list):
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
            form = FORMS.get(name, f"`{name}: ...`")
            steps = [Put(way, model) for model in self._named()[:1] if name == "model"]
            return self._problem("missing-key", f"`{name}` is missing here: {form}.", way[:-1], name, steps)
        if kind == "literal_error":
            meant = choice_meant(detail)
            valid = ", ".join(f"`{choice}`" for choice in choices_of(detail))
            hint = f" Did you mean `{meant}`?" if meant else f" Valid are {valid}."
            steps = [Put(way, meant or STAND_IN[name])]
            message = f"`{name}` cannot be `{detail['input']}`.{hint}"
            return self._problem("wrong-value", message, way, meant or "", steps)
        if kind == "value_error":
            message = _role_of(way, str(detail["msg"]).removeprefix("Value error, "))
            hinted = re.search(r"[Dd]id you mean `(.+?)`", message)
            end = "" if message.endswith("?") else "."
            steps = self._value_steps(detail, way)
            return self._problem("wrong-value", message + end, way, hinted[1] if hinted else "", steps)
        key = next((str(part) for part in reversed(way) if isinstance(part, str)), "")
        form = f": {FORMS[key]}" if key in FORMS else ""
        if kind in ("model_type", "model_attributes_type") and isinstance(way[-1], int):
            meant = f"model: {detail['input']}" if key == "models" and isinstance(detail["input"], str) else ""
            hint = f" Did you mean `{meant}`?" if meant else ""
            message = f"an entry of `{key}` is a mapping, and this is {in_words(detail['input'])}{form}.{hint}"
            steps = [Put(way, value) for value in [as_entry(key, detail["input"])] if value is not None]
            return self._problem("wrong-value", message, way, meant, steps)
        expected = EXPECTED.get(kind, str(detail["msg"]).lower().removeprefix("input should be "))
        given = detail["input"]
        shown = f"the text {in_words(given)}" if isinstance(given, str) and kind == "int_type" else in_words(given)
        meant = given if isinstance(given, str) and kind == "int_type" and given.isdecimal() else ""
        hint = f" Did you mean `{meant}` without quotes?" if meant else ""
        message = f"`{key}` takes {expected}, and this is {shown}{form}.{hint}"
        if key == "at" and not meant:
            message += (
                " It is the layer of the result at which the entry starts, counted from 0 at the bottom, never from "
                "the end. Left out, the entry starts after the one above it."
            )
        return self._problem("wrong-value", message, way, meant, form_steps(kind, key, given, way))

    def _value_steps(self, detail: ErrorDetails, way: Way) -> Sequence[Step]:
        """How to mend a value that a reader of its own refuses."""
        while way not in self._places and len(way) > 1:
            way = way[:-1]  # pydantic's way leads on into what it tried
        given, error = detail["input"], detail.get("ctx", {}).get("error")
        if isinstance(error, Misformed) and error.steps:
            return within(way, error.steps)
        if (meant := value_meant(detail)) is not None:
            extra = given if way[-1] == "layer_range" and isinstance(given, dict) else {}
            parameters = {key: value for key, value in extra.items() if key in PARAMETERS}
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
            for key, value in items_of(content):
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
            return self._leave_out(entry_of(prefix))
        del entries[index]
        self._incomplete = {moved_up(other, prefix, index) for other in self._incomplete}
        self._places = {
            moved_up(other, prefix, index): place
            for other, place in self._places.items()
            if other[: len(prefix) + 1] != (*prefix, index)
        }
        self._origins = {
            moved_up(other, prefix, index): origin
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


def _role_of(way: Way, message: str) -> str:
    """The letter for what is no model, with what the key names a model for."""
    if message.startswith("a model is ") and way[0] in _ROLES:
        return f"`{way[0]}` {_ROLES[str(way[0])]}; {message}"
    return message
