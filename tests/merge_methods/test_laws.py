"""What holds of every registered method, and what some declare, for tensors that hypothesis thinks of."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina import tensor_spec
from lamina.errors import NonFiniteResult
from lamina.expressions.compute import compute, measure
from lamina.expressions.inspect import peak_bytes
from lamina.kernels import tiles
from lamina.kernels.numpy_kernels import SCRATCH_BYTES
from lamina.merge_methods import METHODS, laws
from lamina.tensor_spec import BF16, F16, F32, F64, DType

from .engine import Array, Arrays, decoded, exact, expression, merged

# Values that make methods look at the tensors; every one of a method's measures is needed.
LOOKING: dict[str, dict[str, Any]] = {
    "slerp": {"t": 0.3},
    "nearswap": {"t": 0.01},
    "sce": {"select_topk": 0.4},
    **{
        name: {"density": 0.4, "rescale": "l1"}
        for name in ("ties", "dare_linear", "dare_ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear")
    },
}
VARIANTS = [
    *((name, LOOKING.get(name, {})) for name in METHODS),
    ("nuslerp", {"nuslerp_flatten": False}),
    ("nuslerp", {"nuslerp_flatten": False, "nuslerp_row_wise": True}),
    ("model_stock", {"filter_wise": True}),
    ("dare_ties", {"density": 0.4, "rescale": "inverse"}),
    ("della", {"density": 0.4, "rescale": "inverse"}),
]
every_method = pytest.mark.parametrize(("name", "parameters"), VARIANTS, ids=lambda part: str(part))
hypothesis_settings = settings(
    max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@st.composite
def tensors(draw: Any, dtype: DType | None = None) -> tuple[list[Array], Array, DType]:
    """Three models and a base of one shape, now and then equal, all zero, or far from one."""
    dtype = dtype or draw(st.sampled_from([BF16, F16, F32, F64]))
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=0, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    scale = draw(st.sampled_from([1e-6, 0.02, 1.0, 30.0]))
    base = exact(rng.normal(0, scale, shape), dtype)
    models = []
    for _ in range(3):
        near = draw(st.sampled_from([0.0, 0.01, 1.0]))
        models.append(exact(base + rng.normal(0, scale * near, shape), dtype))
    if draw(st.booleans()):
        models[1] = models[0]
    if draw(st.integers(0, 5)) == 0:
        models[2] = np.zeros(shape)
    return models, base, dtype


def run(name: str, models: list[Array], base: Array, dtype: DType, **parameters: Any) -> Array:
    method = METHODS[name]
    if "weight" in method.parameters:
        parameters = {"weight": [0.2, 0.7, 0.5][: method.inputs[1]], **parameters}
    origin = base if method.base == "required" else None
    return merged(name, models[: method.inputs[1]], origin, dtype=dtype, **parameters)


@every_method
@hypothesis_settings
@given(world=tensors())
def test_the_result_has_the_shape_and_is_finite(
    name: str, parameters: dict[str, Any], world: tuple[list[Array], Array, DType]
) -> None:
    models, base, dtype = world
    made = run(name, models, base, dtype, **parameters)
    assert made.shape == base.shape
    assert np.isfinite(made).all()


@every_method
def test_inputs_are_untouched_and_results_repeat(name: str, parameters: dict[str, Any]) -> None:
    arrays, expr = looked_at(name, parameters, (64, 48))
    before = {key: value.copy() for key, value in arrays.stored.items()}
    first = arrays.bits(expr)
    assert np.array_equal(first, arrays.bits(expr))
    assert all(np.array_equal(before[key], value) for key, value in arrays.stored.items())


@every_method
def test_neither_blocks_nor_tiles_are_seen_in_the_result(
    name: str, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, expr = looked_at(name, parameters, (512, 256))
    whole = arrays.bits(expr)
    for block, tile in ((1 << 16, 1 << 16), (1 << 15, 1 << 14), (1 << 14, 1 << 14)):
        monkeypatch.setattr(tensor_spec, "BLOCK_ELEMENTS", block)
        monkeypatch.setattr(tiles, "TILE_ELEMENTS", tile)
        assert np.array_equal(arrays.bits(expr), whole)


@every_method
def test_a_row_longer_than_a_block_is_merged_like_any_other(
    name: str, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, expr = looked_at(name, parameters, (3, 5000))
    whole = arrays.bits(expr)
    monkeypatch.setattr(tensor_spec, "BLOCK_ELEMENTS", 1 << 11)
    if METHODS[name].scope == "row" or METHODS[name].name not in ("slerp", "multislerp", "karcher", "sce"):
        assert np.array_equal(arrays.bits(expr), whole)
    else:  # sums follow the blocks, which follow the shape
        assert np.allclose(decoded(arrays.bits(expr), BF16), decoded(whole, BF16), rtol=1e-2)


@every_method
def test_only_methods_that_draw_depend_on_the_keys(name: str, parameters: dict[str, Any]) -> None:
    results = []
    for keys in ([1, 2, 3], [4, 5, 6]):
        arrays, expr = looked_at(name, parameters, (64, 48), keys=keys)
        results.append(arrays.bits(expr))
    assert np.array_equal(*results) == (not METHODS[name].draws)


@every_method
def test_memory_stays_within_what_is_announced(name: str, parameters: dict[str, Any]) -> None:
    arrays, expr = looked_at(name, parameters, (1100, 1024))
    arrays.bits(expr)  # whatever is allocated once
    announced = peak_bytes(expr) + SCRATCH_BYTES
    tracemalloc.start()
    arrays.bits(expr)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    gathered = 2 * expr.spec.nbytes  # by `bits`, in pieces and as one
    assert peak - gathered <= announced + 50_000  # of Python's own objects


# Declared laws


def declaring(law: str) -> list[Any]:
    return [pytest.param(*each, id=str(each)) for each in VARIANTS if law in METHODS[each[0]].laws]


def case(name: str, parameters: dict[str, Any], world: tuple[list[Array], Array, DType]) -> laws.Case:
    models, base, dtype = world
    method = METHODS[name]
    some = tuple(models[: method.inputs[1]])
    values = laws.values_of(method, len(some), parameters)
    keys = (0x1234_5678, 0x9ABC_DEF0, 0x0F1E_2D3C)[: len(some)]
    return laws.Case(method, some, base if method.base == "required" else None, dtype, values, keys)


@pytest.mark.parametrize(("name", "parameters"), declaring("symmetric"))
@hypothesis_settings
@given(world=tensors(F32))
def test_the_order_of_the_models_does_not_matter(
    name: str, parameters: dict[str, Any], world: tuple[list[Array], Array, DType]
) -> None:
    laws.is_symmetric(case(name, parameters, world))


@pytest.mark.parametrize(("name", "parameters"), declaring("idempotent"))
@hypothesis_settings
@given(world=tensors(F32))
def test_equal_models_are_left_as_they_are(
    name: str, parameters: dict[str, Any], world: tuple[list[Array], Array, DType]
) -> None:
    # A tensor so short that a formula does not call it a direction may come out as zero.
    laws.is_idempotent(case(name, parameters, world), slack=2e-5 if name == "karcher" else 1e-7)


@pytest.mark.parametrize(("name", "parameters"), declaring("zero weight is base"))
@hypothesis_settings
@given(world=tensors(F32))
def test_models_of_weight_zero_leave_the_base(
    name: str, parameters: dict[str, Any], world: tuple[list[Array], Array, DType]
) -> None:
    laws.leaves_the_base_at_weight_zero(case(name, parameters, world))


@every_method
def test_every_method_keeps_its_laws_on_the_cases_that_those_of_users_are_tried_on(
    name: str, parameters: dict[str, Any]
) -> None:
    assert set(laws.tried(METHODS[name], parameters)) == {*laws.UNIVERSAL, *METHODS[name].laws}


def looked_at(name: str, parameters: dict[str, Any], shape: tuple[int, ...], **options: Any) -> tuple[Arrays, Any]:
    """An expression over bf16 models with many equal deltas, as light fine-tunes have."""
    rng = np.random.default_rng(7)
    method = METHODS[name]
    base = exact(rng.normal(0, 0.1, shape), BF16)
    models = [exact(base + rng.normal(0, 0.002, shape), BF16) for _ in range(min(3, method.inputs[1] or 3))]
    if "weight" in method.parameters:
        parameters = {"weight": [0.2, 0.7, 0.5][: len(models)], **parameters}
    arrays = Arrays()
    origin = base if method.base == "required" else None
    return arrays, expression(arrays, name, models, origin, dtype=BF16, **options, **parameters)


# What is not finite


@every_method
@pytest.mark.parametrize("size", [1e30, 3e38])
def test_large_finite_inputs_never_give_nan_in_silence(name: str, parameters: dict[str, Any], size: float) -> None:
    rng = np.random.default_rng(1)
    base, *models = (rng.uniform(-1, 1, (40, 30)).astype(np.float32) * np.float32(size) for _ in range(4))
    arrays, expr, worker, measured = prepared(name, parameters, models, base)
    try:
        block, finite = compute(expr, 0, expr.spec.count, measured, worker)
    except NonFiniteResult:
        return
    assert finite
    assert np.isfinite(block.data).all()
    assert arrays.stored


@every_method
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_an_input_is_told_or_not_taken(
    name: str, parameters: dict[str, Any], value: float
) -> None:
    rng = np.random.default_rng(1)
    base, *models = (rng.uniform(-1, 1, (40, 30)).astype(np.float32) for _ in range(4))
    models[0][7, 11] = value
    _, expr, worker, measured = prepared(name, parameters, models, base)
    block, finite = compute(expr, 0, expr.spec.count, measured, worker)
    assert finite == np.isfinite(block.data).all()


def prepared(name: str, parameters: dict[str, Any], models: list[Array], base: Array) -> tuple[Arrays, Any, Any, Any]:
    method = METHODS[name]
    if "weight" in method.parameters:
        parameters = {"weight": [0.2, 0.7, 0.5][: method.inputs[1]], **parameters}
    arrays = Arrays()
    origin = base if method.base == "required" else None
    expr = expression(arrays, name, models[: method.inputs[1]], origin, **parameters)
    worker = arrays.worker(expr)
    return arrays, expr, worker, measure(expr, worker)
