"""Entries of a `stack` that cross: what a recipe has to say of it, and what each choice would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lamina.errors import Problem
from lamina.model_ref import ModelRef
from lamina.recipe.load import Recipe
from lamina.recipe.settings import Setting
from lamina.recipe.steps import Put
from lamina.recipe.text import Way
from lamina.wording import span


@dataclass(frozen=True)
class Entry:
    """A placed entry: its source layers in order stand at output layers `at`, `at + 1`, ..."""

    number: int
    ref: ModelRef
    layers: tuple[int, ...]
    at: int
    weight: Setting | None
    parameters: Mapping[str, Setting]

    @property
    def end(self) -> int:
        return self.at + len(self.layers)

    @property
    def way(self) -> Way:
        return ("stack", self.number)

    def __str__(self) -> str:
        return f"entry {self.number + 1} (`{self.ref}` at {self.at})"


def crossing_problems(recipe: Recipe, here: Sequence[Entry], first: int, last: int) -> list[Problem]:
    """What is left open where these entries cross, on output layers `first` to `last`: a letter, or none."""
    overlap = recipe.schema.overlap
    weighted = [entry for entry in here if entry.weight is not None]
    who, way = " and ".join(map(str, here)), here[-1].way
    layers = f"output layers {span(first, last)}"
    if recipe.schema.merge_method == "passthrough":
        return [
            recipe.problem(
                "overlap",
                f"{who} cross on {layers}, and passthrough blends nothing: write `merge_method: linear`, or let none "
                f"cross (`at: {here[0].end}`).",
                way,
                steps=[Put(("merge_method",), "linear")],
            )
        ]
    if recipe.schema.merge_method == "slerp" and (weighted or len(here) > 2):
        why = f"slerp blends two, and here are {len(here)}: `merge_method: linear` blends any number"
        if weighted:
            why = "slerp takes no weights: `overlap: average` or `ramp` gives its t; `merge_method: linear` takes them"
        steps = [Put(("merge_method",), "linear")]
        return [recipe.problem("overlap", f"{who} cross on {layers}; {why}.", way, steps=steps)]
    if len(weighted) == len(here):
        return []
    if weighted and overlap is None:
        missing = next(entry for entry in here if entry.weight is None)
        message = f"{who} cross on {layers}, and {missing} has no weight: give it one, as `weight: 0.5`."
        return [recipe.problem("overlap", message, missing.way, steps=[Put((*missing.way, "weight"), 0.5)])]
    if overlap == "average":
        return []
    reason = _not_in_line(here, first, last)
    if reason == _A_THIRD:
        return []  # told where all three are
    if overlap is None:
        steps = [Put(("overlap",), "average" if reason else "cut")]
        return [recipe.problem("overlap", f"{who} cross on {layers}. {_choices(here, reason)}", way, steps=steps)]
    if reason:
        message = (
            f"{who} cross on {layers}, and {reason}, so that `overlap: {overlap}` means nothing there. Write "
            "`overlap: average`, or a `weight` for each entry."
        )
        return [recipe.problem("overlap", message, way, steps=[Put(("overlap",), "average")])]
    return []


_A_THIRD = "a third entry meets them"


def _not_in_line(here: Sequence[Entry], first: int, last: int) -> str | None:
    """Why these entries do not simply follow each other, None where they do."""
    if len(here) > 2:
        return f"{len(here)} entries meet"
    earlier, later = here
    if later.number != earlier.number + 1:
        return "they do not follow each other"
    if later.at < earlier.at:
        return "the later entry starts before the earlier one"
    if later.end < earlier.end:
        return "one lies within the other"
    if (first, last) != (later.at, earlier.end - 1):
        return _A_THIRD
    return None


def _choices(here: Sequence[Entry], reason: str | None) -> str:
    average = f"`overlap: average` (1/{len(here)} of each) or a `weight` for each entry"
    if reason:
        return f"Say how they are blended: {average}."
    earlier, later = here
    count = earlier.end - later.at
    border = later.at + -(-count // 2)
    return (
        f"Say how: `overlap: cut` (up to {border - 1} from entry {earlier.number + 1}, from {border} on from entry "
        f"{later.number + 1}; blends nothing), `overlap: ramp` (entry {later.number + 1} counts 0 at {later.at} and 1 "
        f"at {earlier.end - 1}), {average}."
    )
