"""Views into a file: read from any byte on, in the order of their shape, in bounded reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from lamina.checkpoints.entries import PIECE, Entry, strides_of
from lamina.tensor_spec import DTYPES, TensorSpec

WIDTHS = {"U8": "u1", "BF16": "u2", "F32": "u4", "F64": "u8"}


@st.composite
def views(draw: st.DrawFn) -> tuple[str, np.ndarray, int, tuple[int, ...], tuple[int, ...]]:
    """A dtype, a storage, and a view into it: first element, shape, strides."""
    name = draw(st.sampled_from(sorted(WIDTHS)))
    shape = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))
    strides = tuple(draw(st.integers(0, 12)) for _ in shape)
    first = draw(st.integers(0, 5))
    count = first + 1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    storage = (np.arange(count * 8) * 37 % 251).astype("u1")[: count * np.dtype(WIDTHS[name]).itemsize]
    return name, storage.view(WIDTHS[name]), first, shape, strides


@given(views(), st.data())
@settings(max_examples=500, deadline=None)
def test_any_part_of_any_view_has_the_bytes_that_numpy_gives(
    view: tuple[str, np.ndarray, int, tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    name, storage, first, shape, strides = view
    width = storage.itemsize
    expected = as_strided(storage[first:], shape, [stride * width for stride in strides]).tobytes()
    start = data.draw(st.integers(0, len(expected)))
    end = data.draw(st.integers(start, len(expected)))
    entry = Entry(TensorSpec(shape, DTYPES[name]), 3 + first * width, strides or (0,)[:0])
    assert read(entry, b"..." + storage.tobytes(), start, end - start)[0] == expected[start:end]


def test_a_transposed_matrix_is_read_run_by_run() -> None:
    storage = np.arange(600_000, dtype="u4").reshape(600, 1000)
    entry = Entry(TensorSpec((1000, 600), DTYPES["F32"]), 0, (1, 1000))
    found, reads = read(entry, storage.tobytes(), 4 * 600 * 10, 4 * 600 * 20)
    assert found == storage.T[10:30].tobytes()
    assert reads == [80] * 600


def test_elements_that_repeat_are_read_once() -> None:
    entry = Entry(TensorSpec((1000, 3), DTYPES["U8"]), 1, (0, 1))
    assert read(entry, b".abc", 0, 3000) == (b"abc" * 1000, [3])


@pytest.mark.parametrize("step", [2, 100, 1024, 1025, 40_000])
def test_what_lies_far_apart_is_read_in_bounded_pieces(step: int) -> None:
    storage = np.arange(100 * step, dtype="u4")
    entry = Entry(TensorSpec((100, 1), DTYPES["F32"]), 0, (step, 1))
    found, reads = read(entry, storage.tobytes(), 0, 400)
    assert found == storage[::step].tobytes()
    assert max(reads) <= PIECE
    assert sum(reads) <= storage.nbytes


def test_strides_of_a_shape_are_those_of_numpy() -> None:
    for shape in ((), (3,), (2, 3), (4, 1, 5), (2, 3, 4)):
        assert strides_of(shape) == np.empty(shape, "u1").strides


def read(entry: Entry, file: bytes, first: int, count: int) -> tuple[bytes, list[int]]:
    """Bytes of a tensor, and the sizes of the reads that they took."""
    reads = []

    def fill(buffer: memoryview, offset: int) -> None:
        assert offset + len(buffer) <= len(file)
        reads.append(len(buffer))
        buffer[:] = file[offset : offset + len(buffer)]

    found = bytearray(count)
    entry.read_into(fill, first, memoryview(found))
    return bytes(found), reads
