"""Tiles: what a block is worked on in, decoded to floats. Small enough for the cache, a function of shape alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.kernels.keys import Unsigned, tie_keys

Block = NDArray[np.floating[Any]]

# 256 KB of fp32: small enough that numpy's temporaries come from memory used a moment ago, not from fresh pages;
# large enough that calling numpy costs nothing beside. A multiple of `sums.CHUNK`.
TILE_ELEMENTS = 1 << 16


@dataclass(frozen=True)
class Tile:
    """One run of elements of a tensor in every model, in the arithmetic type. `start` is its first flat index.

    `count` is the number of elements of the tensor, `row` the length of its last dimension. Where a method's scope
    is "row", a tile holds whole rows.
    """

    inputs: tuple[Block, ...]
    base: Block | None
    start: int
    count: int
    row: int

    @cached_property
    def deltas(self) -> tuple[Block, ...]:
        """The inputs less the base; the inputs themselves where there is no base."""
        if self.base is None:
            return self.inputs
        return tuple(np.subtract(each, self.base) for each in self.inputs)

    @cached_property
    def tie_keys(self) -> Unsigned:
        """What orders equal elements of the tensor: distinct numbers, in no order that a region could have."""
        return tie_keys(self.start, self.stop, self.count)

    @property
    def stop(self) -> int:
        return self.start + len(self.inputs[0])

    def rows(self, values: NDArray[Any]) -> NDArray[Any]:
        """The same values, a line a row."""
        return values.reshape(-1, self.row)


Fold = Callable[[Tile], None]
Mix = Callable[[Tile], Block]


def tile_elements(row: int, whole_rows: bool) -> int:
    """The most elements that a tile has."""
    return max(TILE_ELEMENTS, row) if whole_rows else TILE_ELEMENTS


def tile_bounds(count: int, row: int, whole_rows: bool) -> Iterator[tuple[int, int]]:
    """The tiles of a block of `count` elements, as [start, end) within it."""
    step = max(1, TILE_ELEMENTS // row) * row if whole_rows else TILE_ELEMENTS
    for start in range(0, count, step):
        yield start, min(start + step, count)


def column_runs(start: int, stop: int, columns: int) -> Sequence[tuple[int, int, int]]:
    """The elements [start, stop) of a matrix as at most three pieces that are rectangles of it.

    Each is (first, end) within the run, and the column at which its lines begin: the rest of a line, whole
    lines, the beginning of a line.
    """
    offset = start % columns
    first = min(stop - start, -offset % columns)
    whole = (stop - start - first) // columns * columns
    pieces = ((0, first, offset), (first, first + whole, 0), (first + whole, stop - start, 0))
    return [piece for piece in pieces if piece[0] < piece[1]]
