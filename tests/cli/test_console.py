"""A console that is not UTF-8 shows everything, in ASCII where it has to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp437", "utf-8"])
@pytest.mark.parametrize("arguments", [["plan", "stack.yml"], ["explain", "stack.yml", "lm_head.weight"], ["methods"]],
                         ids=lambda arguments: arguments[0])  # fmt: skip
def test_every_encoding_shows_it(folder: Path, arguments: list[str], encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-m", "lamina", *arguments], cwd=folder, env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr
    shown = run.stdout.decode(encoding)
    assert "?" not in shown.replace("expect a loss?", "")
    if arguments[0] == "plan":
        assert ("█" if encoding in ("utf-8", "cp437") else "#") in shown
