"""A recipe as a value: what the user asked for, and where in the text each of it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lamina.errors import Problem
from lamina.recipe.mending import changes_of
from lamina.recipe.schema import RecipeSchema
from lamina.recipe.steps import Step, with_ways
from lamina.recipe.text import Way

# Which slips are errors: misspelt and misplaced keys (normal), also keys and parameters without effect
# (strict), or none of them, as in MergeKit (lenient).
Border = Literal["strict", "normal", "lenient"]


@dataclass(frozen=True)
class Recipe:
    """What the user asked for: the values, the text they come from, and where in it each stands.

    `text` has the changes of `--set` in it, `written` has not: the places are places of that.
    `slips` are faults that the border lets pass: worth a notice. `incomplete` are the ways of slices from
    which an entry had to be left out (the empty way: of the whole recipe). `origins` are the ways in the text
    of what has another in the schema, since something before it was left out or its key was misspelt. `notes`
    are small files, by name, that whoever made the recipe wants to lie beside the result.
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
    origins: Mapping[Way, Way] = field(default_factory=dict)
    overrides: Mapping[Way, str] = field(default_factory=dict)
    notes: Mapping[str, bytes] = field(default_factory=dict)

    def problem(
        self, code: str, message: str, way: Way = (), suggestion: str = "", steps: Sequence[Step] = ()
    ) -> Problem:
        """A fault at a value, or at the nearest thing around it that the text shows; the steps mend it."""
        if (flag := self._flag_of(way)) is not None:
            return Problem(code, message, file=flag, suggestion=suggestion)
        while way and way not in self.places:
            way = way[:-1]
        line, column = self.places.get(way, (0, 0))
        overridden = any(self._flag_of(step.way) is not None for step in steps)
        changes = () if overridden else changes_of(self.written, [with_ways(step, self._written_way) for step in steps])
        return Problem(code, message, line, column, self.file, suggestion, line_of(self.written, line), changes)

    def says(self, way: Way) -> bool:
        """True when the text, or a `--set`, gives the value at this very place."""
        return way in self.places or self._flag_of(way) is not None

    def _written_way(self, way: Way) -> Way:
        """Where in the text stands, or would stand, what has this way in the schema."""
        known = next((way[:end] for end in range(len(way), 0, -1) if way[:end] in self.origins), None)
        return way if known is None else self.origins[known] + way[len(known) :]

    def _flag_of(self, way: Way) -> str | None:
        """The `--set` that gives a value, None where the text does."""
        return next(
            (f"--set {flag}" for changed, flag in self.overrides.items() if way[: len(changed)] == changed), None
        )

    @property
    def folder(self) -> Path:
        """What relative model paths are relative to."""
        return Path(self.file).parent


def line_of(text: str, number: int) -> str:
    """The line of this number, from 1; empty where there is none."""
    lines = text.splitlines()
    return lines[number - 1] if 0 < number <= len(lines) else ""
