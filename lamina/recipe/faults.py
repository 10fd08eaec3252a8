"""Every fault of a recipe's form, and the recipe as it reads without them.

Faults are collected, not raised at the first: a key that is misspelt is read as what was meant, one that
means nothing is left out, an entry that lacks what it needs is left aside. So all that is wrong with a recipe,
here and in the planner, is told in one go.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lamina.errors import Problem, RecipeError, nearest
from lamina.recipe.content import Content
from lamina.recipe.forms import (
    LEVELS,
    NEEDED,
    OTHER_NAMES,
    OVERRIDE,
    PARAMETERS,
    STAND_IN,
    choice_meant,
    entry_of,
    in_order,
    items_of,
    keys_at,
    value_meant,
)
from lamina.recipe.recipe import Recipe, line_of
from lamina.recipe.schema import UNTOLD, RecipeSchema, SliceSource, range_in_words
from lamina.recipe.steps import Move, Put, Remove, Rename, Rewrite, Step
from lamina.recipe.text import KEY, Document, Way
from lamina.recipe.wrong_values import value_steps, wrong_value

MOST_ROUNDS = 50


class Draft:
    """A recipe's content on its way to the schema: checked, repaired, checked again."""

    def __init__(self, document: Document, blank: Recipe) -> None:
        places = document.places
        self._content = Content(document.content, places, {way: way for way in places if way[-1:] != (KEY,)})
        self._blank = blank
        self._problems = [
            replace(problem, excerpt=line_of(blank.written, problem.line)) for problem in document.problems
        ]
        self._slips: list[Problem] = []

    def recipe(self) -> Recipe:
        """The recipe, with what was wrong in it. Raises RecipeError where no repair helps."""
        self._content.value = self._without_empty(self._content.value, ())
        self._leave_architectures_out(self._content.value, ())
        for _ in range(MOST_ROUNDS):
            try:
                schema = RecipeSchema.model_validate(self._content.value)
            except ValidationError as error:
                if not self._repair(error.errors(include_url=False)):
                    break
            else:
                return replace(
                    self._blank,
                    schema=schema,
                    places=self._content.places,
                    origins={way: origin for way, origin in self._content.origins.items() if way != origin},
                    problems=tuple(dict.fromkeys(self._problems)),
                    slips=tuple(dict.fromkeys(self._slips)),
                    incomplete=frozenset(self._content.incomplete),
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
        before = json.dumps(self._content.value, default=str)
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
                self._content.value["modules"] = {}
                continue
            self._problems.append(self._problem(*wrong_value(detail, way, self._content)))
            if self._takes_untold_layers(detail, way):
                continue
            if way[-1] in NEEDED and value_meant(detail) is not None:
                self._read_as_meant(value_steps(detail, way, self._content))
                continue
            if detail["type"] == "literal_error" and self._blank.says(way):
                self._content.at(way[:-1])[way[-1]] = choice_meant(detail) or STAND_IN[str(way[-1])]
            elif detail["type"] != "missing" and isinstance(way[-1], str) and way[-1] not in NEEDED:
                self._content.delete(way)
            else:
                hopeless.add(entry_of(way))
        removed: list[Way] = []
        for way in sorted(hopeless, key=in_order, reverse=True):  # from the end, so that the others stay in place
            if not any(way[: len(other)] == other[: len(way)] for other in removed):
                removed.append(self._content.leave_out(way))
        return json.dumps(self._content.value, default=str) != before

    def _read_as_meant(self, steps: Sequence[Step]) -> None:
        """Put what a letter offers into the content."""
        for step in steps:
            if isinstance(step, Put):
                around = self._content.value
                for part in step.way[:-1]:
                    around = around.setdefault(part, {}) if isinstance(around, dict) else around[part]
                around[step.way[-1]] = step.value

    def _takes_untold_layers(self, detail: ErrorDetails, way: Way) -> bool:
        """True for a source whose layers are missing, or unreadable: told again where the model's are known."""
        if way[-1] != "layer_range" or "sources" not in way:
            return False
        if detail["type"] != "missing" and (detail["type"] != "value_error" or "id you mean" in str(detail["msg"])):
            return False
        self._content.at(way[:-1])["layer_range"] = [0, UNTOLD]
        return True

    def _unknown_key(self, way: Way) -> set[Way]:
        """Tell of an unknown key; read it as what was meant. Returns the way that it now has, if any."""
        name, around = str(way[-1]), way[:-1]
        valid = [key for key in keys_at(around) if key not in self._content.at(around)]
        meant = nearest(name, valid) or next((key for key in OTHER_NAMES.get(name, ()) if key in valid), None)
        elsewhere = [where for level, where in LEVELS.items() if name in level.model_fields]
        parameter = name if name in PARAMETERS else nearest(name, PARAMETERS)
        message, suggestion, misplaced = f"unknown key `{name}`.", "", False
        steps: tuple[Step, ...] = (Remove(way),)
        if meant is not None:
            message, suggestion, steps = f"{message} Did you mean `{meant}`?", meant, (Rename(way, meant),)
        elif parameter is not None and "parameters" in keys_at(around):
            value = self._content.at(way)
            written = json.dumps(value) if isinstance(value, bool | int | float) else "..."
            suggestion = f"parameters: {{{parameter}: {written}}}"
            message += "" if parameter == name else f" Did you mean `{parameter}`?"
            message += f" It belongs under `parameters`: `{suggestion}`."
            misplaced = True
            inside = self._content.at(around).get("parameters")
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
            target = self._content.at(around)
            target[meant] = target[name]
            self._content.move_places((*around, name), (*around, meant))
            target.pop(name)
            return {(*around, meant)}
        if (
            misplaced
            and self._blank.border != "lenient"
            and isinstance(self._content.at(around).get("parameters", {}), dict)
        ):
            self._content.at(around).setdefault("parameters", {}).setdefault(parameter, self._content.at(way))
            self._content.move_places(way, (*around, "parameters", str(parameter)))
        homes = self._move_home(name, way, elsewhere) if self._blank.border != "lenient" and not misplaced else set()
        self._content.at(around).pop(name)
        return homes

    def _steps_home(self, name: str, way: Way, elsewhere: Sequence[str]) -> tuple[Step, ...]:
        """What to do with a key that belongs on another level."""
        homes = self._homes(name, way, elsewhere)
        if homes:
            return (Move(way, homes[0]), *(Put(home, self._content.at(way)) for home in homes[1:]))
        models = self._content.value.get("models")
        in_models = way[:1] == ("models",) and isinstance(models, list)
        if in_models and name in ("layers", "layer_range") and all(isinstance(m, dict) and name in m for m in models):
            if self._content.value.get("merge_method") == "passthrough":
                return (Rename(("models",), "stack"),)
            sources = [{key: each for key, each in model.items() if key != name} for model in models]
            try:
                ranges = [range_in_words(model[name]) for model in models]
            except ValueError:
                return (Remove(way),)
            base = self._content.value.get("base_model")
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
        value, homes = self._content.at(way), self._homes(name, way, elsewhere)
        for home in homes:
            self._content.at(home[:-1])[name] = value
            self._content.move_places(way, home)
        return set(homes)

    def _homes(self, name: str, way: Way, elsewhere: Sequence[str]) -> list[Way]:
        """Where a misplaced key is missing."""
        homes: list[Way] = []
        if LEVELS[RecipeSchema] in elsewhere and name not in self._content.value:
            homes.append((name,))
        around = way[:-1]
        sources = self._content.at(around).get("sources")
        if LEVELS[SliceSource] in elsewhere and isinstance(sources, list):
            homes += [
                (*around, "sources", number, name)
                for number, source in enumerate(sources)
                if isinstance(source, dict) and name not in source
            ]
        return homes

    def _problem(self, code: str, message: str, way: Way, suggestion: str = "", steps: Sequence[Step] = ()) -> Problem:
        now = replace(self._blank, places=self._content.places, origins=self._content.origins)
        return now.problem(code, message, way, suggestion, steps)
