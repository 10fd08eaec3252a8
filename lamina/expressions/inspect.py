"""Questions about an expression that need no data: what it reads, how it is written down, what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lamina.expressions.nodes import Cast, Expr, Merge, Read
from lamina.tensor_spec import BLOCK_ELEMENTS

CACHE_LINE = 64  # every buffer starts at one


def parts(expr: Expr) -> tuple[Expr, ...]:
    """The expressions that this one is made of; its base, if any, first."""
    match expr:
        case Read():
            return ()
        case Cast():
            return (expr.source,)
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
        case Cast():
            yield from shares(expr.source, factor, of_delta)
        case Merge():
            if expr.base is not None:
                yield from shares(expr.base, factor, of_delta)
            for source, coefficient in zip(expr.inputs, expr.coefficients or (1.0,), strict=False):
                yield from shares(source, factor * coefficient, of_delta or expr.base is not None)


def is_copy(expr: Expr) -> bool:
    """True when the output's bytes are an input's bytes."""
    return isinstance(expr, Read)


def peak_bytes(expr: Expr) -> int:
    """Buffer bytes that one block of this expression needs: one block of every node in it."""
    own = min(expr.spec.count, BLOCK_ELEMENTS) * expr.spec.dtype.bits // 8 + CACHE_LINE
    return own + sum(peak_bytes(part) for part in parts(expr))


def described(expr: Expr, names: Mapping[str, str]) -> object:
    """The expression as plain JSON data, each model called by `names[model]`: what a plan's digest covers."""
    spec = [expr.spec.dtype.name, list(expr.spec.shape)]
    match expr:
        case Read():
            return ["read", names[expr.model], expr.name, spec]
        case Cast():
            return ["cast", described(expr.source, names), spec]
        case Merge():
            base = None if expr.base is None else described(expr.base, names)
            inputs = [described(source, names) for source in expr.inputs]
            return ["merge", expr.method, inputs, list(expr.coefficients), base, spec]
