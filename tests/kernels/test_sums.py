"""Sums that have one value, whatever adds them up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.kernels.sums import CHUNK, dot, dots_of_rows, halved, pairs, symmetric, total


def by_definition(values: list[float]) -> float:
    """Chunks of 16,384, padded with zeros, halved fourteen times, added in index order: in Python."""
    result = 0.0
    for start in range(0, len(values), CHUNK):
        chunk = values[start : start + CHUNK]
        chunk += [0.0] * (CHUNK - len(chunk))
        half = CHUNK
        while half > 1:
            half //= 2
            chunk = [chunk[i] + chunk[half + i] for i in range(half)]
        result += chunk[0]
    return result


@pytest.mark.parametrize("count", [1, 2, 3, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 77, 4 * CHUNK])
def test_a_sum_is_what_its_definition_says_to_the_bit(count: int) -> None:
    left, right = np.random.default_rng(count).standard_normal((2, count)).astype(np.float32)
    assert total(left) == by_definition(left.tolist())
    assert dot(left, right) == by_definition((left.astype(float) * right).tolist())


@pytest.mark.parametrize("row", [1, 3, 100, CHUNK, CHUNK + 5])
def test_a_row_is_summed_like_a_tensor_of_its_own(row: int) -> None:
    left, right = np.random.default_rng(row).standard_normal((2, 3 * row)).astype(np.float32)
    found = dots_of_rows(left, right, row)
    assert found.tolist() == [dot(left[i : i + row], right[i : i + row]) for i in range(0, 3 * row, row)]


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=50))
def test_whole_numbers_are_added_exactly(values: list[int]) -> None:
    assert total(np.array(values, np.float64)) == sum(values)
    assert halved(np.array([values, values], np.float64)).tolist() == [sum(values)] * 2


def test_inputs_of_a_sum_are_left_alone() -> None:
    values = np.arange(100.0)
    total(values)
    assert values.tolist() == list(range(100))


def test_the_gram_matrix_is_symmetric() -> None:
    assert pairs(2) == [(0, 0), (0, 1), (1, 1)]
    assert symmetric([1.0, 2.0, 3.0], 2) == ((1.0, 2.0), (2.0, 3.0))
