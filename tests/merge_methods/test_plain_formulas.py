"""Each plain method's formula against float64, written out here from its paper and not from the method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.expressions.compute import Worker, Workspace, compute
from lamina.expressions.inspect import peak_bytes
from lamina.expressions.nodes import Read, merge
from lamina.kernels.numpy_kernels import NumpyKernels
from lamina.merge_methods import METHODS, UndefinedMerge
from lamina.tensor_spec import BF16, F16, F32, F64, DType, TensorSpec

Array = NDArray[np.float64]
TORCH = {BF16: torch.bfloat16, F16: torch.float16, F32: torch.float32, F64: torch.float64}
DIGITS = {BF16: 8, F16: 11, F32: 24, F64: 53}
SMALLEST = {BF16: -133, F16: -24, F32: -149, F64: -1074}  # exponent of the smallest number, a step from zero
COUNT = 64


# The formulas: (models, base, parameters) -> the terms that are added up


def linear(models: Sequence[Array], _base: Array | None, p: Mapping[str, Any]) -> list[Array]:
    """Sum of w s x, divided by the sum of w (https://arxiv.org/abs/2203.05482)."""
    divisor = sum(p["weight"]) if p["normalize"] else 1.0
    return [w * s * x / divisor for w, s, x in zip(p["weight"], p["scale"], models, strict=True)]


def passthrough(models: Sequence[Array], _base: Array | None, p: Mapping[str, Any]) -> list[Array]:
    (x,), (s,) = models, p["scale"]
    return [s * x]


def task_arithmetic(models: Sequence[Array], base: Array | None, p: Mapping[str, Any]) -> list[Array]:
    """base + lambda sum of w (x - base) (https://arxiv.org/abs/2212.04089).

    Normalised, it is divided by the sum of w where that is 1e-8 or more, as in MergeKit.
    """
    assert base is not None
    divisor = sum(p["weight"]) if p["normalize"] and abs(sum(p["weight"])) >= 1e-8 else 1.0
    return [base, *(p["lambda"] * w * (x - base) / divisor for w, x in zip(p["weight"], models, strict=True))]


FORMULAS: dict[str, Callable[[Sequence[Array], Array | None, Mapping[str, Any]], list[Array]]] = {
    "linear": linear,
    "passthrough": passthrough,
    "task_arithmetic": task_arithmetic,
}


def test_every_plain_method_has_its_formula_here() -> None:
    assert set(FORMULAS) == {name for name, method in METHODS.items() if method.is_plain}


# By hand


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"weight": (1.0, 3.0), "scale": (1.0, 1.0), "normalize": True}, 7.0),  # (4 + 3 x 8) / 4
        ({"weight": (1.0, 3.0), "scale": (1.0, 1.0), "normalize": False}, 28.0),
        ({"weight": (1.0, 1.0), "scale": (2.0, 1.0), "normalize": True}, 8.0),  # (2 x 4 + 8) / 2
        ({"weight": (2.0, -1.0), "scale": (1.0, 1.0), "normalize": True}, 0.0),  # 2 x 4 - 8
    ],
)
def test_linear_of_four_and_eight(values: dict[str, Any], expected: float) -> None:
    assert result("linear", [[4.0], [8.0]], values).tolist() == [expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"weight": (1.0, 0.5), "normalize": False, "lambda": 1.0}, 7.5),  # 1 + 3 + 7/2
        ({"weight": (1.0, 0.5), "normalize": False, "lambda": 2.0}, 14.0),
        ({"weight": (1.0, 1.0), "normalize": True, "lambda": 1.0}, 6.0),  # 1 + (3 + 7) / 2
        ({"weight": (1.0, -1.0), "normalize": True, "lambda": 1.0}, -3.0),  # 1 + 3 - 7: weights that cancel are added
    ],
)
def test_task_arithmetic_of_four_and_eight_on_one(values: dict[str, Any], expected: float) -> None:
    assert result("task_arithmetic", [[4.0], [8.0]], values, base=[1.0]).tolist() == [expected]


def test_passthrough_of_four() -> None:
    assert result("passthrough", [[4.0]], {"scale": (1.0,)}).tolist() == [4.0]
    assert result("passthrough", [[4.0]], {"scale": (-0.5,)}).tolist() == [-2.0]


