"""Charts of a sweep as data: the best is a star, what is not told from it filled, and values stand in their order."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.ledger.runs import Score
from lamina.report.scores import Swept, SweptPoint
from lamina.report.sweep_charts import sweep_chart
from lamina.studies.sweep import Standing


def swept(paths: Sequence[str], points: Sequence[tuple[Sequence[str], float, str]]) -> Swept:
    """Points of these values and shares; a mark is `best`, `near` or "". The first is the recipe as it is written."""
    return Swept(
        tuple(paths),
        tuple(
            SweptPoint(
                f"r{number}", tuple(values), Score("rev-dev", share, 0.01, 400, "share"),
                Standing(None, mark == "best", mark in ("best", "near")), is_own=number == 1, is_written=number == 0,
            )
            for number, (values, share, mark) in enumerate(points)
        ),
    )  # fmt: skip


CURVE = swept(["parameters.t"], [(["0.5"], 0.8, ""), (["1"], 0.6, ""), (["0.1"], 0.9, "best"), (["0.2"], 0.89, "near")])


def test_a_curve_runs_by_the_size_of_its_values_and_marks_the_best() -> None:
    chart = sweep_chart(CURVE)
    assert chart is not None
    (trace,) = chart.data
    assert trace["x"] == [0.1, 0.2, 0.5, 1]
    assert trace["y"] == [90, 89, 80, 60]
    assert trace["marker"]["symbol"] == ["star", "circle", "circle-open", "circle-open"]
    assert trace["text"][:2] == ["r2 · 90.0 ± 1.0, the best", "r3 · 89.0 ± 1.0, within chance of the best"]
    (line,) = chart.layout["shapes"]
    assert line["y0"] == line["y1"] == 80  # the recipe as it is written


def test_words_are_points_without_a_line_in_the_order_in_which_they_came() -> None:
    chart = sweep_chart(swept(["overlap"], [(["ramp"], 0.5, ""), (["cut"], 0.6, "best")]))
    assert chart is not None
    assert (chart.data[0]["x"], chart.data[0]["mode"]) == (["ramp", "cut"], "markers")
    assert chart.layout["xaxis"]["type"] == "category"


def test_two_values_make_cells_and_a_pair_that_was_not_measured_an_empty_one() -> None:
    points = [(["10", "a"], 0.5, ""), (["9", "a"], 0.7, "near"), (["9", "b"], float("nan"), "")]
    chart = sweep_chart(swept(["at", "overlap"], points))
    assert chart is not None
    (trace,) = chart.data
    assert (trace["y"], trace["x"]) == (["9", "10"], ["a", "b"])
    assert trace["z"] == [[70, None], [50, None]]
    assert trace["text"] == [["70.0 ~ ◆", ""], ["50.0", ""]]


def test_two_values_that_vary_together_are_a_curve() -> None:
    points = [(["0-1", "0-3"], 0.5, ""), (["0-2", "1-3"], 0.7, "best"), (["0-3", "2-3"], 0.6, "")]
    chart = sweep_chart(swept(["stack[0].layers", "stack[1].layers"], points))
    assert chart is not None
    assert chart.data[0]["x"] == ["0-1 · 0-3", "0-2 · 1-3", "0-3 · 2-3"]
    assert chart.layout["xaxis"]["title"]["text"] == "stack[0].layers · stack[1].layers"


def test_three_values_are_left_to_the_table() -> None:
    assert sweep_chart(swept(["a", "b", "c"], [(["1", "2", "3"], 0.5, "best")])) is None
