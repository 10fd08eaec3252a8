"""Charts as plain data for plotly.js: values in, traces and layout out.

A colour is written `$name` and is looked up in the page's style when it is drawn, so that charts follow light and
dark. Text that comes from users goes through `shown`: plotly reads some HTML in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lamina.check.naming import short_name
from lamina.ledger.runs import Score
from lamina.plans.explain import Track
from lamina.plans.weights import EffectiveWeights, Factors
from lamina.report.scores import Scored, ScoreTable, Swept, SweptPoint, interval
from lamina.report.sheet import DiffMap
from lamina.studies.ranking import Ranked
from lamina.wording import listed

ROW = 30  # pixels of a line of a chart
COLOURS = 8  # that the page's style has for series: $c0 to $c7
SEQUENTIAL = [[0, "$heat0"], [0.25, "$heat1"], [0.5, "$heat2"], [0.75, "$heat3"], [1, "$heat4"]]
DIVERGING = [[0, "$cold"], [0.5, "$heat0"], [1, "$heat4"]]
LEAST_DISTANCE = 1e-4  # what is nearer has the lightest shade
LONGEST = 34  # characters of a label; the end of a name tells more
MOST_LABELS = 16  # layers beyond which cells have no numbers in them


@dataclass(frozen=True)
class Chart:
    """What plotly draws, `height` in pixels, and what it shows in a sentence, for who does not see it."""

    data: tuple[Mapping[str, Any], ...]
    layout: Mapping[str, Any]
    height: int
    told: str

    def as_data(self) -> dict[str, Any]:
        return {"data": list(self.data), "layout": dict(self.layout), "height": self.height}


def shown(text: str) -> str:
    """Text of a user's for plotly, which takes `<b>` and `&lt;` for what they are in HTML."""
    return escape(text, quote=False)


def figure(score: Score) -> float | None:
    """A score as it is shown: shares in percent; None for no number."""
    return _finite(score.value * _factor(score.unit))


def scale_title(score: Score) -> str:
    """What an axis of such scores says."""
    worse = ", lower is better" if score.lower_is_better else ""
    return {"share": "percent", "nats": "nats a token"}.get(score.unit, "score") + worse


def score_chart(table: ScoreTable, names: Sequence[str]) -> Chart:
    """A line a score, in it a point with its interval for each model. All of one unit."""
    traces = []
    count = len(table.models)
    for number, model in enumerate(table.models):
        own = not model.is_parent
        at = [(index, score) for index, name in enumerate(names) if (score := model.score(name)) is not None]
        traces.append(
            _points(
                shown(f"{model.label} (parent)" if model.is_parent else model.label),
                [figure(score) for _, score in at],
                [index + (number - (count - 1) / 2) * 0.6 / count for index, _ in at],
                [_margin(score) for _, score in at],
                colour="$accent" if own else f"$c{number % COLOURS}",
                symbol="diamond" if own else "circle",
                size=11 if own else 8,
                text=[shown(str(score)) for _, score in at],
            )
        )
    some = next(score for model in table.models for score in model.scores if score.name in names)
    layout = {
        "xaxis": {"title": {"text": scale_title(some)}},
        "yaxis": {
            "tickvals": list(range(len(names))), "ticktext": [shown(name) for name in names],
            "range": [len(names) - 0.5, -0.5], "showgrid": False,
        },
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": True,
    }  # fmt: skip
    height = 110 + len(names) * max(46, 16 * count)
    return Chart(tuple(traces), layout, height, "Scores with 95% intervals, the merge beside its parents.")


