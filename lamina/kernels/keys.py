"""Integers that stand for elements: the order of their values, of equals among them, and random draws.

All of it depends on an element's value, its flat index and a key, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Unsigned = NDArray[np.unsignedinteger[Any]]
Words = NDArray[np.uint32]

DRAW_RANGE = 1 << 32

# A 32-bit mix of two multiplications, searched for small bias by C. Wellons ("Prospecting for hash functions", 2018):
# each step is a bijection, so all of it is. The inverses are those of the factors modulo 2^32.
_FACTORS = (0x7FEB_352D, 0x846C_A68B)
_INVERSES = tuple(pow(factor, -1, 1 << 32) for factor in _FACTORS)


def magnitude_bits(values: Floats) -> Unsigned:
    """The bits without the sign: they order like the magnitudes, NaN above all."""
    unsigned = _unsigned(values)
    bits: Unsigned = values.view(unsigned) & unsigned(np.iinfo(unsigned).max >> 1)
    return bits


def value_bits(values: Floats) -> Unsigned:
    """Bits that order like the values themselves, negative ones below positive ones."""
    unsigned = _unsigned(values)
    width = 8 * values.itemsize
    turned = (values.view(f"i{values.itemsize}") >> (width - 1)).view(unsigned)  # all ones where negative, else zero
    turned |= unsigned(1 << width - 1)
    turned ^= values.view(unsigned)
    result: Unsigned = turned
    return result


def value_of_bits(bits: int, wide: bool) -> float:
    """The value whose `value_bits` these are."""
    width = 64 if wide else 32
    sign = 1 << width - 1
    raw = bits ^ sign if bits & sign else ~bits & (1 << width) - 1
    return float(np.array([raw], f"u{width // 8}").view(f"f{width // 8}")[0])


def _unsigned(values: Floats) -> Any:
    return np.uint64 if values.dtype == np.float64 else np.uint32


def mixed(words: Words) -> Words:
    """A bijection of 32-bit words under which neighbours fall far apart. The words are used up."""
    words ^= words >> np.uint32(16)
    words *= np.uint32(_FACTORS[0])
    words ^= words >> np.uint32(15)
    words *= np.uint32(_FACTORS[1])
    words ^= words >> np.uint32(16)
    return words


def unmixed(words: Words) -> Words:
    """What `mixed` made these words of. They are used up."""
    words ^= words >> np.uint32(16)
    words *= np.uint32(_INVERSES[1])
    words ^= words >> np.uint32(15) ^ words >> np.uint32(30)
    words *= np.uint32(_INVERSES[0])
    words ^= words >> np.uint32(16)
    return words


def tie_bits(count: int) -> int:
    """Width of the keys that order equals in a tensor of `count` elements."""
    return 32 if count <= 1 << 32 else 48


def tie_keys(start: int, stop: int, count: int) -> Unsigned:
    """Distinct keys for the flat indices [start, stop) of a tensor of `count` elements."""
    indices = np.arange(start, stop, dtype=np.uint64)
    low = mixed(indices.astype(np.uint32))
    if tie_bits(count) == 32:
        return low
    return low.astype(np.uint64) << np.uint64(16) | indices >> np.uint64(32)


def draws(key: int, start: int, stop: int) -> Words:
    """A 32-bit draw for each flat index in [start, stop). `key` has 64 bits, of which the lowest does not count.

    Each key multiplies the index by an odd number of its own, so that two keys share no sequence.
    """
    parts = [_draws_within(key, first, end) for first, end in _by_high_word(start, stop)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _by_high_word(start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = min(stop, ((start >> 32) + 1) << 32)
        yield start, end
        start = end


def _draws_within(key: int, start: int, stop: int) -> Words:
    high, low = start >> 32, start & 0xFFFF_FFFF
    words = np.arange(low, low + stop - start, dtype=np.uint64).astype(np.uint32)
    words *= np.uint32(key & 0xFFFF_FFFF | 1)
    words += np.uint32((key >> 32) + 0x9E37_79B9 * high & 0xFFFF_FFFF)  # the golden ratio: another sequence
    return mixed(words)


class Histogram:
    """How often each value of 16 bits occurs."""

    BINS = 1 << 16
    NBYTES = BINS * 8

    def __init__(self) -> None:
        self._counts = np.zeros(self.BINS, np.int64)

    def add(self, digits: Unsigned) -> None:
        """Count these digits, each below 2^16."""
        if len(digits) < self.BINS >> 4:  # a table for so few would cost more than they do
            np.add.at(self._counts, digits, 1)
        else:
            counts = np.bincount(digits.astype(np.intp))
            self._counts[: len(counts)] += counts

    def bin_at(self, rank: int) -> tuple[int, int]:
        """The digit of the element at ascending `rank` (from 0), and its rank among those with that digit."""
        upto = np.cumsum(self._counts)
        digit = int(np.searchsorted(upto, rank, side="right"))
        return digit, rank - int(upto[digit] - self._counts[digit])

    def count(self, digit: int) -> int:
        return int(self._counts[digit])
