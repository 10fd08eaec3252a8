"""The laws of the plain methods, whose coefficients the parameters decide, and the parameters of all."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.errors import NonFiniteResult
from lamina.expressions.compute import Worker, Workspace, compute
from lamina.expressions.inspect import peak_bytes
from lamina.expressions.nodes import Expr, Read, merge
from lamina.kernels.numpy_kernels import NumpyKernels
from lamina.merge_methods import METHODS, MergeMethod, UndefinedMerge
from lamina.merge_methods.parameters import Parameter
from lamina.tensor_spec import F32, TensorSpec

SHAPE = (4, 6)
BOUNDS = (-3.0, 3.0)
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
PLAIN = {name: method for name, method in METHODS.items() if method.is_plain}
each_plain_method = pytest.mark.parametrize("method", PLAIN.values(), ids=PLAIN)


def declaring(law: str) -> pytest.MarkDecorator:
    found = {name: method for name, method in METHODS.items() if method.is_plain and law in method.laws}
    return pytest.mark.parametrize("method", found.values(), ids=found)


# Declarations


@each_method
def test_a_method_lies_in_the_file_of_its_name_and_says_what_it_is(method: MergeMethod) -> None:
    assert method.function.__module__ == f"lamina.merge_methods.{method.name}"
    assert re.fullmatch(r"[A-Z][^\n]*\.", method.summary)
    assert method.reference.startswith("https://")
    assert method.title


@each_method
def test_every_parameter_says_what_it_does_(method: MergeMethod) -> None:
    for parameter in method.parameters.values():
        assert parameter.meaning.effect
        assert parameter.default is None or parameter.coerce(parameter.default) == parameter.default


# Universal laws


@each_plain_method
@given(data=st.data())
def test_there_is_one_coefficient_a_model_or_none_is_defined(method: MergeMethod, data: st.DataObject) -> None:
    """For every value that a recipe may give: up to 1e308, down to 5e-324."""
    count = data.draw(st.integers(max(1, method.inputs[0]), method.inputs[1] or 5))
    assert_defined_or_told(method, data.draw(parameters(method, count, (-1.79e308, 1.79e308))), count)


@each_plain_method
def test_weights_whose_sum_is_beyond_every_float_end_in_numbers_or_a_letter(method: MergeMethod) -> None:
    count = method.inputs[1] or 2
    for truth in (True, False):
        values: dict[str, Any] = {}
        for parameter in method.parameters.values():
            one = truth if parameter.meaning.type is bool else 1e308
            values[parameter.name] = (one,) * count if parameter.meaning.per_model else one
        assert_defined_or_told(method, values, count)


@each_plain_method
@given(data=st.data())
def test_a_result_has_the_shape_of_its_inputs_and_is_finite(method: MergeMethod, data: st.DataObject) -> None:
    case = data.draw(cases(method))
    merged = case.made()
    assert merged.shape == SHAPE
    assert np.isfinite(merged).all()


@each_plain_method
@given(data=st.data())
def test_large_finite_inputs_never_give_nan_in_silence(method: MergeMethod, data: st.DataObject) -> None:
    case = data.draw(cases(method, size=3e38))
    try:
        merged = case.made()
    except NonFiniteResult:
        return
    assert np.isfinite(merged).all()


@each_plain_method
@given(data=st.data())
def test_inputs_stay_as_they_were(method: MergeMethod, data: st.DataObject) -> None:
    case = data.draw(cases(method))
    before = {name: tensor.copy() for name, tensor in case.tensors.items()}
    case.made()
    assert all(np.array_equal(tensor, case.tensors[name]) for name, tensor in before.items())


@each_plain_method
@given(data=st.data())
def test_the_same_request_gives_the_same_bytes(method: MergeMethod, data: st.DataObject) -> None:
    case = data.draw(cases(method))
    assert case.made().tobytes() == case.made().tobytes()


@each_plain_method
@given(data=st.data(), cuts=st.lists(st.integers(0, math.prod(SHAPE)), max_size=4))
def test_blocks_are_parts_of_the_whole(method: MergeMethod, data: st.DataObject, cuts: list[int]) -> None:
    case = data.draw(cases(method))
    borders = [0, *sorted(cuts), math.prod(SHAPE)]
    pieces = [case.made(start, stop).reshape(-1) for start, stop in itertools.pairwise(borders)]
    assert np.concatenate(pieces).tobytes() == case.made().tobytes()


# Declared laws


@declaring("symmetric")
@given(data=st.data())
def test_the_order_of_the_models_does_not_count(method: MergeMethod, data: st.DataObject) -> None:
    """To rounding: the sums are taken in another order."""
    case = data.draw(cases(method))
    order = data.draw(st.permutations(range(case.count)))
    close(case.reordered(order).made(), case.made(), case.largest_term())


@declaring("idempotent")
@given(data=st.data())
def test_merging_a_model_with_itself_gives_the_model(method: MergeMethod, data: st.DataObject) -> None:
    """With every parameter that has a default at its default."""
    case = data.draw(cases(method, alike=True, only_required=True))
    close(case.made(), case.tensors["0"].reshape(SHAPE), case.largest_term())


@declaring("zero weight is base")
@given(data=st.data())
def test_models_that_weigh_nothing_leave_the_base_to_the_bit(method: MergeMethod, data: st.DataObject) -> None:
    case = data.draw(cases(method)).with_values(weight=0.0)
    assert case.made().tobytes() == case.tensors["base"].tobytes()


@pytest.mark.parametrize("method", [m for m in PLAIN.values() if m.space == "deltas"], ids=lambda method: method.name)
@given(data=st.data())
def test_models_that_are_the_base_change_nothing(method: MergeMethod, data: st.DataObject) -> None:
    case = data.draw(cases(method))
    for name in case.tensors:
        case.tensors[name] = case.tensors["base"]
    assert np.array_equal(case.made().reshape(-1), case.tensors["base"])


# Parameters


@given(st.booleans() | st.integers() | st.floats() | st.text() | st.none() | st.lists(st.integers(), max_size=2))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_value_of_a_recipe_is_taken_or_answered_with_what_is_valid(value: object) -> None:
    for parameter in every_parameter():
        try:
            taken = parameter.coerce(value)
        except ValueError as error:
            assert parameter.name in str(error)  # noqa: PT017 (most values are taken)
        else:
            assert type(taken) is parameter.meaning.type
            assert isinstance(taken, str) or math.isfinite(taken)


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**400), float("inf"), float("nan"), "1e400", "", "half", None, [1.0]],
    ids=lambda value: f"{value!r:.8}",
)
def test_what_is_no_number_is_a_letter(value: object) -> None:
    with pytest.raises(ValueError, match="`weight` takes any number"):
        METHODS["linear"].parameters["weight"].coerce(value)


@pytest.mark.parametrize(("value", "number"), [("1e-5", 1e-5), (1, 1.0), ("0.5", 0.5), (True, 1.0), ("-3", -3.0)])
def test_numbers_are_taken_as_yaml_leaves_them(value: object, number: float) -> None:
    assert METHODS["linear"].parameters["weight"].coerce(value) == number


@pytest.mark.parametrize("value", [True, "true", "True", "yes", "on", 1, 1.0, "1"])
def test_what_is_true(value: object) -> None:
    assert METHODS["linear"].parameters["normalize"].coerce(value) is True


@pytest.mark.parametrize("value", [False, "false", "No", "off", 0, 0.0, "0"])
def test_what_is_false(value: object) -> None:
    assert METHODS["linear"].parameters["normalize"].coerce(value) is False


@pytest.mark.parametrize("value", [2, 0.5, "maybe", "", None, []])
def test_what_is_neither(value: object) -> None:
    with pytest.raises(ValueError, match="`normalize` takes true or false"):
        METHODS["linear"].parameters["normalize"].coerce(value)


# Helpers


def every_parameter() -> list[Parameter]:
    return [parameter for method in METHODS.values() for parameter in method.parameters.values()]


@st.composite
def parameters(
    draw: Any, method: MergeMethod, count: int, bounds: tuple[float, float] = BOUNDS, only_required: bool = False
) -> dict[str, Any]:
    """A value for each parameter, within its own range and `bounds`; for per-model ones one a model."""
    values: dict[str, Any] = {}
    for parameter in method.parameters.values():
        meaning = parameter.meaning
        one: st.SearchStrategy[Any] = st.booleans()
        if only_required and parameter.default is not None:
            one = st.just(parameter.default)
        elif meaning.type is float:
            one = st.floats(max(bounds[0], meaning.minimum), min(bounds[1], meaning.maximum))
        values[parameter.name] = draw(st.tuples(*[one] * count) if meaning.per_model else one)
    return values


def assert_defined_or_told(method: MergeMethod, values: Mapping[str, Any], count: int) -> None:
    try:
        coefficients = method.foreseen(values, count)
    except UndefinedMerge:
        return
    assert {len(value) for value in values.values() if isinstance(value, tuple)} == {len(coefficients)}
    assert all(isinstance(coefficient, float) and not math.isnan(coefficient) for coefficient in coefficients)


class Case:
    """A method with models (and a base) of float32, and its parameters' values."""

    def __init__(self, method: MergeMethod, tensors: dict[str, NDArray[np.float32]], values: Mapping[str, Any]) -> None:
        self.method, self.tensors, self.values = method, tensors, dict(values)
        self.models = [name for name in tensors if name != "base"]

    @property
    def count(self) -> int:
        return len(self.models)

    @property
    def expr(self) -> Expr:
        spec = TensorSpec(SHAPE, F32)
        base = Read("base", "w", spec) if "base" in self.tensors else None
        return merge(self.method.name, [Read(name, "w", spec) for name in self.models], self.values, base=base)

    def made(self, start: int = 0, stop: int = math.prod(SHAPE)) -> NDArray[np.float32]:
        def read(source: Read, first_byte: int, buffer: memoryview) -> None:
            buffer[:] = self.tensors[source.model].view(np.uint8)[first_byte : first_byte + len(buffer)]

        block, _ = compute(self.expr, start, stop, {}, Worker(read, NumpyKernels(), Workspace(peak_bytes(self.expr))))
        whole = stop - start == math.prod(SHAPE)
        return np.asarray(block.data.reshape(SHAPE) if whole else block.data).copy()

    def with_values(self, **changed: Any) -> Case:
        spread = {
            name: (value,) * self.count if self.method.parameters[name].meaning.per_model else value
            for name, value in changed.items()
        }
        return Case(self.method, self.tensors, self.values | spread)

    def reordered(self, order: Sequence[int]) -> Case:
        values = {
            name: tuple(value[number] for number in order) if self.method.parameters[name].meaning.per_model else value
            for name, value in self.values.items()
        }
        bases = {"base": self.tensors["base"]} if "base" in self.tensors else {}
        return Case(
            self.method, {self.models[number]: self.tensors[self.models[number]] for number in order} | bases, values
        )

    def largest_term(self) -> float:
        """The largest magnitude that enters the sum anywhere: what its rounding is measured by."""
        coefficients = self.method.foreseen(self.values, self.count) or ()
        highest = max(float(np.abs(tensor).max()) for tensor in self.tensors.values())
        return 2 * highest * max(1.0, *(abs(coefficient) for coefficient in coefficients))


