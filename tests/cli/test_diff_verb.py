"""`lamina diff`: what it prints, and its JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import SPOILT, Lamina

STACK = "stack: [{model: models/base, layers: [0-2, 1-3]}]\n"


def test_a_map_of_the_depth_is_drawn(lamina: Lamina) -> None:
    out = lamina("diff", "models/rev", "models/sort", "--base", "models/base").out
    assert "4 layers, 563K parameters compared" in out
    assert "attention   ▒▒▓▓  most 0.102, layer 2" in out
    assert "0 of 39 tensors identical · cosine 0.995 · distance 0.1" in out
    assert "33% of signs opposite" in out


def test_a_stack_shows_where_its_layers_come_from(lamina: Lamina) -> None:
    assert lamina("merge", "-", "deep", stdin=STACK).code == 0
    lines = lamina("diff", "models/base", "deep").out.splitlines()
    assert "  0-2     0-2" in lines
    assert "  3-5     1-3" in lines


def test_json_holds_the_same_figures(lamina: Lamina) -> None:
    found = lamina("diff", "models/rev", "models/sort", "--base", "models/base", "--json").data
    assert [layer["of_a"] for layer in found["layers"]] == [0, 1, 2, 3]
    assert round(found["total"]["cosine"], 3) == 0.995
    assert round(found["total"]["task_vectors"]["sign_conflict"], 2) == 0.33
    assert len(found["tensors"]) == 39


@pytest.mark.parametrize("order", [("models/rev", "spoilt"), ("spoilt", "models/rev")])
def test_what_is_not_a_number_is_told_with_its_tensor(lamina: Lamina, spoilt: Path, order: tuple[str, str]) -> None:
    run = lamina("diff", *order)
    assert run.code == 0
    assert f"  NaN or infinity in {spoilt.name}: {SPOILT} (1 element)" in run.out.splitlines()
    assert "  MLP          ?    not a number in layer 1; else none" in run.out.splitlines()
    assert "cosine nan · distance nan" in run.out
    data = lamina("diff", *order, "--json").data
    assert data["non_finite"] == [{"model": "spoilt", "name": SPOILT, "elements": 1}]
    assert data["total"]["cosine"] is None


def test_a_model_that_is_not_there_is_told_with_exit_code_2(lamina: Lamina) -> None:
    run = lamina("diff", "models/base", "nowhere")
    assert run.code == 2
    assert "there is no folder nowhere" in run.err


@pytest.mark.usefixtures("spoilt")
def test_a_tensor_that_is_compared_twice_is_told_once(lamina: Lamina) -> None:
    run = lamina("diff", "spoilt", "spoilt")
    assert f"  NaN or infinity in spoilt: {SPOILT} (1 element)" in run.out.splitlines()
