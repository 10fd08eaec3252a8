"""The demo: what a newcomer sees first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from lamina.cli.main import cli
from lamina.errors import OutputError
from lamina.evaluate.skills import examples_folder


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("demo") / "out"
    result = CliRunner().invoke(cli, ["demo", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output, out


def scores(text: str, model: str) -> list[float]:
    row = next(line for line in reversed(text.splitlines()) if line.startswith(f"  {model} "))
    return [float(share) for share in re.findall(r"(\d+\.\d) ±", row)]


def test_it_shows_the_recipe_the_plan_and_the_map(shown: tuple[str, Path]) -> None:
    text, _ = shown
    for part in ("layer_range: [1, 4]", "5 layers", "base 2  +  base 1", "██▒", "merged in"):
        assert part in text


def test_the_merge_of_two_skills_holds_both(shown: tuple[str, Path]) -> None:
    text, _ = shown
    base, rev, sort, both = (scores(text, model) for model in ("base", "rev", "sort", "skills"))
    assert base[0] <= 35
    assert rev[0] >= 90
    assert sort[1] >= 90
    assert min(both[:2]) >= 85


def test_it_says_that_it_says_nothing_about_depth(shown: tuple[str, Path]) -> None:
    text, _ = shown
    assert "say nothing about depth" in text


def test_its_folders_are_models(shown: tuple[str, Path]) -> None:
    _, out = shown
    for name in ("solar-ramp", "skills"):
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in (out / name).iterdir()}


def test_it_may_be_run_again(shown: tuple[str, Path]) -> None:
    _, out = shown
    assert CliRunner().invoke(cli, ["demo", str(out)], catch_exceptions=False).exit_code == 0


def test_without_the_bundled_models_it_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lamina.evaluate.skills.__file__", str(tmp_path / "a" / "b" / "skills.py"))
    with pytest.raises(OutputError, match="clone"):
        examples_folder()
