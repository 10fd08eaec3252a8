"""Each method against its formula in float64: half an ulp of the stored dtype, and 2^-22 of what is added up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conformance.formulas import FORMULAS
from lamina.merge_methods import METHODS
from lamina.tensor_spec import BF16, F16, F32, F64, DType

from .engine import Array, exact, merged

DIGITS = {BF16: (8, -126), F16: (11, -14), F32: (24, -126), F64: (53, -1022)}
SHAPES = {"matrix": (96, 160), "vector": (1000,), "rows of one": (64, 1), "three": (6, 7, 40), "tiles": (700, 300)}

# Of each method, parameters that lead through every branch of its formula.
CASES: dict[str, list[dict[str, Any]]] = {
    "linear": [{"weight": [0.2, 0.7, -0.4]}, {"weight": [0.2, 0.7, 0.4], "normalize": False, "scale": [1, 2, 0.5]}],
    "slerp": [{"t": 0.3}, {"t": 0.8}],
    "nuslerp": [
        {"weight": [0.3, 0.9]},
        {"weight": [0.3, 0.9], "nuslerp_flatten": False},
        {"weight": [0.3, 0.9], "nuslerp_flatten": False, "nuslerp_row_wise": True},
    ],
    "multislerp": [{"weight": [0.2, 0.7, 0.4]}, {"weight": [0.2, 0.7, 0.4], "normalize_weights": False}],
    "karcher": [{}, {"max_iter": 2}],
    "task_arithmetic": [{"weight": [0.2, 0.7, -0.4]}, {"weight": [0.2, 0.7, 0.4], "normalize": True, "lambda": 0.6}],
    "ties": [
        {"weight": [0.2, 0.7, 0.4], "density": [0.3, 1, 0.5]},
        {"weight": [0.2, 0.7, -0.4], "density": 0.37, "normalize": False, "lambda": 1.7},
        {"weight": [0.2, 0.7, -0.4], "density": 0.0001, "rescale": "l1"},
        {"weight": [0.2, 0.7, 0.4], "density": [0, 0.2, 0.9], "rescale": True},
    ],
    "breadcrumbs": [
        {"weight": [0.2, 0.7, 0.4], "density": [0.3, 1, 0.5], "gamma": [0.01, 0.1, 0.3]},
        {"weight": [0.2, 0.7, 0.4], "density": 0.7, "gamma": 0.5, "normalize": True, "rescale": True, "lambda": 0.5},
        {"weight": [0.2, 0.7, 0.4], "density": [0.5, 0, 0.9], "gamma": 0},
    ],
    "dare_linear": [
        {"weight": [0.2, 0.7, 0.4], "density": [0.3, 1, 0.5]},
        {"weight": [0.2, 0.7, 0.4], "density": [0.3, 0.7, 0], "rescale": "inverse", "normalize": True},
        {"weight": [0.2, 0.7, 0.4], "density": 0.5, "rescale": False, "lambda": 0.5},
    ],
    "della_linear": [
        {"weight": [0.2, 0.7, 0.4], "density": [0.3, 1, 0.5], "epsilon": 0.1},
        {"weight": [0.2, 0.7, 0.4], "density": [0.3, 0, 0.5], "epsilon": 0.2, "rescale": "inverse"},
        {"weight": [0.2, 0.7, 0.4], "density": 0.5, "epsilon": 0.4, "rescale": False, "lambda": 0.5},
    ],
    "sce": [{}, {"select_topk": 0.3}, {"select_topk": 0.001}],
    "ram": [{}, {"epsilon": 0.02}],
    "ramplus_tl": [{"epsilon": 0.02}, {"epsilon": 0.03, "r": 0.5, "alpha": 0.7}],
    "model_stock": [{}, {"filter_wise": True}],
    "nearswap": [{"t": 0.01}, {"t": 0.0001}],
    "arcee_fusion": [{}],
    "passthrough": [{"scale": [0.7]}],
}
CASES["breadcrumbs_ties"], CASES["dare_ties"] = CASES["breadcrumbs"], CASES["dare_linear"]
CASES["della"] = CASES["della_linear"]
KEYS = [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210, 0x0F1E_2D3C_4B5A_6978]


def cases() -> list[Any]:
    every = [(name, number, given) for name, each in CASES.items() for number, given in enumerate(each)]
    return [pytest.param(name, given, id=f"{name}-{number}") for name, number, given in every]


def test_every_method_has_cases_and_a_formula() -> None:
    assert set(CASES) == set(FORMULAS) == set(METHODS)


@pytest.mark.parametrize("dtype", [BF16, F16, F32, F64], ids=str)
@pytest.mark.parametrize(("name", "given"), cases())
def test_a_method_gives_what_its_formula_says(name: str, given: dict[str, Any], dtype: DType) -> None:
    check(name, given, dtype, SHAPES["matrix"])


@pytest.mark.parametrize("shape", ["vector", "rows of one", "three", "tiles"])
@pytest.mark.parametrize(("name", "given"), cases())
def test_a_method_gives_what_its_formula_says_for_any_shape(name: str, given: dict[str, Any], shape: str) -> None:
    check(name, given, BF16 if shape == "tiles" else F32, SHAPES[shape])


@pytest.mark.parametrize("name", ["nuslerp", "multislerp"])
@pytest.mark.parametrize("number", range(3))
def test_a_base_is_taken_away_first(name: str, number: int) -> None:
    if number < len(CASES[name]):
        check(name, CASES[name][number], F32, SHAPES["matrix"], base=True)


def check(name: str, given: dict[str, Any], dtype: DType, shape: tuple[int, ...], *, base: bool = False) -> None:
    method = METHODS[name]
    count = min(3, method.inputs[1] or 3)
    inputs, origin = models(shape, dtype, count)
    from_base = origin if base or method.base == "required" else None
    keys = {"keys": KEYS[:count]} if method.draws else {}
    made = merged(name, inputs, from_base, dtype=dtype, **keys, **given)
    told = {("lambda_" if key == "lambda" else key): value for key, value in given.items()}
    for parameter in method.parameters.values():
        if parameter.meaning.per_model and parameter.name not in told and parameter.default is not None:
            told[parameter.name] = parameter.default
        if parameter.meaning.per_model and not isinstance(told.get(parameter.name), list):
            told[parameter.name] = [told[parameter.name]] * count
    terms = FORMULAS[name](inputs, from_base, **keys, **told)
    assert_close(made, terms, dtype)


def models(shape: tuple[int, ...], dtype: DType, count: int) -> tuple[list[Array], Array]:
    """Models around a base, on a grid on which their differences are exact in float32, at times equal to the base."""
    rng = np.random.default_rng(hash(shape) & 0xFFFF)
    if dtype is BF16:
        base = exact(rng.normal(0, 0.1, shape), dtype)
        changed = [exact(base + rng.normal(0, 0.02, shape), dtype) for _ in range(count)]
    else:
        step = 2.0 ** (-10 if dtype is F16 else -18)
        base = np.round(rng.normal(0, 0.1, shape) / step) * step
        changed = [base + np.round(rng.normal(0, 0.02, shape) / step) * step for _ in range(count)]
    return [np.where(rng.random(shape) < 0.1, base, each) for each in changed], base


def assert_close(made: Array, terms: list[Array], dtype: DType) -> None:
    value, size = sum(terms), np.abs(terms).sum(axis=0)
    digits, lowest = DIGITS[dtype]
    _, exponent = np.frexp(np.maximum(np.abs(value), np.abs(made)))
    half_ulp = np.exp2(np.maximum(exponent - 1, lowest) - digits)
    error = 2.0**-44 if dtype is F64 else 2.0**-22  # coefficients from a Gram matrix are exact to 4e-15
    excess = np.abs(made - value) - half_ulp - error * size
    assert made.shape == value.shape
    assert (excess <= 0).all(), f"{(excess > 0).sum()} of {excess.size} off, by up to {excess.max():.3g}"


SPARSE = ["ties", "breadcrumbs", "breadcrumbs_ties", "dare_linear", "dare_ties", "della", "della_linear"]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    name=st.sampled_from(SPARSE),
    models=st.integers(1, 4),
    shape=st.sampled_from([(7,), (40, 30), (3, 4, 5), (1, 1), (2, 300)]),
    step=st.sampled_from([2.0**-2, 2.0**-6, 2.0**-18]),
    data=st.data(),
)
def test_sparse_methods_agree_with_their_formulas_where_many_elements_are_equal(
    name: str, models: int, shape: tuple[int, ...], step: float, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    base, *inputs = (np.round(rng.normal(0, 1, shape) / step) * step for _ in range(models + 1))
    weights = st.sampled_from([0.2, 0.7, 0.5, 1.0, -0.4])
    known = METHODS[name].parameters
    told: dict[str, Any] = {
        "weight": data.draw(st.lists(weights, min_size=models, max_size=models)),
        "density": data.draw(st.lists(st.sampled_from([0.3, 0.5, 0.62, 1.0]), min_size=models, max_size=models)),
        "normalize": data.draw(st.booleans()),
        "rescale": data.draw(
            st.sampled_from([choice for choice in known["rescale"].meaning.choices if choice != "true"])
        ),
        "lambda": data.draw(st.sampled_from([1.0, 0.3, -2.0])),
    }
    for own, values in (("gamma", [0.01, 0.3, 0.9]), ("epsilon", [0.1, 0.25])):
        if own in known:
            told[own] = data.draw(st.lists(st.sampled_from(values), min_size=models, max_size=models))
    keys = {"keys": [rng.integers(1 << 63).item() for _ in range(models)]} if METHODS[name].draws else {}
    made = merged(name, inputs, base, **keys, **told)
    told["lambda_"] = told.pop("lambda")
    assume(not told["normalize"] or abs(sum(told["weight"])) > 1e-3)
    assert_close(made, FORMULAS[name](inputs, base, **keys, **told), F32)
