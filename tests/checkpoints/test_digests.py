"""Digests: the same however the bytes come, if they come in order, and whoever saw which pieces."""

from __future__ import annotations

import itertools

import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from lamina.checkpoints.digests import PIECE, PieceDigests, digest_of_pieces

DATA = np.random.default_rng(0).bytes(2 * PIECE + 1000)


def by_definition(data: bytes) -> str:
    pieces = [xxhash.xxh3_128_digest(data[start : start + PIECE]) for start in range(0, len(data), PIECE)]
    return xxhash.xxh3_128_hexdigest(b"".join(pieces))


def taken(cuts: list[int], first: int, end: int) -> bytes:
    pieces = PieceDigests(first)
    bounds = [first, *sorted(first + cut % (end - first + 1) for cut in cuts), end]
    for start, stop in itertools.pairwise(bounds):
        pieces.take(start, memoryview(DATA)[start:stop])
        pieces.take(start, memoryview(DATA)[start:stop])  # read once more: it does not count
    assert pieces.reached == end
    return pieces.ended()


@given(st.lists(st.integers(0, 3 * PIECE), max_size=6), st.integers(0, 1000))
def test_the_digest_is_that_of_the_definition_however_the_bytes_are_cut(cuts: list[int], less: int) -> None:
    end = len(DATA) - less
    assert digest_of_pieces({0: taken(cuts, 0, end)}) == by_definition(DATA[:end])


@given(st.permutations([0, PIECE, 2 * PIECE]))
def test_runs_of_whole_pieces_are_put_together_in_any_order(firsts: list[int]) -> None:
    runs = {first: taken([], first, min(first + PIECE, len(DATA))) for first in firsts}
    assert digest_of_pieces(runs) == by_definition(DATA)


def test_a_tensor_without_bytes_has_no_pieces() -> None:
    assert digest_of_pieces({}) == digest_of_pieces({0: PieceDigests(0).ended()}) == by_definition(b"")


def test_what_comes_out_of_order_is_missing_at_the_end() -> None:
    pieces = PieceDigests(0)
    pieces.take(10, memoryview(DATA)[10:20])
    assert pieces.reached == 0
