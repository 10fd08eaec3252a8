"""The reference kernels: rounding against torch and against exact fractions, sums against float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.kernels.interface import STORAGE, Stored
from lamina.kernels.numpy_kernels import TILE, NumpyKernels
from lamina.tensor_spec import BF16, DTYPES, F16, F32, F64, DType

TORCH = {BF16: torch.bfloat16, F16: torch.float16, F32: torch.float32, F64: torch.float64}
FLOATS = [BF16, F16, F32, F64]

# Digits behind the leading one, exponent of the smallest normal number, largest number.
FORMATS = {
    BF16: (7, -126, float(torch.finfo(torch.bfloat16).max)),
    F16: (10, -14, 65504.0),
    F32: (23, -126, float(torch.finfo(torch.float32).max)),
    F64: (52, -1022, float(torch.finfo(torch.float64).max)),
}

KERNELS = NumpyKernels()


# Rounding to the stored dtype


def test_every_bfloat16_and_its_neighbours_in_float32_round_as_in_torch() -> None:
    upper = np.arange(1 << 16, dtype=np.uint32)[:, None] << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)  # on it, around the middle, before the next
    assert_rounds_as_torch((upper | lower).reshape(-1).view(np.float32), BF16)


def test_every_float16_and_its_neighbours_in_float32_round_as_in_torch() -> None:
    exact = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    exact = np.unique(exact[np.isfinite(exact)])
    exact = np.concatenate([[np.float32(-65536)], exact, [np.float32(65536)]])  # beyond the ends: infinity
    middles = (exact[:-1] + exact[1:]) / 2
    around = [np.nextafter(middles, np.float32(side)) for side in (-np.inf, np.inf)]
    assert_rounds_as_torch(np.concatenate([exact, middles, *around]), F16)


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
def test_random_float32_bits_round_as_in_torch(dtype: DType) -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 20, dtype=np.uint32)
    assert_rounds_as_torch(bits.view(np.float32), dtype)


@pytest.mark.parametrize("dtype", [BF16, F16, F32, F64], ids=str)
@pytest.mark.parametrize(
    "bits", [0x7F80_0001, 0x7F80_FFFF, 0x7FBF_FFFF, 0x7FC0_0000, 0x7FFF_FFFF, 0xFFFF_FFFF], ids=hex
)
def test_no_payload_of_a_nan_turns_it_into_a_number(bits: int, dtype: DType) -> None:
    out, finite = rounded(Stored(np.array([bits, 0x3F80_0000], np.uint32).view(np.float32), F32), dtype)
    assert np.isnan(values_of(out)[0])
    assert values_of(out)[1] == 1.0
    assert not finite


def test_float64_is_rounded_to_bfloat16_once() -> None:
    # Neighbours of 1 are 2^-7 apart. In float32 the first is 1 + 2^-8, a tie, which would go down to the even 1.
    values = [1 + 2**-8 + 2**-40, 1 + 3 * 2**-8 - 2**-40]
    out, _ = rounded(stored(values, F64), BF16)
    assert values_of(out).tolist() == [1 + 2**-7, 1 + 2**-7]


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
def test_float64_goes_to_the_nearer_neighbour_and_from_the_middle_to_the_even_one(dtype: DType) -> None:
    """All 2^15 magnitudes, the step from the largest to infinity included, both signs."""
    infinity = {BF16: 0x7F80, F16: 0x7C00}[dtype]
    lower = np.arange(infinity, dtype=np.uint16)
    below = values_of(Stored(lower.view(STORAGE[dtype]), dtype))
    _, _, largest = FORMATS[dtype]
    above = np.append(below[1:], 2 * largest - below[-2])  # where the next one would be, had it a number
    middle = (below + above) / 2
    for sign in (1, -1):
        mark = 0 if sign == 1 else 0x8000
        for value, expected in (
            (np.nextafter(middle, 0), lower),
            (middle, lower + (lower & 1)),
            (np.nextafter(middle, np.inf), lower + 1),
        ):
            out, _ = rounded(stored(sign * value, F64), dtype)
            np.testing.assert_array_equal(out.data.view(np.uint16), expected | mark)


@given(st.lists(st.floats(width=64), min_size=1, max_size=8), st.sampled_from(FLOATS))
@example([3.4028235e38, 3.4028235677973366e38, 3.40282366e38, 1.7e308], BF16)  # at the end of float32
@example([5e-324, 1e-45, 7e-46, 9.2e-41, 4.6e-41], BF16)
@example([65519.999999, 65520.0, -65520.0, 2.0**-25, 3 * 2.0**-26], F16)
@example([math.inf, -math.inf, math.nan, -0.0], BF16)
def test_float64_rounds_as_an_exact_fraction_does(values: list[float], dtype: DType) -> None:
    out, finite = rounded(stored(values, F64), dtype)
    found = values_of(out).tolist()
    assert list(map(repr, found)) == [repr(nearest(value, dtype)) for value in values]  # repr tells -0.0 from 0.0
    assert finite == all(map(math.isfinite, found))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_factor_of_one_keeps_every_stored_value(dtype: DType) -> None:
    raw = np.random.default_rng(0).integers(0, 256, 8 * 4096, dtype=np.uint8)
    block = Stored(raw.view(STORAGE[dtype]), dtype)
    out, _ = rounded(block, dtype)
    known = ~np.isnan(values_of(block))
    np.testing.assert_array_equal(out.data[known], block.data[known])


# Sums


def test_a_weighted_sum() -> None:
    out = empty(2, F32)
    assert KERNELS.combine([stored([4.0, 8.0], BF16), stored([8.0, -4.0], BF16)], [0.25, 0.75], None, out)
    assert values_of(out).tolist() == [7.0, -1.0]


def test_a_sum_of_differences_from_a_base() -> None:
    out = empty(2, F16)
    models = [stored([3.0, 1.0], F16), stored([1.0, 5.0], F16)]
    assert KERNELS.combine(models, [0.5, 2.0], stored([1.0, 1.0], F16), out)
    assert values_of(out).tolist() == [2.0, 9.0]  # 1 + (3-1)/2 and 1 + 2 (5-1)


def test_bfloat16_terms_are_not_added_in_bfloat16() -> None:
    out = empty(1, F32)
    KERNELS.combine([stored([256.0], BF16), stored([1.0], BF16)], [1.0, 1.0], None, out)
    assert values_of(out).tolist() == [257.0]  # bfloat16 has 256 and 258


@pytest.mark.parametrize("with_base", [False, True], ids=["sum", "deltas"])
@pytest.mark.parametrize(("stored_in", "kept_in"), list(itertools.product(FLOATS, FLOATS)), ids=str)
def test_a_sum_is_exact_to_half_an_ulp_and_a_trace_of_its_largest_term(
    stored_in: DType, kept_in: DType, with_base: bool
) -> None:
    """The trace is one rounding to float32 before that to the stored dtype; of float64, of each step."""
    rng = np.random.default_rng(FLOATS.index(stored_in) * 4 + FLOATS.index(kept_in))
    for count in (1, 2, 3, 4):
        blocks = [stored(spread(rng, 20_000), stored_in) for _ in range(count)]
        base = stored(spread(rng, 20_000), stored_in) if with_base else None
        factors = rng.uniform(-1.5, 1.5, count).tolist()
        out = empty(20_000, kept_in)
        assert KERNELS.combine(blocks, factors, base, out)
        expected, largest = exact_sum(blocks, factors, base)
        trace = max(2, count + with_base) * 2.0**-52 if F64 in (stored_in, kept_in) else 2.0**-24 * (count + with_base)
        found = values_of(out)
        allowed = half_ulp(np.maximum(np.abs(expected), np.abs(found)), kept_in) + trace * largest
        excess = np.abs(found - expected) - allowed
        assert excess.max() <= 0, f"{count} models: {excess.argmax()} is off by {excess.max()} more than allowed"


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 1 << 20),
)
def test_each_step_is_one_float64_operation_in_the_order_given(
    factors: list[float], with_base: bool, seed: int
) -> None:
    """No fused multiply-add, no reordering: other kernels can then agree to the bit."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(100).astype(np.float32) for _ in factors]
    base = rng.standard_normal(100).astype(np.float32) if with_base else None
    out = empty(100, F32)
    blocks = [Stored(array, F32) for array in arrays]
    KERNELS.combine(blocks, factors, None if base is None else Stored(base, F32), out)
    total = np.zeros(0)
    for index, (array, factor) in enumerate(zip(arrays, factors, strict=True)):
        term = (array if base is None else array.astype(np.float64) - base) * np.float64(factor)
        total = term if index == 0 else total + term
    total = total if base is None else total + base
    assert out.data.tobytes() == total.astype(np.float32).tobytes()


