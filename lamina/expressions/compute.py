"""Make one block of an expression. Reading is a function it is given; it knows no files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.errors import NonFiniteResult, UnmergeableTensor
from lamina.expressions.inspect import CACHE_LINE, parts, reads
from lamina.expressions.nodes import Cast, Expr, Merge, Read
from lamina.kernels.interface import STORAGE, Kernels, Stored
from lamina.tensor_spec import DType

# (tensor, first byte within it, where to put the bytes)
ReadBytes = Callable[[Read, int, memoryview], None]


class Workspace:
    """One worker's block buffers: a stretch of memory handed out front to back, then used again."""

    def __init__(self, nbytes: int) -> None:
        memory = np.empty(nbytes + CACHE_LINE, np.uint8)
        self._memory = memory[-memory.ctypes.data % CACHE_LINE :]
        self._used = 0

    def take(self, count: int, dtype: DType) -> Stored:
        """`count` elements, uninitialised, aligned to a cache line."""
        nbytes = count * dtype.bits // 8
        start = -(-self._used // CACHE_LINE) * CACHE_LINE
        self._used = start + nbytes
        raw: NDArray[Any] = self._memory[start : self._used]
        return Stored(raw.view(STORAGE[dtype]) if dtype in STORAGE else raw, dtype)

    def clear(self) -> None:
        self._used = 0


def compute(
    expr: Expr, start: int, stop: int, read: ReadBytes, kernels: Kernels, workspace: Workspace
) -> tuple[Stored, bool]:
    """Elements [start, stop) of the flattened result, and whether all of them are finite.

    Raises NonFiniteResult where the result is not finite although all that was read is.
    """
    match expr:
        case Read():
            block = workspace.take(stop - start, expr.spec.dtype)
            read(expr, start * expr.spec.dtype.bits // 8, block.raw)
            return block, kernels.is_finite(block)
        case Cast():
            factors: tuple[float, ...] = (1.0,)
        case Merge():
            factors = expr.coefficients
    made = [compute(part, start, stop, read, kernels, workspace)[0] for part in parts(expr)]
    if not factors:
        return _agreed(expr, made), True
    base = made.pop(0) if isinstance(expr, Merge) and expr.base is not None else None
    out = workspace.take(stop - start, expr.spec.dtype)
    finite = kernels.combine(made, factors, base, out)
    if not finite and all(map(kernels.is_finite, [*made, *([] if base is None else [base])])):
        raise NonFiniteResult(
            f"the result is too large for {expr.spec.dtype}, although every input is finite. "
            "Check the weights, or store it as float32: `out_dtype: float32`."
        )
    return out, finite


def _agreed(expr: Expr, blocks: Sequence[Stored]) -> Stored:
    """The block that all inputs share: what is no float is copied, never averaged."""
    for source, block in zip(parts(expr), blocks, strict=True):
        if not np.array_equal(block.data, blocks[0].data):
            names = " and ".join(read.model for part in (parts(expr)[0], source) for read in reads(part))
            raise UnmergeableTensor(
                f"it is {expr.spec.dtype}, which is copied and never averaged, and it differs between {names}."
            )
    return blocks[0]
