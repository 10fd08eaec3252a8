"""A recipe under many values, each merged in memory and measured: which is best, and is that beyond chance.

The story: all points are planned, the recipe as it is written among them; each is measured once on the `dev` items,
and noted as soon as it is; the best is compared with the recipe as it is written, by intervals that hold for all points
at once; the two of them are asked the `test` items, which had no part in the choice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import xxhash

from lamina import api
from lamina.chance import Interval, among_pairs, simultaneous
from lamina.evaluate.halves import Split
from lamina.execute.memory import peak_memory
from lamina.ledger.notebook import Notebook
from lamina.ledger.noting import FOLDER, parents_of, run_name
from lamina.ledger.runs import Run, Score, versions
from lamina.plans.plan import Plan
from lamina.recipe.load import RecipeLike
from lamina.studies.grid import Axis, points
from lamina.studies.metrics import Metric
from lamina.version import VERSION

AS_WRITTEN = ()  # the changes of the point that everything is compared with


@dataclass(frozen=True)
class Point:
    """A point that was measured. `over` is its difference from the recipe as it is written; better is positive.

    `is_best` where its merge is the best of all that were measured, which several points may make, and `is_near_best`
    where it is not told from that by the items that were asked. `run` is its row in the ledger.
    """

    set_values: tuple[str, ...]
    plan: str
    scores: tuple[Score, ...]
    over: Interval
    is_best: bool
    is_near_best: bool
    run: str | None


@dataclass(frozen=True)
class Sweep:
    """All points in the order of the grid; `written` is the recipe as it is, wherever that stands in it.

    `best` is the first that makes the best merge, and `written` where none of the grid does: then nothing is better.
    `test` has the scores on the test items of the best and of the recipe as it is, and `test_over` their difference
    with a plain 95% interval: nothing was chosen on them. Both are None where the recipe as it is is the best.
    `measured` is how many measurements were taken now, those on the test items included.
    """

    points: tuple[Point, ...]
    written: Point
    best: Point
    test: tuple[Score, Score] | None
    test_over: Interval | None
    measured: int
    seconds: float


def sweep(
    recipe: RecipeLike,
    axes: Sequence[Axis],
    metric: Metric,
    *,
    notebook: Notebook | None = None,
    workers: int | None = None,
    memory: int | None = None,
    on_plans: Callable[[Sequence[Plan]], None] = lambda _plans: None,
    measuring: Callable[[int, Sequence[str], Score | None], None] = lambda _number, _point, _score: None,
    **options: Unpack[api.Options],
) -> Sweep:
    """Measure a recipe at every point of a grid, and as it is written. Nothing is written but rows of `notebook`, by
    default the user's own ledger.

    A point whose like is in the notebook is not measured again: the same plan, models, items and version of Lamina.
    `on_plans` is called with the plans, that of the recipe as it is written first, before anything is measured.
    `measuring` is called before each point without a score, and after it with its score.
    Raises RecipeError with the faults of all points before anything is computed.
    """
    started = time.monotonic()
    grid = points(axes)
    with api.variations(recipe, [AS_WRITTEN, *grid], workers=workers, memory=memory, **options) as variations:
        plans = [each.tensors.plan for each in variations]
        on_plans(plans)
        metric = metric.ready(plans)
        study = _Study(metric, notebook or Notebook(), measuring)
        runs = [study.measured(number, each, "dev") for number, each in enumerate(variations)]
        written, *in_grid = found = _compared(variations, runs)
        best = next((point for point in in_grid if point.is_best), written)
        test, over = None, None
        chosen = found.index(best)
        if runs[chosen].key != runs[0].key:  # plans may be the same where the models are not
            ours = study.measured(chosen, variations[chosen], "test").scores[0]
            theirs = study.measured(0, variations[0], "test").scores[0]
            test, over = (ours, theirs), simultaneous([ours.gains_over(theirs)])[0]
    took = time.monotonic() - started
    return Sweep(tuple(in_grid), written, best, test, over, study.count, took)


class _Study:
    """Measures variations, and remembers what it has measured, in the notebook and here."""

    def __init__(
        self, metric: Metric, notebook: Notebook, measuring: Callable[[int, Sequence[str], Score | None], None]
    ) -> None:
        self._metric, self._notebook, self._measuring = metric, notebook, measuring
        self._known: dict[str, Run] = {}
        self.count = 0

    def measured(self, number: int, variation: api.Variation, split: Split) -> Run:
        """The row of a variation: as it was noted, else measured now and noted."""
        what = [variation.tensors.fingerprint(), self._metric.name, self._metric.digest(split), VERSION]
        key = xxhash.xxh3_128_hexdigest("\n".join(what).encode())
        known = self._known.get(key) or self._notebook.known(key)
        if known is None:
            self._measuring(number, variation.set_values, None)
            known = self._measure(variation, split, key)
        self._known[key] = known
        self._measuring(number, variation.set_values, known.scores[0])
        return known

    def _measure(self, variation: api.Variation, split: Split, key: str) -> Run:
        started = time.monotonic()
        scores = self._metric.scores(variation.tensors, split)
        self.count += 1
        plan = variation.tensors.plan
        run = Run(
            "sweep",
            run_name(plan.title, variation.recipe.overrides.values()),
            recipe=variation.recipe.text,
            plan=plan.digest,
            parents=parents_of(plan),
            versions=versions(),
            seed=plan.seed,
            seconds=time.monotonic() - started,
            peak_memory=peak_memory(),
            scores=scores,
            details={
                "metric": self._metric.name,
                "split": split,
                "point": list(variation.set_values),
                FOLDER: str(variation.recipe.folder.absolute()),
                "settings": dict(self._metric.settings),
            },
            key=key,
        )
        return replace(run, number=self._notebook.note(run))


def _compared(variations: Sequence[api.Variation], runs: Sequence[Run]) -> list[Point]:
    """The points with their differences from the first, and whether they are told from the best."""
    merges = {run.key: run.scores[0] for run in runs}  # two points may make one merge
    found = dict(zip(merges, standings([*merges.values()], merges[runs[0].key]), strict=True))
    points = []
    for variation, run in zip(variations, runs, strict=True):
        own = found[run.key]
        assert own.over is not None
        number = None if run.number is None else run.id
        plan = variation.tensors.plan.digest
        points.append(Point(variation.set_values, plan, run.scores, own.over, own.is_best, own.is_near_best, number))
    return points


@dataclass(frozen=True)
class Standing:
    """How one merge stands among others. `over` is its difference from the recipe as it is written, better is
    positive, with an interval that holds for all of them at once; None where that was not measured. `is_near_best`
    where it is not told from the best by the items that were asked, as the best itself is not."""

    over: Interval | None
    is_best: bool
    is_near_best: bool


def standings(scores: Sequence[Score], written: Score | None) -> list[Standing]:
    """How merges stand, each by its score over the same items. Of equal ones the first is the best; what is no number
    is not where another is one, and never near it."""
    best = max(range(len(scores)), key=lambda index: scores[index].goodness)
    over = [None] * len(scores) if written is None else simultaneous([score.gains_over(written) for score in scores])
    behind = among_pairs([scores[best].gains_over(score) for score in scores], len(scores))
    return [
        Standing(gained, index == best, abs(lost.difference) <= lost.margin)  # not so where either is no number
        for index, (gained, lost) in enumerate(zip(over, behind, strict=True))
    ]