@given(st.lists(st.integers(0, TILE + 5000), max_size=4), st.sampled_from(FLOATS))
@settings(max_examples=10)
def test_the_bytes_do_not_depend_on_where_blocks_are_split(cuts: list[int], dtype: DType) -> None:
    first, second, base = blocks_of_many(dtype)
    length = len(first.data)
    whole = empty(length, dtype)
    KERNELS.combine([first, second], [0.3, 0.6], base, whole)
    pieces = empty(length, dtype)
    for start, stop in itertools.pairwise([0, *sorted(cuts), length]):
        part = slice(start, stop)
        KERNELS.combine([piece(first, part), piece(second, part)], [0.3, 0.6], piece(base, part), piece(pieces, part))
    assert pieces.data.tobytes() == whole.data.tobytes()


def test_inputs_and_base_are_left_as_they_were() -> None:
    blocks = [stored([1.0, math.nan, -3.0], BF16) for _ in range(3)]
    before = [block.data.copy() for block in blocks]
    KERNELS.combine(blocks[:2], [0.5, 0.25], blocks[2], empty(3, BF16))
    for block, data in zip(blocks, before, strict=True):
        np.testing.assert_array_equal(block.data, data)


def test_kernels_that_have_worked_before_give_the_same_bytes_as_new_ones() -> None:
    KERNELS.combine([stored([math.nan] * 5, F64)], [1.0], None, empty(5, F64))
    used, new = empty(3, BF16), empty(3, BF16)
    for kernels, out in ((KERNELS, used), (NumpyKernels(), new)):
        kernels.combine([stored([1.0, 2.0, 3.0], BF16)], [0.3], stored([1.5, 1.5, 1.5], BF16), out)
    assert used.data.tolist() == new.data.tolist()


