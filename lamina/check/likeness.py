"""How alike two models' tensors are, in sums that are taken block by block and add up over tensors.

Knows nothing of layers or of what the figures mean to a user.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lamina.check.parallel import each
from lamina.expressions.compute import Workspace
from lamina.kernels.interface import Extent, Stored
from lamina.kernels.numpy_kernels import NumpyKernels
from lamina.kernels.sums import dot
from lamina.kernels.tiles import Tile
from lamina.tensor_spec import BLOCK_ELEMENTS, F64, Kind, TensorSpec, blocks_of

Progress = Callable[[str, int], None]


class Tensors(Protocol):
    """An open model."""

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Every tensor's shape and dtype."""
        ...

    def read_into(self, name: str, first_byte: int, buffer: memoryview, /) -> None:
        """Fill the buffer with a tensor's bytes from `first_byte` on."""
        ...


@dataclass(frozen=True)
class Likeness:
    """Sums over the elements of tensors a and b, in fp64; `+` joins those of several tensors.

    `tensors`, of which `identical` are equal in every element; `elements`, of which `equal` are; `a_non_finite` and
    `b_non_finite` count those that are NaN or infinite, with which every figure they enter is NaN. With a base
    c: sums over the task vectors a - c and b - c, of whose elements `moved` differ from zero in both, and
    `conflicting` have unlike signs there.
    """

    tensors: int = 0
    identical: int = 0
    elements: int = 0
    equal: int = 0
    a_squared: float = 0.0
    b_squared: float = 0.0
    product: float = 0.0
    difference_squared: float = 0.0
    a_moved_squared: float = 0.0
    b_moved_squared: float = 0.0
    moved_product: float = 0.0
    moved: int = 0
    conflicting: int = 0
    a_non_finite: int = 0
    b_non_finite: int = 0

    def __add__(self, other: Likeness) -> Likeness:
        return Likeness(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def cosine(self) -> float:
        """Of the angle between a and b; NaN where one of them is zero or not finite."""
        return _cosine(self.product, self.a_squared, self.b_squared)

    @property
    def distance(self) -> float:
        """‖b - a‖ / ‖a‖; infinite where a is zero and b is not."""
        return _ratio(math.sqrt(self.difference_squared), math.sqrt(self.a_squared))

    @property
    def norm_ratio(self) -> float:
        """‖b‖ / ‖a‖."""
        return _ratio(math.sqrt(self.b_squared), math.sqrt(self.a_squared))

    @property
    def moved_cosine(self) -> float:
        """Of the angle between the task vectors; NaN where one of them is zero or not finite."""
        return _cosine(self.moved_product, self.a_moved_squared, self.b_moved_squared)

    @property
    def sign_conflict(self) -> float:
        """The share of elements, of those that both have moved, which they have moved in opposite directions."""
        return self.conflicting / self.moved if self.moved else 0.0

    @property
    def carried(self) -> float:
        """How much of a's task vector b's holds: 1 where b is a and something unrelated on top; NaN for no a."""
        return self.moved_product / self.a_moved_squared if self.a_moved_squared else math.nan


def total(parts: Iterable[Likeness]) -> Likeness:
    """All of them as one."""
    return reduce(add, parts, Likeness())


@dataclass(frozen=True)
class Pair:
    """A tensor of a, the one of b that it is compared with, and the base's, if there is one. Equal shapes."""

    a: str
    b: str
    base: str | None = None


def compare(
    a: Tensors,
    b: Tensors,
    base: Tensors | None,
    pairs: Sequence[Pair],
    *,
    workers: int | None = None,
    progress: Progress = lambda _name, _nbytes: None,
) -> dict[Pair, Likeness]:
    """The likeness of every pair, in the order given. Each worker holds three blocks, about 25 MB.

    `progress` is called from the workers with a tensor's name and the bytes that have been compared.
    """

    def worker() -> Callable[[Pair], Likeness]:
        reader = _Reader(a, b, base)
        return lambda pair: reader.likeness(pair, progress)

    return each(pairs, worker, workers)


class _Reader:
    """One worker: block buffers and kernels."""

    def __init__(self, a: Tensors, b: Tensors, base: Tensors | None) -> None:
        self._a, self._b, self._base = a, b, base
        self._kernels = NumpyKernels()
        self._workspace = Workspace(3 * 8 * BLOCK_ELEMENTS)

    def likeness(self, pair: Pair, progress: Progress) -> Likeness:
        spec = self._a.specs[pair.a]
        if spec.dtype.kind is not Kind.FLOAT:
            return self._bytes_alike(pair, progress)
        parts = []
        for start, stop in blocks_of(spec):
            self._workspace.clear()
            a, b = self._block(self._a, pair.a, start, stop), self._block(self._b, pair.b, start, stop)
            origin = self._base and pair.base and self._block(self._base, pair.base, start, stop)
            wide = F64 in (a.dtype, b.dtype)
            extent = Extent(start, spec.count, spec.shape[-1] if spec.shape else 1, whole_rows=False, wide=wide)
            self._kernels.fold([a, b], origin or None, extent, lambda tile: parts.append(_of_tile(tile)))
            progress(pair.b, a.data.nbytes)
        return _one_tensor(total(parts), spec.count)

    def _bytes_alike(self, pair: Pair, progress: Progress) -> Likeness:
        """What is no float is equal or not: no sums are taken of it."""
        equal, spec = True, self._a.specs[pair.a]
        for start, stop in blocks_of(spec):
            self._workspace.clear()
            a, b = self._block(self._a, pair.a, start, stop), self._block(self._b, pair.b, start, stop)
            equal = equal and a.dtype is b.dtype and bool(np.array_equal(a.data, b.data))
            progress(pair.b, a.data.nbytes)
        return _one_tensor(Likeness(elements=spec.count, equal=spec.count if equal else 0), spec.count)

    def _block(self, model: Tensors, name: str, start: int, stop: int) -> Stored:
        dtype = model.specs[name].dtype
        block = self._workspace.take(stop - start, dtype)
        model.read_into(name, start * dtype.bits // 8, block.raw)
        return block


def _of_tile(tile: Tile) -> Likeness:
    a, b = tile.inputs
    difference = b - a
    a_squared, b_squared = dot(a, a), dot(b, b)
    sums = Likeness(
        elements=len(a),
        equal=int(np.count_nonzero(a == b)),
        a_squared=a_squared,
        b_squared=b_squared,
        product=dot(a, b),
        difference_squared=dot(difference, difference),
        a_non_finite=_non_finite(a, a_squared),
        b_non_finite=_non_finite(b, b_squared),
    )
    if tile.base is None:
        return sums
    of_a, of_b = tile.deltas
    signs = np.sign(of_a) * np.sign(of_b)
    return sums + Likeness(
        a_moved_squared=dot(of_a, of_a),
        b_moved_squared=dot(of_b, of_b),
        moved_product=dot(of_a, of_b),
        moved=int(np.count_nonzero(signs)),
        conflicting=int(np.count_nonzero(signs < 0)),
    )


def _non_finite(values: NDArray[Any], squared: float) -> int:
    """How many are NaN or infinite: none where the sum of their squares is finite, which spares a pass."""
    return 0 if math.isfinite(squared) else int(np.count_nonzero(~np.isfinite(values)))


def _one_tensor(sums: Likeness, count: int) -> Likeness:
    return sums + Likeness(tensors=1, identical=int(sums.equal == count))


def _cosine(product: float, a_squared: float, b_squared: float) -> float:
    """Clipped to [-1, 1]: what lies beyond is rounding."""
    norms = math.sqrt(a_squared) * math.sqrt(b_squared)
    if not norms or not math.isfinite(norms):
        return math.nan
    return max(-1.0, min(1.0, product / norms))


def _ratio(above: float, below: float) -> float:
    if below:
        return above / below
    return math.inf if above else 0.0
