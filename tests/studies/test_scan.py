"""A scan tells what the written models would lose, chooses on rows that report nothing, and notes each cut once."""

from __future__ import annotations

import math
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import lamina
from lamina.check.asked import bundled_texts, token_rows
from lamina.check.layer_order import Passed
from lamina.check.running import RunningModel
from lamina.errors import CheckpointError, RecipeError
from lamina.ledger.ledger import Ledger
from lamina.ledger.notebook import Notebook
from lamina.ledger.runs import Run
from lamina.planners.upscale import Cut
from lamina.studies.cuts import FIRST_LOOKED_AT
from lamina.studies.grid import parse_axes
from lamina.studies.metrics import Loss
from lamina.studies.scan import Scan, scan
from lamina.studies.sweep import sweep
from lamina.upscaling import upscale_recipe

BASE = Path(__file__).parents[2] / "examples" / "models" / "base"
NEAR = 1e-6  # nats: rows that are read beside others may be summed in another order
TEXTS = {"prose": bundled_texts()["prose"][:6000]}


@pytest.fixture(scope="module")
def found() -> Scan:
    return scan(BASE, to=6, texts=TEXTS, notebook=Notebook(wanted=False))


def _losses(folder: Path, depth: int) -> np.ndarray:
    running = RunningModel(folder, depth, 1000)
    losses: np.ndarray = running.observe(token_rows(running, TEXTS)["prose"]).losses.mean(axis=1, dtype=np.float64)
    return losses


def test_every_cut_loses_what_its_written_model_loses(found: Scan, tmp_path: Path) -> None:
    own = _losses(BASE, 4)
    assert [each.cut for each in found.cuts] == [Cut(2, 0), Cut(3, 1), Cut(4, 2)]
    assert found.loss == own[0::2].mean()
    for each in found.cuts:
        lamina.upscale(BASE, tmp_path / "out", to=6, first=each.cut.first, force=True)
        written = _losses(tmp_path / "out", 6)
        assert each.loss == pytest.approx(written[0::2].mean(), abs=NEAR)
        assert each.over.difference == pytest.approx((written - own)[0::2].mean(), abs=NEAR)
        if each == found.best:
            assert found.test[1] == pytest.approx(written[1::2].mean(), abs=NEAR)
            assert found.test_over[0].difference == pytest.approx((written - own)[1::2].mean(), abs=NEAR)


def test_the_best_is_the_least_and_the_default_is_solars(found: Scan) -> None:
    assert found.best.loss == min(each.loss for each in found.cuts)
    assert found.best.is_near_best
    assert found.default.cut == Cut(3, 1)
    assert found.default.over_default.difference == found.default.over_default.margin == 0


def test_a_layer_is_measured_by_what_it_is_given_and_gives(found: Scan) -> None:
    running = RunningModel(BASE, 4, 1000)
    rows = token_rows(running, TEXTS)["prose"][0::2]
    states: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda _layer, given, gives: states.extend((given[0], gives)))
             for layer in running.layers]  # fmt: skip
    running.model(torch.from_numpy(rows), use_cache=False)
    for hook in hooks:
        hook.remove()
    for index, layer in enumerate(found.layers):
        given, gives = (each[:, FIRST_LOOKED_AT:].double() for each in states[2 * index : 2 * index + 2])
        cosine = torch.nn.functional.cosine_similarity(given, gives, dim=-1).mean().item()
        assert layer.cosine == pytest.approx(cosine, abs=1e-5)
        assert layer.added == pytest.approx(((gives - given).norm(dim=-1) / gives.norm(dim=-1)).mean().item(), abs=1e-5)


def test_one_layer_more_has_a_cut_for_every_layer() -> None:
    found = scan(BASE, to=5, texts=TEXTS, limit=2)
    assert [each.cut for each in found.cuts] == [Cut(1, 0), Cut(2, 1), Cut(3, 2), Cut(4, 3)]
    assert (found.limited, found.rows) == (True, {"prose": 2})


def test_a_depth_out_of_reach_is_told_as_upscale_tells_it() -> None:
    with pytest.raises(RecipeError, match="two copies of 4 layers make 5 to 8 layers, not 9"):
        scan(BASE, to=9, texts=TEXTS)


def test_a_text_of_less_than_two_rows_is_refused() -> None:
    with pytest.raises(CheckpointError, match="too few tokens"):
        scan(BASE, to=6, texts={"short": "A few words."})


@pytest.fixture
def notebook(ledger_file: Path) -> Notebook:
    return Notebook(ledger_file)


def _rows(file: Path) -> list[Run]:
    """All rows with their items, the oldest first."""
    with Ledger(file) as ledger:
        return [ledger.run(run.number) for run in reversed(ledger.runs()) if run.number is not None]


def _told(found: Scan) -> Scan:
    """What a scan says of a model, wherever it has it from."""
    return replace(found, measured=0, seconds=0.0, peak_memory=None)


