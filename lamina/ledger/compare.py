"""Two rows beside each other: what in their recipes made their scores differ. No I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from lamina.chance import difference
from lamina.ledger.runs import Run, Score
from lamina.recipe.text import read_yaml
from lamina.recipe.ways import written_way

ABSENT = "-"  # where one recipe has no such value


@dataclass(frozen=True)
class Changed:
    """A value that differs between two recipes: its path as `--set` takes it, and how both write it."""

    path: str
    first: str
    second: str


def recipe_changes(first: str, second: str) -> list[Changed]:
    """The values in which two recipes' texts differ, in the order of the first, then what only the second has."""
    ours, theirs = dict(_values(content_of(first))), dict(_values(content_of(second)))
    return [
        Changed(path, ours.get(path, ABSENT), theirs.get(path, ABSENT))
        for path in dict.fromkeys([*ours, *theirs])
        if ours.get(path) != theirs.get(path)
    ]


def same_recipe(first: str, second: str) -> bool:
    """True where two texts say the same. An empty one, of a model that was not made here, is like no other."""
    return first == second or (bool(first and second) and meaning_of(first) == meaning_of(second))


def meaning_of(recipe: str) -> str:
    """What a recipe's text says, without how it says it: its comments, its layout and the order of its keys."""
    return json.dumps(content_of(recipe), sort_keys=True)


def content_of(recipe: str) -> Any:
    """A recipe's text as plain values, as a merge reads it: `8:32` and a model called 1.10 are words.

    A text that is no recipe is itself, a word.
    """
    content = read_yaml(recipe, "recipe").content
    return recipe if content is None else content


def _values(content: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every value of a tree by its path. A list of plain values, as a gradient is, is one value."""
    if isinstance(content, dict):
        for key, inside in content.items():
            yield from _values(inside, (*way, str(key)))
    elif isinstance(content, list) and any(isinstance(each, dict | list) for each in content):
        for index, inside in enumerate(content):
            yield from _values(inside, (*way, index))
    else:
        yield written_way(way), yaml.safe_dump(content, default_flow_style=True, width=1000).split("\n...")[0].strip()


@dataclass(frozen=True)
class Compared:
    """A score that two runs have. `difference` is second minus first, `margin` half the width of its 95% interval.

    `paired` where both have the values of the same items: then the interval is of the items' differences. `margin`
    is None where the standard errors are not known, or the difference is not finite.
    """

    name: str
    first: Score
    second: Score
    difference: float
    margin: float | None
    paired: bool

    @property
    def is_beyond_chance(self) -> bool:
        return self.margin is not None and abs(self.difference) > self.margin


def compared_scores(first: Run, second: Run) -> list[Compared]:
    """The scores that both runs have. A limited one and a whole one are not compared."""
    pairs = [(score, second.score(score.name)) for score in first.scores]
    return [_compared(ours, theirs) for ours, theirs in pairs if theirs is not None and ours.limited == theirs.limited]


def _compared(first: Score, second: Score) -> Compared:
    paired = bool(first.items) and first.items_digest == second.items_digest and len(first.items) == len(second.items)
    apart = second.value - first.value
    if not math.isfinite(apart):
        margin: float | None = None
    elif paired:
        margin = difference([np.array(second.items)], [np.array(first.items)]).margin
    elif first.stderr is not None and second.stderr is not None:
        margin = 1.96 * math.hypot(first.stderr, second.stderr)
    else:
        margin = None
    return Compared(first.name, first, second, apart, margin, paired)
