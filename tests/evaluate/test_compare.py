"""Models beside each other: rank, mean, paired differences; evaluations as data."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cli.eval import lines
from lamina.evaluate.compare import compared
from lamina.evaluate.results import EVALUATION_FIELDS, Evaluation, Item, Settings

SETTINGS = Settings("0.4.13", "1", 0, False, "bfloat16", 8, "cpu", 1234)


def evaluation(model: str, scores: Sequence[float], task: str = "rev", **changes: object) -> Evaluation:
    items = tuple(Item(f"{task}{number}", [[-0.5, True]], score) for number, score in enumerate(scores))
    stderr = float(np.std(scores, ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else None
    made = Evaluation(
        model, f"digest of {model}", task, "acc", float(np.mean(scores)), stderr, len(scores), True, SETTINGS, items
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), st.one_of(st.none(), st.integers(1, 9)))
def test_an_evaluation_comes_back_from_json_as_it_was(scores: list[float], limit: int | None) -> None:
    made = evaluation("a", scores, settings=replace(SETTINGS, limit=limit), others={"acc_norm": 0.25})
    assert Evaluation.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.to_json().keys() == {key for keys in EVALUATION_FIELDS for key in keys.split(", ")}


@pytest.mark.parametrize("content", [{}, {"value": 1}, {"settings": 3, "items": []}])
def test_anything_else_is_no_evaluation(content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no evaluation"):
        Evaluation.from_json(content)


def test_the_best_comes_first_and_differences_are_from_the_best_parent() -> None:
    found = {
        "merge": [evaluation("merge", [1, 1, 1, 0])],
        "worse": [evaluation("worse", [0, 0, 1, 0])],
        "better": [evaluation("better", [1, 0, 1, 0])],
    }
    comparison = compared(found, parents=["worse", "better"])
    assert [row.model for row in comparison.rows] == ["merge", "better", "worse"]
    assert comparison.reference == "better"
    merge, better, _ = comparison.rows
    assert better.over is None
    assert merge.over is not None
    # One of four items differs, by 1: its mean is 1/4 and its variance 3/16.
    assert merge.over.share == 0.25
    assert merge.over.margin == pytest.approx(1.96 * math.sqrt(3 / 16 / 4))


def test_without_parents_differences_are_from_the_first_or_from_the_one_that_is_named() -> None:
    found = {name: [evaluation(name, scores)] for name, scores in (("a", [0, 1]), ("b", [1, 1]), ("c", [0, 0]))}
    assert compared(found).reference == "a"
    assert compared(found, against="c").reference == "c"
    assert compared({"a": found["a"]}).reference is None


def test_a_score_of_other_items_or_of_another_way_is_not_paired() -> None:
    ours = evaluation("a", [1, 0])
    for other in (
        evaluation("b", [1, 0, 1]),
        evaluation("b", [1, 0], settings=replace(SETTINGS, few_shot=5)),
        evaluation("b", [1, 0], settings=replace(SETTINGS, template=True)),
        evaluation("b", [1, 0], items=()),
    ):
        assert compared({"a": [ours], "b": [other]}).rows[-1].over is None


def test_a_limited_score_is_never_ranked_beside_a_whole_one() -> None:
    limited = evaluation("b", [1, 0], settings=replace(SETTINGS, limit=2))
    assert limited.limited
    with pytest.raises(ValueError, match="not ranked beside"):
        compared({"a": [evaluation("a", [1, 0])], "b": [limited]})
    told = list(lines(compared({"a": [replace(limited, model="a")], "b": [limited]}), 100))
    assert "  The first 2 items of each task only: do not rank this beside whole runs." in told


def test_where_less_is_better_the_lowest_is_first_and_nothing_is_a_percentage() -> None:
    found = {
        name: [evaluation(name, scores, higher_is_better=False)] for name, scores in (("a", [4.0, 4.5]), ("b", [3, 4]))
    }
    told = list(lines(compared(found), 100))
    assert told[4:6] == ["  b      3.500 ± 0.500  -0.750 ± 0.346", "  a      4.250 ± 0.250"]
    assert told[-1] == "  b is better than a, beyond chance: -0.750 ± 0.346."


def test_the_table_leaves_the_errors_of_tasks_out_where_it_would_be_too_wide() -> None:
    tasks = [f"task{number}" for number in range(6)]
    found = {name: [evaluation(name, [1, 0, 1, 0], task) for task in tasks] for name in ("a", "b")}
    for width in (80, 140):
        told = list(lines(compared(found), width))
        assert max(map(len, told)) <= width
        assert ("±" in told[4].partition("mean")[0]) == (width == 140)
    assert told[-1] == "  b is within chance of a: +0.0 ± 0.0."
