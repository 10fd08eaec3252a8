"""What a page is made of: the rows that speak of a merge, its parents' scores in pairs, and what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.ledger.ledger import Ledger
from lamina.ledger.runs import Run
from lamina.report.sheet import SHEET_FIELDS
from tests.cli.conftest import OWN, OWN_RECIPE, Lamina

from .test_page import GRADIENT, HOSTILE, out, score

__all__ = ["out"]


def test_the_merge_is_compared_in_pairs_with_the_parent_that_is_best_by_each_score(lamina: Lamina, out: Path) -> None:
    data = lamina("report", out, "--json").data
    assert {key for keys in SHEET_FIELDS for key in keys.split(", ")} == set(data)
    assert [model["label"] for model in data["scores"]] == ["out", "rev", "sort"]
    over = data["over"]["rev"]
    assert (over["parent"], over["paired"], over["beyond_chance"]) == ("rev", True, True)
    assert over["difference"] == pytest.approx(8 / 40)  # 38 of 40 against 30
    assert data["over"][HOSTILE]["parent"] == "sort"  # 30 of 40 there
    assert data["over"][HOSTILE]["difference"] == pytest.approx(-18 / 40)


def test_a_sweep_that_the_merge_is_a_point_of_is_found_with_its_best(lamina: Lamina, out: Path) -> None:
    (swept,) = lamina("report", out, "--json").data["sweeps"]
    assert swept["paths"] == ["parameters.t"]
    assert [point["values"] for point in swept["points"]] == [["[0, 1]"], ["[1, 0]"], ["0.5"]]
    assert [point["best"] for point in swept["points"]] == [False, False, True]
    assert [point["own"] for point in swept["points"]] == [True, False, False]
    assert swept["points"][2]["over"] == pytest.approx(10 / 40)


@pytest.mark.parametrize("values", ["0.1,0.50,0.9", "0.8,0.9"], ids=["a best", "nothing better"])
def test_a_sweep_is_told_as_the_verb_told_it(lamina: Lamina, folder: Path, values: str) -> None:
    (folder / "slerp.yml").write_text(GRADIENT.replace("[0, 1]", "0.5"))
    verb = lamina("sweep", "slerp.yml", "--vary", f"parameters.t={values}", "--limit", "40", "--json").data
    (swept,) = lamina("report", "slerp.yml", "--json").data["sweeps"]
    told = {point["run"]: point for point in (verb["as_written"], *verb["points"])}
    assert {point["run"] for point in swept["points"]} == set(told)
    for point in swept["points"]:
        for key in ("over", "margin", "near_best"):
            assert point[key] == told[point["run"]][key], (point["run"], key)
    assert [point["run"] for point in swept["points"] if point["best"]] == [verb["best"]["run"]]
    assert (verb["best"] == verb["as_written"]) == (values == "0.8,0.9")


def test_a_run_of_the_ledger_is_shown_as_the_folder_that_it_made(lamina: Lamina, out: Path) -> None:
    by_run, by_folder = (lamina("report", source, "--json").data for source in ("r1", out))
    assert Path(by_run["folder"]).samefile(out)
    for key in ("plan", "digest", "verdict", "scores", "input_shift"):
        kept = by_folder[key] if key != "scores" else by_folder[key][1:]
        assert (by_run[key] if key != "scores" else by_run[key][1:]) == (
            kept | {"title": by_run[key]["title"]} if key == "plan" else kept
        )


def test_a_point_of_a_sweep_is_found_from_another_folder(
    lamina: Lamina, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lamina("sweep", "average.yml", "--vary", "models[0].parameters.weight=0.7", "--limit", "10", "-q")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    data = lamina("report", "r2", "--json").data
    assert data["plan"]["digest"] == data["digest"]


def test_layers_and_distances_are_those_of_plan_and_diff(lamina: Lamina, out: Path) -> None:
    data = lamina("report", out, "--json").data
    diff = lamina("diff", "models/rev", out, "--json").data
    assert data["diff"]["distances"]["MLP"] == [layer["MLP"]["distance"] for layer in diff["layers"]]
    assert data["plan"]["digest"] == data["digest"] == lamina("plan", out, "--json").data["digest"]


def test_what_is_not_known_is_said_in_a_line_and_no_error(lamina: Lamina, folder: Path) -> None:
    lamina("merge", "average.yml", "plain", "-q")
    run = lamina("report", "plain", "--quick")
    assert run.code == 0
    assert run.out.startswith("plain-report.html · 4.8 MB · without scores, verdict, input of the layers and 1 more")
    written = (folder / "plain-report.html").read_text()
    assert "left out by --quick" in written
    assert "<code>lamina eval plain --parents --tasks TASK</code>" in written


def test_parents_that_are_gone_cost_the_layer_map_and_nothing_else(lamina: Lamina, out: Path, folder: Path) -> None:
    (folder / "models").unlink()
    data = lamina("report", out, "--offline", "--json").data
    assert data["plan"] is None
    assert data["missing"]["plan"].startswith("the recipe cannot be planned here: ")
    assert data["missing"]["diff"] == "no parent is here to compare it with"
    assert [model["label"] for model in data["scores"]] == ["out"]


def test_a_file_that_is_no_report_is_not_replaced(lamina: Lamina, folder: Path) -> None:
    notes = folder / "notes.html"
    notes.write_text("mine")
    refused = lamina("report", "average.yml", "-o", "notes.html")
    assert refused.code == 2
    assert "is no report" in refused.err
    assert notes.read_text() == "mine"
    assert lamina("report", "average.yml", "-o", "notes.html", "--force").code == 0
    assert lamina("report", "average.yml", "-o", "notes.html").code == 0  # ours by now


def test_the_same_sources_give_the_same_bytes(lamina: Lamina, out: Path, folder: Path) -> None:
    for name in ("one.html", "other.html"):
        lamina("report", out, "-o", name)
    assert (folder / "one.html").read_bytes() == (folder / "other.html").read_bytes()


def test_without_plotly_a_letter_names_the_extra(lamina: Lamina, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    refused = lamina("report", "average.yml")
    assert refused.code == 2
    assert "pip install 'lamina[report]'" in refused.err


def test_a_run_that_is_not_there_is_told_with_what_is(lamina: Lamina, out: Path, ledger_file: Path) -> None:
    refused = lamina("report", "r99")
    assert refused.code == 2
    with Ledger(ledger_file) as ledger:
        assert f"r1 to r{len(ledger.runs())}" in refused.err
    assert "there is no nowhere" in lamina("report", "nowhere").err
    assert out.exists()


def test_scores_of_another_merge_with_the_same_headers_are_not_taken_for_its_own(
    lamina: Lamina, folder: Path, ledger_file: Path
) -> None:
    for number, models in enumerate((("rev", "sort"), ("sort", "rev"))):
        first, second = models
        recipe = f"models: [{{model: models/{first}}}, {{model: models/{second}}}]\nbase_model: models/{first}\n"
        (folder / f"{number}.yml").write_text(recipe + "merge_method: slerp\nparameters: {t: 0.25}\n")
        lamina("merge", f"{number}.yml", f"out{number}", "-q")
    with Ledger(ledger_file) as ledger:
        second, first = ledger.runs(kind="merge")
        assert first.plan == second.plan  # fine-tunes of one base have one header
        ledger.add(Run("eval", "out1", plan=second.plan, output=second.output, scores=(score("rev", 7),)))
        ledger.add(Run("check", "out0", plan=first.plan, output=first.output, verdict="broken"))
    assert lamina("report", "out0", "--json").data["verdict"] == "broken"
    assert lamina("report", "out1", "--json").data["verdict"] == ""
    assert lamina("report", "out0", "--json").data["scores"] == []
    assert lamina("report", "r1", "--json").data["scores"] == []
    (scored,) = lamina("report", "out1", "--json").data["scores"]
    assert scored["scores"][0]["value"] == pytest.approx(7 / 40)


def test_a_check_of_what_lay_in_a_folder_before_is_not_taken_for_its_own(
    lamina: Lamina, folder: Path, ledger_file: Path
) -> None:
    for models in (("rev", "sort"), ("sort", "rev")):
        recipe = (
            f"models: [{{model: models/{models[0]}}}, {{model: models/{models[1]}}}]\nbase_model: models/{models[0]}\n"
        )
        (folder / "recipe.yml").write_text(recipe + "merge_method: slerp\nparameters: {t: 0.25}\n")
        lamina("merge", "recipe.yml", "out", "-q", "--force")
        with Ledger(ledger_file) as ledger:
            merge = ledger.runs(kind="merge")[0]
            if models[0] == "rev":
                ledger.add(Run("check", "out", plan=merge.plan, output=merge.output, verdict="broken"))
    assert lamina("report", "out", "--json").data["verdict"] == ""
    assert [(run["kind"], run["health"]) for run in lamina("runs", "--json").data] == [
        ("merge", ""), ("check", "broken"), ("merge", "broken"),
    ]  # fmt: skip


def test_a_merge_by_a_method_of_ones_own_has_its_layers_when_its_code_may_run(lamina: Lamina, folder: Path) -> None:
    (folder / "own.py").write_text(OWN)
    (folder / "own.yml").write_text(OWN_RECIPE)
    assert lamina("merge", "own.yml", "mine", "-q").code == 0
    unasked = lamina("report", "mine", "--json").data
    assert unasked["plan"] is None
    assert "give `--allow-own-code`" in str(unasked["missing"])
    assert lamina("report", "mine", "--allow-own-code", "--json").data["plan"]["method"] == "own.py:part"
