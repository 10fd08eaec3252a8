"""Measure what has to be seen, then make an expression block by block. Reading is a function it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.errors import NonFiniteResult, UnmergeableTensor
from lamina.expressions.inspect import CACHE_LINE, blocks, merges, parts, reads
from lamina.expressions.nodes import Cast, Concat, Expr, Merge, Read, Slice
from lamina.expressions.shared import Shared
from lamina.kernels.interface import STORAGE, Extent, Kernels, Stored
from lamina.kernels.tiles import Mix
from lamina.merge_methods import UndefinedMerge, method_called
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


Measured = Mapping[Merge, tuple[float, ...] | Mix]


@dataclass(frozen=True)
class Worker:
    """What making blocks takes: a way to read, kernels, and memory for one block of everything.

    `shared` has what other merges measured of the same tensors, and is told what is measured here.
    """

    read: ReadBytes
    kernels: Kernels
    workspace: Workspace
    shared: Shared | None = None


def measure(expr: Expr, worker: Worker) -> Measured:
    """What the tensors decide about each merge in the expression: its coefficients, or the mix of its blocks.

    Passes over the tensor as often as the measures ask for, block by block, in order.
    """
    measured: dict[Merge, tuple[float, ...] | Mix] = {}
    for node in merges(expr):
        if node not in measured:
            measured[node] = _measured(node, measured, worker)
    return measured


def _measured(node: Merge, measured: Measured, worker: Worker) -> tuple[float, ...] | Mix:
    known = None if worker.shared is None else worker.shared.measured(node)
    passes = method_called(node.method).prepared(dict(node.parameters or ()), node.facts, known)
    try:
        while True:
            fold = next(passes)
            for start, stop in blocks(node):
                worker.workspace.clear()
                inputs, base = _inputs(node, start, stop, measured, worker)
                worker.kernels.fold(inputs, base, _extent(node, start), fold)
    except StopIteration as finished:
        found: tuple[float, ...] | Mix = finished.value
        return found
    except UndefinedMerge as error:
        raise UnmergeableTensor(f"{error}.") from error


def compute(expr: Expr, start: int, stop: int, measured: Measured, worker: Worker) -> tuple[Stored, bool]:
    """Elements [start, stop) of the flattened result, and whether all of them are finite.

    Raises NonFiniteResult where the result is not finite although all that was read is.
    """
    kernels, workspace = worker.kernels, worker.workspace
    if isinstance(expr, Read):
        block = _read(expr, start, stop, worker)
        return block, kernels.is_finite(block)
    if isinstance(expr, Slice | Concat):
        return _stretches(expr, start, stop, measured, worker)
    inputs, base = _inputs(expr, start, stop, measured, worker)
    how = _how(expr, measured)
    if not callable(how) and not how:
        return _agreed(expr, inputs), True
    out = workspace.take(stop - start, expr.spec.dtype)
    if base is None and not callable(how) and not any(how):
        out.data.fill(0)  # no source counts: zero whatever they hold, and never minus zero
        return out, True
    if callable(how):
        finite = kernels.mix(inputs, base, _extent(expr, start), how, out)
    else:
        finite = kernels.combine(inputs, how, base, out)
    if not finite and all(map(kernels.is_finite, [*inputs, *([] if base is None else [base])])):
        raise NonFiniteResult(
            f"the result is too large for {expr.spec.dtype}, although every input is finite. "
            "Check the weights, or store it as float32: `out_dtype: float32`."
        )
    return out, finite


def _stretches(expr: Slice | Concat, start: int, stop: int, measured: Measured, worker: Worker) -> tuple[Stored, bool]:
    """Elements of tensors that are taken apart or put side by side; of columns, [start, stop) are whole rows."""
    shape = expr.spec.shape
    # What lies together in memory: indices of the first axis are stretches of the whole, columns are some of a row.
    width = math.prod(shape[1:]) if expr.axis == 0 else 1
    row = math.prod(shape) if expr.axis == 0 else shape[-1]
    if isinstance(expr, Slice) and expr.axis == 0:
        return compute(expr.source, start + expr.start * width, stop + expr.start * width, measured, worker)
    out = worker.workspace.take(stop - start, expr.spec.dtype)
    if isinstance(expr, Slice):
        whole = expr.source.spec.shape[-1]
        block, finite = compute(expr.source, start // row * whole, stop // row * whole, measured, worker)
        out.data.reshape(-1, row)[:] = block.data.reshape(-1, whole)[:, expr.start : expr.stop]
        return out, finite
    all_finite, offset = True, 0
    for part in expr.inputs:
        size = part.spec.shape[expr.axis] * width
        if expr.axis == 0:
            first, last = max(start, offset), min(stop, offset + size)
            if first < last:
                block, finite = compute(part, first - offset, last - offset, measured, worker)
                out.data[first - start : last - start] = block.data
                all_finite = all_finite and finite
        else:
            block, finite = compute(part, start // row * size, stop // row * size, measured, worker)
            out.data.reshape(-1, row)[:, offset : offset + size] = block.data.reshape(-1, size)
            all_finite = all_finite and finite
        offset += size
    return out, all_finite


def _read(tensor: Read, start: int, stop: int, worker: Worker) -> Stored:
    block = worker.workspace.take(stop - start, tensor.spec.dtype)
    worker.read(tensor, start * tensor.spec.dtype.bits // 8, block.raw)
    return block


def _how(expr: Cast | Merge, measured: Measured) -> tuple[float, ...] | Mix:
    """The coefficients or the mix; empty where the inputs have to agree."""
    if isinstance(expr, Cast):
        return (1.0,)
    return measured[expr] if expr.is_measured else expr.coefficients


def _inputs(
    expr: Cast | Merge, start: int, stop: int, measured: Measured, worker: Worker
) -> tuple[list[Stored], Stored | None]:
    made = [
        _read(part, start, stop, worker)  # what is not finite in it is seen in the result
        if isinstance(part, Read)
        else compute(part, start, stop, measured, worker)[0]
        for part in parts(expr)
    ]
    base = made.pop(0) if isinstance(expr, Merge) and expr.base is not None else None
    return made, base


def _extent(expr: Cast | Merge, start: int) -> Extent:
    assert isinstance(expr, Merge)
    facts = expr.facts
    return Extent(start, facts.count, facts.row, method_called(expr.method).scope == "row", facts.wide)


def _agreed(expr: Expr, blocks: Sequence[Stored]) -> Stored:
    """The block that all inputs share: what is no float is copied, never averaged."""
    for source, block in zip(parts(expr), blocks, strict=True):
        if not np.array_equal(block.data, blocks[0].data):
            names = " and ".join(read.model for part in (parts(expr)[0], source) for read in reads(part))
            raise UnmergeableTensor(
                f"it is {expr.spec.dtype}, which is copied and never averaged, and it differs between {names}."
            )
    return blocks[0]