def test_a_block_without_elements_is_finite_and_stays_empty() -> None:
    assert KERNELS.combine([empty(0, BF16)], [0.5], None, empty(0, BF16))
    assert KERNELS.is_finite(empty(0, F32))


# What is not finite


@pytest.mark.parametrize(
    ("value", "dtype", "finite"),
    [
        (65519.0, F16, True),
        (65520.0, F16, False),  # half a step above 65504
        (-65520.0, F16, False),
        ((2 - 2**-8 - 2**-23) * 2.0**127, BF16, True),
        ((2 - 2**-8) * 2.0**127, BF16, False),  # half a step above the largest
        (math.nan, F32, False),
        (-math.inf, F64, False),
        (1e-45, BF16, True),
    ],
)
@pytest.mark.parametrize("arithmetic", [F32, F64], ids=str)
def test_the_answer_is_whether_the_stored_result_is_finite(
    value: float, dtype: DType, finite: bool, arithmetic: DType
) -> None:
    for place in (0, TILE, TILE + 2):  # in the first and in the last tile
        values = np.ones(TILE + 3)
        values[place] = value
        out, answer = rounded(stored(values, arithmetic), dtype)
        assert answer is finite
        assert np.isfinite(values_of(out)).all() == finite


def test_a_sum_that_overflows_on_the_way_is_not_finite() -> None:
    largest = stored([3e38], F32)
    assert not KERNELS.combine([largest, largest], [1.0, 1.0], None, empty(1, F32))


