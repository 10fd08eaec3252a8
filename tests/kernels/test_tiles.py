"""How a block is cut into tiles, and a run of elements into rectangles."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lamina.kernels.tiles import TILE_ELEMENTS, Tile, column_runs, tile_bounds, tile_elements


@given(st.integers(0, 500_000), st.integers(1, 200_000), st.booleans())
def test_tiles_cover_a_block_in_order(count: int, row: int, whole_rows: bool) -> None:
    bounds = list(tile_bounds(count, row, whole_rows))
    assert [start for start, _ in bounds] == [0, *(end for _, end in bounds)][: len(bounds)]
    assert (bounds[-1][1] if bounds else 0) == count
    assert all(end - start <= tile_elements(row, whole_rows) for start, end in bounds)
    if whole_rows:
        assert all(start % row == 0 for start, _ in bounds)
    else:
        assert tile_elements(row, whole_rows) == TILE_ELEMENTS


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 30))
def test_a_run_is_at_most_three_rectangles(start: int, length: int, columns: int) -> None:
    sums = np.zeros(columns)
    values = np.arange(length) + 1.0
    runs = column_runs(start, start + length, columns)
    assert len(runs) <= 3
    for first, end, column in runs:
        width = min(columns, end - first)
        sums[column : column + width] += values[first:end].reshape(-1, width).sum(axis=0)
    expected = np.bincount((start + np.arange(length)) % columns, values, columns)
    assert np.array_equal(sums, expected)


def test_a_tile_without_base_has_its_inputs_as_deltas() -> None:
    inputs = (np.array([1.0, 2], np.float32),)
    assert Tile(inputs, None, 0, 2, 2).deltas is inputs
    assert Tile(inputs, np.array([1.0, 1], np.float32), 0, 2, 2).deltas[0].tolist() == [0, 1]
    assert Tile(inputs, None, math.prod((3, 2)), 8, 2).stop == 8
