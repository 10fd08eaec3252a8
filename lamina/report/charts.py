"""Charts as plain data for plotly.js, and what all of them are made of: values in, traces and layout out.

A colour is written `$name` and is looked up in the page's style when it is drawn, so that charts follow light and
dark. Text that comes from users goes through `shown`: plotly reads some HTML in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

ROW = 30  # pixels of a line of a chart
COLOURS = 8  # that the page's style has for series: $c0 to $c7
SEQUENTIAL = [[0, "$heat0"], [0.25, "$heat1"], [0.5, "$heat2"], [0.75, "$heat3"], [1, "$heat4"]]
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}  # above the chart


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


def line_through(*, x: float | None = None, y: float | None = None, dash: str, colour: str = "$soft") -> dict[str, Any]:
    """A line through the whole chart."""
    at = {"x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper"} if x is not None else {
        "x0": 0, "x1": 1, "xref": "paper", "y0": y, "y1": y}  # fmt: skip
    return {"type": "line", **at, "line": {"color": colour, "width": 1.2, "dash": dash}}


def colour_bar(title: str) -> dict[str, Any]:
    """The scale of a heat map."""
    return {"thickness": 10, "outlinewidth": 0, "title": {"text": title, "side": "right", "font": {"size": 12}}}
