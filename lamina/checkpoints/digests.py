"""Digests of tensors, taken while their bytes go by.

A tensor's digest is xxh3-128 over the xxh3-128 of its pieces of 4 MiB, so that workers who each hold a run of
whole pieces need not wait for one another. An empty tensor has no pieces.
"""

from __future__ import annotations

from collections.abc import Mapping

import xxhash

PIECE = 4 << 20  # bytes


class PieceDigests:
    """The pieces of one run of a tensor's bytes. The run begins with a piece; its bytes come in order."""

    def __init__(self, first_byte: int) -> None:
        self.reached = first_byte  # the byte of the tensor up to which it has been seen
        self._piece = xxhash.xxh3_128()
        self._digests: list[bytes] = []

    def take(self, first_byte: int, data: memoryview) -> None:
        """The next bytes. What is read once more, or out of order, does not count."""
        if first_byte != self.reached:
            return
        start = 0
        while start < len(data):
            end = min(len(data), start + PIECE - self.reached % PIECE)
            self._piece.update(data[start:end])
            self.reached += end - start
            start = end
            if self.reached % PIECE == 0:
                self._end_piece()

    def ended(self) -> bytes:
        """The digests of all pieces, end to end. Nothing more is taken."""
        if self.reached % PIECE:
            self._end_piece()
        return b"".join(self._digests)

    def _end_piece(self) -> None:
        self._digests.append(self._piece.digest())
        self._piece.reset()


def digest_of_pieces(runs: Mapping[int, bytes]) -> str:
    """A tensor's digest, 32 hex digits: of the pieces of its runs, by the byte at which each run begins."""
    return xxhash.xxh3_128_hexdigest(b"".join(runs[first] for first in sorted(runs)))
