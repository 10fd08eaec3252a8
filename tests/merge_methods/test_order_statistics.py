"""The element at a rank, against a sort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.kernels.keys import magnitude_bits
from lamina.kernels.tiles import Tile
from lamina.merge_methods.measures import Facts
from lamina.merge_methods.order_statistics import Cut, Wanted, at_or_above, elements_at

from .engine import Array


def found(
    values: Array, wanted: Sequence[Wanted], *, start: int = 0, count: int | None = None
) -> tuple[list[Cut], int]:
    """The cuts, and in how many passes they were found."""
    facts = Facts((count or len(values),), 1, values.dtype == np.float64)
    search = elements_at(lambda tile: [magnitude_bits(each) for each in tile.inputs], wanted, facts)
    passes = 0
    try:
        while True:
            fold = next(search)
            passes += 1
            for part in np.array_split(np.arange(len(values)), 3):
                fold(tile_of(values[part], start + int(part[0]), facts.count))
    except StopIteration as finished:
        return finished.value, passes


def tile_of(values: Array, start: int, count: int) -> Tile:
    return Tile((values,), None, start, count, count)


@given(st.data(), st.sampled_from([np.float32, np.float64]), st.integers(1, 40))
def test_exactly_the_elements_from_a_rank_on_are_at_or_above_the_cut(data: Any, real: Any, distinct: int) -> None:
    count = data.draw(st.integers(3, 400))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = rng.choice(rng.standard_normal(distinct), count).astype(real)
    rank = data.draw(st.integers(0, count - 1))
    (cut,), passes = found(values, [Wanted(0, rank)])
    kept = at_or_above(magnitude_bits(values), cut, tile_of(values, 0, count))
    assert kept.sum() == count - rank
    assert np.abs(values[kept]).min() >= np.abs(values[~kept]).max(initial=0)
    assert passes <= (4 if real is np.float32 else 6)


def test_distinct_values_need_two_passes() -> None:
    values = np.arange(1, 1001, dtype=np.float32)
    cuts, passes = found(values, [Wanted(0, 0), Wanted(0, 500), Wanted(0, 999)])
    assert passes == 2
    assert [int(np.uint32(cut.bits).view(np.float32)) for cut in cuts] == [1, 501, 1000]


def test_equals_are_told_apart_beyond_four_thousand_million_elements() -> None:
    values = np.ones(2000, np.float32)
    start, count = (1 << 32) - 1000, 1 << 33
    (cut,), passes = found(values, [Wanted(0, 700)], start=start, count=count)
    assert passes == 5
    assert at_or_above(magnitude_bits(values), cut, tile_of(values, start, count)).sum() == 1300


@pytest.mark.parametrize("exact", [True, False])
def test_keys_are_looked_for_only_where_they_matter(exact: bool) -> None:
    values = np.repeat(np.arange(1, 11, dtype=np.float32), 100)
    _, passes = found(values, [Wanted(0, 300, exact)])  # the first of a hundred equals: all of them stay
    assert passes == 2
    _, passes = found(values, [Wanted(0, 350, exact)])
    assert passes == (4 if exact else 2)
