"""Two rows beside each other: what in their recipes made their scores differ. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from lamina.chance import difference
from lamina.ledger.runs import Run, Score
from lamina.recipe.ways import written_way

ABSENT = "-"  # where one recipe has no such value


@dataclass(frozen=True)
class Changed:
    """A value that differs between two recipes: its path as `--set` takes it, and how both write it."""

    path: str
    first: str
    second: str


def by_merge(runs: Sequence[Run]) -> list[list[Run]]:
    """The rows of each model, in the order in which they come; a row that no other speaks of stands alone.

    A merge is known by its plan and its recipe: the plan alone does not tell fine-tunes of one shape apart, so that a
    slerp at t = 0 and one at t = 1 plan alike. A row without a recipe, of a folder that was checked or scored, belongs
    to the recipe that was merged into that folder, else to the only one of its plan.
    """
    recipes: dict[str, dict[str, None]] = {}
    merged_into: dict[tuple[str, str], str] = {}
    for run in runs:
        if run.plan and run.recipe:
            recipes.setdefault(run.plan, {})[run.recipe_digest] = None
            if run.kind == "merge":
                merged_into.setdefault((run.plan, run.output), run.recipe_digest)

    def key(run: Run) -> str:
        if not run.plan:
            return str(run.details.get("digest", "")) or run.id
        known = recipes.get(run.plan, {})
        recipe = (
            run.recipe_digest or merged_into.get((run.plan, run.output), "") or "".join([*known][: len(known) == 1])
        )
        return f"{run.plan} {recipe or (run.id if known else '')}"

    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return [*found.values()]


def recipe_changes(first: str, second: str) -> list[Changed]:
    """The values in which two recipes' texts differ, in the order of the first, then what only the second has."""
    ours, theirs = dict(_values(yaml.safe_load(first))), dict(_values(yaml.safe_load(second)))
    return [
        Changed(path, ours.get(path, ABSENT), theirs.get(path, ABSENT))
        for path in dict.fromkeys([*ours, *theirs])
        if ours.get(path) != theirs.get(path)
    ]


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
    is None where the standard errors are not known.
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
    if paired:
        margin: float | None = difference([np.array(second.items)], [np.array(first.items)]).margin
    elif first.stderr is not None and second.stderr is not None:
        margin = 1.96 * math.hypot(first.stderr, second.stderr)
    else:
        margin = None
    return Compared(first.name, first, second, second.value - first.value, margin, paired)
