"""The element at a rank, exactly, without a sort: found digit by digit, by histograms.

An element is a pair (bits, key): the bits order like its value, and the key, a mix of its flat index, orders
equals. Each pass counts the next 16 bits of those elements that agree with the one looked for so far.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.kernels.keys import Histogram, Unsigned, tie_bits
from lamina.kernels.tiles import Fold, Tile
from lamina.merge_methods.measures import Facts

DIGIT = 16


@dataclass(frozen=True)
class Cut:
    """An element of a tensor. Key 0 stands for the first of those with the same bits."""

    bits: int
    key: int


@dataclass(frozen=True)
class Wanted:
    """The element at ascending `rank` (from 0) of one channel. Its key matters where `exact`."""

    channel: int
    rank: int
    exact: bool = True


Channels = Callable[[Tile], Sequence[Unsigned]]


def elements_at(channels: Channels, wanted: Sequence[Wanted], facts: Facts) -> Generator[Fold, None, list[Cut]]:
    """The elements at the wanted ranks, in up to two passes for their bits (four in fp64) and two for their keys."""
    searches = [_Search(each, facts) for each in wanted]
    while pending := [search for search in searches if not search.done]:
        histograms = {search.place: Histogram() for search in pending}

        def fold(tile: Tile, histograms: dict[_Place, Histogram] = histograms) -> None:
            found = channels(tile)
            for place, histogram in histograms.items():
                histogram.add(place.digits(found[place.channel], tile))

        yield fold
        for search in pending:
            search.advance(histograms[search.place])
    return [search.cut for search in searches]


def search_bytes(wanted: int) -> int:
    """The most that a search for so many elements holds: a histogram each, and what counting takes."""
    return (wanted + 2) * Histogram.NBYTES


def at_or_above(bits: Unsigned, cut: Cut, tile: Tile) -> NDArray[np.bool_]:
    """Which elements of a tile are the cut or come after it."""
    limit = bits.dtype.type(cut.bits)
    if not cut.key:
        return np.greater_equal(bits, limit)
    chosen = tile.tie_keys >= tile.tie_keys.dtype.type(cut.key)
    chosen &= bits == limit
    chosen |= bits > limit
    return chosen


@dataclass(frozen=True)
class _Place:
    """A digit of a channel, of those elements that agree with `prefix` in the digits before.

    `shift` is the digit's place in the bits, or in the keys once the bits are known.
    """

    channel: int
    bits: int | None
    prefix: int
    shift: int
    first: bool

    def digits(self, bits: Unsigned, tile: Tile) -> Unsigned:
        """The digits to be counted in a tile."""
        values = bits if self.bits is None else tile.tie_keys
        unsigned: Any = values.dtype.type
        digits = values >> unsigned(self.shift) if self.shift else values
        if self.first:  # places, as a mask would be slow where half of it is true
            return digits if self.bits is None else digits[np.flatnonzero(bits == bits.dtype.type(self.bits))]
        agreeing = np.flatnonzero(digits >> unsigned(DIGIT) == unsigned(self.prefix))
        if self.bits is not None:  # few keys agree, of which some are of equals
            agreeing = agreeing[bits[agreeing] == bits.dtype.type(self.bits)]
        found: Unsigned = digits[agreeing] & unsigned((1 << DIGIT) - 1)
        return found


class _Search:
    """How far the search for one element has come."""

    def __init__(self, wanted: Wanted, facts: Facts) -> None:
        self._wanted, self._rank = wanted, wanted.rank
        self._tie_bits = tie_bits(facts.count)
        self._bits: int | None = None
        self._prefix, self._first = 0, True
        self._shift = (64 if facts.wide else 32) - DIGIT
        self.done = False

    @property
    def place(self) -> _Place:
        return _Place(self._wanted.channel, self._bits, self._prefix, self._shift, self._first)

    @property
    def cut(self) -> Cut:
        return Cut(self._prefix, 0) if self._bits is None else Cut(self._bits, self._prefix)

    def advance(self, histogram: Histogram) -> None:
        digit, self._rank = histogram.bin_at(self._rank)
        self._prefix, self._first = self._prefix << DIGIT | digit, False
        if self._shift:
            self._shift -= DIGIT
        elif self._bits is not None or not self._wanted.exact or self._rank == 0:
            self.done = True
        else:  # some of the equals lie below: which ones, their keys say
            self._bits, self._prefix, self._first = self._prefix, 0, True
            self._shift = self._tie_bits - DIGIT
