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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8:surrogateescape"])  # the second is that of LC_ALL=C
def test_a_name_with_half_of_a_pair_is_shown_in_utf_8(encoding: str) -> None:
    script = (
        "import click; from lamina.cli.console import show_what_can_be_shown as show; show(); click.echo('a\\ud800b')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert (run.returncode, run.stdout.split()) == (0, [b"a?b"]), run.stderr