@st.composite
def cases(
    draw: Any, method: MergeMethod, *, size: float = 4.0, alike: bool = False, only_required: bool = False
) -> Case:
    count = draw(st.integers(max(1, method.inputs[0]), method.inputs[1] or 4))
    names = [*map(str, range(count)), *(["base"] if method.space == "deltas" else [])]
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    scale = draw(st.sampled_from([size, 0.0, 1e-40]))
    tensors = {name: (rng.uniform(-1, 1, math.prod(SHAPE)) * scale).astype(np.float32) for name in names}
    if alike:
        tensors = dict.fromkeys(names, tensors[names[0]])
    values = draw(parameters(method, count, only_required=only_required))
    try:
        coefficients = method.foreseen(values, count)
    except UndefinedMerge:
        assume(False)
    assume(max(map(abs, coefficients)) < 1e3)  # beyond that a mean is noise
    return Case(method, tensors, values)


def close(found: NDArray[np.float32], expected: NDArray[np.float32], largest: float) -> None:
    assert np.abs(found - expected).max() <= 2.0**-21 * largest + np.finfo(np.float32).smallest_subnormal * 8


def test_a_law_that_is_declared_is_tested_here() -> None:
    assert {law for method in METHODS.values() for law in method.laws} <= {
        "symmetric",
        "idempotent",
        "zero weight is base",
    }
