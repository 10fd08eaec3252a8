"""Charts of scores as data: where points stand, what is drawn of them, and on which side of a point its name stands."""

from __future__ import annotations

import math

from lamina.ledger.runs import Run, Score
from lamina.report.score_charts import ranking_chart, scatter_chart, score_chart
from lamina.report.scores import Scored, ScoreTable
from lamina.studies.ranking import Mark, Ranked


def share(name: str, value: float, stderr: float | None = 0.01) -> Score:
    return Score(name, value, stderr, 400, "share")


def model(label: str, *values: float, is_parent: bool = False) -> Scored:
    return Scored(label, is_parent, tuple(share(name, value) for name, value in zip("ab", values, strict=False)))


def ranked(number: int, value: float, mark: Mark, margin: float | None = 0.02) -> Ranked:
    run = Run("eval", "a", scores=(share("a", value),), number=number)
    return Ranked(run, value, 0.01, None, margin, True, mark, is_parent=False)


def test_a_merge_and_its_parents_stand_in_one_line_beside_each_other() -> None:
    table = ScoreTable((model("<b>m</b>", 0.9, 0.5), model("rev", 0.8, is_parent=True)), ("a", "b"), {})
    own, parent = score_chart(table, table.names).data
    assert (own["name"], parent["name"]) == ("&lt;b&gt;m&lt;/b&gt;", "rev (parent)")  # plotly reads some HTML
    assert (own["x"], parent["x"]) == ([90, 50], [80])  # the parent was not asked the second
    assert own["y"][0] < 0 < parent["y"][0]
    assert own["error_x"]["array"] == [1.96, 1.96]


def test_a_ranking_has_a_line_a_run_and_looks_by_what_can_be_told_from_the_best() -> None:
    runs = [ranked(1, 0.9, "best"), ranked(2, 0.89, "within chance"), ranked(3, math.nan, "", None)]
    chart = ranking_chart(runs, ["one", "two", "x" * 99])
    assert [trace["marker"]["symbol"] for trace in chart.data] == ["star", "circle", "circle-open"]
    assert [trace["y"] for trace in chart.data] == [[0], [1], [2]]
    assert chart.data[2]["x"] == chart.data[2]["error_x"]["array"] == [None]  # JSON has no NaN
    assert [len(label) for label in chart.layout["yaxis"]["ticktext"]] == [3, 3, 34]
    assert chart.layout["shapes"][0]["x0"] == 90


def test_of_two_scores_equal_merges_share_a_name_and_names_stand_away_from_the_next_point() -> None:
    models = [model("low", 0.1, 0.1), model("high", 0.1, 0.9), model("same", 0.1, 0.9), model("half", 0.5)]
    (trace,) = scatter_chart(models, ["other"] * 4, "a", "b").data
    assert trace["x"] == [10, 10, 10]  # what has one of the two is not there
    assert trace["text"] == ["low", "high, same", ""]
    assert trace["textposition"] == ["bottom center", "top center", "top center"]
