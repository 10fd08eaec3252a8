"""What an arithmetic back end must do. Knows nothing of files, names, methods or recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lamina.kernels.tiles import Fold, Mix
from lamina.tensor_spec import BF16, F16, F32, F64, DType

# The numpy type that holds one stored element. bfloat16 is unknown to numpy: its bits travel as uint16.
STORAGE: dict[DType, type[Any]] = {BF16: np.uint16, F16: np.float16, F32: np.float32, F64: np.float64}


@dataclass(frozen=True)
class Stored:
    """A block as it lies in a file: a one-dimensional run of elements and their dtype.

    `data` has the type that `STORAGE` names for a float dtype, and is uint8 (raw bytes) for any other.
    """

    data: NDArray[Any]
    dtype: DType

    @property
    def raw(self) -> memoryview:
        """The same memory as bytes."""
        return self.data.view(np.uint8).data


@dataclass(frozen=True)
class Extent:
    """Where a block lies in its tensor, and how it is worked on.

    `start` is the flat index of its first element, `count` the number of elements of the tensor, `row` the length of
    its last dimension. `whole_rows` when a tile may not split a row. `wide` for arithmetic in fp64.
    """

    start: int
    count: int
    row: int
    whole_rows: bool
    wide: bool


class Kernels(Protocol):
    """Fused operations on stored blocks. An instance holds scratch memory and belongs to one thread."""

    def combine(
        self, inputs: Sequence[Stored], coefficients: Sequence[float], base: Stored | None, out: Stored
    ) -> bool:
        """Write `sum_i c_i * x_i`, or `base + sum_i c_i * (x_i - base)`, into `out`; say if it is finite.

        Decode, multiply and add in fp64 in the order given, without fused multiply-add. The sum is narrowed to fp32,
        unless a block is F64, and rounded once to the stored dtype; both to nearest even. False when any element
        of `out` is NaN or infinite.
        """
        ...

    def fold(self, inputs: Sequence[Stored], base: Stored | None, extent: Extent, fold: Fold) -> None:
        """Hand a block of the inputs to `fold`, decoded, tile by tile in index order."""
        ...

    def mix(self, inputs: Sequence[Stored], base: Stored | None, extent: Extent, mix: Mix, out: Stored) -> bool:
        """Write what `mix` makes of each tile, plus the base if there is one, into `out`; say if it is finite.

        The base is added in fp64, whatever the mix computes in, and the sum goes on as in `combine`.
        """
        ...

    def is_finite(self, block: Stored) -> bool:
        """True when no element is NaN or infinite. Blocks that are not float are finite."""
        ...
