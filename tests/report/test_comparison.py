"""Several merges on one page: which is the best, what cannot be told from it, and how their recipes differ."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from lamina.ledger.ledger import Ledger
from lamina.ledger.runs import Parent, Run
from lamina.report.comparison import COMPARISON_FIELDS
from tests.cli.conftest import AVERAGE, Lamina

from .conftest import Browser
from .test_page import HOSTILE, score

RIGHT = {"0.5": (38, 37), "0.6": (38, 36), "0.7": (10, 12), "0.8": (11, 9)}  # of 40, rev and sort, by weight


@pytest.fixture
def ten(lamina: Lamina, ledger_file: Path) -> list[str]:
    """Evaluations of four recipes that differ in one value, and of a parent; the recipes' runs."""
    assert lamina("runs").code == 0
    parents = (Parent("models/rev"), Parent("models/sort"))
    with Ledger(ledger_file) as ledger:
        ledger.add(Run("eval", "rev", output="/elsewhere/rev", scores=(score("rev", 39, "r"), score("sort", 20, "s"))))
        numbers = [
            ledger.add(
                Run("eval", "average.yml", AVERAGE.replace("weight: 0.5", f"weight: {weight}", 1), f"plan-{weight}",
                    parents, scores=(score("rev", rev, "r"), score("sort", sort, "s")))
            )
            for weight, (rev, sort) in RIGHT.items()
        ]  # fmt: skip
    return [f"r{number}" for number in numbers]


def test_the_best_of_several_is_told_with_those_that_cannot_be_told_from_it(lamina: Lamina, ten: list[str]) -> None:
    data = lamina("report", *ten, "--json").data
    assert {key for keys in COMPARISON_FIELDS for key in keys.split(", ")} == set(data)
    assert data["by"] == "skills"
    assert data["paths"] == ["models[0].parameters.weight"]
    ranked = {each["run"]: each for each in data["ranked"]}
    assert [each["values"] for each in data["ranked"]] == [["0.5"], ["0.6"], [], ["0.7"], ["0.8"]]
    assert [ranked[run]["mark"] for run in ten] == ["best", "within chance", "beyond chance", "beyond chance"]
    assert ranked[ten[0]]["mean"] == pytest.approx(75 / 80)
    assert [each["run"] for each in data["ranked"] if each["is_parent"]] == ["r1"]


def test_the_page_of_several_says_so_at_its_head_and_draws_both_charts(
    lamina: Lamina, ten: list[str], folder: Path, browser: Browser
) -> None:
    run = lamina("report", *ten, "--by", "rev,sort")
    assert (run.code, run.err) == (0, "")
    assert run.out == "report.html · 4.8 MB · 5 runs by rev,sort\n"
    shown = browser.show(folder / "report.html", scheme="dark", width=390)
    lead = shown.page.inner_text(".lead >> nth=0")
    assert lead.startswith(f"{ten[0]} (models[0].parameters.weight=0.5) is the best: 93.8")
    assert shown.page.inner_text(".lead >> nth=1") == f"Within chance of it: {ten[1]}. 3 others beyond chance worse."
    assert shown.page.inner_text(".lead >> nth=2").startswith("Over the best parent, rev: +20.0 ±")
    marks = shown.page.evaluate(
        "['ranking-0', 'scatter-0'].map((id) => document.getElementById(id).querySelectorAll('.point').length)"
    )
    assert marks == [5, 5]
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (shown.faults, shown.asked) == ([], [])


def test_without_a_source_all_runs_of_the_ledger_are_ranked(lamina: Lamina, ten: list[str]) -> None:
    everything = lamina("report", "--by", "sort", "--json").data
    assert {each["run"] for each in everything["ranked"]} == {"r1", *ten}
    assert everything["by"] == "sort"


def test_health_is_that_of_the_list_of_runs(lamina: Lamina, ten: list[str], ledger_file: Path) -> None:
    with Ledger(ledger_file) as ledger:
        recipe = f"# again\n{AVERAGE}"  # says what the first says
        for output in ("/out", "/other"):
            ledger.add(Run("merge", "again.yml", recipe, "plan-0.5", output=output))
        for output, plan, verdict in (("/moved", "plan-0.5", "suspicious"), ("/out", "plan-0.6", "broken")):
            ledger.add(Run("check", "out", plan=plan, output=output, verdict=verdict))
        content = {"digest": "of rev"}
        ledger.add(
            Run("eval", "rev", output="/rev", scores=(score("rev", 39, "r"), score("sort", 20, "s")), details=content)
        )
        ledger.add(Run("check", "rev", output="/rev", verdict="healthy"))
    listed = {run["id"]: run["health"] for run in lamina("runs", "--json").data}
    ranked = {run["run"]: run["health"] for run in lamina("report", "--json", "--by", "rev,sort").data["ranked"]}
    assert [ranked[run] for run in ten] == ["suspicious", "broken", "", ""]
    assert sorted(ranked.values()) == ["", "", "", "broken", "healthy", "suspicious"]
    assert ranked == {run: listed[run] for run in ranked}


def test_a_source_without_the_score_is_named_and_not_ranked(lamina: Lamina, ten: list[str], folder: Path) -> None:
    assert lamina("report", *ten, "stack.yml", "--json").data["unscored"] == ["stack.yml"]
    assert lamina("report", *ten, "stack.yml").code == 0
    assert "Not ranked, for want of such a score: stack.yml." in (folder / "report.html").read_text()


def test_a_score_that_none_has_is_a_letter(lamina: Lamina, ten: list[str]) -> None:
    refused = lamina("report", *ten, "--by", "sorted")
    assert refused.code == 2
    assert "no run here has a score `sorted`" in refused.err


def test_a_merge_that_gives_no_number_comes_last_and_spoils_nothing_whatever_it_is_called(
    lamina: Lamina, ten: list[str], folder: Path, ledger_file: Path, browser: Browser
) -> None:
    nothing = replace(score("rev", 0, "r"), value=math.nan, stderr=math.nan, items=())
    with Ledger(ledger_file) as ledger:
        number = ledger.add(Run("eval", HOSTILE, AVERAGE, "plan-broken", scores=(nothing, score("sort", 1, "s"))))
    data = lamina("report", *ten, f"r{number}", "--json").data
    assert data["ranked"][-1]["run"] == f"r{number}"
    assert data["ranked"][-1]["mean"] is None
    assert lamina("report", *ten, f"r{number}").code == 0
    shown = browser.show(folder / "report.html")
    assert shown.faults == []
    assert f"r{number}" in shown.page.inner_text("#ranking tbody tr:last-child")
    assert HOSTILE in shown.page.inner_text("#ranking tbody tr:last-child")
