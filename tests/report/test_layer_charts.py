"""Charts over layers as data: cells for what is there, shades by size, marks at seams."""

from __future__ import annotations

import pytest

from lamina.report.layer_charts import diff_chart, shift_chart
from lamina.report.sheet import DiffMap


def test_distances_are_shaded_by_their_logarithm_and_what_is_identical_is_blank() -> None:
    distances = {"MLP": (0.1, 0.0, None), "attention": (1.0, 1e-9, 5.0)}
    diff = DiffMap("models/rev", distances, {}, (0, 1, None), 1, 6, "")
    (trace,) = diff_chart(diff).data
    assert trace["z"] == [[pytest.approx(-1), None, None], [0, -4, pytest.approx(0.69897)]]
    assert trace["text"] == [["0.1", "0", ""], ["1", "1e-09", "5"]]
    assert trace["customdata"][0] == ["0", "1", "none"]  # the layer of the parent
    assert (trace["zmin"], trace["zmax"]) == (-4, 0)
    assert "rev %{customdata}" in trace["hovertemplate"]


def test_seams_are_marked_in_what_the_layers_receive() -> None:
    chart = shift_chart({1: 0.7, 0: 1.0, 2: 0.9}, [1], 3)
    (trace,) = chart.data
    assert (trace["x"], trace["y"]) == ([0, 1, 2], [1.0, 0.7, 0.9])
    assert trace["marker"]["symbol"] == ["circle", "diamond", "circle"]
    seam, whole = chart.layout["shapes"]
    assert (seam["x0"], whole["y0"]) == (0.5, 1.0)
