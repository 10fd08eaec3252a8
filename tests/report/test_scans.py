"""A scan in the report of a merge: its cuts are points of a sweep, its model is a parent with scores."""

from __future__ import annotations

from pathlib import Path

from lamina.checkpoints.hub_client import HubOptions
from lamina.ledger.ledger import Ledger
from lamina.report.scores import sweeps_of
from lamina.report.subjects import subject_of
from lamina.report.sweep_charts import sweep_chart
from tests.cli.conftest import Lamina


def test_a_scan_is_a_curve_over_the_cuts_to_the_depth_of_the_merge(lamina: Lamina, ledger_file: Path) -> None:
    for depth in (6, 5):
        lamina("upscale", "models/base", "--scan", "--to", depth, "--limit", 2)
    lamina("upscale", "models/base", "deep", "--to", 6, "--first", 2, "-q")
    data = lamina("report", "deep", "--json").data
    (swept,) = data["sweeps"]
    assert [point["values"] for point in swept["points"]] == [["0-1", "0-3"], ["0-2", "1-3"], ["0-3", "2-3"]]
    assert [point["own"] for point in swept["points"]] == [True, False, False]
    assert [model["label"] for model in data["scores"]] == ["deep", "base"]
    assert data["over"]["loss-dev"]["paired"]
    with Ledger(ledger_file) as ledger:
        (found,) = sweeps_of(subject_of("deep", ledger, HubOptions()), ledger)
    drawn = sweep_chart(found)
    assert drawn is not None
    assert drawn.data[0]["x"] == ["0-1 · 0-3", "0-2 · 1-3", "0-3 · 2-3"]


def test_a_scan_of_other_cuts_than_the_merge_has_is_not_shown(lamina: Lamina) -> None:
    lamina("upscale", "models/base", "--scan", "--to", 6, "--limit", 2)
    lamina("upscale", "models/base", "deep", "--to", 5, "-q")
    assert lamina("report", "deep", "--json").data["sweeps"] == []
