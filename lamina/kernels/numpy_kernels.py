"""The reference kernels, in numpy: bfloat16 by bit operations, scratch allocated once.

Fresh pages cost more than a dozen copies of the same size, so nothing is allocated per block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.kernels.interface import Extent, Stored
from lamina.kernels.tiles import Block, Fold, Mix, Tile, tile_bounds
from lamina.tensor_spec import BF16, F16, F32, F64, DType, Kind

TILE = 1 << 17  # elements worked on at once: 1 MB of fp64, which the cache holds
SCRATCH_BYTES = 4 * 8 * TILE  # sum, term, base, bits


def scratch_in_use(elements: int, *, wide: bool) -> int:
    """Bytes of the scratch that work on blocks of so many elements ever touches: the rest takes no memory."""
    return 4 * (8 if wide else 4) * min(elements, TILE)


FloatArray = Block
Doubles = NDArray[np.float64]

# Magnitude bits from which on a value is non-finite once rounded to the stored dtype: the bits of the first
# value that rounds to infinity. (fp16: 65520, half a step above 65504. bf16: half a step above 0x7F7F.)
_FIRST_INFINITE_32 = {BF16: 0x7F7F_8000, F16: 0x477F_F000, F32: 0x7F80_0000, F64: 0x7F80_0000}
_FIRST_INFINITE_64 = {
    BF16: 0x47EF_F000_0000_0000, F16: 0x40EF_FE00_0000_0000,
    F32: 0x47EF_FFFF_F000_0000, F64: 0x7FF0_0000_0000_0000,
}  # fmt: skip
# The same for elements as they are stored: exponent all ones.
_STORED_BITS: dict[DType, tuple[type[Any], int]] = {
    BF16: (np.uint16, 0x7F80), F16: (np.uint16, 0x7C00),
    F32: (np.uint32, 0x7F80_0000), F64: (np.uint64, 0x7FF0_0000_0000_0000),
}  # fmt: skip


class NumpyKernels:
    """`Kernels` for the CPU; belongs to one thread."""

    def __init__(self) -> None:
        self._doubles = tuple(np.empty(TILE, np.float64) for _ in range(3))
        self._bits = np.empty(TILE, np.uint64)

    def combine(
        self, inputs: Sequence[Stored], coefficients: Sequence[float], base: Stored | None, out: Stored
    ) -> bool:
        wide = any(block.dtype is F64 for block in (*inputs, out, *(() if base is None else (base,))))
        finite = True
        with np.errstate(all="ignore"):  # overflow and NaN are looked for in the result, once
            for start in range(0, len(out.data), TILE):
                part = slice(start, min(start + TILE, len(out.data)))
                total = self._weighted_sum(inputs, coefficients, base, part)
                finite &= self._encode(total, Stored(out.data[part], out.dtype), wide)
        return finite

    def _weighted_sum(
        self, inputs: Sequence[Stored], factors: Sequence[float], base: Stored | None, part: slice
    ) -> Doubles:
        """The weighted sum of the inputs, or of their differences from the base, plus it."""
        total, term, origin = (buffer[: part.stop - part.start] for buffer in self._doubles)
        if base is not None:
            self._widen(Stored(base.data[part], base.dtype), origin)
        for index, (block, factor) in enumerate(zip(inputs, factors, strict=True)):
            target = term if index else total
            self._widen(Stored(block.data[part], block.dtype), target)
            if base is not None:
                np.subtract(target, origin, out=target)
            np.multiply(target, factor, out=target)
            if index:
                np.add(total, term, out=total)
        if base is not None:
            np.add(total, origin, out=total)
        return total

    def _widen(self, block: Stored, out: Doubles) -> None:
        """Stored elements as fp64, exactly."""
        if block.dtype is BF16:
            single = self._bits.view(np.float32)[: len(out)]
            decode(block, single)
            np.copyto(out, single)
        else:
            np.copyto(out, block.data)

    def fold(self, inputs: Sequence[Stored], base: Stored | None, extent: Extent, fold: Fold) -> None:
        with np.errstate(all="ignore"):
            for _, tile in _tiles(inputs, base, extent, len(inputs[0].data)):
                fold(tile)

    def mix(self, inputs: Sequence[Stored], base: Stored | None, extent: Extent, mix: Mix, out: Stored) -> bool:
        finite = True
        with np.errstate(all="ignore"):  # overflow and NaN are looked for in the result, once
            for part, tile in _tiles(inputs, base, extent, len(out.data)):
                finite &= self._store(mix(tile), tile.base, Stored(out.data[part], out.dtype), extent.wide)
        return finite

    def _store(self, mixed: Block, base: Block | None, out: Stored, wide: bool) -> bool:
        """Add the base in fp64, and round to the stored dtype; true when all of it is finite."""
        finite = True
        for start in range(0, len(mixed), TILE):
            part = slice(start, min(start + TILE, len(mixed)))
            total = self._doubles[0][: part.stop - start]
            np.copyto(total, mixed[part])
            if base is not None:
                np.add(total, base[part], out=total)
            finite &= self._encode(total, Stored(out.data[part], out.dtype), wide)
        return finite

    def _encode(self, total: Doubles, out: Stored, wide: bool) -> bool:
        """Round to the arithmetic type and then to the stored dtype; true when all of it is finite."""
        if wide:
            return _encode(total, out.dtype, out.data, self._bits[: len(total)])
        single = self._doubles[1].view(np.float32)[: len(total)]
        np.copyto(single, total, casting="same_kind")
        return _encode(single, out.dtype, out.data, self._bits.view(np.uint32)[: len(total)])

    def is_finite(self, block: Stored) -> bool:
        if block.dtype.kind is not Kind.FLOAT:
            return True
        unsigned, infinite = _STORED_BITS[block.dtype]
        data, bits = block.data.view(unsigned), self._bits.view(unsigned)
        magnitude = np.iinfo(unsigned).max >> 1
        return all(
            _largest(data[start : start + TILE], magnitude, bits) < infinite for start in range(0, len(data), TILE)
        )


def decode(block: Stored, out: FloatArray) -> None:
    """Stored elements as fp32 or fp64, exactly. `out` has the length of the block."""
    if block.dtype is BF16 and out.dtype == np.float32:
        bits = out.view(np.uint32)
        np.copyto(bits, block.data)
        np.left_shift(bits, 16, out=bits)
    elif block.dtype is BF16:
        np.copyto(out, (block.data.astype(np.uint32) << 16).view(np.float32))
    else:
        np.copyto(out, block.data)


def _tiles(inputs: Sequence[Stored], base: Stored | None, extent: Extent, count: int) -> Iterator[tuple[slice, Tile]]:
    real = np.float64 if extent.wide else np.float32

    def decoded(block: Stored, part: slice) -> Block:
        values = np.empty(part.stop - part.start, real)
        decode(Stored(block.data[part], block.dtype), values)
        return values

    for start, end in tile_bounds(count, extent.row, extent.whole_rows):
        part = slice(start, end)
        origin = None if base is None else decoded(base, part)
        values = tuple(decoded(block, part) for block in inputs)
        yield part, Tile(values, origin, extent.start + start, extent.count, extent.row)


def _encode(values: FloatArray, dtype: DType, out: NDArray[Any], bits: NDArray[Any]) -> bool:
    """Round to the stored dtype, to nearest even; true when all of it is finite."""
    wide = values.dtype == np.float64
    infinite = (_FIRST_INFINITE_64 if wide else _FIRST_INFINITE_32)[dtype]
    magnitude = np.iinfo(bits.dtype).max >> 1
    finite = _largest(values.view(bits.dtype), magnitude, bits) < infinite
    if dtype is BF16:
        _encode_bf16(_narrowed(values) if wide else values, finite, out, bits.view(np.uint32)[: len(values)])
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(out, values, casting="same_kind")
    return finite


def _encode_bf16(values: FloatArray, finite: bool, out: NDArray[Any], bits: NDArray[np.uint32]) -> None:
    source = values.view(np.uint32)
    np.right_shift(source, 16, out=bits)
    np.bitwise_and(bits, 1, out=bits)  # ties go to the even neighbour
    np.add(bits, 0x7FFF, out=bits)
    np.add(bits, source, out=bits)
    np.right_shift(bits, 16, out=bits)
    np.copyto(out, bits, casting="unsafe")
    if not finite:
        out[np.isnan(values)] = 0x7FC0  # a NaN with a full payload would round to zero


def _narrowed(values: FloatArray) -> FloatArray:
    """fp64 as fp32 such that rounding on to bf16 gives what rounding once would give.

    Rounding twice errs only where the fp32 value lies exactly between two bf16 values and fp64 did not:
    there it is moved one step to the side on which the fp64 value lies.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = values.astype(np.float32)
        between = (narrow.view(np.uint32) & 0xFFFF) == 0x8000
        beyond = values - narrow
        side = np.where(beyond > 0, np.float32(np.inf), np.float32(-np.inf))
        np.nextafter(narrow, side, out=narrow, where=between & (beyond != 0))
    return narrow


def _largest(bits: NDArray[Any], magnitude: int, scratch: NDArray[Any]) -> int:
    """The largest magnitude, as an integer: floats order like their bits once the sign is gone."""
    part = scratch[: len(bits)]
    np.bitwise_and(bits, magnitude, out=part)
    return int(part.max(initial=0))
