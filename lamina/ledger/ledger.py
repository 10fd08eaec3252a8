"""The file of rows: SQLite, written by any number of processes, kept through kills, migrated from older versions.

A row is committed before `add` returns, and what is committed is on the disk: nothing that was acknowledged is
lost. It knows what a row is, and nothing of merges.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lamina.errors import LedgerError
from lamina.ledger.rows import as_run, as_score, run_columns, score_columns
from lamina.ledger.runs import Run, Score

WAIT = 30.0  # seconds for another process to finish its row; a row takes milliseconds

# What brings a file from each version of the schema to the next; its version is how many of them it has had.
MIGRATIONS: Sequence[str] = (
    """
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
    """,
    """
    ALTER TABLE runs ADD COLUMN key TEXT NOT NULL DEFAULT '';
    CREATE INDEX runs_of_key ON runs (key);
    """,
)


def ledger_file(given: str | Path | None = None) -> Path:
    """Where the ledger lies: what is given, else LAMINA_LEDGER, else `lamina/ledger.sqlite` in the user's data folder.

    That is XDG_DATA_HOME or ~/.local/share, ~/Library/Application Support on macOS, LOCALAPPDATA on Windows.
    Raises LedgerError where the user has no home.
    """
    named = str(given) if given is not None else os.environ.get("LAMINA_LEDGER", "")
    return Path(named) if named else _data_folder() / "lamina" / "ledger.sqlite"


def _data_folder() -> Path:
    given = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_DATA_HOME", "")
    if given and Path(given).is_absolute():  # XDG: a relative one is to be ignored
        return Path(given)
    try:
        home = Path.home()
    except RuntimeError as error:
        raise LedgerError("this user has no home folder to keep a ledger in; name a file: --ledger FILE") from error
    folders = {"win32": ("AppData", "Local"), "darwin": ("Library", "Application Support")}
    return home.joinpath(*folders.get(sys.platform, (".local", "share")))


class Ledger:
    """An open ledger, of one thread. Raises LedgerError, with the reason and the way out, wherever the file fails."""

    def __init__(self, file: Path) -> None:
        """Open a file, made where there is none, and brought up to date where it is older."""
        self.file = file
        with self._telling():
            file.parent.mkdir(parents=True, exist_ok=True)
            self._rows = sqlite3.connect(file, timeout=WAIT, isolation_level=None)
        try:
            with self._telling():
                self._bring_up_to_date()
                # What is committed outlives a power cut too.
                self._rows.execute("PRAGMA synchronous=FULL")
        except LedgerError:
            self.close()
            raise

    def add(self, run: Run) -> int:
        """Add a row with its scores, for good, and return its number."""
        columns = run_columns(run)
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        with self._telling(), self._writing():
            added = self._rows.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", [*columns.values()])
            number = added.lastrowid
            assert number is not None
            self._rows.executemany(
                "INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(number, *score_columns(score)) for score in run.scores],
            )
        return number

    def runs(
        self,
        *,
        kind: str | None = None,
        plan: str | None = None,
        items: Sequence[str] = (),
    ) -> list[Run]:
        """Rows of a kind or a plan's digest, newest first, their scores without items but for those in `items`."""
        wanted = {"kind = ?": kind, "plan = ?": plan}
        asked = {condition: value for condition, value in wanted.items() if value is not None}
        where = f" WHERE {' AND '.join(asked)}" if asked else ""
        with self._telling():
            self._rows.row_factory = sqlite3.Row
            self._rows.execute("BEGIN")  # rows and scores as of one moment
            try:
                rows = self._rows.execute(f"SELECT * FROM runs{where} ORDER BY number DESC", [*asked.values()])
                found = rows.fetchall()
                scores: dict[int, list[Score]] = {}
                of_these = f" WHERE run IN (SELECT number FROM runs{where})" if asked else ""
                for row in self._rows.execute(
                    "SELECT run, name, value, stderr, n, unit, limited, lower_is_better, items_digest, "
                    f"CASE WHEN name IN ({', '.join('?' * len(items))}) THEN items END AS items"
                    f" FROM scores{of_these} ORDER BY rowid",
                    [*items, *asked.values()],
                ):
                    scores.setdefault(row["run"], []).append(as_score(row))
            finally:
                self._rows.execute("COMMIT")
            return [as_run(row, scores.get(row["number"], [])) for row in found]

    def run(self, number: int) -> Run:
        """One row with its scores, items included. Raises LedgerError where there is none of this number."""
        with self._telling():
            self._rows.row_factory = sqlite3.Row
            row = self._rows.execute("SELECT * FROM runs WHERE number = ?", [number]).fetchone()
            if row is not None:
                scores = self._rows.execute("SELECT * FROM scores WHERE run = ? ORDER BY rowid", [number])
                return as_run(row, [as_score(each) for each in scores])
            last = self._rows.execute("SELECT max(number) FROM runs").fetchone()[0]
        valid = f"there are r1 to r{last}" if last else "it is empty"
        raise LedgerError(f"{self.file} has no run r{number}: {valid}. `lamina runs` lists them.")

    def known(self, key: str) -> Run | None:
        """The newest row with this key, with its items; None where there is none."""
        with self._telling():
            (number,) = self._rows.execute("SELECT max(number) FROM runs WHERE key = ?", [key]).fetchone()
        return None if number is None else self.run(number)

    def close(self) -> None:
        self._rows.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bring_up_to_date(self) -> None:
        if self._known_version() == len(MIGRATIONS):
            return
        self._log_ahead()
        with self._writing():
            for migration in MIGRATIONS[self._known_version() :]:  # again: another process may have been faster
                for statement in filter(str.strip, migration.split(";")):
                    self._rows.execute(statement)
            self._rows.execute(f"PRAGMA user_version={len(MIGRATIONS)}")

    def _known_version(self) -> int:
        """How many migrations the file has had. Raises LedgerError where it is not an older one of ours."""
        # One statement: between two of them another process may make the tables.
        done, tables = map(
            int,
            self._rows.execute(
                "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version"
            ).fetchone(),
        )
        if done > len(MIGRATIONS):
            raise LedgerError(
                f"the ledger {self.file} was written by a newer Lamina (schema {done}; this one knows up to "
                f"{len(MIGRATIONS)}): update Lamina, or name another file: --ledger FILE, or LAMINA_LEDGER"
            )
        if done == 0 and tables:
            raise LedgerError(
                f"{self.file} is a database of something else: name another file: --ledger FILE, or LAMINA_LEDGER"
            )
        return done

    def _log_ahead(self) -> None:
        """Readers and a writer do not wait for each other. SQLite does not wait for this lock, so it is waited here."""
        until = time.monotonic() + WAIT
        while True:
            try:
                self._rows.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of it, or nothing. The lock is taken first, so that no other row gets in between."""
        self._rows.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._rows.in_transaction:  # a full disk has ended it already
                self._rows.execute("ROLLBACK")
            raise
        self._rows.execute("COMMIT")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise LedgerError(
                f"the ledger {self.file} cannot be used: {reason}. Name another file: --ledger FILE, or LAMINA_LEDGER"
            ) from error
