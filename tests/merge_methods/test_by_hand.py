"""Values that one can check in the head."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from conformance.formulas import mix
from lamina.errors import UnmergeableTensor
from lamina.expressions.nodes import Read, merge
from lamina.merge_methods import METHODS, UndefinedMerge
from lamina.tensor_spec import F32, TensorSpec

from .engine import Arrays, expression, merged, parameters


def made(method: str, models: list[list[float]], base: list[float] | None = None, **given: Any) -> list[float]:
    origin = None if base is None else np.array(base)
    return [round(float(x), 6) for x in merged(method, [np.array(m) for m in models], origin, **given)]


# Directions


def test_slerp_half_way_between_two_axes_lies_on_the_arc() -> None:
    assert made("slerp", [[1, 0], [0, 1]], t=0.5) == [round(math.sqrt(0.5), 6)] * 2


def test_slerp_goes_on_the_line_between_parallel_vectors() -> None:
    assert made("slerp", [[2, 0], [6, 0]], t=0.25) == [3, 0]


def test_nuslerp_of_deltas_starts_at_the_base() -> None:
    assert made("nuslerp", [[2, 1], [1, 2]], [1, 1], weight=[1, 1]) == [round(1 + math.sqrt(0.5), 6)] * 2


def test_nuslerp_of_rows_and_of_columns_takes_each_on_its_own() -> None:
    a, b = np.array([[1.0, 0], [0, 2]]), np.array([[0.0, 1], [0, 2]])
    half = math.sqrt(0.5)
    rows = merged("nuslerp", [a, b], weight=[1, 1], nuslerp_flatten=False)
    assert np.allclose(rows, [[half, half], [0, 2]])
    columns = merged("nuslerp", [a.T, b.T], weight=[1, 1], nuslerp_flatten=False, nuslerp_row_wise=True)
    assert np.allclose(columns, rows.T)


def test_multislerp_keeps_the_mean_length() -> None:
    assert made("multislerp", [[3, 0], [0, 1]], weight=[1, 1]) == [round(2 * math.sqrt(0.5), 6)] * 2


def test_multislerp_adds_two_models_that_cancel_and_gives_up_on_three() -> None:
    assert made("multislerp", [[2, 0], [-1, 0]], weight=[1, 1]) == [0.5, 0]
    with pytest.raises(UnmergeableTensor, match="cancel"):
        made("multislerp", [[1, 0], [-1, 0], [0, 0]], weight=[1, 1, 1])


def test_multislerp_of_models_that_never_left_the_base_is_the_base() -> None:
    assert made("multislerp", [[1, 2]] * 3, [1, 2], weight=[1, 1, 1]) == [1, 2]


def test_the_karcher_mean_of_three_axes_is_their_diagonal() -> None:
    assert made("karcher", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]) == [round(1 / math.sqrt(3), 6)] * 3


def test_the_karcher_mean_ignores_a_model_without_direction_but_counts_its_length() -> None:
    assert made("karcher", [[0, 0], [4, 0]]) == [2, 0]


def test_model_stock_stays_at_the_base_where_deltas_are_at_right_angles() -> None:
    assert made("model_stock", [[2, 1], [1, 2]], [1, 1]) == [1, 1]


def test_model_stock_takes_the_mean_of_models_that_agree() -> None:
    assert made("model_stock", [[3, 1], [3, 1]], [1, 1]) == [3, 1]


# Task vectors


def test_ties_drops_what_disagrees_with_the_elected_sign() -> None:
    assert made("ties", [[4, 1], [2, -3]], [0, 0], weight=1) == [3, -3]  # 4 and 2 agree: their mean; +1 loses to -3


def test_ties_without_normalize_adds_what_agrees() -> None:
    assert made("ties", [[4, 1], [2, -3]], [0, 0], weight=1, normalize=False) == [6, -3]


def test_a_tie_between_signs_goes_to_plus() -> None:
    assert made("ties", [[1, -2], [-1, 2]], [0, 0], weight=1) == [1, 2]


def test_ties_keeps_the_largest_and_at_least_one() -> None:
    assert made("ties", [[1, -5, 3, 2]], [0] * 4, weight=1, density=0.5) == [0, -5, 3, 0]
    assert made("ties", [[1, -5, 3, 2]], [0] * 4, weight=1, density=0.01) == [0, -5, 0, 0]
    assert made("ties", [[1, -5, 3, 2]], [7] * 4, weight=1, density=0) == [7] * 4


def test_of_equals_exactly_as_many_are_kept_as_the_density_says() -> None:
    kept = merged("ties", [np.ones(1000)], np.zeros(1000), weight=1, density=0.3)
    assert kept.sum() == 300
    assert set(np.flatnonzero(kept)) == set(np.argsort(mix(np.arange(1000)))[700:])


def test_rescaling_brings_back_the_sum_of_magnitudes() -> None:
    assert made("ties", [[1, -5, 3, 1]], [0] * 4, weight=1, density=0.5, rescale=True) == [0, -6.25, 3.75, 0]


def test_breadcrumbs_drop_the_largest_and_the_smallest() -> None:
    deltas = [[10, 1, -9, 2, 8, 3, 7, -4, 6, 5]]
    given = {"weight": 1, "density": 0.5, "gamma": 0.2}
    assert made("breadcrumbs", deltas, [0] * 10, **given) == [0, 0, 0, 0, 8, 0, 7, -4, 6, 5]


def test_breadcrumbs_with_a_large_gamma_keep_the_smallest() -> None:
    assert made("breadcrumbs", [[1, 2, 3, 4]], [0] * 4, weight=1, density=0.5, gamma=0.9) == [1, 2, 0, 0]


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_keeps_the_density_and_divides_by_it_where_asked(method: str) -> None:
    kept = merged(method, [np.ones(100_000)], np.zeros(100_000), weight=1, density=0.25, rescale="inverse")
    assert set(np.unique(kept)) == {0, 4}
    assert abs(kept.mean() - 1) < 0.02
    matched = merged(method, [np.ones(1000)], np.zeros(1000), weight=1, density=0.25)
    assert matched.sum() == pytest.approx(1000, rel=1e-6)


def test_della_keeps_the_large_more_often_than_the_small() -> None:
    delta = np.tile(np.arange(1.0, 101), (2000, 1))
    kept = merged("della", [delta], np.zeros_like(delta), weight=1, density=0.5, epsilon=0.3, rescale=False) > 0
    share = kept.mean(axis=0)
    assert np.allclose(share, 0.2 + 0.6 * np.arange(100) / 99, atol=0.05)


def test_draws_of_two_models_are_unlike() -> None:
    kept = [
        merged("dare_linear", [np.ones(10_000)], np.zeros(10_000), weight=1, density=0.5, rescale=False, keys=[key])
        for key in (1, 2)
    ]
    assert abs(np.corrcoef(*kept)[0, 1]) < 0.05


# Others


def test_sce_weighs_by_squares() -> None:
    # Means of squares 9 and 1 of a sum of 10: 0.9 · 3 + 0.1 · 1, of a weight of 1.
    assert made("sce", [[3, 3], [1, 1]], [0, 0]) == [2.8, 2.8]


def test_sce_keeps_the_positions_at_which_models_differ() -> None:
    assert made("sce", [[5, 1, 1, 0], [5, 1, 3, 0.5]], [0] * 4, select_topk=0.5) == [0, 0, 2.8, 0]


@pytest.mark.parametrize(("count", "share", "kept"), [(100, 0.29, 29), (1500, 0.57, 855), (700, 0.07, 49), (3, 0.1, 0)])
def test_sce_keeps_as_many_as_mergekit(count: int, share: float, kept: int) -> None:
    # Counted in MergeKit 0.1.5's results. In float64, 0.29 · 100 and 0.57 · 1500 are a little less than 29 and 855.
    one = np.arange(1.0, count + 1)
    assert np.count_nonzero(merged("sce", [one, 2 * one], np.zeros(count), select_topk=share)) == kept


def test_sce_weighs_alike_where_squares_are_next_to_nothing() -> None:
    made_ = merged("sce", [np.array([3e-4]), np.array([1e-4])], np.zeros(1))
    assert made_[0] == pytest.approx(2e-4)


def test_ram_averages_what_several_changed_and_adds_what_one_did() -> None:
    assert made("ram", [[2, 0, 4], [4, 3, 0]], [0, 0, 0]) == [3, 3, 4]


def test_ramplus_rewards_what_one_model_alone_changed() -> None:
    # Each model: two elements shared, one its own; the ratio 2 is cut at alpha.
    assert made("ramplus_tl", [[2, 2, 4, 0], [4, 4, 0, 1]], [0] * 4, r=0.5, alpha=0.2) == [3, 3, 4.4, 1.1]


def test_nearswap_takes_the_other_value_where_it_is_near() -> None:
    assert made("nearswap", [[1.05, 2, 0]], [1, 1, 1], t=0.1) == [1.05, 1.1, 0.9]


def test_arcee_fusion_takes_over_what_stands_out() -> None:
    # One row, so that importance is |delta|: quartiles 2, 4, 6, and a threshold of 4 + 1.5 · 4 = 10.
    assert made("arcee_fusion", [[1, -2, 3, -4, 5, -6, 7, 12]], [0] * 8) == [0] * 7 + [12]


def test_passthrough_scales() -> None:
    assert made("passthrough", [[1, 2]], scale=0.5) == [0.5, 1]


# What is seen when a merge is planned


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("slerp", {"t": 1}),
        ("nuslerp", {"weight": [0, 1]}),
    ],
)
def test_the_end_of_an_arc_is_a_copy(method: str, given: dict[str, Any]) -> None:
    expr = expression(Arrays(), method, [np.ones(3), np.zeros(3)], **given)
    assert isinstance(expr, Read)
    assert expr.name == "1"


def test_models_of_weight_zero_are_not_read() -> None:
    arrays = Arrays()
    expr = expression(arrays, "ties", [np.ones(3)] * 3, np.zeros(3), weight=[1, 0, 2], density=[0.1, 0.2, 0.3])
    assert [read.name for read in expr.inputs] == ["0", "2"]
    assert dict(expr.parameters)["density"] == (0.1, 0.3)


def test_dare_of_everything_is_task_arithmetic() -> None:
    dare = expression(Arrays(), "dare_linear", [np.ones(3)] * 2, np.zeros(3), weight=[1, 3], normalize=True)
    assert dare.coefficients == (0.25, 0.75)


@pytest.mark.parametrize("method", [name for name, each in METHODS.items() if each.inputs[0] == 0])
def test_a_base_alone_is_a_copy(method: str) -> None:
    base = Read("m", "w", TensorSpec((3,), F32))
    assert merge(method, [], parameters(method, 0, {"weight": []} if "weight" in METHODS[method].parameters else {}),
                 base=base) == base  # fmt: skip


def test_lambda_zero_leaves_the_base() -> None:
    expr = expression(Arrays(), "ties", [np.ones(3)] * 2, np.zeros(3), weight=1, **{"lambda": 0})
    assert isinstance(expr, Read)


@pytest.mark.parametrize(("density", "epsilon"), [(0.9, 0.15), (0.1, 0.15), (0.5, 0.5)])
def test_della_has_no_probabilities_outside_0_and_1(density: float, epsilon: float) -> None:
    with pytest.raises(UndefinedMerge, match="probabilities"):
        expression(Arrays(), "della", [np.ones(3)], np.zeros(3), weight=1, density=density, epsilon=epsilon)


# Merges of merges


def test_a_measured_merge_may_be_an_input_of_another() -> None:
    arrays = Arrays()
    rng = np.random.default_rng(0)
    base, *models = (rng.normal(0, 1, (300, 400)).astype(np.float32) for _ in range(4))
    inner = expression(arrays, "ties", models[:2], base, weight=1, density=0.3)
    outer = merge("slerp", [inner, arrays.add(models[2])], {"t": 0.3})
    together = arrays.bits(outer)
    first = arrays.bits(inner)
    assert np.array_equal(together, arrays.bits(merge("slerp", [arrays.add(first), arrays.add(models[2])], {"t": 0.3})))
