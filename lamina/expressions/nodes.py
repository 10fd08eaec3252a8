"""The nodes. Each carries its own spec, so that wrong shapes fail when it is built, from headers alone.

The constructors `cast` and `merge` leave out what changes nothing: a source that counts for zero is not
read, and a tensor that stands alone with the factor one keeps its bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lamina.merge_methods import METHODS
from lamina.merge_methods.parameters import Value
from lamina.tensor_spec import DType, Kind, TensorSpec, promoted


@dataclass(frozen=True)
class Read:
    """A tensor of an input model, as its bytes lie in the file. `model` is a name in the plan's inputs."""

    model: str
    name: str
    spec: TensorSpec


@dataclass(frozen=True)
class Cast:
    """The same values in another float dtype."""

    source: Expr
    spec: TensorSpec


@dataclass(frozen=True)
class Merge:
    """`sum_i c_i x_i`, or `base + sum_i c_i (x_i - base)` where a base is given, in the arithmetic dtype.

    The coefficients are the method's, for the parameters that the recipe gave. Without coefficients the
    inputs are no floats: the result is the first, and an input that differs is an error when it is read.
    """

    method: str
    inputs: tuple[Expr, ...]
    coefficients: tuple[float, ...]
    base: Expr | None
    spec: TensorSpec


Expr = Read | Cast | Merge


def cast(source: Expr, dtype: DType) -> Expr:
    """`source` in `dtype`."""
    if isinstance(source, Cast) and promoted((source.source.spec.dtype, source.spec.dtype)) is source.spec.dtype:
        source = source.source  # it was only widened: the detour changes nothing
    if source.spec.dtype is dtype:
        return source
    return Cast(source, TensorSpec(source.spec.shape, dtype))


def merge(
    method: str,
    inputs: Sequence[Expr],
    parameters: Mapping[str, Value | tuple[Value, ...]],
    *,
    base: Expr | None = None,
    dtype: DType | None = None,
) -> Expr:
    """The tensor that `method` makes of `inputs`, stored as `dtype` (default: the inputs' promoted dtype).

    Every input has the same shape. Raises UndefinedMerge where the formula has no value.
    """
    parts = [*inputs] if base is None else [base, *inputs]
    if parts[0].spec.dtype.kind is not Kind.FLOAT:
        distinct = tuple(dict.fromkeys(parts))
        return distinct[0] if len(distinct) == 1 else Merge(method, distinct, (), None, parts[0].spec)
    target = dtype or promoted(part.spec.dtype for part in parts)
    factors = METHODS[method].coefficients(parameters) if inputs else ()
    kept = [(source, factor) for source, factor in zip(inputs, factors, strict=True) if factor != 0]
    if base is not None and not kept:
        return cast(base, target)
    if len(kept) == 1 and kept[0][1] == 1:
        return cast(kept[0][0], target)
    if not kept:  # a sum of nothing is zero, in the shape of the inputs
        kept = list(zip(inputs, factors, strict=True))
    sources, coefficients = zip(*kept, strict=True)
    return Merge(method, sources, coefficients, base, TensorSpec(parts[0].spec.shape, target))
