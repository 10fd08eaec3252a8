"""For all tests: no row goes into the user's own ledger; property tests run the same examples every time, unless
HYPOTHESIS_EXAMPLES asks for new and more ones."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_NUMBERS = itertools.count()

settings.register_profile(
    "core",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "60")),
    deadline=None,
    derandomize="HYPOTHESIS_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("core")


@pytest.fixture(autouse=True)
def ledger_file(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of this test's own, which its processes write too."""
    # Not `mktemp`, which looks through all folders for the next number, and this is done for every test.
    file = tmp_path_factory.getbasetemp() / f"ledger-{next(_NUMBERS)}" / "ledger.sqlite"
    file.parent.mkdir()
    monkeypatch.setenv("LAMINA_LEDGER", str(file))
    return file
