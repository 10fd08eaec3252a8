"""`lamina runs`: rows that verbs leave behind, found, ranked, compared."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import sqlite3
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from lamina.cli.runs import RUNS_FIELDS
from lamina.cli.runs_shown import RUNS_DIFF_FIELDS
from lamina.ledger.ledger import Ledger
from lamina.ledger.runs import KINDS, RUN_FIELDS, Parent, Run, Score

from .conftest import AVERAGE, Lamina


def add(file: Path, *rows: Run) -> None:
    with Ledger(file) as ledger:
        for row in rows:
            ledger.add(row)


def keys(fields: object) -> set[str]:
    return {key for names in fields for key in names.split(", ")}  # type: ignore[attr-defined]


def test_a_merge_and_a_check_of_it_are_rows_of_the_same_plan(lamina: Lamina, folder: Path) -> None:
    lamina("merge", "average.yml", "out", "--set", "models[0].parameters.weight=0.7", "--seed", "3")
    lamina("check", "out", "--weights-only")
    check, merge = lamina("runs", "--json").data
    assert (merge["kind"], check["kind"]) == ("merge", "check")
    assert merge["name"] == "average.yml models[0].parameters.weight=0.7"
    assert "0.7" in merge["recipe"]
    assert merge["seed"] == 3
    assert merge["output"] == str(folder / "out")
    assert [parent["name"] for parent in merge["parents"]] == ["models/rev", "models/sort"]
    assert merge["plan"] == check["plan"] != ""
    assert check["verdict"] == merge["health"] == "healthy"
    assert keys(RUN_FIELDS) | {"health"} == set(merge)


def test_an_upscaling_is_a_row_with_the_recipe_that_it_stands_for(lamina: Lamina) -> None:
    lamina("upscale", "models/base", "deeper", "--to", "6")
    (row,) = lamina("runs", "--json").data
    assert "stack:" in row["recipe"]


def test_without_a_ledger_nothing_is_noted(lamina: Lamina, ledger_file: Path) -> None:
    assert lamina("merge", "average.yml", "out", "--no-ledger").code == 0
    assert not ledger_file.exists()


def test_a_ledger_that_is_named_is_the_one_that_is_written_and_read(lamina: Lamina, ledger_file: Path) -> None:
    lamina("merge", "average.yml", "out", "--ledger", "mine.sqlite")
    assert len(lamina("runs", "--ledger", "mine.sqlite", "--json").data) == 1
    assert not ledger_file.exists()


def _newer(file: Path) -> None:
    with sqlite3.connect(file) as rows:
        rows.execute("PRAGMA user_version=99")


def _read_only(file: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    file.parent.chmod(0o500)


@pytest.mark.parametrize(
    "spoil", [lambda file: file.write_text("no rows " * 500), lambda file: file.mkdir(), _newer, _read_only],
    ids=["corrupt", "a folder", "newer", "read-only"],
)  # fmt: skip
def test_a_ledger_that_cannot_be_written_never_breaks_a_merge(
    lamina: Lamina, folder: Path, ledger_file: Path, spoil: object
) -> None:
    spoil(ledger_file)  # type: ignore[operator]
    run = lamina("merge", "average.yml", "out")
    assert run.code == 0
    assert (folder / "out" / "model.safetensors").exists()
    assert run.err.count("not noted") == 1


def test_a_python_without_sqlite_merges_all_the_same(
    lamina: Lamina, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lamina.ledger.ledger", None)
    run = lamina("merge", "average.yml", "out")
    assert run.code == 0
    assert (folder / "out" / "model.safetensors").exists()
    assert run.err.count("not noted") == 1


def test_no_token_gets_into_the_ledger(lamina: Lamina, ledger_file: Path) -> None:
    lamina("merge", "average.yml", "out", "--token", "hf_abcdefgh")
    assert b"hf_abcdefgh" not in b"".join(each.read_bytes() for each in ledger_file.parent.iterdir())


def test_an_empty_ledger_says_what_to_do(lamina: Lamina) -> None:
    run = lamina("runs")
    assert run.code == 0
    assert "no runs yet" in run.out
    assert "lamina merge" in run.out
    assert "lamina eval" in run.out
    assert lamina("runs", "--json").data == []


def score(value: float, name: str = "skills", **more: object) -> Score:
    return Score(name, value, 0.016, 400, "share", **more)  # type: ignore[arg-type]


def test_sorted_runs_are_best_first_and_limited_ones_apart(lamina: Lamina, ledger_file: Path) -> None:
    loss = [Score("loss", value, unit="nats", lower_is_better=True) for value in (4.1, 4.0)]
    add(
        ledger_file,
        Run("eval", "worse", scores=(score(0.8), loss[0])),
        Run("eval", "tenth", scores=(score(0.99, limited=True),)),
        Run("eval", "better", plan="p", scores=(score(0.9), loss[1])),
        Run("merge", "unscored"),
        Run("check", "out", plan="p", verdict="suspicious"),
    )
    assert lamina("runs", "--sort", "skills").out.splitlines() == [
        "run  recipe  skills       from best    loss   health",
        "r3   better  90.0 ± 1.6   best         4.000  suspicious",
        "r1   worse   80.0 ± 1.6   -10.0 ± 4.4  4.100",  # 1.96 · 1.6 · sqrt(2)
        "* of a part of the items: not ranked beside whole ones",
        "r2   tenth   99.0 ± 1.6*",
        "",
        "best: r3 better; beyond chance of the other.",
        "± of a difference is half its 95% interval. r1 has no answers to the same items: taken as independent.",
    ]
    better, worse = lamina("runs", "--sort", "loss", "--json").data
    assert (better["name"], worse["name"]) == ("better", "worse")
    assert better["standing"]["mark"] == "best"
    assert worse["standing"]["mark"] is worse["standing"]["margin"] is None  # of no known error
    assert keys(RUNS_FIELDS) == set(worse)


def test_it_shows_at_a_glance_which_recipe_is_best_and_what_cannot_be_told_from_it(
    lamina: Lamina, ledger_file: Path
) -> None:
    def row(name: str, right: int, **more: object) -> Run:
        parts = [np.arange(400) < count for count in (right, 400 - right // 2)]
        scores = tuple(
            Score(kind, part.mean(), part.std() / 20, 400, "share", items=tuple(map(float, part)), items_digest=kind)
            for kind, part in zip(("rev", "sort"), parts, strict=True)
        )
        return Run("eval", name, scores=scores, **more)  # type: ignore[arg-type]

    recipes = [row(f"t={n}", 400 - 16 * n, plan=f"p{n}", recipe="t: 1", parents=(Parent("m/rev"),)) for n in range(10)]
    add(ledger_file, *recipes, recipes[3], row("rev", 200, output="/models/m/rev"))
    lines = lamina("runs", "--sort", "skills").out.splitlines()
    assert lines[0].split()[:5] == ["run", "recipe", "skills", "from", "best"]
    assert [line.split()[1] for line in lines[1:12]] == [f"t={n}" for n in range(10)] + ["rev"]
    # Each step of n is 16 fewer right of rev and 8 more of sort, of 400 each: one point less of the mean. For 55 pairs
    # the margin is 3.32 errors: of n steps 3.32 sqrt(0.04n (1 - 0.04n) + 0.02n (1 - 0.02n)) / 20 / 2.
    assert [" ~" in line for line in lines[1:12]] == [False, True, True, True, *[False] * 7]
    assert lines[-3] == "best: r1 t=0; 3 of 10 others cannot be told from it (~)."
    assert lines[12] == "and 1 older row of these models: --all"
    assert len(lamina("runs", "--sort", "skills", "--all").out.splitlines()) == 17
    (text,) = [line for line in lamina("runs", "--sort", "skills", "--text", "t=0").out.splitlines() if "over" in line]
    assert text.startswith("over rev, the best parent: +12.5 ± ")


def test_several_scores_rank_by_their_mean(lamina: Lamina, ledger_file: Path) -> None:
    loss = Score("loss", 4.0, unit="nats", lower_is_better=True)
    add(
        ledger_file,
        Run("eval", "one-sided", scores=(score(0.98, "rev"), score(0.5, "sort"))),
        Run("eval", "both", scores=(score(0.9, "rev"), score(0.8, "sort"), loss)),
        Run("eval", "half", scores=(score(1.0, "rev"),)),
    )
    assert lamina("runs", "--sort", "rev,sort").out.splitlines()[:3] == [
        "run  recipe     rev,sort    from best    rev         sort        loss   health",
        "r2   both       85.0 ± 1.1  best         90.0 ± 1.6  80.0 ± 1.6  4.000",  # 1.6 / sqrt(2)
        "r1   one-sided  74.0 ± 1.1  -11.0 ± 3.1  98.0 ± 1.6  50.0 ± 1.6",
    ]
    assert "in one unit" in lamina("runs", "--sort", "rev,loss").err
    assert "has a score `max`" in lamina("runs", "--sort", "rev,max").err


def test_a_score_that_no_run_has_is_a_letter_with_a_near_one(lamina: Lamina, ledger_file: Path) -> None:
    add(ledger_file, Run("eval", "a", scores=(score(0.5),)))
    run = lamina("runs", "--sort", "skils")
    assert run.code == 2
    assert "Did you mean `skills`?" in run.err


@pytest.mark.parametrize(
    ("asked", "told"),
    [(("--verdict", "heathy"), "Did you mean `healthy`?"), (("--kind", "merges"), "Did you mean `merge`?"),
     (("--verdict", "???"), "Valid here: healthy, needs training, suspicious, broken.")],
)  # fmt: skip
def test_a_word_that_is_no_verdict_or_kind_is_a_letter(lamina: Lamina, asked: tuple[str, str], told: str) -> None:
    run = lamina("runs", *asked)
    assert run.code == 2
    assert told in run.err


def test_that_no_run_that_was_asked_for_has_a_score_is_told_whatever_parents_have(
    lamina: Lamina, ledger_file: Path
) -> None:
    add(ledger_file, Run("check", "out", plan="p", verdict="healthy", parents=(Parent("m/rev"),)))
    run = lamina("runs", "--sort", "rev")
    assert run.code == 2
    assert "No run has any yet: `lamina eval` and `lamina sweep` take them." in run.err
    add(ledger_file, Run("eval", "rev", output="/m/rev", scores=(score(0.5, "rev"),)))
    for asked in (["--kind", "check"], ["--text", "nothing"]):
        for verb in ([], ["export"]):
            run = lamina("runs", *verb, "--sort", "rev", *asked)
            assert run.code == 2
            assert "none of the runs that were asked for has a score `rev`; others in the ledger have it." in run.err


def test_runs_are_filtered(lamina: Lamina, ledger_file: Path) -> None:
    old = datetime.now(UTC) - timedelta(days=3)
    rows = [Run(kind, kind, at=old, parents=(Parent("org/SmolLM"),)) for kind in KINDS]
    checked = Run("check", "checked", plan="p", verdict="suspicious", output="/somewhere/out")
    add(ledger_file, *rows, Run("merge", "new", recipe="merge_method: ties  # münchen", plan="p"), checked)
    found = {
        ("--since", "2d"): ["checked", "new"], ("--kind", "merge"): ["new", "merge"], ("--text", "Ties"): ["new"],
        ("--text", "MÜNCHEN"): ["new"], ("--text", "smollm"): [*KINDS[::-1]], ("--text", "where/OUT"): ["checked"],
        ("--text", "100%"): [], ("--verdict", "suspicious"): ["checked"], ("--text", "ties", "--kind", "eval"): [],
    }  # fmt: skip
    for asked, names in found.items():
        assert [row["name"] for row in lamina("runs", *asked, "--json").data] == names, asked
    assert "no run is like that" in lamina("runs", "--verdict", "broken").out
    assert lamina("runs", "--since", "soon").code == 2
    (new,) = lamina("runs", "--text", "ties", "--json").data
    assert new["health"] == "suspicious"  # told by a row that was not asked for


def test_merges_of_one_plan_are_told_apart_whatever_rows_are_asked_for(lamina: Lamina, ledger_file: Path) -> None:
    merges = [Run("merge", f"m{n}", recipe=f"t: {n}", plan="p", output=f"/out{n}") for n in range(2)]
    scored = [Run("eval", f"out{n}", plan="p", output=f"/out{n}", scores=(score(0.5 + n / 10),)) for n in range(2)]
    add(ledger_file, *merges, *scored)
    for asked in ([], ["--kind", "eval"]):
        ranked = lamina("runs", "--sort", "skills", *asked, "--json").data
        assert [row["name"] for row in ranked] == ["out1", "out0"]
    ranked = lamina("report", "--json").data["ranked"]
    assert [row["name"] for row in ranked] == ["out1", "out0"]


def test_a_long_name_keeps_its_end_and_the_table_its_width(
    lamina: Lamina, ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    add(ledger_file, Run("eval", "a" * 100 + " t=0.3", scores=(score(0.5),)))
    lines = lamina("runs", "--sort", "skills").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "t=0.3" in lines[1]


def test_as_many_scores_are_shown_as_the_width_holds_and_the_others_are_named(
    lamina: Lamina, ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"task{number}" for number in range(8)]
    add(ledger_file, *(Run("eval", "many", scores=tuple(score(0.5, name) for name in names)) for _ in range(3)))
    add(ledger_file, Run("eval", "other", scores=(score(0.7, "lonely", limited=True),)))
    monkeypatch.setenv("COLUMNS", "200")
    assert lamina("runs").out.splitlines()[0].split() == ["run", "when", "kind", "recipe", "lonely", *names, "health"]
    monkeypatch.setenv("COLUMNS", "80")
    lines = lamina("runs").out.splitlines()
    assert lines[0].split() == ["run", "when", "kind", "recipe", "lonely", "task0", "task1", "health"]
    assert "70.0 ± 1.6*" in lines[1]
    assert lines[5:] == [
        "not shown: task2, task3, task4, task5, task6, task7",
        "`--sort NAME` ranks by one of them, `lamina runs show rN` has all of a row.",
        "* of a part of the items only",
    ]
    ranked = lamina("runs", "--sort", "task5").out.splitlines()
    assert ranked[0].split() == ["run", "recipe", "task5", "from", "best", "task0", "task1", "health"]
    assert ranked[4] == "not shown: task2, task3, task4, task6, task7"
    assert not [line for line in ranked if "*" in line]


def test_sorted_by_their_mean_both_kinds_of_questions_stand_in_80_columns(
    lamina: Lamina, ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    kinds = (score(0.9, "rev"), score(0.8, "sort"))
    add(ledger_file, *(Run("eval", f"slerp.yml parameters.t=0.{n}", scores=kinds) for n in range(2)))
    assert lamina("runs", "--sort", "skills").out.splitlines()[0].split()[-3:] == ["rev", "sort", "health"]


def test_names_of_one_end_stay_told_apart(lamina: Lamina, ledger_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    changed = [
        f"skills.yml models[{number}].parameters.weight={value}" for number in (0, 1) for value in ("0.1", "0.3")
    ]
    add(ledger_file, *(Run("eval", name, scores=(score(0.5),)) for name in changed))
    lines = lamina("runs").out.splitlines()
    assert max(map(len, lines[:5])) <= 60
    names = [line[24:].split()[0] for line in lines[1:5]]
    assert len({*names}) == 4
    assert all(value in name for value, name in zip(["0.3", "0.1"] * 2, names, strict=True))


def test_all_of_a_run_is_shown(lamina: Lamina, folder: Path) -> None:
    lamina("merge", "average.yml", "out")
    shown = lamina("runs", "show", "r1").out
    assert "models    models/rev" in shown
    assert f"beside    {folder}" in shown
    assert all(line in shown for line in AVERAGE.splitlines())
    assert lamina("runs", "show", "r2").code == 2
    assert lamina("runs", "show", "x").code == 2


def test_how_scores_were_taken_is_shown_and_exported(lamina: Lamina, ledger_file: Path) -> None:
    how = {
        "harness": "0.4.9",
        "few_shot": 5,
        "template": False,
        "dtype": "auto",
        "batch": 8,
        "device": "cpu",
        "limit": None,
    }
    told = "lm-eval 0.4.9, few-shot 5, no chat template, dtype auto, batch 8, device cpu"
    add(
        ledger_file,
        Run("eval", "a", details={"settings": {"x": how, "y": how}, "digest": "d1"}, versions={"lamina": "0.1.0"}),
        Run("eval", "b", details={"settings": {"x": how, "y": {**how, "few_shot": 0}}}),
        Run("sweep", "c", details={"settings": {"asked": "greedily", "device": "cpu", "limited": False}}),
    )
    shown = lamina("runs", "show", "r1").out.splitlines()
    assert f"  asked     {told}" in shown
    assert "  content   d1" in shown
    assert f"            y: {told.replace('few-shot 5', 'few-shot 0')}" in lamina("runs", "show", "r2").out.splitlines()
    assert "  asked     greedily, device cpu" in lamina("runs", "show", "r3").out.splitlines()
    first = [*csv.DictReader(io.StringIO(lamina("runs", "export").out))][-1]
    assert json.loads(first["settings"]) == {"x": how, "y": how}
    assert json.loads(first["versions"]) == {"lamina": "0.1.0"}


def test_two_runs_are_compared_in_recipes_and_in_pairs_of_answers(lamina: Lamina, ledger_file: Path) -> None:
    first = np.tile([1.0, 0.0, 1.0, 0.0], 100)
    second = np.tile([1.0, 0.0, 1.0, 1.0], 100)
    same = {"items_digest": "d"}
    add(
        ledger_file,
        Run("eval", "a", recipe="t: 0.3\nsame: 1\n", scores=(score(0.5, items=tuple(first), **same),)),
        Run("eval", "b", recipe="same: 1\nt: [0, 0.5]\nseed: 2\n", scores=(score(0.75, items=tuple(second), **same),)),
    )
    lines = lamina("runs", "diff", "r1", "r2").out.splitlines()
    assert lines[3:6] == ["  recipe  r1   r2", "  t       0.3  [0, 0.5]", "  seed    -    2"]
    # The differences are 1 in a quarter of 400 questions: 1.96 sqrt(0.25 · 0.75 / 399) = 4.2 points.
    assert lines[-1] == "  skills  50.0 ± 1.6  75.0 ± 1.6  +25.0 ± 4.2  beyond chance, paired"
    data = lamina("runs", "diff", "1", "2", "--json").data
    assert keys(RUNS_DIFF_FIELDS) == set(data)
    assert data["scores"][0]["paired"]


def test_answers_to_other_questions_are_not_paired(lamina: Lamina, ledger_file: Path) -> None:
    for digest in ("d", "e"):
        add(ledger_file, Run("eval", digest, scores=(score(0.5, items=(1.0, 0.0), items_digest=digest),)))
    (compared,) = lamina("runs", "diff", "1", "2", "--json").data["scores"]
    assert not compared["paired"]
    assert compared["margin"] == pytest.approx(1.96 * 0.016 * 2**0.5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_a_difference_that_is_not_finite_is_told_as_such(lamina: Lamina, ledger_file: Path, spoilt: float) -> None:
    for value in (0.5, spoilt):
        add(ledger_file, Run("eval", "a", scores=(score(value, items=(0.5, value), items_digest="d"),)))
    assert lamina("runs", "diff", "1", "2").out.splitlines()[-1].endswith("  not finite")
    (compared,) = lamina("runs", "diff", "1", "2", "--json").data["scores"]
    assert (compared["difference"], compared["margin"], compared["beyond_chance"]) == (None, None, False)


def test_a_limited_score_and_a_whole_one_are_not_compared(lamina: Lamina, ledger_file: Path) -> None:
    add(ledger_file, Run("eval", "a", scores=(score(0.5),)), Run("eval", "b", scores=(score(0.5, limited=True),)))
    assert "no score that both have" in lamina("runs", "diff", "1", "2").out


def test_runs_are_exported_as_csv(lamina: Lamina, folder: Path, ledger_file: Path) -> None:
    add(ledger_file, Run("eval", "a, b", recipe="x: 1\n", scores=(score(0.5),)), Run("merge", "c"))
    assert lamina("runs", "export", "runs.csv", "--kind", "eval").code == 0
    (row,) = csv.DictReader(io.StringIO((folder / "runs.csv").read_text()))
    assert (row["name"], row["skills"], row["recipe"]) == ("a, b", "0.5", "x: 1\n")
    assert len(list(csv.reader(io.StringIO(lamina("runs", "export").out)))) == 3


def test_an_export_replaces_an_export_and_nothing_else_unless_it_is_told_to(
    lamina: Lamina, folder: Path, ledger_file: Path
) -> None:
    add(ledger_file, Run("eval", "a"))
    refused = lamina("runs", "export", "average.yml")
    assert refused.code == 2
    assert "average.yml is there and is no export of runs" in refused.err
    assert "--force" in refused.err
    assert (folder / "average.yml").read_text() == AVERAGE
    assert lamina("runs", "export", "runs.csv").code == lamina("runs", "export", "runs.csv").code == 0
    assert lamina("runs", "export", "average.yml", "--force").code == 0
    assert (folder / "average.yml").read_text() == (folder / "runs.csv").read_text()


def test_an_export_that_cannot_be_written_leaves_the_older_one(
    lamina: Lamina, folder: Path, ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(ledger_file, Run("eval", "a"))
    lamina("runs", "export", "runs.csv")
    before = (folder / "runs.csv").read_text()

    def full(path: Path, _content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert lamina("runs", "export", "runs.csv").code == 1
    assert (folder / "runs.csv").read_text() == before
    assert not [*folder.glob("*.part")]


def test_a_thousand_rows_are_ranked_in_half_a_second(lamina: Lamina, ledger_file: Path) -> None:
    items = tuple(float(number % 3) for number in range(800))
    with Ledger(ledger_file) as ledger:
        ledger._rows.execute("PRAGMA synchronous=OFF")
        for number in range(1000):
            scores = [score(number / 1000, name, items=items, items_digest=name) for name in ("skills", "rev", "sort")]
            ledger.add(Run("eval", f"run {number}", recipe=AVERAGE, scores=tuple(scores)))
    took: dict[str, list[float]] = {"all": [], "filtered": []}
    for _ in range(2):  # the faster of two: what else runs costs time too
        for name, asked in (("all", ()), ("filtered", ("--text", "run"))):
            started = time.process_time()
            lines = lamina("runs", "--sort", "skills", *asked).out.splitlines()
            took[name].append(time.process_time() - started)
    assert max(map(min, took.values())) < 0.5
    assert lines[1].startswith("r1000")
    assert lines[31] == "and 970 more: --limit N"
    assert lines[-1] == "± of a difference is half its 95% interval, for all pairs of the 1000 at once."
