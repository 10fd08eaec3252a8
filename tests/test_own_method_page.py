"""The files, commands and names of docs/own-method.md do what the page says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import lamina
import lamina.merge_methods
from lamina.cli.main import cli
from lamina.errors import LaminaError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own-method.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|yaml) title=(\S+)\n(.*?)```", PAGE, re.S))
BROKEN = '''\
import lamina
from lamina.merge_methods import Block, Tile


@lamina.merge_method
def broken(tile: Tile) -> Block:
    """Nothing that works."""
    models = []

    return models[0]
'''


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files, and the models that its recipes name."""
    for model in (ROOT / "examples" / "models").iterdir():
        (tmp_path / model.name).symlink_to(model)
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "broken.yml").write_text("models: [{model: rev}, {model: sort}]\nmerge_method: broken.py:broken\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("desk")
def test_the_commands_print_what_the_page_shows() -> None:
    commands = re.findall(r"^\$ lamina (.*)\n((?:(?!\$ ).*\n)*?)(?=\$ |```)", PAGE, re.M)
    assert len(commands) >= 5
    for number, (command, shown) in enumerate(commands):
        words = [f"out-{number}" if word == "out" else word for word in shlex.split(command)]
        found = CliRunner().invoke(cli, words)
        said = str(found.exception) if isinstance(found.exception, LaminaError) else found.output
        shown = shown.replace("lamina check out ", f"lamina check out-{number} ")
        pattern = ".*".join(re.escape(part.strip()) for part in shown.split("..."))
        assert re.search(pattern, re.sub(r"\s*\n\s+", " ", said), re.S), f"{command}\n{said}\nis not\n{shown}"


def test_the_tests_of_the_page_pass(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(desk))
    content: dict[str, object] = {}
    exec(compile(FILES["test_mine.py"], "test_mine.py", "exec"), content)
    tests = [value for name, value in content.items() if name.startswith("test_") and callable(value)]
    assert len(tests) == 1
    tests[0]()


@pytest.mark.parametrize("name", ["mine.py:magmax", "mean_norm.py:mean_norm", "spectral.py:low_rank"])
def test_the_example_that_is_shown_of_a_method_runs(desk: Path, name: str) -> None:
    shown = CliRunner().invoke(cli, ["methods", name, "--json"])
    [told] = json.loads(shown.output)
    (desk / "example.yml").write_text(told["example"])
    lamina.merge("example.yml", "example")
    assert (desk / "example" / "model.safetensors").exists()


def test_the_page_names_everything_that_is_public() -> None:
    told = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("## The names") :])) - {"check_method"}
    source = Path(lamina.merge_methods.__file__).read_text()
    public = re.findall(r'"(\w+)"', source[source.index("somebody's own") : source.index("What Lamina itself")])
    assert told == set(public)
    assert all(hasattr(lamina.merge_methods, name) for name in told)