def sweep_chart(swept: Swept) -> Chart | None:
    """A curve of one varied value, or of several that vary together; a heat map of two; None for more, which a table
    shows."""
    columns = [*zip(*(point.values for point in swept.points), strict=True)]
    if len(swept.paths) == 1 or all(len(set(column)) == len(column) for column in columns):
        return _curve(swept)
    if len(swept.paths) == 2:
        return _grid(swept)
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
            "y": [figure(point.score) for point in points],
            "error_y": {"type": "data", "array": [_margin(point.score) for point in points], "color": "$soft",
                        "thickness": 1.2, "width": 3},
            "line": {"color": "$c0", "width": 1.5},
            "marker": {
                "size": [13 if point.is_best else 9 for point in points],
                "symbol": ["star" if point.is_best else "circle" if point.is_near_best else "circle-open"
                           for point in points],
                "color": ["$accent" if point.is_best else "$c0" for point in points],
            },
            "text": [shown(f"{point.run} · {point.score}{_mark_in_words(point)}") for point in points],
            "hovertemplate": "%{x}: %{text}<extra></extra>",
        }
    ]  # fmt: skip
    shapes = []
    if swept.written is not None and (level := figure(swept.written.score)) is not None:
        shapes.append(_line(y=level, dash="dash"))
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
        "z": [[None if cell is None else figure(cell.score) for cell in line] for line in cells],
        "text": [["" if cell is None else _in_cell(cell) for cell in line] for line in cells],
        "texttemplate": "%{text}", "colorscale": SEQUENTIAL, "reversescale": low_is_good, "xgap": 2, "ygap": 2,
        "customdata": [["" if cell is None else shown(f"{cell.run} · {cell.score}{_mark_in_words(cell)}")
                        for cell in line] for line in cells],
        "hovertemplate": "%{y}, %{x}: %{customdata}<extra></extra>",
        "colorbar": _bar(scale_title(some)),
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": shown(swept.paths[1])}, "type": "category", "showgrid": False},
        "yaxis": {"title": {"text": shown(swept.paths[0])}, "type": "category", "autorange": "reversed",
                  "showgrid": False},
    }  # fmt: skip
    told = f"{some.name} for each pair of values; ★ the best, ~ within chance of it, ◆ this merge."
    return Chart((trace,), layout, 120 + 38 * len(rows), told)


def weights_chart(weights: EffectiveWeights) -> Chart:
    """How much each source counts in each output layer; a line a source, or a kind of tensors where those differ."""
    lines: list[tuple[str, tuple[Factors | None, ...]]] = []
    for row, overall in zip(weights.rows, weights.overall, strict=True):
        name = f"{row.model}{' Δ' if row.of_delta else ''}{_at(row.offset)}"
        kinds = list(row.kinds.values())
        if all(cells == kinds[0] for cells in kinds):
            lines.append((name, overall))
        else:
            lines += [(f"{name} · {kind}", cells) for kind, cells in row.kinds.items()]
    layers = list(range(weights.depth))
    values = [[None if cell is None else (cell.low + cell.high) / 2 for cell in cells] for _, cells in lines]
    known = [abs(value) for line in values for value in line if value is not None]
    most = max([1.0, *known])
    negative = any(value is not None and value < 0 for line in values for value in line)
    trace = {
        "type": "heatmap", "x": layers, "y": [shown(name) for name, _ in lines], "z": values,
        "text": [[_factor_text(cell) for cell in cells] for _, cells in lines],
        "hovertemplate": "%{y}<br>layer %{x}: %{text}<extra></extra>",
        "colorscale": DIVERGING if negative else SEQUENTIAL, "zmin": -most if negative else 0, "zmax": most,
        "xgap": 1, "ygap": 3, "colorbar": _bar("factor"),
    }  # fmt: skip
    if weights.depth <= MOST_LABELS:
        trace["texttemplate"] = "%{text}"
    layout = {"xaxis": _layers_axis(weights.depth), "yaxis": {"autorange": "reversed", "showgrid": False}}
    told = "The factor by which each source enters each output layer."
    return Chart((trace,), layout, 80 + ROW * len(lines), told)


