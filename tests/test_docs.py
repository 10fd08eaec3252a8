"""Generated pages are current, and what the pages show works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lamina
from lamina.cli.main import VERBS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_the_generated_pages_are_what_the_code_says_now(tmp_path: Path) -> None:
    script = (ROOT / "tools" / "make_docs.py").read_text()
    copy = tmp_path / "tools" / "make_docs.py"
    for name in ("tools", "docs", "benchmarks"):
        (tmp_path / name).mkdir()
    copy.write_text(script)
    for module in (ROOT / "benchmarks").glob("*.py"):
        (tmp_path / "benchmarks" / module.name).write_text(module.read_text())
    subprocess.run([sys.executable, str(copy)], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "docs").iterdir()}
    assert {"methods.md", "commands.md", "provenance.md", "plan.svg", "layers.svg"} == set(made)
    assert {name: (DOCS / name).read_text() for name in made} == made


def test_every_command_is_on_the_page_of_commands() -> None:
    page = (DOCS / "commands.md").read_text()
    assert all(f"## lamina {verb}" in page for verb in VERBS)


@pytest.mark.parametrize("recipe", sorted((ROOT / "examples" / "recipes").glob("*.yml")), ids=lambda path: path.name)
def test_the_example_recipes_run(recipe: Path, tmp_path: Path) -> None:
    lamina.merge(recipe, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_the_two_spellings_of_the_example_stack_give_the_same_tensors() -> None:
    recipes = ROOT / "examples" / "recipes"
    assert lamina.plan(recipes / "solar-ramp.yml").digest == lamina.plan(recipes / "solar-stack.yml").digest


def test_the_table_of_differences_stays_short() -> None:
    rows = re.findall(r"^\| \d+ \|", (DOCS / "mergekit.md").read_text(), re.M)
    assert 0 < len(rows) <= 15


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
