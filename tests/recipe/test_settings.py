"""Settings: numbers, gradients and filters, with values that can be checked by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.recipe.settings import START, Conditional, Position, Scalar, mapped, on_gradient, parse_setting, setting_at

finite = st.floats(allow_nan=False, allow_infinity=False)


def over(values: list[Scalar], count: int) -> list[Scalar]:
    """A gradient's values at each of `count` layers."""
    return [on_gradient(values, Position(index, count)) for index in range(count)]


# Gradients


def test_two_values_go_from_the_first_layer_to_the_last() -> None:
    assert over([0, 1], 5) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_three_values_bend_in_the_middle() -> None:
    assert over([0, 1, 0], 5) == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_values_between_layers_are_interpolated() -> None:
    assert over([0, 10, 0], 4) == pytest.approx([0.0, 20 / 3, 20 / 3, 0.0])


def test_more_values_than_layers_are_passed_over() -> None:
    assert over([0, 1, 2, 3, 4], 3) == [0.0, 2.0, 4.0]


def test_one_value_holds_everywhere() -> None:
    assert over([0.3], 4) == [0.3] * 4


def test_a_single_layer_stands_at_the_end() -> None:
    assert over([1, 2, 3], 1) == [3]


def test_truth_values_are_not_interpolated_and_the_last_one_reached_counts() -> None:
    assert over([True, False], 4) == [True, True, True, False]
    assert over([False, True, False], 5) == [False, False, True, True, False]


def test_text_is_not_interpolated() -> None:
    assert over(["a", "b"], 3) == ["a", "a", "b"]


@given(st.lists(finite, min_size=1, max_size=200))
def test_one_value_a_layer_gives_exactly_these_values(values: list[float]) -> None:
    assert over([*values], len(values)) == values


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_one_truth_value_a_layer_gives_exactly_these(values: list[bool]) -> None:
    assert over([*values], len(values)) == values


@given(st.lists(finite, min_size=2, max_size=9), st.integers(2, 300))
def test_a_gradient_begins_with_its_first_and_ends_with_its_last_value(values: list[float], count: int) -> None:
    found = over([*values], count)
    assert (found[0], found[-1]) == (values[0], values[-1])


moderate = st.floats(-1e6, 1e6)


@given(st.lists(moderate, min_size=2, max_size=9), st.integers(1, 300))
def test_every_value_lies_between_its_two_neighbours(values: list[float], count: int) -> None:
    for index, value in enumerate(over([*values], count)):
        position = index / (count - 1) * (len(values) - 1) if count > 1 else len(values) - 1
        around = [
            values[min(int(position + shift), len(values) - 1)]
            for shift in (-1e-9, 1e-9, 1 + 1e-9)
            if position + shift >= 0
        ]
        margin = 1e-12 * max(map(abs, around)) + 1e-300
        assert min(around) - margin <= value <= max(around) + margin


@given(st.lists(moderate, min_size=1, max_size=9), st.integers(2, 100))
def test_values_backwards_are_layers_backwards(values: list[float], count: int) -> None:
    assert over(values[::-1], count)[::-1] == pytest.approx(over([*values], count), abs=1e-9, rel=1e-12)


# Filters


def test_a_filter_is_a_part_of_the_name() -> None:
    setting = parse_setting({"filter": "mlp", "value": 0.5})
    assert setting_at(setting, "layers.0.mlp.up_proj.weight", START) == 0.5
    assert setting_at(setting, "layers.0.self_attn.q_proj.weight", START) is None


def test_the_first_filter_that_matches_counts() -> None:
    setting = parse_setting([{"filter": "mlp.up", "value": 1}, {"filter": "mlp", "value": 2}, {"value": 3}])
    assert [setting_at(setting, name, START) for name in ("mlp.up.w", "mlp.down.w", "norm.w")] == [1, 2, 3]


@pytest.mark.parametrize(
    "everything", [{"value": 2}, {"filter": "*", "value": 2}, {"filter": None, "value": 2}], ids=str
)
def test_no_filter_matches_everything(everything: dict[str, Any]) -> None:
    assert setting_at(parse_setting([everything]), "any name", START) == 2


def test_a_filter_is_no_pattern() -> None:
    assert setting_at(parse_setting({"filter": "mlp.*", "value": 2}), "mlp.up", START) is None


def test_a_filter_may_hold_a_gradient() -> None:
    setting = parse_setting([{"filter": "mlp", "value": [0, 1]}, {"value": 7}])
    assert setting_at(setting, "mlp", Position(1, 3)) == 0.5
    assert setting_at(setting, "norm", Position(1, 3)) == 7


# Forms


@pytest.mark.parametrize(
    ("raw", "setting"),
    [
        (0.5, (Conditional(None, (0.5,)),)),
        ([0, 1], (Conditional(None, (0, 1)),)),
        ("1e-5", (Conditional(None, (1e-5,)),)),
        (True, (Conditional(None, (True,)),)),
        ({"filter": "mlp", "value": [1, 2]}, (Conditional("mlp", (1, 2)),)),
        ([], ()),
    ],
    ids=str,
)
def test_a_form_and_what_it_is(raw: object, setting: object) -> None:
    assert parse_setting(raw) == setting


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [None],
        [[1, 2]],
        {"filter": "mlp"},
        {"value": 1, "filtre": "mlp"},
        {"value": 1, "filter": 3},
        {"value": None},
        {"value": {"value": 1}},
        [1, {"value": 1}],
        {},
    ],
    ids=str,
)
def test_what_is_no_setting_is_told_the_forms(raw: object) -> None:
    with pytest.raises(ValueError, match=r"value|filter"):
        parse_setting(raw)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["filter", "value", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(anything)
def test_any_value_is_a_setting_or_a_value_error(raw: object) -> None:
    try:
        setting = parse_setting(raw)
    except ValueError:
        return
    for conditional in setting:
        assert conditional.filter is None or isinstance(conditional.filter, str)
        assert all(isinstance(value, bool | int | float | str) for value in conditional.values)


def test_an_empty_gradient_under_a_filter_sets_nothing() -> None:
    setting = parse_setting([{"filter": "mlp", "value": []}, {"value": 3}])
    assert setting_at(setting, "norm", START) == 3
    assert setting_at(setting, "mlp", START) in (None, 3)


def test_mapped_changes_every_value_and_nothing_else() -> None:
    setting = parse_setting([{"filter": "mlp", "value": [1, 2]}, {"value": 3}])
    assert mapped(setting, lambda value: -float(value)) == (
        Conditional("mlp", (-1.0, -2.0)),
        Conditional(None, (-3.0,)),
    )


def test_between_two_values_float64_goes_in_mergekit_s_steps() -> None:
    """`trunc(density * n)` elements are kept: of 32, 15 by this value, and 16 by one half."""
    assert on_gradient((0.4375, 0.25, 1.0), Position(2, 4)) == 0.49999999999999994