def gradient_chart(tracks: Sequence[Track]) -> Chart:
    """Each source's factor through the depth, a line a source."""
    traces = []
    for number, track in enumerate(tracks):
        layers = [layer for layer, factor in enumerate(track.factors) if factor]
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": shown(f"{track.model}{_at(track.offset)}"),
                "x": layers, "y": [track.factors[layer] for layer in layers],
                "line": {"color": f"$c{number % COLOURS}", "width": 2, "shape": "linear"},
                "marker": {"size": 5 if len(track.factors) > MOST_LABELS else 7, "color": f"$c{number % COLOURS}"},
                "hovertemplate": "layer %{x}: %{y:.3g}<extra>%{fullData.name}</extra>",
            }
        )  # fmt: skip
    depth = len(tracks[0].factors)
    highest = max(factor for track in tracks for factor in track.factors)
    lowest = min(0.0, min(factor for track in tracks for factor in track.factors))
    layout = {
        "xaxis": _layers_axis(depth),
        "yaxis": {"title": {"text": "factor"}, "range": [lowest - 0.05, max(1.0, highest) * 1.08]},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": True,
    }
    return Chart(tuple(traces), layout, 300, "The factor of each source through the depth.")


def shift_chart(shifts: Mapping[int, float], seams: Sequence[int], depth: int) -> Chart:
    """What each layer receives of what it was trained on, with the seams."""
    layers = sorted(shifts)
    trace = {
        "type": "scatter", "mode": "lines+markers", "x": layers, "y": [shifts[layer] for layer in layers],
        "line": {"color": "$c0", "width": 1.5},
        "marker": {
            "size": [11 if layer in seams else 5 for layer in layers],
            "symbol": ["diamond" if layer in seams else "circle" for layer in layers],
            "color": ["$warn" if layer in seams else "$c0" for layer in layers],
        },
        "hovertemplate": "layer %{x} receives %{y:.3f}<extra></extra>",
    }  # fmt: skip
    lowest = min(0.0, *shifts.values()) if shifts else 0.0
    layout = {
        "xaxis": _layers_axis(depth),
        "yaxis": {"title": {"text": "cosine with what its origin receives"}, "range": [lowest - 0.02, 1.05]},
        "shapes": [_line(x=layer - 0.5, dash="dash", colour="$warn") for layer in seams] + [_line(y=1.0, dash="dot")],
        "showlegend": False,
    }
    return Chart((trace,), layout, 300, "What each layer receives, as the cosine with what its origin receives.")


def diff_chart(diff: DiffMap) -> Chart:
    """How far each class of tensors of each layer is from the parent's, on a logarithmic scale; blank: identical."""
    kinds = list(diff.distances)
    depth, parent = len(diff.counterparts), shown(short_name(diff.parent))

    def shade(value: float | None) -> float | None:
        return None if not value else math.log10(max(value, LEAST_DISTANCE))

    trace = {
        "type": "heatmap", "x": list(range(depth)), "y": [shown(kind) for kind in kinds],
        "z": [[shade(value) for value in diff.distances[kind]] for kind in kinds],
        "text": [["" if value is None else f"{value:.3g}" for value in diff.distances[kind]] for kind in kinds],
        "customdata": [["none" if other is None else str(other) for other in diff.counterparts] for _ in kinds],
        "hovertemplate": f"%{{y}}, layer %{{x}}, {parent} %{{customdata}}: %{{text}}<extra></extra>",
        "hoverongaps": False, "colorscale": SEQUENTIAL, "zmin": -4, "zmax": 0, "xgap": 1, "ygap": 3,
        "colorbar": _bar("distance") | {"tickvals": [-4, -3, -2, -1, 0],
                                        "ticktext": ["≤ 0.0001", "0.001", "0.01", "0.1", "≥ 1"]},
    }  # fmt: skip
    if depth <= MOST_LABELS:
        trace["texttemplate"] = "%{text}"
    layout = {"xaxis": _layers_axis(depth), "yaxis": {"autorange": "reversed", "showgrid": False}}
    told = f"The distance of each class of tensors from {short_name(diff.parent)}, relative to its norm there."
    return Chart((trace,), layout, 80 + ROW * len(kinds), told)


