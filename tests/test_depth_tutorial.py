"""The commands of docs/tutorial-depth.md are known to this version, and run with a bundled model in SmolLM2's place."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import click
import pytest

from lamina.cli.main import cli

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from tutorial import Command, commands_of, run_page

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tutorial-depth.md").read_text(encoding="utf-8")
COMMANDS = [
    command
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S)
    for command in commands_of(block)
    if command.text.startswith("lamina ")
]
# The bundled base has 4 layers.
SMALLER = {
    "--to 48 --first 20": "--to 6 --first 2",
    "--scan --to 48": "--scan --to 6 --limit 2",
    "layers: 0-29, at: 18": "layers: 0-3, at: 2",
    "layers: 0-29, at: 0": "layers: 0-3, at: 0",
    "--metric loss": "--metric loss --limit 2",
    # A scan of 4 layers has 6 rows, not 17.
    "runs diff r22 r23": "runs diff r11 r12",
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text[:40])
def test_every_flag_of_the_page_is_one_of_this_version(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed by the verb itself, and not run."""
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"title=(\S+)", PAGE):
        Path(name).write_text("stack: []\n")
    _, verb, *arguments = shlex.split(command.text)
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None, verb
    if isinstance(found, click.Group) and arguments and arguments[0] in found.commands:
        found, arguments = found.commands[arguments[0]], arguments[1:]
    found.make_context(verb, arguments)


def test_the_commands_run_in_order_with_a_small_model(tmp_path: Path) -> None:
    page = PAGE
    for old, new in SMALLER.items():
        assert old in page, f"{old} is no longer on the page"
        page = page.replace(old, new)
    ran = [command.text for command, _ in run_page(page, tmp_path, {"smollm2": ROOT / "examples" / "models" / "base"})]
    assert len([text for text in ran if text.startswith("lamina ")]) == len(COMMANDS)
