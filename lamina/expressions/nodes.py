"""The nodes. Each carries its own spec, so that wrong shapes fail when it is built, from headers alone.

The constructors `cast` and `merge` leave out what changes nothing: a source that counts for zero is not
read, and a tensor that stands alone with the factor one keeps its bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from lamina.merge_methods import method_called
from lamina.merge_methods.measures import Facts
from lamina.merge_methods.parameters import Value
from lamina.tensor_spec import F64, DType, Kind, TensorSpec, promoted


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
    """What a method makes of its inputs, in the arithmetic dtype, stored as `spec` says.

    Where parameters alone decide it, the result is `sum_i c_i x_i`, or `base + sum_i c_i (x_i - base)` where a
    base is given, and `coefficients` are the method's. Else there are none, and `parameters` and `draw_keys`
    (for methods that draw, one a model) tell the method what to make of the tensors. Without either, the inputs
    are no floats: the result is the first, and an input that differs is an error when it is read.
    """

    method: str
    inputs: tuple[Expr, ...]
    coefficients: tuple[float, ...]
    base: Expr | None
    spec: TensorSpec
    parameters: tuple[tuple[str, Value | tuple[Value, ...]], ...] | None = None
    draw_keys: tuple[int, ...] = ()

    @property
    def is_measured(self) -> bool:
        """True when the method has to see elements."""
        return self.parameters is not None

    @property
    def facts(self) -> Facts:
        """What a measure may know of the tensor."""
        dtypes = [self.spec.dtype, *(part.spec.dtype for part in (*self.inputs, *([self.base] if self.base else [])))]
        return Facts(self.spec.shape, len(self.inputs), F64 in dtypes, self.draw_keys)


@dataclass(frozen=True)
class Slice:
    """Indices [start, stop) of a float tensor's first axis (0) or last (-1)."""

    source: Expr
    axis: int
    start: int
    stop: int

    @property
    def spec(self) -> TensorSpec:
        """The source's, with fewer indices on the axis."""
        return _resized(self.source.spec, self.axis, self.stop - self.start)


@dataclass(frozen=True)
class Concat:
    """Float tensors of one dtype side by side on their first axis (0) or last (-1)."""

    inputs: tuple[Expr, ...]
    axis: int

    @property
    def spec(self) -> TensorSpec:
        """The inputs', with all their indices on the axis."""
        return _resized(self.inputs[0].spec, self.axis, sum(part.spec.shape[self.axis] for part in self.inputs))


Expr = Read | Cast | Merge | Slice | Concat


def _resized(spec: TensorSpec, axis: int, size: int) -> TensorSpec:
    shape = list(spec.shape)
    shape[axis] = size
    return TensorSpec(tuple(shape), spec.dtype)


def slice_of(source: Expr, axis: int, start: int, stop: int) -> Expr:
    """Indices [start, stop) of an axis; the source where those are all. Raises ValueError for what is no float."""
    if source.spec.dtype.kind is not Kind.FLOAT:
        raise ValueError(f"{source.spec.dtype} is no float, and is not taken apart")
    return source if (start, stop) == (0, source.spec.shape[axis]) else Slice(source, axis, start, stop)


def concat(inputs: Sequence[Expr], axis: int) -> Expr:
    """Tensors side by side, in their promoted dtype. Neighbours that are one stretch of a tensor are read as one.

    Raises ValueError where their shapes do not fit together.
    """
    dtype = promoted(part.spec.dtype for part in inputs)
    joined: list[Expr] = []
    for part in inputs:
        last = joined[-1] if joined else None
        if (
            isinstance(last, Slice)
            and isinstance(part, Slice)
            and last.source == part.source
            and last.stop == part.start
        ):
            joined[-1] = slice_of(last.source, axis, last.start, part.stop)
        else:
            joined.append(part)
    shapes = {_resized(part.spec, axis, 0).shape for part in joined}
    if len(shapes) > 1:
        raise ValueError(
            f"tensors of shapes {', '.join(str(list(part.spec.shape)) for part in joined)} do not fit together"
        )
    return cast(joined[0], dtype) if len(joined) == 1 else Concat(tuple(cast(part, dtype) for part in joined), axis)


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
    draw_keys: Sequence[int] = (),
) -> Expr:
    """The tensor that `method` makes of `inputs`, stored as `dtype` (default: the inputs' promoted dtype).

    Every input has the same shape; methods that draw have a key for each. Raises UndefinedMerge where the formula
    has no value.
    """
    parts = [*inputs] if base is None else [base, *inputs]
    if parts[0].spec.dtype.kind is not Kind.FLOAT:
        distinct = tuple(dict.fromkeys(parts))
        return distinct[0] if len(distinct) == 1 else Merge(method, distinct, (), None, parts[0].spec)
    target = dtype or promoted(part.spec.dtype for part in parts)
    spec = TensorSpec(parts[0].spec.shape, target)
    factors = method_called(method).foreseen(parameters, len(inputs)) if inputs else ()
    if factors is None and spec.count:
        return _measured(method, inputs, parameters, base, spec, draw_keys)
    factors = factors or (1.0,) * len(inputs)  # of a tensor without elements, anything is the same
    kept = [(source, factor) for source, factor in zip(inputs, factors, strict=True) if factor != 0]
    if base is not None and not kept:
        return cast(base, target)
    if len(kept) == 1 and kept[0][1] == 1:
        return cast(kept[0][0], target)
    if not kept:  # a sum of nothing is zero, in the shape of the inputs
        kept = list(zip(inputs, factors, strict=True))
    sources, coefficients = zip(*kept, strict=True)
    return Merge(method, sources, coefficients, base, spec)


def _measured(
    method: str,
    inputs: Sequence[Expr],
    parameters: Mapping[str, Value | tuple[Value, ...]],
    base: Expr | None,
    spec: TensorSpec,
    draw_keys: Sequence[int],
) -> Expr:
    """A merge that has to see elements: without the models that count for nothing, if any is left."""
    weights = parameters.get("weight") if "zero weight is base" in method_called(method).laws else None
    counting = [weight != 0 for weight in weights] if isinstance(weights, tuple) else [True] * len(inputs)
    if not all(counting):
        return merge(
            method,
            list(compress(inputs, counting)),
            {name: tuple(compress(v, counting)) if isinstance(v, tuple) else v for name, v in parameters.items()},
            base=base,
            dtype=spec.dtype,
            draw_keys=list(compress(draw_keys, counting)),
        )
    keys = tuple(draw_keys) if method_called(method).draws else ()
    return Merge(method, tuple(inputs), (), base, spec, tuple(parameters.items()), keys)