def ranking_chart(ranked: Sequence[Ranked], labels: Sequence[str]) -> Chart:
    """A line a run, the best first: its mean, and its distance from the best with the interval of that distance."""
    some = ranked[0].run.scores[0]
    looks = {
        "the best": ("$accent", "star", 15, [at for at, each in enumerate(ranked) if each.mark == "best"]),
        "within chance of the best": ("$c0", "circle", 10, [
            at for at, each in enumerate(ranked) if each.mark == "within chance"]),
        "beyond chance from it": ("$c0", "circle-open", 10, [
            at for at, each in enumerate(ranked) if each.mark == "beyond chance"]),
        "not compared": ("$soft", "circle-open", 10, [at for at, each in enumerate(ranked) if not each.mark]),
    }  # fmt: skip
    factor = _factor(some.unit)
    traces = []
    for name, (colour, symbol, size, places) in looks.items():
        if not places:
            continue
        margins = [None if (margin := ranked[at].margin) is None else _finite(factor * margin) for at in places]
        traces.append(
            _points(
                name, [_finite(factor * ranked[at].mean) for at in places], places, margins, colour=colour,
                symbol=symbol, size=size, text=[shown(f"{labels[at]}: {ranked[at].run.scores[0]}") for at in places],
            )
        )  # fmt: skip
    best = next((each.mean for each in ranked if each.mark == "best"), None)
    layout = {
        "xaxis": {"title": {"text": f"{shown(some.name)}, {scale_title(some)}"}},
        "yaxis": {
            "tickvals": list(range(len(ranked))), "ticktext": [shown(_short(label)) for label in labels],
            "range": [len(ranked) - 0.5, -0.5], "showgrid": False, "zeroline": False,
        },
        "shapes": [] if best is None else [_line(x=factor * best, dash="dot", colour="$accent")],
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": True,
    }  # fmt: skip
    told = "The mean of each run. A bar that crosses the dotted line: it cannot be told from the best."
    return Chart(tuple(traces), layout, 110 + 26 * len(ranked), told)


