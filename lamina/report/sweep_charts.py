"""Charts of a sweep: a curve of one varied value or of two that vary together, a heat map of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lamina.report.charts import SEQUENTIAL, Chart, colour_bar, line_through, shown
from lamina.report.figures import level, margin_of, scale_title
from lamina.report.scores import Swept, SweptPoint
from lamina.studies.sweep import Standing


def sweep_chart(swept: Swept) -> Chart | None:
    """A curve of one varied value, or of two that vary together; a heat map of two; None for more: a table has them."""
    columns = [*zip(*(point.values for point in swept.points), strict=True)]
    if len(columns) == 1:
        return _curve(swept)
    if len(columns) == 2:
        vary_together = all(len(set(column)) == len(column) for column in columns)
        return _curve(swept) if vary_together else _grid(swept)
    return None


def _curve(swept: Swept) -> Chart:
    points, title = swept.points, " · ".join(swept.paths)
    values = {point.run: " · ".join(point.values) for point in points}
    numeric = all(_number(value) is not None for value in values.values())
    if numeric:
        points = tuple(sorted(points, key=lambda point: _number(values[point.run]) or 0.0))
    places = [_number(values[point.run]) if numeric else shown(values[point.run]) for point in points]
    some = points[0].score
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines+markers" if numeric else "markers", "name": shown(some.name), "x": places,
            "y": [level(point.score) for point in points],
            "error_y": {"type": "data", "array": [margin_of(point.score) for point in points], "color": "$soft",
                        "thickness": 1.2, "width": 3},
            "line": {"color": "$c0", "width": 1.5},
            "marker": {
                "size": [13 if point.standing.is_best else 9 for point in points],
                "symbol": [_symbol(point.standing) for point in points],
                "color": ["$accent" if point.standing.is_best else "$c0" for point in points],
            },
            "text": [shown(f"{point.run} · {point.score}{_in_words(point.standing)}") for point in points],
            "hovertemplate": "%{x}: %{text}<extra></extra>",
        }
    ]  # fmt: skip
    shapes = []
    if swept.written is not None and (at := level(swept.written.score)) is not None:
        shapes.append(line_through(y=at, dash="dash"))
    layout = {
        "xaxis": {"title": {"text": shown(title)}, "type": "linear" if numeric else "category"},
        "yaxis": {"title": {"text": f"{shown(some.name)}, {scale_title(some)}"}},
        "shapes": shapes,
        "showlegend": False,
    }
    told = f"{some.name} at each value of {title}, with 95% intervals" + (
        "; the dashed line is the recipe as written." if shapes else "."
    )
    return Chart(tuple(traces), layout, 330, told)


def _grid(swept: Swept) -> Chart:
    rows, columns = (list(dict.fromkeys(point.values[axis] for point in swept.points)) for axis in (0, 1))
    rows, columns = (_in_order(values) for values in (rows, columns))
    found = {point.values: point for point in swept.points}
    cells = [[found.get((row, column)) for column in columns] for row in rows]
    some = swept.points[0].score
    low_is_good = some.lower_is_better
    trace = {
        "type": "heatmap", "x": [shown(each) for each in columns], "y": [shown(each) for each in rows],
        "z": [[None if cell is None else level(cell.score) for cell in line] for line in cells],
        "text": [["" if cell is None else _in_cell(cell) for cell in line] for line in cells],
        "texttemplate": "%{text}", "colorscale": SEQUENTIAL, "reversescale": low_is_good, "xgap": 2, "ygap": 2,
        "customdata": [["" if cell is None else shown(f"{cell.run} · {cell.score}{_in_words(cell.standing)}")
                        for cell in line] for line in cells],
        "hovertemplate": "%{y}, %{x}: %{customdata}<extra></extra>",
        "colorbar": colour_bar(scale_title(some)),
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": shown(swept.paths[1])}, "type": "category", "showgrid": False},
        "yaxis": {"title": {"text": shown(swept.paths[0])}, "type": "category", "autorange": "reversed",
                  "showgrid": False},
    }  # fmt: skip
    told = f"{some.name} for each pair of values; ★ the best, ~ within chance of it, ◆ this merge."
    return Chart((trace,), layout, 120 + 38 * len(rows), told)


def _in_cell(point: SweptPoint) -> str:
    if level(point.score) is None:
        return ""
    mark = " ★" if point.standing.is_best else " ~" if point.standing.is_near_best else ""
    return point.score.plain(point.score.value) + mark + " ◆" * point.is_own


def _symbol(standing: Standing) -> str:
    return "star" if standing.is_best else "circle" if standing.is_near_best else "circle-open"


def _in_words(standing: Standing) -> str:
    return ", the best" if standing.is_best else ", within chance of the best" if standing.is_near_best else ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _in_order(values: Sequence[str]) -> list[str]:
    """Numbers by their size; words as they came."""
    return sorted(values, key=lambda each: _number(each) or 0.0) if all(_number(v) is not None for v in values) else [
        *values]  # fmt: skip
