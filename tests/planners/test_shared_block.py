"""A block that all layers of one kind share and that files hold in the first of them (Zamba)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import lamina
from lamina.errors import RecipeError

KINDS = ["mamba", "hybrid", "mamba", "hybrid"]
HOLDER = "model.layers.1.shared_transf.x"


def write_zamba(folder: Path, name: str, block: float) -> None:
    """Four layers, of which 1 and 3 share a block."""
    words = {"mamba": "mamba.weight", "hybrid": "linear.weight"}
    tensors = {f"model.layers.{i}.{words[kind]}": np.full(2, i, np.float32) for i, kind in enumerate(KINDS)}
    tensors |= {"model.embed_tokens.weight": np.ones((3, 2), np.float32), HOLDER: np.full(2, block, np.float32)}
    (folder / name).mkdir()
    save_file(tensors, folder / name / "model.safetensors")
    config = {"model_type": "zamba", "num_hidden_layers": 4, "layers_block_type": KINDS, "vocab_size": 3}
    (folder / name / "config.json").write_text(json.dumps(config))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_zamba(tmp_path, "a", 7)
    write_zamba(tmp_path, "b", 9)
    return tmp_path / "recipe.yml"


@pytest.mark.parametrize(("layers", "place"), [("0-3", 1), ("[3, 0-3]", 0), ("[0, 2, 0-3]", 3), ("[2, 3, 1]", 1)])
def test_it_stands_in_the_first_of_them(recipe: Path, layers: str, place: int) -> None:
    recipe.write_text(f"stack: [{{model: a, layers: {layers}}}]")
    with lamina.tensors(recipe) as merged:
        assert [name for name in merged if "shared" in name] == [f"model.layers.{place}.shared_transf.x"]
        assert merged[f"model.layers.{place}.shared_transf.x"].tolist() == [7, 7]


def test_where_none_of_them_is_used_it_is_dropped(recipe: Path) -> None:
    recipe.write_text("stack: [{model: a, layers: [0, 2, 0]}]")
    plan = lamina.plan(recipe)
    assert {each.name: each.reason for each in plan.dropped}[HOLDER] == "no layer that uses this block is used"
    assert not [name for name in plan.specs if "shared" in name]


def test_it_is_blended_as_the_layers_are(recipe: Path) -> None:
    recipe.write_text("stack: [{model: a, layers: 0-3, at: 0, weight: 1}, {model: b, layers: 0-3, at: 0, weight: 3}]")
    with lamina.tensors(recipe) as merged:
        assert merged[HOLDER].tolist() == [8.5, 8.5]


def test_layers_of_two_models_cannot_share_one(recipe: Path) -> None:
    recipe.write_text("stack: [{model: a, layers: 0-1}, {model: b, layers: 2-3}]")
    with pytest.raises(RecipeError, match="output layers 1 and 3 come from other models, and in a zamba they share"):
        lamina.plan(recipe)
    recipe.write_text("stack: [{model: a, layers: 0-3}, {model: b, layers: 2}]")
    assert HOLDER in lamina.plan(recipe).specs
