"""What `lamina sweep` prints: a curve or a heat map, what is said of the best, and all of it as data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.chance import Interval, worth
from lamina.cli.answer import interval_as_data
from lamina.ledger.runs import Score
from lamina.studies.grid import Axis
from lamina.studies.metrics import Metric
from lamina.studies.sweep import Point, Sweep
from lamina.wording import counted, in_seconds

BAR = 24
SHADES = " ░▒▓█"

# What `lamina sweep --json` prints, by key.
SWEEP_FIELDS: Mapping[str, str] = {
    "metric": "what was measured; `METRIC-dev` is what was chosen by, `METRIC-test` what only the chosen was asked",
    "points": "in the order of the grid, each: `set` (the changes), `plan` (digest), `run` (its row in the ledger, or "
    "null), `scores`, `over` and `margin` (the difference from the recipe as it is written, better is positive, "
    "and half its interval, for all points at once), `near_best` (not told from the best)",
    "as_written": "the recipe as it is, like a point",
    "best": "the point with the best score, `as_written` where that has it",
    "beyond_chance": "whether its difference from the recipe as it is written is",
    "test": "of the best and the recipe as it is on the test items: `best`, `as_written`, `over`, `margin`, "
    "`beyond_chance`; null where they are the same merge",
    "measured": "how many measurements were taken now, those of the test items included",
    "seconds": "of wall time",
}


def lines(found: Sweep, axes: Sequence[Axis], metric: Metric) -> Iterator[str]:
    """The picture, the best, and what can be said of it."""
    took = f"{counted(found.measured, 'measurement')} in {in_seconds(found.seconds)}"
    if found.measured == 0:
        took = "all of them measured before"
    asked = metric.asked(found.written.scores[0].n or 0)
    yield f"{metric.name} on {asked} (dev) · {counted(len(found.points), 'point')} · {took}"
    yield ""
    yield from _heat_map(found, axes) if len(axes) == 2 else _curve(found, axes)
    yield ""
    yield from _told(found)


def _curve(found: Sweep, axes: Sequence[Axis]) -> Iterator[str]:
    """A line a point, with a bar from the worst to the best, which stand above its ends."""
    scale = _scale([found.written, *found.points])
    names = [" ".join(_values(point)) for point in found.points]
    name_width = max(len("as written"), *map(len, names), len(" ".join(_heads(axes))))
    told = [str(point.scores[0]) for point in (found.written, *found.points)]
    overs = [_over(point.over, point.scores[0]) for point in (found.written, *found.points)]
    widths = [max(len(found.written.scores[0].name), *map(len, told)), max(len("over as written"), *map(len, overs))]
    head = f"  {' '.join(_heads(axes)):<{name_width}}  {found.written.scores[0].name:<{widths[0]}}"
    yield f"{head}  {'over as written':<{widths[1]}}  {scale}".rstrip()
    for name, point in zip(["as written", *names], [found.written, *found.points], strict=True):
        over = "" if point is found.written else _over(point.over, point.scores[0])
        mark = "best" if point.is_best else "~" if point.is_near_best else ""
        share = scale.share(point)
        bar = "" if share is None else "█" * round(1 + (BAR - 1) * share)
        row = f"  {name:<{name_width}}  {point.scores[0]!s:<{widths[0]}}  {over:<{widths[1]}}  {bar:<{BAR}}  {mark}"
        yield row.rstrip()


def _heat_map(found: Sweep, axes: Sequence[Axis]) -> Iterator[str]:
    """A line a value of the first axis, a column a value of the second, shaded from the worst to the best."""
    rows, columns = axes
    scale = _scale(found.points)
    cells = [f"{_shade(scale.share(point))} {_figure(point.scores[0])}" for point in found.points]
    marks = ["*" if point.is_best else "~" if point.is_near_best else " " for point in found.points]
    width = max(*map(len, cells), *map(len, columns.values)) + 1
    name_width = max(len(rows.path), *map(len, rows.values))
    yield f"  {rows.path:<{name_width}}   {columns.path}"
    yield f"  {'':<{name_width}}   " + " ".join(f"{value:<{width}}" for value in columns.values).rstrip()
    for index, value in enumerate(rows.values):
        first = index * len(columns.values)
        row = [f"{cells[first + at] + marks[first + at]:<{width}}" for at in range(len(columns.values))]
        yield f"  {value:<{name_width}}   {' '.join(row)}".rstrip()
    best = "as written is the best" if found.best is found.written else "* the best"
    shaded = f", shaded {scale}" if scale.is_drawn else ""
    yield f"  {found.points[0].scores[0].name}{shaded}; {best}, ~ within chance of it"


def _told(found: Sweep) -> Iterator[str]:
    best, first = found.best, found.best.scores[0]
    near = [point for point in found.points if point.is_near_best and not point.is_best]
    yield f"best        {' '.join(best.set_values) or 'as written'} · {first}{f' · {best.run}' if best.run else ''}"
    if found.test is None or found.test_over is None:
        yield "            Nothing here is better than the recipe as it is written."
    else:
        yield (
            f"as written  {found.written.scores[0]}; the best is {_over(best.over, first)} over it, for all points at "
            f"once: {worth(best.over.is_beyond_chance)}"
        )
        ours, theirs = found.test
        yield (
            f"test        {ours} against {theirs} as written: {_over(found.test_over, ours)}, "
            f"{worth(found.test_over.is_beyond_chance)}; these items chose nothing"
        )
    if near:
        yield f"near        {counted(len(near), 'other point')} of {len(found.points)} within chance of the best (~)"
    if first.limited:
        yield "*           Of a part of the items only: leave out --limit before you decide."
    if first.lower_is_better:
        yield "            Lower is better; a difference over the recipe as written counts what is gained."


def _heads(axes: Sequence[Axis]) -> list[str]:
    return [axis.path for axis in axes]


def _values(point: Point) -> list[str]:
    return [change.partition("=")[2] for change in point.set_values]


@dataclass(frozen=True)
class _Scale:
    """What bars and shades lead from, `worst`, and to, `best`; None where no point has a number. Nothing is drawn
    where no two points differ in the digits that are shown."""

    worst: Score | None
    best: Score | None

    @property
    def is_drawn(self) -> bool:
        return self.worst is not None and self.best is not None and _figure(self.worst) != _figure(self.best)

    def share(self, point: Point) -> float | None:
        """Where a point lies between the worst, 0, and the best, 1; None where nothing is to be drawn."""
        value = point.scores[0].value
        if self.worst is None or self.best is None or not self.is_drawn or not math.isfinite(value):
            return None
        return (value - self.worst.value) / (self.best.value - self.worst.value)

    def __str__(self) -> str:
        """`69.0 … 89.9`; empty where nothing is drawn."""
        if self.worst is None or self.best is None or not self.is_drawn:
            return ""
        return f"{_figure(self.worst)} … {_figure(self.best)}"


def _scale(points: Sequence[Point]) -> _Scale:
    finite = sorted((p.scores[0] for p in points if math.isfinite(p.scores[0].value)), key=lambda each: each.goodness)
    return _Scale(finite[0], finite[-1]) if finite else _Scale(None, None)


def _shade(share: float | None) -> str:
    return SHADES[0 if share is None else min(len(SHADES) - 1, int(share * len(SHADES)))] * 2


def _figure(score: Score) -> str:
    return score.plain(score.value)


def _over(over: Interval, score: Score) -> str:
    return score.signed(over.difference, over.margin)


def as_data(found: Sweep, metric: Metric) -> dict[str, Any]:
    """The sweep for JSON; `SWEEP_FIELDS` says what each key holds."""
    test = None
    if found.test is not None and found.test_over is not None:
        ours, theirs = found.test
        test = {"best": ours.as_data(), "as_written": theirs.as_data(), **interval_as_data(found.test_over)}
        test["beyond_chance"] = found.test_over.is_beyond_chance
    return {
        "metric": metric.name,
        "points": [_point(point) for point in found.points],
        "as_written": _point(found.written),
        "best": _point(found.best),
        "beyond_chance": found.best.over.is_beyond_chance,
        "test": test,
        "measured": found.measured,
        "seconds": round(found.seconds, 3),
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "set": list(point.set_values),
        "plan": point.plan,
        "run": point.run,
        "scores": [score.as_data() for score in point.scores],
        **interval_as_data(point.over),
        "near_best": point.is_near_best,
    }
