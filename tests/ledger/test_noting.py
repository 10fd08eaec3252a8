"""What is called from Python leaves the rows that the command line leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

import lamina
from lamina.ledger.ledger import Ledger
from lamina.ledger.runs import Run

MODELS = Path(__file__).parents[2] / "examples" / "models"
AVERAGE = {
    "models": [{"model": str(MODELS / name), "parameters": {"weight": 0.5}} for name in ("rev", "sort")],
    "merge_method": "linear",
}


def rows(file: Path) -> list[Run]:
    with Ledger(file) as ledger:
        return ledger.runs()


def test_a_merge_is_a_row(tmp_path: Path, ledger_file: Path) -> None:
    made = lamina.merge(AVERAGE, tmp_path / "out", seed=3, set_values=["models[0].parameters.weight=0.75"])
    (row,) = rows(ledger_file)
    assert (row.kind, row.plan, row.seed, row.output) == ("merge", made.plan.digest, 3, str(tmp_path / "out"))
    assert [parent.name for parent in row.parents] == [str(MODELS / "rev"), str(MODELS / "sort")]
    assert "0.75" in row.recipe
    assert lamina.merge(row.recipe, tmp_path / "again", seed=row.seed).plan.digest == row.plan


def test_a_merge_that_is_there_already_is_noted_where_it_was_not(tmp_path: Path, ledger_file: Path) -> None:
    lamina.merge(AVERAGE, tmp_path / "out", notebook=lamina.Notebook(wanted=False))  # as one killed before it was noted
    assert [lamina.merge(AVERAGE, tmp_path / "out").already_there for _ in range(2)] == [True, True]
    assert len(rows(ledger_file)) == 1


def test_an_upscaling_is_a_row_with_the_recipe_that_it_stands_for(tmp_path: Path, ledger_file: Path) -> None:
    lamina.upscale(MODELS / "base", tmp_path / "deeper", to=6)
    (row,) = rows(ledger_file)
    assert "stack:" in row.recipe


def test_a_notebook_says_where_and_whether(tmp_path: Path, ledger_file: Path) -> None:
    lamina.merge(AVERAGE, tmp_path / "out", notebook=lamina.Notebook(tmp_path / "mine.sqlite"))
    lamina.upscale(MODELS / "base", tmp_path / "deeper", to=6, notebook=lamina.Notebook(wanted=False))
    assert len(rows(tmp_path / "mine.sqlite")) == 1
    assert not ledger_file.exists()


def test_a_merge_that_is_refused_is_no_row(tmp_path: Path, ledger_file: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("all of it")
    with pytest.raises(lamina.LaminaError):
        lamina.merge(AVERAGE, tmp_path / "out")
    assert not ledger_file.exists()


def test_where_nothing_can_be_noted_is_a_warning_and_the_merge_is_there(tmp_path: Path, ledger_file: Path) -> None:
    ledger_file.mkdir()
    with pytest.warns(UserWarning, match="not noted"):
        lamina.merge(AVERAGE, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").exists()
