"""The laws that a merge method keeps, tried on cases: every method the universal ones, some what they declare.

A case is a method with tensors and parameters. The laws are functions of one; where cases come from is for others to
say: `tried` has a fixed set of them, property tests may think of more. Methods are run on kernels directly, so that a
law is the method's own doing, and not that of a planner which relies on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.errors import LaminaError, LawBroken
from lamina.kernels.interface import STORAGE, Extent, Stored
from lamina.kernels.numpy_kernels import NumpyKernels, decode
from lamina.kernels.sums import CHUNK
from lamina.merge_methods.measures import Facts
from lamina.merge_methods.parameters import Value
from lamina.merge_methods.registry import MergeMethod, UndefinedMerge
from lamina.tensor_spec import BF16, F16, F32, F64, DType

Array = NDArray[Any]
WEIGHTS = (0.2, 0.7, 0.4)  # of the models of a case, where a method weighs them: no signs make them cancel
ROUNDING = 2.0**-20  # of the largest value: what the order of a sum may change


@dataclass(frozen=True)
class Case:
    """A method and what it is applied to. `models` and `base` hold values that `dtype` has, as float64."""

    method: MergeMethod
    models: tuple[Array, ...]
    base: Array | None
    dtype: DType
    values: Mapping[str, Value | tuple[Value, ...]]
    keys: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.models[0].shape

    @property
    def parts(self) -> tuple[Array, ...]:
        """The models, and the base behind them if there is one."""
        return self.models if self.base is None else (*self.models, self.base)

    @property
    def size(self) -> float:
        """The largest magnitude in it."""
        return max(map(_largest, self.parts))

    def made(self, rows_at_once: int | None = None) -> Array:
        """The result in float64, of its shape; in blocks of so many rows, in one without. Raises LaminaError."""
        return decoded(self.bits(rows_at_once), self.dtype)

    def bits(self, rows_at_once: int | None = None) -> Array:
        """The result as it would lie in a file."""
        parts = [stored(each, self.dtype) for each in self.parts]
        before = [part.tobytes() for part in parts]
        out = np.empty(self.shape, STORAGE[self.dtype])
        _run(self, parts, out, rows_at_once)
        if [part.tobytes() for part in parts] != before:
            raise LawBroken("it changes its inputs")
        return out

    def reordered(self, order: Sequence[int]) -> Case:
        """The same case with its models, and their values, in another order."""

        def turned(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[place] for place in order)

        values = {name: turned(value) if isinstance(value, tuple) else value for name, value in self.values.items()}
        return replace(self, models=turned(self.models), keys=turned(self.keys), values=values)

    def __str__(self) -> str:
        base = "" if self.base is None else " and a base"
        told = ", ".join(f"{name} {value}" for name, value in self.values.items())
        count = f"{len(self.models)} models" if len(self.models) != 1 else "one model"
        return f"{count}{base} of {self.dtype} {list(self.shape)}{f', {told}' if told else ''}"


def _run(case: Case, parts: Sequence[Array], out: Array, rows_at_once: int | None) -> None:
    method, wide = case.method, case.dtype is F64
    row = case.shape[-1] if case.shape else 1
    step = out.size if rows_at_once is None else rows_at_once * row
    facts = Facts(case.shape, len(case.models), wide, case.keys if method.draws else ())
    kernels = NumpyKernels()

    def blocks() -> Iterator[tuple[list[Stored], Stored | None, Extent, Stored]]:
        for start in range(0, out.size, step):
            part = slice(start, start + step)
            pieces = [Stored(each.reshape(-1)[part], case.dtype) for each in parts]
            origin = None if case.base is None else pieces.pop()
            extent = Extent(start, out.size, row, method.scope == "row", wide)
            yield pieces, origin, extent, Stored(out.reshape(-1)[part], case.dtype)

    found: Any = method.foreseen(case.values, len(case.models))
    if found is None:
        passes = method.prepared(case.values, facts)
        while True:
            try:
                fold = next(passes)
            except StopIteration as finished:
                found = finished.value
                break
            for pieces, origin, extent, _ in blocks():
                kernels.fold(pieces, origin, extent, fold)
    for pieces, origin, extent, target in blocks():
        if callable(found):
            kernels.mix(pieces, origin, extent, found, target)
        else:
            kernels.combine(pieces, found, origin, target)


# The laws. Each raises LawBroken with what it found.


def _check(holds: bool, found: str) -> None:
    if not holds:
        raise LawBroken(found)


def keeps_shape_and_is_finite(case: Case) -> None:
    """The result has the inputs' shape, and no NaN or infinity comes of finite inputs."""
    made = case.made()
    _check(made.shape == case.shape, f"its result is {list(made.shape)}")
    _check(bool(np.isfinite(made).all()), "it gives NaN or infinity from finite inputs")


