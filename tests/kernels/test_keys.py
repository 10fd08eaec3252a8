"""Orders and draws: whole numbers that follow from values, indices and keys alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.kernels.keys import (
    Histogram,
    draws,
    magnitude_bits,
    mixed,
    tie_keys,
    unmixed,
    value_bits,
    value_of_bits,
)

floats = st.floats(width=32, allow_nan=False)


@given(st.lists(floats, min_size=1), st.sampled_from([np.float32, np.float64]))
def test_bits_order_like_magnitudes_and_like_values(values: list[float], real: type) -> None:
    array = np.array(values, real)
    for bits, key in ((magnitude_bits(array), np.abs(array)), (value_bits(array), array)):
        ordered = key[np.argsort(bits, kind="stable")]
        assert ordered.tolist() == sorted(key.tolist())


@given(floats)
def test_a_value_is_told_by_its_bits(value: float) -> None:
    for real in (np.float32, np.float64):
        bits = int(value_bits(np.array([value], real))[0])
        assert value_of_bits(bits, wide=real is np.float64) == value


def test_nan_comes_after_every_magnitude() -> None:
    bits = magnitude_bits(np.array([math.nan, math.inf, 1], np.float32))
    assert bits[0] > bits[1] > bits[2]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1))
def test_mixing_can_be_undone(words: list[int]) -> None:
    assert unmixed(mixed(np.array(words, np.uint32))).tolist() == words


def test_ties_have_distinct_keys_that_favour_no_region() -> None:
    keys = tie_keys(0, 1 << 20, 1 << 20)
    assert len(np.unique(keys)) == 1 << 20
    first_half = np.argsort(keys)[: 1 << 19] < 1 << 19
    assert abs(first_half.mean() - 0.5) < 0.005


def test_ties_have_distinct_keys_beyond_four_thousand_million_elements() -> None:
    count, border = 1 << 33, 1 << 32
    keys = np.concatenate([tie_keys(0, 1000, count), tie_keys(border - 500, border + 1000, count)])
    assert len(np.unique(keys)) == len(keys)
    assert keys.max() < 1 << 48


def test_draws_do_not_depend_on_where_a_block_begins() -> None:
    key = 0x0123_4567_89AB_CDEF
    whole = draws(key, 0, 5000)
    assert np.array_equal(np.concatenate([draws(key, 0, 17), draws(key, 17, 4000), draws(key, 4000, 5000)]), whole)
    border = 1 << 32
    across = draws(key, border - 10, border + 10)
    assert np.array_equal(across, np.concatenate([draws(key, border - 10, border), draws(key, border, border + 10)]))
    assert not np.array_equal(draws(key, border, border + 100), draws(key, 0, 100))


@pytest.mark.parametrize("key", [0, 1, 2, 0x8000_0000_0000_0000, 0xFFFF_FFFF_FFFF_FFFF, 0x0123_4567_89AB_CDEF])
def test_draws_are_spread_evenly(key: int) -> None:
    drawn = draws(key, 0, 1 << 20) / 2**32
    counts = np.bincount((drawn * 64).astype(int), minlength=64)
    assert np.abs(counts - (1 << 14)).max() < 6 * math.sqrt(1 << 14)
    for step in (1, 2, 64, 4096):  # neighbours in a row, and in a column
        assert abs(np.corrcoef(drawn[:-step], drawn[step:])[0, 1]) < 0.005


def test_draws_by_different_keys_are_unlike() -> None:
    keys = [1, 3, 5, 0xFFFF_FFFF, (1 << 32) + 1, (2 << 32) + 1, 0xDEAD_BEEF_0000_0001]
    drawn = np.array([draws(key, 0, 1 << 18) for key in keys]) / 2**32
    correlations = np.corrcoef(drawn) - np.eye(len(keys))
    assert np.abs(correlations).max() < 0.01


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=300), st.data())
def test_a_histogram_finds_the_digit_at_a_rank(digits: list[int], data: st.DataObject) -> None:
    histogram = Histogram()
    for part in (digits[::2], digits[1::2]):
        histogram.add(np.array(part, np.uint32))
    rank = data.draw(st.integers(0, len(digits) - 1))
    digit, within = histogram.bin_at(rank)
    assert digit == sorted(digits)[rank]
    assert within == rank - sum(other < digit for other in digits)


def test_a_histogram_counts_many_as_it_counts_few() -> None:
    digits = np.random.default_rng(0).integers(0, 1 << 16, 1 << 16).astype(np.uint32)
    many, few = Histogram(), Histogram()
    many.add(digits)
    for start in range(0, len(digits), 1000):
        few.add(digits[start : start + 1000])
    assert all(many.bin_at(rank) == few.bin_at(rank) for rank in range(0, len(digits), 997))
