"""Charts of scores: a merge beside its parents, many merges ranked, two scores against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lamina.ledger.runs import in_json
from lamina.report.charts import COLOURS, LEGEND, Chart, line_through, shown
from lamina.report.figures import level, margin_of, scale_title
from lamina.report.scores import Scored, ScoreTable
from lamina.studies.ranking import Ranked
from lamina.wording import listed

LONGEST = 34  # characters of a label; the end of a name tells more


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
                [level(score) for _, score in at],
                [index + (number - (count - 1) / 2) * 0.6 / count for index, _ in at],
                [margin_of(score) for _, score in at],
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
        "legend": LEGEND,
        "showlegend": True,
    }  # fmt: skip
    height = 110 + len(names) * max(46, 16 * count)
    return Chart(tuple(traces), layout, height, "Scores with 95% intervals, the merge beside its parents.")


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
    factor = some.factor
    traces = []
    for name, (colour, symbol, size, places) in looks.items():
        if not places:
            continue
        margins = [None if (margin := ranked[at].margin) is None else in_json(factor * margin) for at in places]
        traces.append(
            _points(
                name, [in_json(factor * ranked[at].mean) for at in places], places, margins, colour=colour,
                symbol=symbol, size=size, text=[shown(f"{labels[at]}: {ranked[at].run.scores[0]}") for at in places],
            )
        )  # fmt: skip
    best = next((each.mean for each in ranked if each.mark == "best"), None)
    layout = {
        "xaxis": {"title": {"text": f"{shown(some.name)}, {scale_title(some)}"}},
        "yaxis": {
            "tickvals": list(range(len(ranked))), "ticktext": [shown(shortened(label)) for label in labels],
            "range": [len(ranked) - 0.5, -0.5], "showgrid": False, "zeroline": False,
        },
        "shapes": [] if best is None else [line_through(x=factor * best, dash="dot", colour="$accent")],
        "legend": LEGEND,
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
        at_once.setdefault((x.value, y.value), []).append(shortened(model.label))
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
                "x": [level(x) for _, x, _ in pairs], "y": [level(y) for _, _, y in pairs],
                "error_x": _error([margin_of(x) for _, x, _ in pairs]),
                "error_y": _error([margin_of(y) for *_, y in pairs]),
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
        "legend": LEGEND,
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


def shortened(label: str) -> str:
    return label if len(label) <= LONGEST else f"…{label[1 - LONGEST :]}"


def _points(
    name: str, xs: Sequence[float | None], ys: Sequence[float], margins: Sequence[float | None], *, colour: str,
    symbol: str, size: int, text: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """A trace of points in lines of a chart: `xs` with `margins` to each side, at the heights `ys`."""
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": list(xs), "y": list(ys),
        "error_x": _error(margins, colour),
        "marker": {"color": colour, "symbol": symbol, "size": size},
        "text": list(text), "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _error(margins: Sequence[float | None], colour: str = "$rule") -> dict[str, Any]:
    """Intervals of half these widths; none where that is None."""
    return {"type": "data", "array": list(margins), "color": colour, "thickness": 1.4, "width": 3}