def test_every_cut_is_a_row_with_its_recipe_its_plan_and_its_losses(
    found: Scan, notebook: Notebook, ledger_file: Path
) -> None:
    noted = scan(BASE, to=6, texts=TEXTS, notebook=notebook)
    rows = _rows(ledger_file)
    best = {Cut(2, 0): "0-1,0-3", Cut(3, 1): "0-2,1-3", Cut(4, 2): "0-3,2-3"}[noted.best.cut]
    told = [
        "base",
        "base 0-1,0-3",
        "base 0-2,1-3",
        "base 0-3,2-3",
        "base",
        *dict.fromkeys((f"base {best}", "base 0-2,1-3")),
    ]
    assert [(run.kind, run.name) for run in rows] == [("sweep", name) for name in told]
    assert (noted.measured, noted.measurements) == (len(told), len(told))
    assert [each.run for each in noted.cuts] == ["r2", "r3", "r4"]
    for run, each in zip(rows[1:4], noted.cuts, strict=True):
        recipe = upscale_recipe(BASE, first=each.cut.first, to=6)
        assert (run.recipe, run.plan) == (recipe.text, lamina.plan(recipe).digest)
        assert [parent.name for parent in run.parents] == [str(BASE)]
        assert [score.name for score in run.scores] == ["loss-dev", "loss-dev/prose"]
        assert (run.scores[0].unit, run.scores[0].lower_is_better, run.scores[0].limited) == ("nats", True, False)
        assert (run.scores[0].value, np.mean(run.scores[0].items)) == (each.loss, pytest.approx(each.loss))
        assert run.seconds is not None
        assert run.peak_memory is not None
    assert len({run.scores[0].items_digest for run in rows[:4]}) == 1
    assert [run.scores[0].name for run in rows[4:]] == ["loss-test"] * len(told[4:])
    assert rows[4].scores[0].items_digest != rows[0].scores[0].items_digest
    assert rows[5].scores[0].value == noted.test[1]
    assert (rows[0].recipe, Path(rows[0].output)) == ("", BASE)
    assert _told(noted) == replace(_told(found), cuts=noted.cuts, best=noted.best, default=noted.default)


def test_what_is_noted_is_not_measured_again(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scan(BASE, to=6, texts=TEXTS, notebook=notebook)

    def loaded(*_arguments: object, **_named: object) -> RunningModel:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("lamina.studies.cuts.RunningModel", loaded)
    again = scan(BASE, to=6, texts=TEXTS, notebook=notebook)
    assert again.measured == 0
    assert _told(again) == _told(first)


def test_only_what_is_missing_is_measured(notebook: Notebook, ledger_file: Path) -> None:
    first = scan(BASE, to=6, texts=TEXTS, notebook=notebook)
    with sqlite3.connect(ledger_file) as rows:
        rows.execute("DELETE FROM runs WHERE number = 3")
    again = scan(BASE, to=6, texts=TEXTS, notebook=notebook)
    assert again.measured == 1
    assert [each.loss for each in again.cuts] == pytest.approx([each.loss for each in first.cuts], abs=NEAR)
    assert again.layers == first.layers
    other_depth = scan(BASE, to=5, texts=TEXTS, notebook=notebook)
    assert other_depth.measured == other_depth.measurements - 2  # the model itself is known on both halves


def test_other_texts_rows_or_weights_are_measured_anew(notebook: Notebook, tmp_path: Path) -> None:
    model = tmp_path / "base"
    shutil.copytree(BASE, model)
    asked = {"to": 8, "texts": TEXTS, "limit": 2}
    first = scan(model, notebook=notebook, **asked)  # type: ignore[arg-type]
    assert first.measured == first.measurements
    assert scan(model, notebook=notebook, **asked).measured == 0  # type: ignore[arg-type]
    for other in ({"limit": 3}, {"texts": {"prose": TEXTS["prose"].upper()}}):
        found = scan(model, notebook=notebook, **asked | other)  # type: ignore[arg-type]
        assert found.measured == found.measurements
    shutil.copy(BASE.parent / "rev" / "model.safetensors", model)
    found = scan(model, notebook=notebook, **asked)  # type: ignore[arg-type]
    assert found.measured == found.measurements
    assert found.loss != first.loss


def test_rows_of_a_part_of_the_text_are_marked(notebook: Notebook, ledger_file: Path) -> None:
    scan(BASE, to=8, texts=TEXTS, limit=2, notebook=notebook)
    assert all(score.limited for run in _rows(ledger_file) for score in run.scores)


def test_a_scan_and_a_sweep_of_the_same_text_are_compared_in_pairs(notebook: Notebook, ledger_file: Path) -> None:
    scan(BASE, to=6, texts=TEXTS, notebook=notebook)
    recipe = upscale_recipe(BASE, first=2, to=6)
    sweep(recipe, parse_axes(["stack[0].layers=0-1"]), Loss(TEXTS), notebook=notebook)
    scanned, swept = (next(run for run in rows if run.recipe == recipe.text and run.score("loss-dev"))
                      for rows in (_rows(ledger_file), _rows(ledger_file)[::-1]))  # fmt: skip
    assert scanned.number != swept.number
    for ours, theirs in zip(scanned.scores, swept.scores, strict=True):
        assert (ours.name, ours.items_digest) == (theirs.name, theirs.items_digest)
        assert ours.items == pytest.approx(theirs.items, abs=NEAR)


@pytest.mark.filterwarnings("error:invalid value")
@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_a_cut_without_a_finite_loss_is_noted_as_such_and_is_not_the_best(
    spoilt: float, notebook: Notebook, ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Passed.losses_of

    def losses_of(passed: Passed, order: list[int], shared: int | None = None) -> np.ndarray:
        losses = honest(passed, order, shared)
        return losses * spoilt if order == Cut(2, 0).order(4) else losses

    monkeypatch.setattr(Passed, "losses_of", losses_of)
    first = scan(BASE, to=6, texts=TEXTS, notebook=notebook)
    again = scan(BASE, to=6, texts=TEXTS, notebook=notebook)
    assert again.measured == 0
    for found in (first, again):
        assert [math.isfinite(each.loss) for each in found.cuts] == [False, True, True]
        assert not found.cuts[0].is_near_best
        assert found.best.cut == Cut(3, 1)
        assert all(math.isfinite(each.over.margin) for each in found.cuts[1:])
    row = _rows(ledger_file)[1]
    assert str(row.scores[0].value) == str(spoilt)
    assert row.scores[0].stderr is None