@pytest.mark.parametrize("factor", [1e39, -1e300])
def test_a_factor_beyond_float32_gives_no_number_and_no_warning(factor: float) -> None:
    assert not KERNELS.combine([stored([1.0], F32)], [factor], None, empty(1, F32))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_block_is_finite_without_nan_and_infinity(dtype: DType) -> None:
    for place in (0, TILE - 1, TILE, TILE + 2):
        for value in (math.nan, math.inf, -math.inf):
            values = np.zeros(TILE + 3)
            assert KERNELS.is_finite(stored(values, dtype))
            values[place] = value
            assert not KERNELS.is_finite(stored(values, dtype))
    largest = FORMATS[dtype][2]
    assert KERNELS.is_finite(stored([largest, -largest], dtype))


def test_blocks_that_are_no_floats_are_finite() -> None:
    ones = np.full(64, 0xFF, np.uint8)
    assert all(KERNELS.is_finite(Stored(ones, dtype)) for dtype in DTYPES.values() if dtype not in STORAGE)


# Helpers


def stored(values: Any, dtype: DType) -> Stored:
    raw = torch.as_tensor(np.asarray(values, np.float64)).to(TORCH[dtype]).view(torch.uint8).numpy().copy()
    return Stored(raw.view(STORAGE[dtype]), dtype)


def empty(count: int, dtype: DType) -> Stored:
    return Stored(np.zeros(count, STORAGE[dtype]), dtype)


def piece(block: Stored, part: slice) -> Stored:
    return Stored(block.data[part], block.dtype)


def values_of(block: Stored) -> NDArray[np.float64]:
    """The elements as float64, decoded by torch."""
    return np.asarray(torch.from_numpy(block.data.view(np.uint8)).view(TORCH[block.dtype]).double().numpy())


def rounded(block: Stored, dtype: DType) -> tuple[Stored, bool]:
    """The block in another dtype, and whether it is finite there."""
    out = empty(len(block.data), dtype)
    return out, KERNELS.combine([block], [1.0], None, out)


def assert_rounds_as_torch(values: NDArray[np.float32], dtype: DType) -> None:
    out, finite = rounded(Stored(values, F32), dtype)
    expected = torch.from_numpy(values).to(TORCH[dtype])
    numbers = ~torch.isnan(expected).numpy()
    assert np.isnan(values_of(out)).tolist() == (~numbers).tolist()
    np.testing.assert_array_equal(out.data.view(np.uint16)[numbers], expected.view(torch.uint16).numpy()[numbers])
    assert finite == bool(torch.isfinite(expected).all())


def nearest(value: float, dtype: DType) -> float:
    """The number of `dtype` nearest to `value`, ties to even, in whole numbers."""
    if not math.isfinite(value) or value == 0:
        return value
    digits, lowest, largest = FORMATS[dtype]
    step = Fraction(2) ** (max(math.frexp(value)[1] - 1, lowest) - digits)
    exact = round(Fraction(value) / step) * step  # Python rounds a fraction half to even
    if abs(exact) > Fraction(largest):
        return math.copysign(math.inf, value)
    return math.copysign(float(exact), value)


def half_ulp(values: NDArray[np.longdouble], dtype: DType) -> NDArray[np.float64]:
    digits, lowest, _ = FORMATS[dtype]
    exponent = np.where(values == 0, lowest, np.frexp(values)[1] - 1)
    return np.asarray(np.exp2(np.maximum(exponent, lowest) - digits - 1.0))


def spread(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Normal values over nine binades."""
    return rng.standard_normal(count) * np.exp2(rng.integers(-6, 3, count))


def exact_sum(
    blocks: Sequence[Stored], factors: Sequence[float], base: Stored | None
) -> tuple[NDArray[np.longdouble], NDArray[np.longdouble]]:
    """The sum with 64 binary digits or more, and for each element the largest magnitude among its terms."""
    origin = np.zeros(len(blocks[0].data), np.longdouble)
    origin = origin if base is None else values_of(base).astype(np.longdouble)
    terms = [factor * (values_of(block) - origin) for block, factor in zip(blocks, factors, strict=True)]
    terms = terms if base is None else [origin, *terms]
    return np.sum(terms, axis=0), np.max(np.abs(terms), axis=0)


def blocks_of_many(dtype: DType) -> list[Stored]:
    """Three blocks, each longer than a tile."""
    rng = np.random.default_rng(1)
    return [stored(rng.standard_normal(TILE + 5000), dtype) for _ in range(3)]
