"""The file of rows: what goes in comes out, from many processes, through kills, from older files."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lamina.errors import LedgerError
from lamina.ledger import ledger as ledgers
from lamina.ledger.ledger import MIGRATIONS, Ledger, ledger_file
from lamina.ledger.runs import Parent, Run, Score

FULL = Run(
    "eval",
    "skills.yml parameters.t=0.3",
    recipe="models: []  # ± 'quoted'; --\n",
    plan="ab" * 16,
    parents=(Parent("models/base"), Parent("org/name", "0123abc")),
    versions={"lamina": "0.1.0"},
    seed=7,
    at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    seconds=1.5,
    peak_memory=59_000_000,
    output="/somewhere/out",
    verdict="healthy",
    scores=(
        Score("rev", 0.91, 0.016, 400, "share", items=(1.0, 0.0, 0.1), items_digest="cd"),
        Score("loss/prose", 4.038, None, None, "nats", limited=True, lower_is_better=True),
    ),
    details={"few-shot": 5, "tasks": ["rev"]},
    key="ef",
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "new folder" / "ledger.sqlite")


def test_a_row_comes_out_as_it_went_in(ledger: Ledger) -> None:
    assert ledger.run(ledger.add(FULL)) == replace(FULL, number=1)


def test_a_list_of_rows_leaves_the_items_where_they_are(ledger: Ledger) -> None:
    ledger.add(FULL)
    (found,) = ledger.runs()
    assert [score.items for score in found.scores] == [(), ()]
    assert [score.value for score in found.scores] == [0.91, 4.038]


def test_a_score_that_is_no_number_is_kept_as_none(ledger: Ledger) -> None:
    ledger.add(Run("eval", "broken", scores=(Score("loss", math.nan), Score("perplexity", math.inf))))
    loss, perplexity = ledger.runs()[0].scores
    assert math.isnan(loss.value)
    assert perplexity.value == math.inf
    assert loss.as_data()["value"] is None


def test_names_that_are_no_utf8_are_kept_as_they_can_be(ledger: Ledger) -> None:
    ledger.add(Run("merge", os.fsdecode(b"caf\xe9.yml"), recipe="a: \udce9"))
    assert ledger.runs()[0].name == "caf\\udce9.yml"


def test_the_newest_row_of_a_key_is_found_with_its_items(ledger: Ledger) -> None:
    ledger.add(replace(FULL, name="older"))
    ledger.add(FULL)
    assert ledger.known("ef") == replace(FULL, number=2)
    assert ledger.known("other") is None


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"kind": "check"}, ["c"]),
        ({"plan": "p"}, ["c", "a"]),
        ({"kind": "merge", "plan": "p"}, ["a"]),
        ({}, ["c", "b", "a"]),
    ],
    ids=str,
)
def test_rows_are_found_by_what_they_are(ledger: Ledger, asked: dict[str, object], found: list[str]) -> None:
    ledger.add(Run("merge", "a", plan="p"))
    ledger.add(Run("merge", "b"))
    ledger.add(Run("check", "c", plan="p"))
    assert [run.name for run in ledger.runs(**asked)] == found  # type: ignore[arg-type]


def test_a_number_that_is_not_there_is_a_letter_with_those_that_are(ledger: Ledger) -> None:
    ledger.add(FULL)
    with pytest.raises(LedgerError, match="has no run r9: there are r1 to r1"):
        ledger.run(9)


# A file of the first schema, as its Lamina left it.
FIRST_SCHEMA = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, name TEXT NOT NULL, at TEXT NOT NULL,
    recipe TEXT NOT NULL, recipe_digest TEXT NOT NULL, plan TEXT NOT NULL,
    parents TEXT NOT NULL, versions TEXT NOT NULL, seed INTEGER,
    seconds REAL, peak_memory INTEGER, output TEXT NOT NULL, verdict TEXT NOT NULL, details TEXT NOT NULL
);
CREATE TABLE scores (
    run INTEGER NOT NULL REFERENCES runs (number),
    name TEXT NOT NULL, value REAL, stderr REAL, n INTEGER, unit TEXT NOT NULL,
    limited INTEGER NOT NULL, lower_is_better INTEGER NOT NULL, items BLOB, items_digest TEXT NOT NULL
);
CREATE INDEX scores_of ON scores (run);
CREATE INDEX runs_of_plan ON runs (plan, kind);
INSERT INTO runs VALUES (4, 'eval', 'old', '2025-05-05T05:05:05+00:00', '', '', '', '[["base",null]]', '{}', 0,
    1.0, 2, '', '', '{}');
INSERT INTO scores VALUES (4, 'rev', 0.5, NULL, 10, 'share', 0, 0, NULL, '');
PRAGMA user_version=1;
"""


