"""The yardstick itself: fixtures are what they claim, the float64 reference agrees with torch and with itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conformance.settings import interpolate, setting

from .checkpoints import bits, depth_map, read_checkpoint
from .conftest import Bench
from .reference import (
    PRECISION,
    Expected,
    assert_rounded_once,
    expected_output,
    half_ulp,
    linear,
    pair_weights,
    task_arithmetic,
)


def test_no_two_tensors_of_the_world_are_alike(bench: Bench) -> None:
    seen = [bits(tensor) for checkpoint in bench.checkpoints.values() for tensor in checkpoint.tensors.values()]
    assert len(set(seen)) == len(seen)


def test_a_written_checkpoint_reads_back(bench: Bench) -> None:
    for checkpoint in bench.checkpoints.values():
        again = read_checkpoint(checkpoint.folder)
        assert {n: bits(t) for n, t in again.tensors.items()} == {n: bits(t) for n, t in checkpoint.tensors.items()}
        assert depth_map(again, [checkpoint]) == [f"{checkpoint.folder.name}:{i}" for i in range(checkpoint.depth)]


@pytest.mark.parametrize("dtype", PRECISION)
def test_torch_rounds_within_half_an_ulp_and_no_closer_bound_holds(dtype: torch.dtype) -> None:
    generator = np.random.default_rng(0)
    values = generator.standard_normal(20_000) * np.exp2(generator.integers(-30, 10, 20_000))
    if dtype in (torch.bfloat16, torch.float16):
        values = values.astype(np.float32).astype(np.float64)  # torch itself goes from fp64 to these by fp32
    rounded = torch.from_numpy(values).to(dtype).to(torch.float64).numpy()
    assert (np.abs(rounded - values) <= half_ulp(values, dtype)).all()
    if dtype != torch.float64:
        assert (np.abs(rounded - values) > 0.99 * half_ulp(values, dtype)).any()


def test_a_value_one_ulp_off_is_not_rounded_once() -> None:
    expected = linear([torch.tensor([1.0, 3.0]).bfloat16(), torch.tensor([2.0, 4.0]).bfloat16()], [1, 1])
    assert_rounded_once(torch.tensor([1.5, 3.5]).bfloat16(), expected)
    with pytest.raises(AssertionError):
        assert_rounded_once(torch.tensor([1.5, 3.515625]).bfloat16(), expected)


def test_linear_is_the_weighted_mean() -> None:
    mean = linear([torch.tensor([1.0]), torch.tensor([4.0])], [1, 2])
    assert mean.value.tolist() == [3.0]
    assert np.allclose(mean.largest, [8 / 3])


def test_task_arithmetic_adds_the_scaled_deltas() -> None:
    merged = task_arithmetic(torch.tensor([1.0]), [torch.tensor([2.0]), torch.tensor([5.0])], [1, 0.5], lambda_=2)
    assert merged.value.tolist() == [1 + 2 * (1 * 1 + 0.5 * 4)]


def test_task_arithmetic_divides_by_one_where_the_weights_cancel() -> None:
    merged = task_arithmetic(torch.tensor([1.0]), [torch.tensor([2.0]), torch.tensor([5.0])], [1, -1], normalize=True)
    assert merged.value.tolist() == [1 + 1 - 4]


def test_gradients_are_interpolated_between_their_points() -> None:
    assert [interpolate([0, 1], i / 3) for i in range(4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [interpolate([0, 4, 2], t) for t in (0, 0.25, 0.5, 0.75, 1)] == [0, 2, 4, 3, 2]
    assert interpolate([7], 0.3) == 7


def test_the_first_filter_that_matches_decides() -> None:
    rules = [{"filter": "mlp", "value": 1}, {"filter": "*", "value": [2, 3]}]
    assert setting(rules, "model.layers.0.mlp.up_proj.weight", 0.5) == 1
    assert setting(rules, "model.norm.weight", 0.5) == 2.5
    assert setting({"filter": "mlp", "value": 1}, "model.norm.weight", 0.5) is None


def test_overlaps_weigh_as_the_definition_says() -> None:
    def later(overlap: str, n: int) -> list[float]:
        return [pair_weights(overlap, i, n)[1] for i in range(n)]

    assert later("ramp", 5) == [0, 0.25, 0.5, 0.75, 1]
    assert later("ramp", 2) == [0, 1]
    assert later("ramp", 1) == [0.5]
    assert later("cut", 5) == [0, 0, 0, 1, 1]
    assert later("cut", 1) == [0]


def test_the_ramp_stack_and_its_slices_have_one_closed_form(bench: Bench) -> None:
    entry = {"model": "deep", "layers": "0-31"}
    stack = expected_output(
        {"stack": [entry | {"at": 0}, entry | {"at": 8}], "overlap": "ramp", "dtype": "bfloat16"}, bench.checkpoints
    )

    def source(start: int, end: int, weight: object) -> dict[str, object]:
        return {"model": "deep", "layer_range": [start, end], "parameters": {"weight": weight}}

    slices = expected_output(
        {
            "slices": [
                {"sources": [source(0, 8, 1)]},
                {"sources": [source(8, 32, [1, 0]), source(0, 24, [0, 1])]},
                {"sources": [source(24, 32, 1)]},
            ],
            "merge_method": "linear",
            "dtype": "bfloat16",
        },
        bench.checkpoints,
    )
    assert set(stack) == set(slices)
    for name, one in stack.items():
        assert isinstance(one, Expected)
        assert np.allclose(one.value, slices[name].value, rtol=1e-12, atol=1e-12), name
