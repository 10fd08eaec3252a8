"""Blocks of expressions: the same wherever they are cut, and honest about NaN, overflow and integers."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.errors import NonFiniteResult, UnmergeableTensor
from lamina.expressions.compute import Worker, Workspace, compute
from lamina.expressions.inspect import peak_bytes, reads
from lamina.expressions.nodes import Cast, Expr, Merge, Read, cast, concat, slice_of
from lamina.kernels.interface import Stored
from lamina.kernels.numpy_kernels import NumpyKernels
from lamina.tensor_spec import BF16, BLOCK_ELEMENTS, DTYPES, F16, F32, F64, DType, TensorSpec

TORCH = {BF16: torch.bfloat16, F16: torch.float16, F32: torch.float32, F64: torch.float64}
I64 = DTYPES["I64"]
KERNELS = NumpyKernels()


# By hand


def test_a_read_gives_the_bytes_of_the_file() -> None:
    block, finite = made(tensor("a", F32, 4), {"a": floats([1, 2, 3, 4], F32)}, 1, 3)
    assert values(block) == [2, 3]
    assert finite


def test_a_cast_rounds() -> None:
    block, _ = made(cast(tensor("a", F32, 2), BF16), {"a": floats([1.001, 2], F32)})
    assert (values(block), block.dtype) == ([1, 2], BF16)


def test_a_merge_weighs_and_adds() -> None:
    expr = linear([tensor("a", BF16, 2), tensor("b", BF16, 2)], [0.25, 0.75], BF16)
    block, _ = made(expr, {"a": floats([4, 8], BF16), "b": floats([8, -4], BF16)})
    assert values(block) == [7, -1]


def test_deltas_are_added_to_their_base() -> None:
    expr = Merge("task_arithmetic", (tensor("a", F32, 1),), (0.5,), tensor("base", F32, 1), TensorSpec((1,), F32))
    block, _ = made(expr, {"a": floats([3], F32), "base": floats([1], F32)})
    assert values(block) == [2]


GRID = np.arange(12.0).reshape(3, 4)  # three rows, four columns


def grid(model: str = "a", dtype: DType = F32) -> Read:
    return Read(model, "w", TensorSpec((3, 4), dtype))


@pytest.mark.parametrize(
    ("expr", "answer"),
    [
        (slice_of(grid(), 0, 1, 3), GRID[1:3]),
        (slice_of(grid(), -1, 1, 3), GRID[:, 1:3]),
        (concat([grid(), slice_of(grid(), 0, 0, 1)], 0), np.concatenate([GRID, GRID[:1]])),
        (concat([slice_of(grid(), -1, 2, 4), grid()], -1), np.concatenate([GRID[:, 2:], GRID], axis=1)),
        (slice_of(concat([grid(), grid()], -1), -1, 3, 5), GRID[:, [3, 0]]),
        (
            Merge(
                "linear",
                (slice_of(grid(), -1, 0, 2), slice_of(grid(), -1, 2, 4)),
                (1.0, 2.0),
                None,
                TensorSpec((3, 2), F32),
            ),
            GRID[:, :2] + 2 * GRID[:, 2:],
        ),
    ],
)
def test_tensors_are_taken_apart_and_put_side_by_side(expr: Expr, answer: NDArray[Any]) -> None:
    """Whole, and row by row."""
    data = {"a": floats(list(GRID.flat), F32)}
    assert expr.spec.shape == answer.shape
    assert values(made(expr, data)[0]) == list(answer.flat)
    width = answer.shape[1]
    rows = [values(made(expr, data, start, start + width)[0]) for start in range(0, answer.size, width)]
    assert rows == answer.tolist()


def test_what_is_no_finite_part_of_a_tensor_is_seen() -> None:
    data = {"a": floats([math.nan, 1, 2, 3, *range(8)], F32)}
    assert not made(concat([slice_of(grid(), -1, 0, 1), slice_of(grid(), -1, 2, 3)], -1), data)[1]


def test_a_merge_may_be_an_input_of_another() -> None:
    inner = linear([tensor("a", F32, 1), tensor("b", F32, 1)], [1.0, 1.0], F32)
    expr = linear([inner, cast(tensor("c", BF16, 1), F32)], [2.0, 1.0], F16)
    block, _ = made(expr, {"a": floats([1], F32), "b": floats([2], F32), "c": floats([4], BF16)})
    assert values(block) == [10]


def test_one_tensor_read_twice_counts_twice() -> None:
    expr = linear([tensor("a", F32, 1), tensor("a", F32, 1)], [0.5, 0.25], F32)
    assert values(made(expr, {"a": floats([8], F32)})[0]) == [6]


@pytest.mark.parametrize("dtype", [BF16, F16, F32, F64])
def test_what_no_source_counts_for_is_zero_and_never_minus_zero(dtype: DType) -> None:
    expr = linear([tensor("a", dtype, 4)], [0.0], dtype)
    block, finite = made(expr, {"a": floats([-1, math.inf, math.nan, 0], dtype)})
    assert finite
    assert bytes(block.raw) == bytes(4 * dtype.bits // 8)


# NaN and infinity


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_in_an_input_is_carried_and_told(value: float) -> None:
    data = {"a": floats([1, value], F32), "b": floats([1, 1], F32)}
    read = tensor("a", F32, 2)
    for expr in (read, cast(read, BF16), linear([read, tensor("b", F32, 2)], [0.5, 0.5], F32)):
        block, finite = made(expr, data)
        assert not finite
        assert values(block)[0] == 1
        assert not math.isfinite(values(block)[1])


def test_what_is_not_finite_outside_the_block_is_not_told() -> None:
    assert made(tensor("a", F32, 3), {"a": floats([math.nan, 1, 2], F32)}, 1, 3)[1]


@pytest.mark.parametrize(
    "expr",
    [
        Cast(Read("a", "w", TensorSpec((1,), F32)), TensorSpec((1,), F16)),
        Merge("linear", (Read("a", "w", TensorSpec((1,), F32)),), (3.0,), None, TensorSpec((1,), F16)),
        Merge("linear", (Read("a", "w", TensorSpec((1,), F32)),), (1e38,), None, TensorSpec((1,), F32)),
    ],
    ids=["cast", "merge", "sum in float32"],
)
def test_an_overflow_that_no_input_explains_is_an_error_that_says_what_to_do(expr: Expr) -> None:
    with pytest.raises(NonFiniteResult, match="every input is finite") as caught:
        made(expr, {"a": floats([70_000], F32)})
    assert "out_dtype: float32" in str(caught.value)


def test_an_overflow_in_float64_arithmetic_that_fits_is_none() -> None:
    expr = linear([tensor("a", F64, 1), tensor("b", F64, 1)], [1e200, -1e200], F32)
    block, finite = made(expr, {"a": floats([1.5], F64), "b": floats([1.5], F64)})
    assert (values(block), finite) == ([0], True)


# What is no float


def test_integers_that_agree_are_copied() -> None:
    expr = Merge("linear", (tensor("a", I64, 2), tensor("b", I64, 2)), (), None, TensorSpec((2,), I64))
    same = np.array([5, 2**60], np.int64).tobytes()
    block, finite = made(expr, {"a": same, "b": same})
    assert (bytes(block.raw), finite) == (same, True)


def test_integers_that_differ_are_an_error_that_names_both_models() -> None:
    inputs = tuple(tensor(model, I64, 1) for model in ("first", "second", "third"))
    expr = Merge("linear", inputs, (), None, TensorSpec((1,), I64))
    five, six = np.array([5], np.int64).tobytes(), np.array([6], np.int64).tobytes()
    with pytest.raises(UnmergeableTensor, match="differs between first and third"):
        made(expr, {"first": five, "second": five, "third": six})


def test_packed_bits_are_copied_whatever_they_would_mean() -> None:
    spec = TensorSpec((4,), DTYPES["F8_E4M3"])
    block, finite = made(Read("a", "w", spec), {"a": b"\x7f\xff\x00\x80"})
    assert (bytes(block.raw), finite) == (b"\x7f\xff\x00\x80", True)


# Laws, for expressions of any form

COUNT = 50


@st.composite
def expressions(draw: Any, depth: int = 2) -> Expr:
    """Trees of reads, casts and merges with moderate factors."""
    if depth == 0:
        model = draw(st.sampled_from("abc"))
        return tensor(model, {"a": BF16, "b": F32, "c": F64}[model], COUNT)
    source = expressions(depth=depth - 1)
    form = draw(st.sampled_from(["read", "cast", "merge", "deltas"]))
    if form == "read":
        return draw(expressions(depth=0))
    dtype = draw(st.sampled_from([BF16, F16, F32, F64]))
    spec = TensorSpec((COUNT,), dtype)
    if form == "cast":
        return Cast(draw(source), spec)
    inputs = draw(st.lists(source, min_size=1, max_size=3))
    factors = draw(st.lists(st.floats(-2, 2, width=32), min_size=len(inputs), max_size=len(inputs)))
    base = draw(source) if form == "deltas" else None
    return Merge("linear", tuple(inputs), tuple(factors), base, spec)


def random_data() -> dict[str, bytes]:
    generator = torch.Generator().manual_seed(0)
    return {
        model: torch.randn(COUNT, generator=generator).to(TORCH[dtype]).view(torch.uint8).numpy().tobytes()
        for model, dtype in (("a", BF16), ("b", F32), ("c", F64))
    }


DATA = random_data()


@given(expressions(), st.integers(0, COUNT), st.integers(0, COUNT))
def test_a_block_is_a_part_of_the_whole(expr: Expr, one: int, other: int) -> None:
    start, stop = sorted((one, other))
    whole, _ = made(expr, DATA)
    block, _ = made(expr, DATA, start, stop)
    assert block.data.tobytes() == whole.data[start:stop].tobytes()
    assert block.dtype is expr.spec.dtype


@given(expressions())
def test_the_peak_that_a_plan_announces_is_enough(expr: Expr) -> None:
    nbytes = peak_bytes(expr)
    made(expr, DATA, workspace=Workspace(nbytes))
    assert nbytes >= sum(read.spec.nbytes for read in reads(expr))


@given(expressions())
def test_a_workspace_that_was_used_gives_the_same_bytes(expr: Expr) -> None:
    workspace = Workspace(peak_bytes(expr))
    first = made(expr, DATA, workspace=workspace)[0].data.tobytes()
    workspace.clear()
    assert made(expr, DATA, workspace=workspace)[0].data.tobytes() == first


@given(expressions())
def test_an_expression_that_was_sent_to_another_process_gives_the_same_bytes(expr: Expr) -> None:
    sent = pickle.loads(pickle.dumps(expr))
    assert made(sent, DATA)[0].data.tobytes() == made(expr, DATA)[0].data.tobytes()


def test_the_peak_of_a_large_tensor_is_that_of_its_blocks() -> None:
    assert peak_bytes(tensor("a", F32, 10**12)) < 5 * BLOCK_ELEMENTS


def test_buffers_start_at_a_cache_line() -> None:
    workspaces = [Workspace(1000 + 8 * number) for number in range(50)]  # kept: each in memory of its own
    for workspace in workspaces:
        for count in (1, 7, 30):
            assert workspace.take(count, BF16).data.ctypes.data % 64 == 0


# Helpers


def tensor(model: str, dtype: DType, count: int) -> Read:
    return Read(model, "w", TensorSpec((count,), dtype))


def linear(inputs: list[Expr], factors: list[float], dtype: DType) -> Merge:
    return Merge("linear", tuple(inputs), tuple(factors), None, TensorSpec(inputs[0].spec.shape, dtype))


def floats(numbers: list[float], dtype: DType) -> bytes:
    return torch.tensor(numbers, dtype=torch.float64).to(TORCH[dtype]).view(torch.uint8).numpy().tobytes()


def values(block: Stored) -> list[float]:
    return list(torch.frombuffer(bytearray(block.raw), dtype=TORCH[block.dtype]).double().tolist())


def made(
    expr: Expr,
    data: Mapping[str, bytes],
    start: int = 0,
    stop: int | None = None,
    workspace: Workspace | None = None,
) -> tuple[Stored, bool]:
    """A block of the expression whose models' tensors hold `data`; the whole where no end is given."""

    def read(source: Read, first_byte: int, buffer: memoryview) -> None:
        buffer[:] = data[source.model][first_byte : first_byte + len(buffer)]

    stop = expr.spec.count if stop is None else stop
    return compute(expr, start, stop, {}, Worker(read, KERNELS, workspace or Workspace(peak_bytes(expr))))
