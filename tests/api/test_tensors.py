"""`lamina.tensors`: the numbers of the published folder, without the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import lamina
from lamina.checkpoints.checkpoint import Checkpoint
from lamina.errors import MemoryBudgetError

from .test_recipe_forms import MAPPING, MODELS


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_every_tensor_equals_the_published_one(tmp_path: Path, dtype: str) -> None:
    recipe = {**MAPPING, "dtype": dtype}
    lamina.merge(recipe, tmp_path / "out")
    published = load_file(tmp_path / "out" / "model.safetensors")
    with lamina.tensors(recipe, workers=1) as tensors:
        assert list(tensors) == [job.name for job in lamina.plan(recipe).jobs]
        for name, tensor in tensors.items():
            stored = published[name]
            exact = stored.float() if dtype == "bfloat16" else stored
            assert np.array_equal(tensor, exact.numpy())
            assert tensor.dtype == ("float32" if dtype == "bfloat16" else dtype)
            assert bytes(tensors.stored(name)) == stored.reshape(-1).view(torch.uint8).numpy().tobytes()


def test_a_spec_and_a_membership_compute_nothing() -> None:
    tensors = lamina.tensors(MAPPING)
    tensors.close()  # from here on nothing can be read
    assert str(tensors.spec("model.norm.weight")) == "bfloat16 [96]"
    assert "model.norm.weight" in tensors
    assert "model.nrom.weight" not in tensors
    with pytest.raises(ValueError, match="closed"):
        _ = tensors["model.norm.weight"]


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with lamina.tensors(MAPPING) as tensors, pytest.raises(KeyError, match=r"model\.layers\.2\.mlp\.up_proj\.weight"):
        _ = tensors["model.layers.2.mlp.up_porj.weight"]


def test_what_is_no_float_comes_in_its_own_type(tmp_path: Path) -> None:
    model = _with_extra(tmp_path, {"steps": torch.tensor([3, 5]), "on": torch.tensor([True, False])})
    tensors = lamina.tensors({"stack": [{"model": str(model), "layers": "0-3"}]})
    assert (tensors["model.steps"].dtype, tensors["model.steps"].tolist()) == (np.int64, [3, 5])
    assert (tensors["model.on"].dtype, tensors["model.on"].tolist()) == (np.bool_, [True, False])


def test_the_memory_bound_holds_here_too() -> None:
    with lamina.tensors(MAPPING, memory=1_000_000) as tensors, pytest.raises(MemoryBudgetError):
        _ = tensors["lm_head.weight"]


def _with_extra(folder: Path, extra: dict[str, Any]) -> Path:
    """`base` with more tensors beside its layers."""
    model = folder / "model"
    model.mkdir()
    tensors = load_file(MODELS / "base" / "model.safetensors")
    save_file(tensors | {f"model.{name}": value for name, value in extra.items()}, model / "model.safetensors")
    (model / "config.json").write_bytes((MODELS / "base" / "config.json").read_bytes())
    return model


SWEPT = {
    "slerp": (
        f"merge_method: slerp\nbase_model: {MODELS}/rev\nparameters: {{t: 0.5}}\n"
        f"models: [{{model: {MODELS}/rev}}, {{model: {MODELS}/sort}}]\n",
        ["parameters.t=0.2", "parameters.t=0.8", "parameters.t=1", "dtype=bfloat16"],
    ),
    "ties": (
        f"merge_method: ties\nbase_model: {MODELS}/base\nparameters: {{density: 0.4, lambda: 1, weight: 0.5}}\n"
        f"models: [{{model: {MODELS}/rev}}, {{model: {MODELS}/sort}}]\n",
        ["parameters.lambda=0.5", "parameters.weight=0.7", "parameters.density=0.6", "merge_method=dare_ties"],
    ),
    "stack": (
        f"stack:\n  - {{model: {MODELS}/rev, layers: 0-3, at: 0}}\n  - {{model: {MODELS}/sort, layers: 0-3, at: 1}}\n"
        "overlap: ramp\n",
        ["stack[1].at=2", "stack[1].at=3", "overlap=average"],
    ),
}


@pytest.mark.parametrize("name", SWEPT)
@pytest.mark.parametrize("memory", [70_000_000, 1_000_000_000])
def test_variations_share_what_they_have_in_common_and_each_is_what_it_is_alone(name: str, memory: int) -> None:
    recipe, changes = SWEPT[name]
    with lamina.api.variations(recipe, [[], *([each] for each in changes)], workers=1, memory=memory) as variations:
        for each in variations:
            with lamina.tensors(recipe, set_values=each.set_values) as alone:
                for tensor in alone:
                    made = each.tensors.stored(tensor)
                    assert made == alone.stored(tensor)
                    made[:] = bytes(len(made))  # a caller does with its bytes what it likes


def test_a_tensor_that_variations_have_in_common_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, _ = SWEPT["ties"]
    read: list[str] = []
    whole = Checkpoint.read_into

    def counting(self: Checkpoint, name: str, first_byte: int, buffer: memoryview) -> None:
        read.append(name)
        whole(self, name, first_byte, buffer)

    monkeypatch.setattr(Checkpoint, "read_into", counting)
    with lamina.api.variations(recipe, [[], []], memory=10**9) as variations:
        first, second = (each.tensors for each in variations)
        first.stored("model.norm.weight")
        assert read
        read.clear()
        second.stored("model.norm.weight")
    assert read == []


def test_memory_that_no_variation_fits_in_is_told_before_anything_is_made() -> None:
    recipe, changes = SWEPT["slerp"]
    with pytest.raises(MemoryBudgetError), lamina.api.variations(recipe, [changes[:1]], memory=50_000_000):
        pass
