"""Tensors that hold something of every layer side by side, as Gemma 3n and 4 have them: it goes with the layers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

import lamina
from lamina.errors import RecipeError

ROWS, WIDTH, EACH = 5, 4, 2  # EACH: what a layer has of a packed tensor


def write_model(folder: Path, name: str, first: float, depth: int = 3, columns: int | None = None) -> None:
    """Layer i has `first + i` everywhere, in its own tensor and in its part of those that pack all layers."""
    marks = np.repeat(first + np.arange(depth, dtype=np.float32), EACH)
    if columns is not None:
        marks = marks[:columns]
    tensors = {
        "model.embed_tokens.weight": np.zeros((ROWS, WIDTH), np.float32),
        "model.embed_tokens_per_layer.weight": np.tile(marks, (ROWS, 1)),
        "model.per_layer_model_projection.weight": np.tile(marks[:, None], (1, WIDTH)),
        "model.per_layer_projection_norm.weight": np.zeros(EACH, np.float32),
        "model.norm.weight": np.zeros(WIDTH, np.float32),
    }
    tensors |= {f"model.layers.{i}.w": np.full(WIDTH, first + i, np.float32) for i in range(depth)}
    (folder / name).mkdir()
    save_file(tensors, folder / name / "model.safetensors")
    config = {"model_type": "gemma4_text", "num_hidden_layers": depth, "hidden_size": WIDTH, "vocab_size": ROWS}
    config |= {"hidden_size_per_layer_input": EACH, "layer_types": ["full_attention"] * depth}
    (folder / name / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("recipe", "layers"),
    [
        ("stack: [{model: a, layers: [0-1, 1-2]}]", [0, 1, 1, 2]),
        ("stack: [{model: a, layers: 0-1}, {model: b, layers: 2}]", [0, 1, 12]),
        ("stack: [{model: a, layers: 2}, {model: a, layers: 0}]", [2, 0]),
        ("stack:\n- {model: a, layers: 0-1, at: 0}\n- {model: b, layers: 0-1, at: 1}\noverlap: average", [0, 5.5, 11]),
        ("merge_method: linear\nparameters: {weight: 0.5}\nmodels: [{model: a}, {model: b}]", [5, 6, 7]),
    ],
)  # fmt: skip
def test_every_layer_keeps_its_part(tmp_path: Path, recipe: str, layers: list[float]) -> None:
    write_model(tmp_path, "a", 0)
    write_model(tmp_path, "b", 10)
    (tmp_path / "recipe.yml").write_text(recipe)
    plan = lamina.plan(tmp_path / "recipe.yml")
    assert "embed_tokens_per_layer" not in " ".join(each.name for each in plan.dropped)
    with lamina.tensors(tmp_path / "recipe.yml") as merged:
        columns, rows = (
            merged[f"model.{name}.weight"] for name in ("embed_tokens_per_layer", "per_layer_model_projection")
        )
        own = [merged[f"model.layers.{i}.w"][0] for i in range(len(layers))]
    marks: NDArray[np.float64] = np.repeat(np.array(layers, float), EACH)
    assert own == layers
    assert np.array_equal(columns, np.tile(marks, (ROWS, 1)))
    assert np.array_equal(rows, np.tile(marks[:, None], (1, WIDTH)))


def test_neighbouring_layers_are_read_in_one_stretch(tmp_path: Path) -> None:
    write_model(tmp_path, "a", 0)
    (tmp_path / "recipe.yml").write_text("stack: [{model: a, layers: [0-1, 1-2]}]")
    made = lamina.explain(tmp_path / "recipe.yml", "model.embed_tokens_per_layer.weight")
    assert "columns 0-3" in str(made)
    assert "columns 2-5" in str(made)


def test_a_tensor_that_does_not_come_apart_is_said(tmp_path: Path) -> None:
    write_model(tmp_path, "a", 0, columns=5)
    (tmp_path / "recipe.yml").write_text("stack: [{model: a, layers: [0-1, 1-2]}]")
    with pytest.raises(RecipeError, match="does not come apart into 3 layers"):
        lamina.plan(tmp_path / "recipe.yml")
