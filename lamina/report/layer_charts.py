"""Charts over the layers of a merge: what they are made of, what they receive, how far they are from a parent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lamina.check.naming import short_name
from lamina.plans.explain import Track
from lamina.plans.weights import EffectiveWeights, Factors
from lamina.report.charts import COLOURS, LEGEND, ROW, SEQUENTIAL, Chart, colour_bar, line_through, shown
from lamina.report.sheet import DiffMap

DIVERGING = [[0, "$cold"], [0.5, "$heat0"], [1, "$heat4"]]
LEAST_DISTANCE = 1e-4  # what is nearer has the lightest shade
MOST_LABELS = 16  # layers beyond which cells have no numbers in them


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
        "text": [[factor_text(cell) for cell in cells] for _, cells in lines],
        "hovertemplate": "%{y}<br>layer %{x}: %{text}<extra></extra>",
        "colorscale": DIVERGING if negative else SEQUENTIAL, "zmin": -most if negative else 0, "zmax": most,
        "xgap": 1, "ygap": 3, "colorbar": colour_bar("factor"),
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
        "legend": LEGEND,
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
        "shapes": [line_through(x=layer - 0.5, dash="dash", colour="$warn") for layer in seams]
        + [line_through(y=1.0, dash="dot")],
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
        "colorbar": colour_bar("distance") | {"tickvals": [-4, -3, -2, -1, 0],
                                        "ticktext": ["≤ 0.0001", "0.001", "0.01", "0.1", "≥ 1"]},
    }  # fmt: skip
    if depth <= MOST_LABELS:
        trace["texttemplate"] = "%{text}"
    layout = {"xaxis": _layers_axis(depth), "yaxis": {"autorange": "reversed", "showgrid": False}}
    told = f"The distance of each class of tensors from {short_name(diff.parent)}, relative to its norm there."
    return Chart((trace,), layout, 80 + ROW * len(kinds), told)


def _layers_axis(depth: int) -> dict[str, Any]:
    step = next((step for step in (1, 2, 4, 8, 16) if depth <= 20 * step), 32)
    return {
        "title": {"text": "output layer"}, "dtick": step, "tick0": 0, "range": [-0.5, depth - 0.5], "showgrid": False,
        "zeroline": False, "tickangle": 0,
    }  # fmt: skip


def _at(offset: int) -> str:
    return f" moved by {offset:+d}" if offset else ""


def factor_text(cell: Factors | None) -> str:
    if cell is None:
        return ""
    return "..".join(dict.fromkeys((f"{cell.low:.3g}", f"{cell.high:.3g}")))
