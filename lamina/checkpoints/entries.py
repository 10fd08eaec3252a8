"""A tensor's place in a file, whatever the file's format, and how its bytes are read from there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lamina.tensor_spec import TensorSpec

ReadAt = Callable[[int, int], bytes]  # (offset, length) -> so many bytes of a file; fewer where it ends before
FillFrom = Callable[[memoryview, int], None]  # (buffer, offset): fill the buffer from there on

Box = tuple[tuple[int, ...], tuple[int, ...]]  # where it begins in a tensor, and its shape

PIECE = 1 << 20  # bytes read at once of a view whose elements do not lie side by side
FAR = 4096  # bytes between elements from which on each is read alone


@dataclass(frozen=True)
class Entry:
    """One tensor of one file: what it is, and where its first byte is, counted from the start of the file.

    `offset` is None where that can only be known once the file is here. `strides`, in elements, are of a view
    that is not contiguous (a transposed matrix); they are empty where the bytes lie in the order of the shape.
    """

    spec: TensorSpec
    offset: int | None
    strides: tuple[int, ...] = ()

    def read_into(self, fill: FillFrom, first_byte: int, buffer: memoryview) -> None:
        """Fill `buffer` with the tensor's bytes in the order of its shape, from `first_byte` on."""
        assert self.offset is not None, "the tensor is read before its file is here"
        if not self.strides:
            fill(buffer, self.offset + first_byte)
            return
        width = self.spec.dtype.bits // 8
        first, last = first_byte // width, -(-(first_byte + len(buffer)) // width)
        whole = first_byte % width == 0 and len(buffer) % width == 0
        elements = np.frombuffer(buffer, f"u{width}") if whole else np.empty(last - first, f"u{width}")
        reached = 0
        for place, shape in _boxes(self.spec.shape, first, last):
            count = math.prod(shape)
            start = self.offset + width * sum(i * stride for i, stride in zip(place, self.strides, strict=True))
            _gather(fill, start, self.strides, elements[reached : reached + count].reshape(shape))
            reached += count
        if not whole:
            skipped = first_byte - first * width
            buffer[:] = elements.view("u1").data[skipped : skipped + len(buffer)]


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in elements, of a tensor whose elements lie in the order of its shape."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _boxes(shape: tuple[int, ...], first: int, last: int) -> Iterator[Box]:
    """Elements [first, last), counted in the order of the shape, as boxes: where each begins, and its shape."""
    if not shape or first >= last:
        if first < last:
            yield (), ()
        return
    inner = math.prod(shape[1:])
    row, end_row = first // inner, last // inner
    if row == end_row:  # within one
        yield from _in_row(row, shape, first - row * inner, last - row * inner)
        return
    if first % inner:
        yield from _in_row(row, shape, first - row * inner, inner)
        row += 1
    if row < end_row:
        yield (row, *(0 for _ in shape[1:])), (end_row - row, *shape[1:])
    yield from _in_row(end_row, shape, 0, last - end_row * inner)


def _in_row(row: int, shape: tuple[int, ...], first: int, last: int) -> Iterator[Box]:
    for place, box in _boxes(shape[1:], first, last):
        yield (row, *place), (1, *box)


def _gather(fill: FillFrom, start: int, strides: Sequence[int], target: np.ndarray) -> None:
    """Fill `target`, whose axes lie `strides` elements apart in the file, from byte `start` on.

    Runs along the axis of the smallest step are read whole; elements that repeat are read once.
    """
    axes = [axis for axis, stride in enumerate(strides) if stride and target.shape[axis] > 1]
    run = min(axes, key=lambda axis: strides[axis], default=None)
    outer = [axis for axis in axes if axis != run]
    length, step = (1, 1) if run is None else (target.shape[run], strides[run])
    apart = step * target.itemsize
    at_once = 1 if apart > FAR else PIECE // apart
    for index in np.ndindex(*(target.shape[axis] for axis in outer)):
        corner = start + target.itemsize * sum(i * strides[axis] for i, axis in zip(index, outer, strict=True))
        for begin in range(0, length, at_once):
            count = min(at_once, length - begin)
            span = np.empty((count - 1) * step + 1, target.dtype)
            fill(span.view("u1").data, corner + begin * apart)
            place: list[int | slice] = [slice(None)] * target.ndim
            for i, axis in zip(index, outer, strict=True):
                place[axis] = i
            if run is None:
                target[...] = span[0]
                continue
            place[run] = slice(begin, begin + count)
            along = sum(1 for axis in range(run + 1, target.ndim) if axis not in outer)
            target[tuple(place)] = span[::step].reshape(-1, *(1 for _ in range(along)))
