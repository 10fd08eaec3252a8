"""A sweep on the page of a merge that is a point of it: the best, what is not told from it, and all points."""

from __future__ import annotations

from lamina.chance import worth
from lamina.report.figures import with_error
from lamina.report.html import chart, paragraph, table, text
from lamina.report.scores import Swept, SweptPoint
from lamina.report.sweep_charts import sweep_chart
from lamina.wording import counted

MOST_POINTS = 60  # lines of a sweep's table


def sweep_section(swept: Swept, number: int) -> str:
    """The best in a sentence, then a chart or a table of all points. `number` tells several sweeps apart."""
    best = swept.best
    near = sum(point.standing.is_near_best and not point.standing.is_best for point in swept.points)
    values = ", ".join(f"{path}={value}" for path, value in zip(swept.paths, best.values, strict=True))
    said = f"Best of {len(swept.points)}: {values}, {with_error(best.score)} ({best.run}). "
    if best.is_written:
        said += "That is the recipe as it is written. "
    elif (over := best.standing.over) is not None:
        difference = best.score.signed(over.difference, over.margin)
        told = worth(over.is_beyond_chance)
        said += f"Over the recipe as it is written {difference}, for all points at once: {told}. "
    said += f"{counted(near, 'other point')} within chance of the best." if near else "No other is within chance of it."
    drawn = sweep_chart(swept)
    rows = _sweep_rows(swept)
    title = f"<h3>{text(' × '.join(swept.paths))}</h3>" + paragraph(said)
    return title + (rows if drawn is None else chart(drawn, f"sweep-{number}", rows))


def _sweep_rows(swept: Swept) -> str:
    points = list(swept.points)
    if len(points) > MOST_POINTS:
        points = sorted(points, key=lambda point: not (point.standing.is_best or point.standing.is_near_best))[
            :MOST_POINTS
        ]
    rows = [
        [
            text(point.run), *map(text, point.values), text(with_error(point.score)), _over_written(point),
            ", ".join(_marks(point)),
        ]
        for point in points
    ]  # fmt: skip
    head = ["run", *swept.paths, swept.points[0].score.name, "over as written", ""]
    count = len(swept.paths)
    more = len(swept.points) - len(points)
    return table(
        head, rows, numbers=[count + 1, count + 2], kinds=["own" if point.is_own else "" for point in points]
    ) + (paragraph(f"and {more} more", "note") if more else "")


def _marks(point: SweptPoint) -> list[str]:
    best, near = point.standing.is_best, point.standing.is_near_best
    marks = {
        "as written": point.is_written, "the best": best, "within chance of the best": near and not best,
        "this merge": point.is_own,
    }  # fmt: skip
    return [mark for mark, there in marks.items() if there]


def _over_written(point: SweptPoint) -> str:
    over = point.standing.over
    if over is None or point.is_written:
        return ""
    return text(point.score.signed(over.difference, over.margin))
