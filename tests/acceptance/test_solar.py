"""The main job: one model's layers laid over themselves eight deeper, blended where they cross."""

from __future__ import annotations

import pytest
import torch

from .checkpoints import Checkpoint, all_bits, same_bits, same_layer
from .conftest import Bench
from .reference import assert_rounded_once, linear

SOLAR_RAMP = """
    slices:
      - sources:
          - {model: deep, layer_range: [0, 8], parameters: {weight: 1}}
      - sources:
          - {model: deep, layer_range: [8, 32], parameters: {weight: [1, 0]}}
          - {model: deep, layer_range: [0, 24], parameters: {weight: [0, 1]}}
      - sources:
          - {model: deep, layer_range: [24, 32], parameters: {weight: 1}}
    merge_method: linear
    dtype: bfloat16
"""
SOLAR_RAMP_STACK = """
    stack:
      - {model: deep, layers: 0-31, at: 0}
      - {model: deep, layers: 0-31, at: 8}
    overlap: ramp
    dtype: bfloat16
"""


@pytest.fixture(scope="module")
def ramp(session_bench: Bench) -> Checkpoint:
    return session_bench.merge(SOLAR_RAMP)


def test_the_ramp_has_forty_layers_and_says_so(ramp: Checkpoint) -> None:
    assert ramp.config["num_hidden_layers"] == 40
    layers = {int(name.split(".")[2]) for name in ramp.tensors if name.startswith("model.layers.")}
    assert layers == set(range(40))


def test_the_ramp_keeps_the_first_and_last_eight_layers_bit_for_bit(bench: Bench, ramp: Checkpoint) -> None:
    for i in range(8):
        assert same_layer(ramp.layer(i), bench["deep"].layer(i))
        assert same_layer(ramp.layer(32 + i), bench["deep"].layer(24 + i))


def test_the_ramp_blends_each_crossing_layer_to_one_rounding(bench: Bench, ramp: Checkpoint) -> None:
    deep = bench["deep"]
    for i in range(24):
        for suffix, merged in ramp.layer(8 + i).items():
            expected = linear(
                [deep.layer(8 + i)[suffix], deep.layer(i)[suffix]],
                [1 - i / 23, i / 23],
                normalize=False,  # the closed form as written; the weights sum to one
            )
            assert_rounded_once(merged, expected, f"layer {8 + i} {suffix}")


def test_the_ends_of_the_ramp_are_copies(bench: Bench, ramp: Checkpoint) -> None:
    assert same_layer(ramp.layer(8), bench["deep"].layer(8))
    assert same_layer(ramp.layer(31), bench["deep"].layer(23))


def test_the_ramp_keeps_embeddings_norm_and_head_bit_for_bit(bench: Bench, ramp: Checkpoint) -> None:
    assert same_bits(ramp.embed, bench["deep"].embed)
    assert same_bits(ramp.norm, bench["deep"].norm)
    assert same_bits(ramp.tensors["lm_head.weight"], bench["deep"].head)


def test_the_ramp_holds_no_nan_and_nothing_but_bfloat16(ramp: Checkpoint) -> None:
    for name, tensor in ramp.tensors.items():
        assert tensor.dtype == torch.bfloat16, name
        assert torch.isfinite(tensor).all(), name


def test_the_stack_form_of_the_ramp_is_byte_identical(bench: Bench, ramp: Checkpoint) -> None:
    stack = bench.merge(SOLAR_RAMP_STACK)
    assert all_bits(stack) == all_bits(ramp)
    assert stack.config == ramp.config


def test_the_stack_form_is_written_as_the_same_file(bench: Bench, ramp: Checkpoint) -> None:
    stack = bench.merge(SOLAR_RAMP_STACK)
    assert (stack.folder / "model.safetensors").read_bytes() == (ramp.folder / "model.safetensors").read_bytes()


def test_the_plan_names_the_layers_that_blend_unlike_depths(bench: Bench) -> None:
    # Layers 8 and 31 have weights 1, 0 and 0, 1: they are copies, and 9 to 30 are the blends.
    for recipe in (SOLAR_RAMP, SOLAR_RAMP_STACK):
        assert "9-30" in bench.notices(recipe)


def test_the_plan_has_one_job_for_each_output_tensor(bench: Bench, ramp: Checkpoint) -> None:
    names = [job.name for job in bench.plan(SOLAR_RAMP).jobs]
    assert len(names) == len(set(names))
    assert set(names) == set(ramp.tensors)
