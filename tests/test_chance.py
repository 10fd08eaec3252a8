"""Intervals of many comparisons: right often enough, and no wider than need be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lamina.chance import among_pairs, difference, simultaneous, students


def test_a_single_comparison_has_the_usual_interval() -> None:
    (found,) = simultaneous([[1.0, 0.0] * 5000])
    assert found.difference == 0.5
    assert found.margin == pytest.approx(1.96 * 0.5 / 100, rel=0.03)


def test_few_items_get_students_interval() -> None:
    # scipy.stats.t.ppf(0.975, n): 2.5706, 2.1314, 1.9840
    assert [students(1.959964, n) for n in (5, 15, 100)] == pytest.approx([2.5706, 2.1314, 1.9840], rel=0.002)
    # scipy.stats.t.ppf(1 - 0.025 / 78, n): 5.8339, 4.2928, 3.5248; the normal point is 3.4136
    assert [students(3.4136, n) for n in (7, 15, 100)] == pytest.approx([5.8339, 4.2928, 3.5248], rel=0.011)


def test_what_does_not_differ_has_no_interval() -> None:
    first, second = simultaneous([[0.0] * 10, [1.0, -1.0] * 5])
    assert (first.difference, first.margin) == (0.0, 0.0)
    assert not second.is_beyond_chance


def test_many_independent_comparisons_are_wider_than_one_and_equal_ones_are_not() -> None:
    draws = np.random.default_rng(1)
    alone = draws.standard_normal((1, 400))
    many = draws.standard_normal((20, 400))
    one, same = simultaneous(alone)[0], simultaneous(np.repeat(alone, 20, axis=0))[0]
    ratio = [each.margin / (row.std(ddof=1) / 20) for each, row in zip(simultaneous(many), many, strict=True)]
    assert same.margin == pytest.approx(one.margin, rel=0.03)
    # For 20 independent comparisons: the normal point of 1 - (1 - 0.95^(1/20)) / 2, which is 3.02.
    assert ratio == pytest.approx([3.02] * 20, rel=0.04)


def test_where_nothing_differs_a_best_is_called_beyond_chance_in_one_of_twenty() -> None:
    draws = np.random.default_rng(2)
    false = sum(
        max(simultaneous(draws.standard_normal((8, 100))), key=lambda each: each.difference / each.margin)
        .is_beyond_chance
        for _ in range(300)
    )  # fmt: skip
    # Of a best alone, one side of the 5%: 7.5 of 300, and 3 standard deviations.
    assert false <= 7.5 + 3 * math.sqrt(7.5)


def test_a_row_with_no_number_leaves_the_others_as_they_are() -> None:
    rows = np.random.default_rng(3).standard_normal((3, 50))
    spoilt = rows.copy()
    spoilt[1] = np.nan
    found = simultaneous(spoilt)
    assert math.isnan(found[1].margin)
    assert not found[1].is_beyond_chance
    assert found[0].margin == pytest.approx(simultaneous(rows[[0, 2]])[0].margin)


@pytest.mark.filterwarnings("error")
def test_an_infinite_item_leaves_no_interval_and_no_warning() -> None:
    for found in (simultaneous([[1.0, 2.0, math.inf]])[0], among_pairs([[1.0, 2.0, math.inf]], 3)[0]):
        assert found.difference == math.inf
        assert not found.is_beyond_chance


def test_pairs_among_many_are_wider_than_those_among_two() -> None:
    rows = np.random.default_rng(4).standard_normal((1, 1000))
    few, many = among_pairs(rows, 2)[0], among_pairs(rows, 11)[0]
    error = rows.std(ddof=1) / math.sqrt(1000)
    assert few.margin == pytest.approx(1.96 * error, rel=0.01)
    assert many.margin == pytest.approx(3.32 * error, rel=0.01)  # the normal point of 1 - 0.025 / 55


def test_pairs_over_few_items_get_students_interval() -> None:
    rows = np.random.default_rng(5).standard_normal((2, 16))
    errors = rows.std(axis=1, ddof=1) / 4
    # scipy.stats.t.ppf(1 - 0.025 / 78, 15), 78 pairs of 13; the normal point is 3.4136
    assert [each.margin for each in among_pairs(rows, 13)] == pytest.approx(4.2928 * errors, rel=0.001)


def test_among_few_items_a_best_is_called_better_than_another_in_one_of_twenty() -> None:
    draws = np.random.default_rng(6)
    false = 0
    for _ in range(400):
        scores = draws.standard_normal((6, 8))
        best = scores[scores.mean(axis=1).argmax()]
        false += any(each.is_beyond_chance for each in among_pairs((best - scores).tolist(), 6))
    # 5% of 400, and 3 standard deviations; by normal points it is 74 of 400.
    assert false <= 20 + 3 * math.sqrt(19)


def test_a_single_item_tells_nothing() -> None:
    assert not simultaneous([[1.0]])[0].is_beyond_chance
    assert not among_pairs([[1.0], [0.0]], 2)[0].is_beyond_chance


def test_what_is_the_best_itself_has_no_interval() -> None:
    assert among_pairs([[0.0] * 5], 3)[0].margin == 0


# The mean over skills of paired differences


def test_a_difference_is_the_mean_over_skills_of_paired_differences() -> None:
    ours = [np.array([True] * 8 + [False] * 2), np.array([True] * 5 + [False] * 5)]
    theirs = [np.array([True] * 6 + [False] * 4), np.array([True] * 5 + [False] * 5)]
    found = difference(ours, theirs)
    assert found.share == pytest.approx(0.1)
    # Of the first skill 2 of 10 differ, by one: variance 0.16. Of the second none.
    assert found.margin == pytest.approx(1.96 * (0.16 / 10) ** 0.5 / 2)
    assert str(found) == "+10.0 ± 12.4"


def test_a_model_does_not_differ_from_itself() -> None:
    same = [np.array([True, False, True])]
    assert str(difference(same, same)) == "+0.0 ± 0.0"


def test_what_two_models_share_does_not_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(400) < 0.5
    better = hard | (rng.random(400) < 0.05)
    paired, unpaired = difference([better], [hard]), difference([better], [rng.permutation(hard)])
    assert paired.margin < unpaired.margin / 2


def test_the_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        shared = rng.random((2, 200))
        ours = [(each < 0.7) | (rng.random(200) < 0.1) for each in shared]  # 0.7 + 0.3 · 0.1 = 0.73
        theirs = [each < 0.65 for each in shared]
        found = difference(ours, theirs)
        covered += abs(found.share - 0.08) <= found.margin
    assert 0.92 <= covered / 400 <= 0.98