@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.0, 0.0), (0.1, 0.2, -0.3), (1e300, -1e300), (5e-324, -5e-324)])
def test_linear_has_no_mean_where_its_weights_sum_to_zero(weights: tuple[float, ...]) -> None:
    with pytest.raises(UndefinedMerge):
        METHODS["linear"].foreseen({"weight": weights, "scale": (1.0,) * len(weights), "normalize": True}, len(weights))


def test_tiny_weights_make_the_mean_that_large_ones_make() -> None:
    for size in (1e-300, 1e-9, 1.0, 1e9, 1e300):
        values = {"weight": (size, 3 * size), "scale": (1.0, 1.0), "normalize": True}
        assert METHODS["linear"].foreseen(values, 2) == pytest.approx((0.25, 0.75), rel=1e-15)


# Against float64

factors = st.floats(-3, 3, width=32)


@st.composite
def cases(draw: Any) -> tuple[str, int, dict[str, Any]]:
    """A method, a number of models, and values for its parameters."""
    method = METHODS[draw(st.sampled_from(sorted(FORMULAS)))]
    least, most = method.inputs
    count = draw(st.integers(max(1, least), most or 4))
    values: dict[str, Any] = {}
    for parameter in method.parameters.values():
        one = st.booleans() if parameter.meaning.type is bool else factors
        values[parameter.name] = draw(st.tuples(*[one] * count) if parameter.meaning.per_model else one)
    return method.name, count, values


@given(cases(), st.sampled_from([BF16, F16, F32, F64]), st.integers(0, 1000))
def test_a_method_gives_its_formula_to_half_an_ulp_and_a_trace_of_its_largest_term(
    case: tuple[str, int, dict[str, Any]], dtype: DType, seed: int
) -> None:
    name, count, values = case
    weights = values.get("weight", (1.0,))
    assume(not values.get("normalize") or abs(math.fsum(weights)) > 1e-2)  # else both are noise
    rng = np.random.default_rng(seed)
    models = [rng.standard_normal(COUNT) for _ in range(count)]
    base = rng.standard_normal(COUNT) if METHODS[name].space == "deltas" else None
    found = result(name, models, values, base=base, dtype=dtype)
    exact = [stored(x, dtype).double().numpy() for x in models]
    terms = FORMULAS[name](exact, None if base is None else stored(base, dtype).double().numpy(), values)
    expected, largest = np.sum(terms, axis=0), np.max(np.abs(terms), axis=0)
    arithmetic = 50 if dtype is F64 else 24  # this reference is float64 itself
    trace = (len(terms) + 1) * 2.0 ** (1 - arithmetic) * largest
    half_ulp = np.exp2(np.frexp(np.abs(expected) + trace)[1] - 1.0 - DIGITS[dtype])
    half_ulp = np.maximum(half_ulp, 2.0 ** (SMALLEST[dtype] - 1))
    trace = trace + (len(terms) + 1) * 2.0**-147  # factors and products may be subnormal, and have fewer digits
    assert (np.abs(found - expected) <= half_ulp + trace).all()


def stored(values: Sequence[float] | Array, dtype: DType) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values, np.float64)).to(TORCH[dtype])


def result(
    method: str,
    models: Sequence[Sequence[float] | Array],
    values: Mapping[str, Any],
    *,
    base: Sequence[float] | Array | None = None,
    dtype: DType = F32,
) -> Array:
    """What the engine makes of these tensors, stored as `dtype` like the tensors themselves."""
    spec = TensorSpec((len(models[0]),), dtype)
    tensors = {str(number): stored(model, dtype) for number, model in enumerate(models)}
    inputs = [Read(name, "w", spec) for name in tensors]
    if base is not None:
        tensors["base"] = stored(base, dtype)
    expr = merge(method, inputs, values, base=None if base is None else Read("base", "w", spec))

    def read(source: Read, first_byte: int, buffer: memoryview) -> None:
        raw = tensors[source.model].view(torch.uint8).numpy().tobytes()
        buffer[:] = raw[first_byte : first_byte + len(buffer)]

    block, _ = compute(expr, 0, spec.count, {}, Worker(read, NumpyKernels(), Workspace(peak_bytes(expr))))
    return np.asarray(torch.frombuffer(bytearray(block.raw), dtype=TORCH[dtype]).double().numpy())