def scatter_chart(models: Sequence[Scored], marks: Sequence[str], across: str, up: str) -> Chart:
    """Two scores against each other: `marks` are `best`, `near`, `other` or `parent`, a mark a model."""
    looks = {
        "best": ("best", "$accent", "star", 15),
        "near": ("within chance of the best", "$c0", "circle", 10),
        "other": ("beyond chance worse", "$c0", "circle-open", 10),
        "parent": ("parents", "$soft", "square", 9),
    }
    placed = [(model, x, y) for model in models if (x := model.score(across)) and (y := model.score(up))]
    at_once: dict[tuple[float, float], list[str]] = {}  # what each place is called: equal merges share one
    for model, x, y in placed:
        at_once.setdefault((x.value, y.value), []).append(_short(model.label))
    sides = _sides([*at_once])
    traces = []
    for mark, (name, colour, symbol, size) in looks.items():
        of_mark = [model for model, each in zip(models, marks, strict=True) if each == mark]
        pairs = [(model, x, y) for model, x, y in placed if model in of_mark]
        if not pairs:
            continue
        traces.append(
            {
                "type": "scatter", "mode": "markers+text", "name": name,
                "x": [figure(x) for _, x, _ in pairs], "y": [figure(y) for _, _, y in pairs],
                "error_x": _error([_margin(x) for _, x, _ in pairs]),
                "error_y": _error([_margin(y) for *_, y in pairs]),
                "text": [shown(listed(at_once.pop((x.value, y.value), []))) for _, x, y in pairs],
                "textposition": [sides[x.value, y.value] for _, x, y in pairs],
                "textfont": {"size": 11, "color": "$soft"},
                "marker": {"color": colour, "symbol": symbol, "size": size, "line": {"width": 1.5, "color": colour}},
                "hovertext": [shown(f"{model.label}: {x}, {y}") for model, x, y in pairs], "hoverinfo": "text",
            }
        )  # fmt: skip
    some = next(score for model in models if (score := model.score(across)) is not None)
    layout = {
        "xaxis": {"title": {"text": f"{shown(across)}, {scale_title(some)}"}},
        "yaxis": {"title": {"text": f"{shown(up)}, {scale_title(some)}"}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": True,
    }
    return Chart(tuple(traces), layout, 460, f"{up} against {across}, with 95% intervals; parents are squares.")


def _sides(places: Sequence[tuple[float, float]]) -> dict[tuple[float, float], str]:
    """For each place the side of its label: away from the place that is nearest."""
    spread = [max(axis) - min(axis) or 1.0 for axis in zip(*places, strict=True)]

    def apart(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
        return (one[0] - other[0]) / spread[0], (one[1] - other[1]) / spread[1]

    found = {}
    for place in places:
        others = [apart(place, other) for other in places if other != place]
        across, up = min(others, key=lambda each: math.hypot(*each), default=(0.0, 1.0))
        upright = "top center" if up >= 0 else "bottom center"
        found[place] = upright if abs(up) >= abs(across) / 2 else f"middle {'right' if across > 0 else 'left'}"
    return found


def _points(
    name: str, xs: Sequence[float | None], ys: Sequence[float], margins: Sequence[float | None], *, colour: str,
    symbol: str, size: int, text: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": list(xs), "y": list(ys),
        "error_x": _error(margins, colour),
        "marker": {"color": colour, "symbol": symbol, "size": size},
        "text": list(text), "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _error(margins: Sequence[float | None], colour: str = "$rule") -> dict[str, Any]:
    return {"type": "data", "array": list(margins), "color": colour, "thickness": 1.4, "width": 3}


def _line(*, x: float | None = None, y: float | None = None, dash: str, colour: str = "$soft") -> dict[str, Any]:
    """A line through the whole chart."""
    at = {"x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper"} if x is not None else {
        "x0": 0, "x1": 1, "xref": "paper", "y0": y, "y1": y}  # fmt: skip
    return {"type": "line", **at, "line": {"color": colour, "width": 1.2, "dash": dash}}


def _layers_axis(depth: int) -> dict[str, Any]:
    step = next((step for step in (1, 2, 4, 8, 16) if depth <= 20 * step), 32)
    return {
        "title": {"text": "output layer"}, "dtick": step, "tick0": 0, "range": [-0.5, depth - 0.5], "showgrid": False,
        "zeroline": False, "tickangle": 0,
    }  # fmt: skip


def _bar(title: str) -> dict[str, Any]:
    return {"thickness": 10, "outlinewidth": 0, "title": {"text": title, "side": "right", "font": {"size": 12}}}


def _at(offset: int) -> str:
    return f" moved by {offset:+d}" if offset else ""


def _factor_text(cell: Factors | None) -> str:
    if cell is None:
        return ""
    return "..".join(dict.fromkeys((f"{cell.low:.3g}", f"{cell.high:.3g}")))


def _in_cell(point: SweptPoint) -> str:
    value = figure(point.score)
    digits = 1 if point.score.unit == "share" else 3
    mark = (" ★" if point.is_best else " ~" if point.is_near_best else "") + " ◆" * point.is_own
    return "" if value is None else f"{value:.{digits}f}{mark}"


def _mark_in_words(point: SweptPoint) -> str:
    return ", the best" if point.is_best else ", within chance of the best" if point.is_near_best else ""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


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


def _margin(score: Score) -> float | None:
    margin = interval(score)
    return None if margin is None else margin * _factor(score.unit)


def _factor(unit: str) -> int:
    return 100 if unit == "share" else 1


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else f"…{label[1 - LONGEST :]}"