def repeats_itself(case: Case) -> None:
    """The same request gives the same bytes, and inputs stay as they were."""
    _check(np.array_equal(case.bits(), case.bits()), "it gives another result the second time")


def does_not_see_blocks(case: Case) -> None:
    """In whatever blocks a tensor comes, the bytes are the same. Blocks are whole rows, and whole chunks of sums."""
    row = case.shape[-1] if case.shape else 1
    whole = case.bits()
    for rows in (CHUNK // row, 3 * CHUNK // row) if CHUNK % row == 0 else ():
        _check(np.array_equal(case.bits(rows), whole), f"in blocks of {rows} rows its result is another")


def draws_by_key_alone(case: Case) -> None:
    """Only what says that it draws depends on the seed."""
    other = replace(case, keys=tuple(key ^ 0x5DEECE66D for key in case.keys))
    _check(case.method.draws or np.array_equal(case.bits(), other.bits()), "it depends on the seed, and says not")


def is_symmetric(case: Case) -> None:
    """The order of the models does not matter, to rounding."""
    first = case.made()
    for order in itertools.permutations(range(len(case.models))):
        apart = _largest(case.reordered(order).made() - first)
        _check(apart <= 4 * ROUNDING * case.size, f"with its models in the order {order} it is {apart:.3g} away")


def is_idempotent(case: Case, slack: float = 0.0) -> None:
    """Equal models (and base) are left as they are, to rounding, or to `slack`."""
    base = case.models[0]
    alike = replace(case, models=(base,) * len(case.models), base=None if case.base is None else base)
    apart = _largest(alike.made() - base)
    _check(apart <= max(ROUNDING * alike.size, slack), f"of equal models it makes what is {apart:.3g} away from them")


def leaves_the_base_at_weight_zero(case: Case) -> None:
    """Models of weight zero leave the base, bit for bit, and beside others count for nothing."""
    weights = case.values.get("weight")
    if not isinstance(weights, tuple):
        raise LawBroken("it has no `weight` of each model")
    nothing = replace(case, values={**case.values, "weight": (0.0,) * len(weights)})
    _check(case.base is None or np.array_equal(nothing.made(), case.base), "with all weights zero it is not the base")
    if len(weights) > 1:
        first = replace(case, values={**case.values, "weight": (0.0, *weights[1:])})
        rest = first.reordered(range(1, len(weights)))
        _check(np.array_equal(first.made(), rest.made()), "a model of weight zero changes what the others give")


UNIVERSAL: Mapping[str, Callable[[Case], None]] = {
    "shape": keeps_shape_and_is_finite,
    "repeatable": repeats_itself,
    "blocks": does_not_see_blocks,
    "seed": draws_by_key_alone,
}
DECLARED: Mapping[str, Callable[[Case], None]] = {
    "symmetric": is_symmetric,
    "idempotent": is_idempotent,
    "zero weight is base": leaves_the_base_at_weight_zero,
}


def _largest(values: Array) -> float:
    return float(np.max(np.abs(values), initial=0))


# Cases

SHAPES: Sequence[tuple[int, ...]] = ((), (1,), (7,), (5, 9), (1, 8), (8, 1), (3, 4, 5), (16, 32))
BIG = (512, 256)  # several tiles, and several chunks of a sum


def tried(method: MergeMethod, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Try every law that a method is under on a fixed set of cases; returns their names. Raises LawBroken."""
    own: dict[str, Callable[[Case], None]] = {name: DECLARED[name] for name in method.laws}
    laws = {**UNIVERSAL, **own}
    for number, case in enumerate(_cases(method, parameters)):
        for name, law in laws.items():
            if _is_fair(name, case):
                try:
                    law(case)
                except (UndefinedMerge, LaminaError) as error:
                    found = f"{method.name} breaks the law `{name}`: {str(error).rstrip('.')}. "
                    raise LawBroken(f"{found}Case {number}: {case}.") from error
    return tuple(laws)


def _is_fair(law: str, case: Case) -> bool:
    """False where a case says nothing of a law."""
    if case.shape == BIG and law != "blocks":
        return False
    if law == "idempotent" and case.size < 1e-4:  # so short that a formula may call it no direction
        return False
    return law not in ("symmetric", "idempotent") or case.dtype in (F32, F64)  # where one rounding is no break


def _cases(method: MergeMethod, parameters: Mapping[str, Any]) -> Iterator[Case]:
    least, most = method.inputs
    counts = sorted({min(max(least, 1), 3), min(max(least, 3), most or 3)})
    origins = {"required": (True,), "optional": (True, False)}.get(method.base, (False,))
    number = 0
    for count, with_base in itertools.product(counts, origins):
        for shape, scale, dtype in (
            *((shape, 0.02, F32) for shape in SHAPES),
            *(((6, 10), scale, dtype) for scale in (1e-6, 1.0, 30.0) for dtype in (BF16, F16, F32, F64)),
            ((6, 10), 0.0, F32),
            (BIG, 0.02, BF16),
        ):
            number += 1
            yield case_of(method, parameters, shape, scale, dtype, count, with_base, number)


def case_of(
    method: MergeMethod,
    parameters: Mapping[str, Any],
    shape: tuple[int, ...],
    scale: float,
    dtype: DType,
    count: int,
    with_base: bool,
    seed: int,
) -> Case:
    """Models that lie near a base, or far from it, or are equal, of values of the size of `scale`."""
    rng = np.random.default_rng(seed)
    base = exact(rng.normal(0, scale, shape), dtype)
    near = [(0.01, 1.0, 0.1)[(seed + place) % 3] for place in range(count)]
    models = [exact(base + rng.normal(0, scale * each, shape), dtype) for each in near]
    if seed % 4 == 0 and count > 1:
        models[1] = models[0]
    if seed % 5 == 0:
        models[-1] = base
    keys = tuple(int(key) for key in rng.integers(1, 1 << 63, count))
    return Case(method, tuple(models), base if with_base else None, dtype, values_of(method, count, parameters), keys)


def values_of(method: MergeMethod, count: int, given: Mapping[str, Any]) -> dict[str, Value | tuple[Value, ...]]:
    """Every parameter as a planner hands it on, one value a model where each has its own; `weight` is uneven."""
    if unknown := set(given) - set(method.parameters):
        raise LawBroken(f"{method.name} has no parameter {', '.join(sorted(unknown))}")
    values: dict[str, Value | tuple[Value, ...]] = {}
    for name, parameter in method.parameters.items():
        value = given.get(name, WEIGHTS[:count] if name == "weight" else parameter.default)
        if value is None:
            raise LawBroken(f"{method.name} needs a value of `{name}` to be tried: check_method(..., {name}=...)")
        if parameter.meaning.per_model:
            spread = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * count
            values[name] = tuple(map(parameter.coerce, spread[:count]))
        else:
            values[name] = parameter.coerce(value)
    return values


# Values as files hold them


def stored(values: Array, dtype: DType) -> Array:
    """Values in the form in which a file holds them. They have to be exact in `dtype`."""
    if dtype is not BF16:
        return np.array(values, STORAGE[dtype], order="C")
    narrow = np.array(values, np.float32, order="C")
    return (narrow.view(np.uint32) >> 16).astype(np.uint16)


def decoded(bits: Array, dtype: DType) -> Array:
    """Stored values in float64."""
    values = np.empty(bits.size, np.float64)
    decode(Stored(bits.reshape(-1), dtype), values)
    return values.reshape(bits.shape)


def exact(values: Array, dtype: DType) -> Array:
    """The nearest values (towards zero for bf16) that `dtype` holds, in float64."""
    return decoded(stored(values, dtype), dtype)
