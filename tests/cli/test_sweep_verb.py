"""`lamina sweep`: what it measures, the rows that it leaves, and what it refuses."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from lamina.cli.sweep_shown import SWEEP_FIELDS
from lamina.evaluate import harness
from lamina.ledger.ledger import Ledger
from lamina.ledger.runs import Run, Score
from lamina.studies import metrics

from .conftest import EXAMPLES, Lamina

SLERP = """\
merge_method: slerp
base_model: models/rev
models: [{model: models/rev}, {model: models/sort}]
parameters: {t: 0.5}
"""


@pytest.fixture
def recipe(folder: Path) -> str:
    (folder / "slerp.yml").write_text(SLERP)
    return "slerp.yml"


def test_the_points_are_rows_of_the_ledger_and_the_chosen_one_has_the_score_of_the_test(
    lamina: Lamina, recipe: str
) -> None:
    data = lamina("sweep", recipe, "--vary", "parameters.t=0.1,0.9", "--limit", "30", "--json").data
    assert {key for keys in SWEEP_FIELDS for key in keys.split(", ")} == set(data)
    rows = lamina("runs", "--kind", "sweep", "--sort", "skills-dev", "--json").data
    assert rows[0]["name"] == "slerp.yml parameters.t=0.1"
    assert rows[0]["id"] == data["best"]["run"]
    assert len(rows) == 3
    assert lamina("runs", "--sort", "skills-test", "--json").data[0]["name"] == rows[0]["name"]
    assert all(score["limited"] for row in rows for score in row["scores"])


def test_what_a_sweep_measured_stands_in_for_no_evaluation(lamina: Lamina, recipe: str, ledger_file: Path) -> None:
    plan = lamina("plan", recipe, "--json").data["digest"]
    asked = Score("rev", 0.25, 0.01, 400, unit="share")
    with Ledger(ledger_file) as ledger:
        ledger.add(Run("eval", recipe, (Path(recipe)).read_text(), plan, scores=(asked,)))
    lamina("sweep", recipe, "--vary", "parameters.t=0.1", "--metric", "rev", "-q")
    ranked = lamina("runs", "--sort", "rev", "--json").data
    assert [row["kind"] for row in ranked] == ["eval"]
    lamina("merge", recipe, "out", "-q")
    card = lamina("push", "out", "me/x", "--dry-run", "--json").data["scores"]
    assert {score["name"]: score["value"] for score in card}["rev"] == 0.25
    assert not any("-dev" in score["name"] for score in card)


def test_what_has_no_effect_at_any_point_is_told(lamina: Lamina, recipe: str) -> None:
    run = lamina("sweep", recipe, "--vary", "parameters.tt=0:1:0.5", "--metric", "rev", "--limit", "4")
    assert run.err.count("unknown parameter `tt` has no effect") == 1
    assert lamina("sweep", recipe, "--vary", "parameters.t=0.1,0.9", "--metric", "rev", "--limit", "4").err == ""


def test_without_a_ledger_nothing_is_noted_and_a_sweep_still_tells(
    lamina: Lamina, recipe: str, ledger_file: Path
) -> None:
    run = lamina("sweep", recipe, "--vary", "parameters.t=0.1", "--limit", "10", "--no-ledger", "--json")
    assert run.data["best"]["run"] is None
    assert not ledger_file.exists()


def test_a_ledger_that_cannot_be_written_is_told_once_and_a_sweep_goes_on(
    lamina: Lamina, recipe: str, ledger_file: Path
) -> None:
    ledger_file.write_text("no rows " * 500)
    run = lamina("sweep", recipe, "--vary", "parameters.t=0.1,0.9", "--limit", "10")
    assert run.code == 0
    assert run.err.count("not noted") == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [([], "the same command goes on"), (["--no-ledger"], "nothing was noted")],
    ids=["ledger", "none"],
)
def test_ctrl_c_tells_how_far_it_was_and_what_is_kept(
    lamina: Lamina, recipe: str, monkeypatch: pytest.MonkeyPatch, flags: list[str], told: str
) -> None:
    answered, calls = metrics.answered, []

    def stopping(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 4:  # of the second point, the second kind of questions
            raise KeyboardInterrupt
        return answered(*arguments)

    monkeypatch.setattr(metrics, "answered", stopping)
    run = lamina("sweep", recipe, "--vary", "parameters.t=0.1,0.9", "--limit", "10", *flags)
    assert run.code == 130
    assert run.err.startswith("\nstopped after 1 point; ")
    assert told in run.err
    assert len(lamina("runs", "--json").data) == (not flags)


def test_a_fault_of_any_point_is_a_letter_and_nothing_is_measured(
    lamina: Lamina, recipe: str, ledger_file: Path
) -> None:
    run = lamina("sweep", recipe, "--vary", "parameters.t=0.1,much", "--vary", "merge_method=slerp,slurp")
    assert run.code == 2
    assert "--vary parameters.t=much" in run.err
    assert "--vary merge_method=slurp" in run.err
    assert "Did you mean `slerp`?" in run.err
    assert not ledger_file.exists()


@pytest.mark.parametrize(
    ("varied", "told"),
    [
        (
            "models[0].parameters.wieght=0:1:0.1",
            r"--vary models\[0\]\.parameters\.wieght  \[unknown-parameter\] .* of slerp.*",
        ),
        ("models[7].parameters.weight=1,2", r"--vary models\[7\]\.parameters\.weight  \[set\] .* leads nowhere.*"),
        ("merge_method=slerp,tise", r"--vary merge_method=tise  \[unknown-method\] .*Did you mean `ties`\?"),
        ("parameters.t=0.1,many", r"--vary parameters\.t=many  \[parameter-value\] .*"),
        (
            "merge_method=slerp,passthrough",
            r"slerp\.yml:3:9 .* This is so under --vary merge_method=passthrough\.\n(?s:.*)",
        ),
    ],
    ids=["of the path", "of no place", "of a method", "of a value", "of the recipe under a value"],
)
def test_a_fault_that_points_have_in_common_comes_once_and_names_what_was_varied(
    lamina: Lamina, recipe: str, varied: str, told: str
) -> None:
    run = lamina("sweep", recipe, "--vary", varied)
    assert run.code == 2
    assert re.fullmatch(told + "\n\n1 error; nothing was read or written.\n", run.err), run.err


def test_where_the_recipe_is_wrong_its_faults_are_told_as_a_plan_tells_them(lamina: Lamina) -> None:
    run = lamina("sweep", "faulty.yml", "--vary", "models[0].parameters.weight=0:1:0.1")
    assert run.code == 2
    assert run.err == lamina("plan", "faulty.yml").err


def test_the_loss_is_taken_in_memory_and_lower_is_better(lamina: Lamina, recipe: str, folder: Path) -> None:
    pytest.importorskip("transformers")
    before = sorted(folder.iterdir())
    data = lamina("sweep", recipe, "--vary", "parameters.t=0.9", "--metric", "loss", "--limit", "2", "--json").data
    loss, prose, code = data["best"]["scores"]
    assert [prose["name"], code["name"]] == ["loss-dev/prose", "loss-dev/code"]
    assert loss["value"] == pytest.approx((prose["value"] + code["value"]) / 2)
    assert loss["lower_is_better"]
    assert 2 < loss["value"] < 8
    assert sorted(folder.iterdir()) == before


def test_the_loss_is_taken_on_texts_of_ones_own(lamina: Lamina, recipe: str, folder: Path) -> None:
    pytest.importorskip("transformers")
    (folder / "mine.txt").write_text("In the beginning was the word, and it was written down. " * 200)
    asked = ("sweep", recipe, "--vary", "parameters.t=0.9", "--text", "mine.txt", "--limit", "2")
    data = lamina(*asked, "--metric", "loss", "--json").data
    assert [score["name"] for score in data["best"]["scores"]] == ["loss-dev", "loss-dev/mine.txt"]
    assert "add `--metric loss`" in lamina(*asked).err
    (folder / "mine.txt").write_text("Too short.")
    run = lamina(*asked, "--metric", "loss")
    assert run.code == 2
    assert "a sweep takes texts of 1024 or more" in run.err


def test_a_task_of_ones_own_is_a_metric_by_its_file(lamina: Lamina, recipe: str, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    questions = (EXAMPLES / "questions" / "rev.test.jsonl").read_text().splitlines(keepends=True)
    (folder / "mine.jsonl").write_text("".join(questions[:60]))
    asked = ("sweep", recipe, "--vary", "parameters.t=0.1,0.9", "--vary", "dtype=float32,bfloat16")
    run = lamina(*asked, "--metric", "mine.jsonl", "--dtype", "float32")
    assert run.code == 0
    assert run.err == ""
    lines = run.out.splitlines()
    assert re.match(r"mine on \d\d items by lm-eval [\d.]+ \(dev\) · 4 points · 7 measurements in ", lines[0])
    assert re.fullmatch(r"  mine-dev, shaded [\d.]+ … [\d.]+; \* the best, ~ within chance of it", lines[6])
    data = lamina(*asked, "--metric", "mine.jsonl", "--dtype", "float32", "--json").data
    assert data["measured"] == 0
    assert data["metric"] == "mine"
    assert data["best"]["scores"][0]["n"] + data["test"]["best"]["n"] == 60
    [row] = lamina("runs", "--sort", "mine-test", "--json").data[:1]
    assert row["details"]["settings"]["dtype"] == "float32"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--metric", "rev", "--few-shot", "2"], "--few-shot is how tasks of lm-evaluation-harness are asked, and"),
        (["--metric", "sort", "--device", "cpu"], "--device is where a loss is taken and tasks are asked"),
        (
            ["--metric", "rev,sort"],
            "--metric rev,sort: `rev` is no task but a metric of its own, which does not mix with "
            "others: they are asked together as `--metric skills`.",
        ),
        (
            ["--metric", "mine.jsonl,loss"],
            "`loss` is no task but a metric of its own, which does not mix with others: "
            "give it alone, `--metric loss`, or leave it out; the bundled questions are a task as `skills`.",
        ),
        (["--dtype", "float32"], "--dtype is how tasks of lm-evaluation-harness are asked, and --metric is skills"),
        (["--metric", "mine.jsonl"], "mine.jsonl: no such file or directory"),
        (["--metric", "own.py:asks"], "give `--allow-own-code`"),
        (["--metric", "no such"], "`no such` is neither a task's name nor a file"),
        (["--metric", "rev.jsonl", "--text", "examples/corpus"], "--text"),
    ],
)
def test_a_metric_that_cannot_be_asked_is_a_letter(lamina: Lamina, recipe: str, flags: list[str], told: str) -> None:
    pytest.importorskip("lm_eval")
    run = lamina("sweep", recipe, "--vary", "parameters.t=0.1", *flags)
    assert run.code == 2
    assert told in run.err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("skils", "there is no metric `skils`. Did you mean `skills`?"),
        ("arc_easy", "this needs the package `lm_eval`: pip install 'lamina[eval]'"),
    ],
)
def test_without_the_extra_a_task_is_a_letter_that_names_it(
    lamina: Lamina, recipe: str, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    def absent(_name: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(harness, "version", absent)
    run = lamina("sweep", recipe, "--vary", "parameters.t=0.1", "--metric", name)
    assert run.code == 2
    assert told in run.err
    assert "pip install 'lamina[eval]'" in run.err
