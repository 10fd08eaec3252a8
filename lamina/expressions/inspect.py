"""Questions about an expression that need no data: what it reads, how it is written down, what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lamina.expressions.nodes import Cast, Concat, Expr, Merge, Read, Slice
from lamina.kernels.numpy_kernels import scratch_in_use
from lamina.merge_methods import method_called
from lamina.tensor_spec import F64, DType, block_rows, blocks_of

CACHE_LINE = 64  # every buffer starts at one


def parts(expr: Expr) -> tuple[Expr, ...]:
    """The expressions that this one is made of; its base, if any, first."""
    match expr:
        case Read():
            return ()
        case Cast() | Slice():
            return (expr.source,)
        case Concat():
            return expr.inputs
        case Merge():
            return expr.inputs if expr.base is None else (expr.base, *expr.inputs)


def reads(expr: Expr) -> Iterator[Read]:
    """Every tensor that is read, in order, as often as it is read."""
    if isinstance(expr, Read):
        yield expr
    for part in parts(expr):
        yield from reads(part)


@dataclass(frozen=True)
class Share:
    """One tensor that enters a result, and its factor: of the tensor, or of its delta from the base."""

    read: Read
    factor: float
    of_delta: bool = False


def shares(expr: Expr, factor: float = 1.0, of_delta: bool = False) -> Iterator[Share]:
    """Every tensor that is read, with the factor by which it enters. A base enters whole."""
    match expr:
        case Read():
            yield Share(expr, factor, of_delta)
        case Cast() | Slice() | Concat():
            for part in parts(expr):
                yield from shares(part, factor, of_delta)
        case Merge():
            if expr.base is not None:
                yield from shares(expr.base, factor, of_delta)
            for source, coefficient in zip(expr.inputs, _nominal(expr), strict=False):
                yield from shares(source, factor * coefficient, of_delta or expr.base is not None)


def _nominal(expr: Merge) -> tuple[float, ...]:
    """The factors of a merge; where tensors decide them, what the recipe says of them.

    That is each model's weight, t, or nothing: then all count alike.
    """
    if expr.parameters is None:
        return expr.coefficients or (1.0,)
    given, models = dict(expr.parameters), len(expr.inputs)
    match given.get("weight"), given.get("t"):
        case tuple() as weights, _:
            numbers = [float(weight) for weight in weights]
            if expr.base is not None:
                lambda_ = given.get("lambda", 1.0)
                return tuple(lambda_ * number for number in numbers) if isinstance(lambda_, float) else tuple(numbers)
            return tuple(number / (sum(numbers) or 1.0) for number in numbers)
        case _, float() as t if models == 2:
            return (1 - t, t)
    return (1.0 if expr.base is not None and models == 1 else 1 / models,) * models


def is_copy(expr: Expr) -> bool:
    """True when the output's bytes are an input's bytes."""
    return isinstance(expr, Read)


def merges(expr: Expr) -> Iterator[Merge]:
    """Every merge in the expression that has to see elements, the innermost first."""
    for part in parts(expr):
        yield from merges(part)
    if isinstance(expr, Merge) and expr.is_measured:
        yield expr


def keeps_rows(expr: Expr) -> bool:
    """True when a block may not split a row, however long it is."""
    return _takes_columns(expr) or any(method_called(node.method).scope == "row" for node in merges(expr))


def _takes_columns(expr: Expr) -> bool:
    return (isinstance(expr, Slice | Concat) and expr.axis == -1) or any(map(_takes_columns, parts(expr)))


def blocks(expr: Expr) -> list[tuple[int, int]]:
    """The blocks in which the result is made, as [start, end) in elements.

    Where nothing is measured rows do not matter, and every block but the last has 2^20 elements: a run of eight
    of them begins and ends with a piece of 4 MiB in every dtype, so that pieces can be digested on their own.
    """
    if not any(merges(expr)):
        return block_rows((expr.spec.count,))
    return blocks_of(expr.spec, whole_rows=keeps_rows(expr))


def peak_bytes(expr: Expr) -> int:
    """Bytes that making this expression takes: one block of every node in it, the state of every measure."""
    states = [method_called(node.method).state_bytes(dict(node.parameters or ()), node.facts) for node in merges(expr)]
    return block_bytes(expr) + sum(states)


def scratch_bytes(expr: Expr) -> int:
    """Bytes of the kernels' scratch that making it touches; a copy is only looked at, element by element."""
    if is_copy(expr):
        return scratch_in_use(_longest(expr), wide=False) // 4
    return scratch_in_use(_longest(expr), wide=any(part is F64 for part in _dtypes(expr)))


def _dtypes(expr: Expr) -> Iterator[DType]:
    yield expr.spec.dtype
    for part in parts(expr):
        yield from _dtypes(part)


def _longest(expr: Expr) -> int:
    """Elements of the largest block."""
    return max((end - start for start, end in blocks(expr)), default=0)


def block_bytes(expr: Expr) -> int:
    """Bytes of one block of every node in the expression."""
    longest = _longest(expr)

    def held(node: Expr, count: int) -> int:
        below = 0
        for part in parts(node):
            of_columns = isinstance(node, Slice | Concat) and node.axis == -1  # as many rows, and more or fewer columns
            rows = count // max(1, node.spec.shape[-1]) if of_columns else 0
            below += held(part, rows * part.spec.shape[-1] if of_columns else count)
        return count * node.spec.dtype.bits // 8 + CACHE_LINE + below

    return held(expr, longest)


def described(expr: Expr, names: Mapping[str, str]) -> object:
    """The expression as plain JSON data, each model called by `names[model]`: what a plan's digest covers."""
    spec = [expr.spec.dtype.name, list(expr.spec.shape)]
    match expr:
        case Read():
            return ["read", names[expr.model], expr.name, spec]
        case Cast():
            return ["cast", described(expr.source, names), spec]
        case Slice():
            return ["slice", described(expr.source, names), expr.axis, expr.start, expr.stop]
        case Concat():
            return ["concat", [described(part, names) for part in expr.inputs], expr.axis]
        case Merge():
            base = None if expr.base is None else described(expr.base, names)
            inputs = [described(source, names) for source in expr.inputs]
            told: object = list(expr.coefficients)
            if expr.is_measured:
                told = {"parameters": expr.parameters, "draw_keys": expr.draw_keys}
            return ["merge", expr.method, inputs, told, base, spec]
