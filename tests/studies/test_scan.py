"""A scan tells what the written models would lose, chooses on rows that report nothing, and names the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import lamina
from lamina.check.asked import bundled_texts, token_rows
from lamina.check.running import RunningModel
from lamina.errors import CheckpointError, RecipeError
from lamina.planners.upscale import Cut
from lamina.studies.cuts import FIRST_LOOKED_AT
from lamina.studies.scan import Scan, scan

BASE = Path(__file__).parents[2] / "examples" / "models" / "base"
NEAR = 1e-6  # nats: rows that are read beside others may be summed in another order
TEXTS = {"prose": bundled_texts()["prose"][:6000]}


@pytest.fixture(scope="module")
def found() -> Scan:
    return scan(BASE, to=6, texts=TEXTS)


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
