"""Noting rows: where that can be, told once where it cannot, and never in the way of the work."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lamina.errors import LedgerError
from lamina.ledger.runs import Kind, Run

if TYPE_CHECKING:
    from lamina.ledger.ledger import Ledger

T = TypeVar("T")


class Notebook:
    """Where a process notes its rows: by default in the user's own ledger, which LAMINA_LEDGER names.

    Without `wanted` nothing is noted; `tell` hears, once, why nothing can be. By default that is a warning.
    """

    def __init__(
        self, file: str | Path | None = None, *, wanted: bool = True, tell: Callable[[str], None] = warnings.warn
    ) -> None:
        self._file, self.wanted, self._tell = file, wanted, tell

    def note(self, run: Run) -> int | None:
        """Add a row; its number, or None where it was not noted."""
        return self._with_ledger(lambda ledger: ledger.add(run))

    def note_once(self, run: Run) -> None:
        """Add a row, unless there is one of its key."""
        if self.known(run.key) is None:
            self.note(run)

    def known(self, key: str) -> Run | None:
        """What was noted of a key, None where nothing was."""
        return self._with_ledger(lambda ledger: ledger.known(key))

    def runs(self, kind: Kind, plan: str) -> list[Run]:
        """What was noted of a plan's digest, newest first."""
        return self._with_ledger(lambda ledger: ledger.runs(kind=kind, plan=plan), reading=True) or []

    def _with_ledger(self, use: Callable[[Ledger], T], *, reading: bool = False) -> T | None:
        if not self.wanted:
            return None
        try:
            from lamina.ledger.ledger import Ledger, ledger_file  # some builds of Python come without SQLite

            if reading and not ledger_file(self._file).exists():
                return None  # who only reads makes no file
            with Ledger(ledger_file(self._file)) as ledger:
                return use(ledger)
        except (LedgerError, ImportError) as error:
            self.wanted = False
            self._tell(f"not noted: {error}")
            return None
