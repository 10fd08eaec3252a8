"""What is known of a tensor from its header alone, and the one table of dtypes.

Knows nothing of files or of values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property


class Kind(Enum):
    """How arithmetic treats a dtype. Only `FLOAT` is merged; the rest is copied, bit for bit."""

    FLOAT = "float"
    INTEGER = "integer"
    PACKED = "packed"  # quantised or otherwise encoded: bits that mean nothing without a decoder


@dataclass(frozen=True)
class DType:
    """One storage type: its name in safetensors, its name in recipes and config.json (if any), its size."""

    name: str
    bits: int
    kind: Kind
    torch_name: str | None = None

    def __str__(self) -> str:
        return self.torch_name or self.name

    def __reduce__(self) -> tuple[object, ...]:
        """A dtype that was pickled is the one of the table again: dtypes are compared by `is`."""
        return _dtype_named, (self.name,)


def _dtype_named(name: str) -> DType:
    return DTYPES[name]


BF16 = DType("BF16", 16, Kind.FLOAT, "bfloat16")
F16 = DType("F16", 16, Kind.FLOAT, "float16")
F32 = DType("F32", 32, Kind.FLOAT, "float32")
F64 = DType("F64", 64, Kind.FLOAT, "float64")

# Every dtype of the safetensors format.
DTYPES: dict[str, DType] = {
    dtype.name: dtype
    for dtype in (
        BF16, F16, F32, F64,
        DType("BOOL", 8, Kind.INTEGER), DType("U8", 8, Kind.INTEGER), DType("I8", 8, Kind.INTEGER),
        DType("U16", 16, Kind.INTEGER), DType("I16", 16, Kind.INTEGER), DType("U32", 32, Kind.INTEGER),
        DType("I32", 32, Kind.INTEGER), DType("U64", 64, Kind.INTEGER), DType("I64", 64, Kind.INTEGER),
        DType("F8_E4M3", 8, Kind.PACKED), DType("F8_E5M2", 8, Kind.PACKED), DType("F8_E8M0", 8, Kind.PACKED),
        DType("F8_E4M3FNUZ", 8, Kind.PACKED), DType("F8_E5M2FNUZ", 8, Kind.PACKED),
        DType("F6_E2M3", 6, Kind.PACKED), DType("F6_E3M2", 6, Kind.PACKED), DType("F4", 4, Kind.PACKED),
        DType("C64", 64, Kind.PACKED),
    )
}  # fmt: skip

# The dtypes that a recipe may ask for, under the names that config.json and MergeKit use.
FLOAT_DTYPES: dict[str, DType] = {str(dtype): dtype for dtype in (BF16, F16, F32, F64)}


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype: all that planning needs of a tensor."""

    shape: tuple[int, ...]
    dtype: DType

    @cached_property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Stored size in bytes."""
        return self.count * self.dtype.bits // 8

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def promoted(dtypes: Iterable[DType]) -> DType:
    """The smallest float dtype that holds every value of all given ones (bf16 with fp16 gives fp32)."""
    distinct = set(dtypes)
    if len(distinct) == 1:
        return distinct.pop()
    return F64 if F64 in distinct else F32


BLOCK_ELEMENTS = 1 << 20


def blocks_of(spec: TensorSpec, *, whole_rows: bool = False) -> list[tuple[int, int]]:
    """The blocks of a tensor as [start, end) in elements.

    What is only copied has no rows: its blocks begin at whole bytes, also where an element has 4 or 6 bits.
    """
    return block_rows(spec.shape if spec.dtype.kind is Kind.FLOAT else (spec.count,), whole_rows=whole_rows)


def block_rows(shape: tuple[int, ...], *, whole_rows: bool = False) -> list[tuple[int, int]]:
    """Runs of whole rows of about 2^20 elements, as [start, end) in elements.

    A function of the shape alone, so that whatever is summed per block is the same on every machine. A row
    longer than a block is split, which elementwise work does not notice; not so where `whole_rows` are needed.
    """
    count = math.prod(shape)
    row = (shape[-1] if shape else 1) or 1
    if not whole_rows:
        row = min(row, BLOCK_ELEMENTS)
    step = max(1, BLOCK_ELEMENTS // row) * row
    return [(start, min(start + step, count)) for start in range(0, count, step)]