def test_an_older_file_is_brought_up_to_date_and_keeps_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "old.sqlite"
    with sqlite3.connect(file) as rows:
        rows.executescript(FIRST_SCHEMA)
    with Ledger(file) as ledger:
        assert ledger.add(FULL) == 5
        old = ledger.run(4)
    assert (old.name, old.parents, old.scores[0].value) == ("old", (Parent("base"),), 0.5)
    with sqlite3.connect(file) as rows:
        assert rows.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_a_file_of_a_newer_lamina_is_a_letter_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "newer.sqlite"
    with sqlite3.connect(file) as rows:
        rows.execute("CREATE TABLE unknown (a)")
        rows.execute("PRAGMA user_version=99")
    before = file.read_bytes()
    with pytest.raises(LedgerError, match=r"newer Lamina \(schema 99"):
        Ledger(file)
    assert file.read_bytes() == before


def test_a_database_of_something_else_is_a_letter_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    with sqlite3.connect(file) as rows:
        rows.execute("CREATE TABLE visits (a)")
    before = file.read_bytes()
    with pytest.raises(LedgerError, match="something else"):
        Ledger(file)
    assert file.read_bytes() == before


def test_a_file_that_is_no_database_is_a_letter(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are no rows\n" * 100)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(file)


def test_a_folder_that_cannot_be_made_is_a_letter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(tmp_path / "file" / "ledger.sqlite")


def test_the_file_is_what_is_given_else_the_variable_else_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers.sys, "platform", "linux")  # type: ignore[attr-defined]
    monkeypatch.setenv("LAMINA_LEDGER", str(tmp_path / "named"))
    assert ledger_file("given") == Path("given")
    assert ledger_file() == tmp_path / "named"
    monkeypatch.setenv("LAMINA_LEDGER", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert ledger_file() == tmp_path / "lamina" / "ledger.sqlite"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ledger_file() == tmp_path / ".local" / "share" / "lamina" / "ledger.sqlite"


WRITER = """
import sys
from pathlib import Path
from lamina.ledger.ledger import Ledger
from lamina.ledger.runs import Run, Score
with Ledger(Path(sys.argv[1])) as ledger:
    for row in range(int(sys.argv[3])):
        ledger.add(Run("eval", f"{sys.argv[2]}-{row}", scores=(Score("s", row, items=(1.0,) * 50),)))
        print(f"{sys.argv[2]}-{row}", flush=True)
"""


def writers(file: Path, count: int, rows: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WRITER, str(file)]
    return [
        subprocess.Popen([*command, str(number), str(rows)], stdout=subprocess.PIPE, text=True)
        for number in range(count)
    ]


def test_eight_processes_that_begin_together_write_a_thousand_rows(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    running = writers(file, 8, 125)
    acknowledged = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * 8
    with Ledger(file) as ledger:
        found = ledger.runs()
    assert sorted(run.name for run in found) == sorted(name for each in acknowledged for name in each)
    assert len(found) == 1000
    assert {len(run.scores) for run in found} == {1}


def test_a_kill_at_any_moment_loses_no_row_that_was_acknowledged(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    running = writers(file, 8, 100_000)
    first = [process.stdout.readline().strip() for process in running if process.stdout]  # all of them are at it
    for process in running:
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    acknowledged = first + [name for process in running for name in process.communicate()[0].split("\n")[:-1]]
    with Ledger(file) as ledger:
        found = ledger.runs()
        names = [run.name for run in found]
        assert len(acknowledged) > 8
        assert set(acknowledged) <= set(names)
        assert len(set(names)) == len(names) <= len(acknowledged) + 8  # committed, and killed before it was told
        assert {len(run.scores) for run in found} == {1}
        assert ledger.add(FULL) == len(names) + 1
