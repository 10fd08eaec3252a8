"""`lamina diff`: figures against float64 in torch, layers found again wherever they stand, descent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import lamina
from benchmarks.tampering import in_layer, swapped
from lamina.check.diff import Diff, diff
from lamina.errors import CheckpointError

from .family import MODELS, Weights, changed

BASE, REV, SORT = (MODELS / name for name in ("base", "rev", "sort"))


def test_a_model_is_identical_to_itself() -> None:
    found = diff(BASE, BASE)
    assert (found.total.identical, found.total.tensors, found.total.distance) == (39, 39, 0.0)
    assert found.counterparts == (0, 1, 2, 3)
    assert "to the last bit" in found.descent


def test_figures_are_those_of_float64() -> None:
    found = diff(REV, SORT, BASE)
    rev, sort, base = (load_file(model / "model.safetensors") for model in (REV, SORT, BASE))
    sums = next(each.likeness for each in found.compared if each.pair.b == in_layer(2, "mlp.up_proj"))
    a, b, c = (weights[in_layer(2, "mlp.up_proj")].double() for weights in (rev, sort, base))
    assert sums.cosine == pytest.approx(float(torch.cosine_similarity(a.flatten(), b.flatten(), 0)), rel=1e-9)
    assert sums.distance == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-6)
    of_a, of_b = (a - c).flatten(), (b - c).flatten()
    assert sums.moved_cosine == pytest.approx(float(torch.cosine_similarity(of_a, of_b, 0)), rel=1e-6)
    both = (of_a != 0) & (of_b != 0)
    assert sums.sign_conflict == float((of_a * of_b < 0)[both].double().mean())
    assert sums.equal == int((a == b).sum())


def test_sums_over_a_class_join_those_of_its_tensors() -> None:
    found = diff(REV, SORT)
    parts = [each.likeness for each in found.compared if (each.layer, each.kind) == (1, "attention")]
    assert len(parts) == 4
    assert found.by(layer=1, kind="attention").difference_squared == sum(part.difference_squared for part in parts)


def test_neither_workers_nor_order_are_seen_in_the_figures() -> None:
    assert diff(REV, SORT, BASE, workers=1) == diff(REV, SORT, BASE, workers=4)


def test_layers_of_a_deeper_model_are_found_where_they_come_from(tmp_path: Path) -> None:
    stack = f"stack: [{{model: {BASE}, layers: [0-2, 1-3]}}]\n"
    lamina.merge(stack, tmp_path / "deep")
    found = diff(BASE, tmp_path / "deep")
    assert found.counterparts == (0, 1, 2, 1, 2, 3)
    assert found.total.identical == found.total.tensors == 57
    back = diff(tmp_path / "deep", BASE)
    assert back.left_out == (3, 4)  # each layer of base is there once; its twin stands against nothing
    assert back.only_a == ()


def test_layers_that_changed_places_are_found(tmp_path: Path) -> None:
    places = changed(BASE, tmp_path / "swapped", swapped(1, 2))
    assert diff(BASE, places).counterparts == (0, 2, 1, 3)


def _noise(scale: float, seed: int, weights: Weights) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in weights.items():
        noise = torch.randn(tensor.shape, generator=generator) * tensor.float().std() * scale
        weights[name] = (tensor.float() + noise).to(tensor.dtype)


def test_a_model_trained_on_from_another_descends_from_it(tmp_path: Path) -> None:
    further = changed(REV, tmp_path / "further", lambda weights: _noise(0.05, 1, weights))
    assert "further descends from" in diff(REV, further, BASE).descent
    assert "further descends from" in diff(further, REV, BASE).descent
    assert "neither holds" in diff(REV, SORT, BASE).descent


def test_strangers_are_told_from_kin(tmp_path: Path) -> None:
    def other_beginning(weights: Weights) -> None:
        generator = torch.Generator().manual_seed(5)
        for name, tensor in weights.items():
            weights[name] = torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    stranger = changed(BASE, tmp_path / "stranger", other_beginning)
    assert "trained apart" in diff(BASE, stranger).descent
    assert "--base" in diff(BASE, REV).descent


def test_what_only_one_has_and_other_shapes_are_listed(tmp_path: Path) -> None:
    def without_and_cut(weights: Weights) -> None:
        del weights[in_layer(3, "mlp.up_proj")]
        weights["lm_head.weight"] = weights["lm_head.weight"][:700]
        weights["extra.weight"] = torch.ones(3)

    found = diff(BASE, changed(BASE, tmp_path / "odd", without_and_cut))
    assert found.only_a == (in_layer(3, "mlp.up_proj"),)
    assert found.only_b == ("extra.weight",)
    assert [(name, one.shape, other.shape) for name, one, other in found.unlike] == [
        ("lm_head.weight", (768, 96), (700, 96))
    ]


def test_configs_are_compared_by_what_they_mean(tmp_path: Path) -> None:
    def theta(config: dict[str, object]) -> None:
        config["rope_parameters"] = {"rope_theta": 500000.0, "rope_type": "default"}

    assert diff(BASE, changed(BASE, tmp_path / "theta", config=theta)).config == {"rope_theta": (10000.0, 500000.0)}


def test_a_folder_that_is_not_there_gets_a_letter() -> None:
    with pytest.raises(CheckpointError, match="no folder nowhere"):
        diff(BASE, "nowhere")


def test_the_result_is_data() -> None:
    assert isinstance(diff(BASE, REV), Diff)
