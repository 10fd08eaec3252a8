"""Tasks that are functions: what they ask by, what becomes of what they return, and a letter for anything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from lamina.errors import TaskError, TaskFailed
from lamina.evaluate.functions import Asked, by_function
from lamina.evaluate.halves import Split
from lamina.evaluate.harness_results import Of
from lamina.evaluate.results import Evaluation, Settings
from lamina.evaluate.tasks import Task

SETTINGS = Settings("0.4.13", "", 0, False, "float32", 8, "cpu", 1234)


@dataclass
class Instance:
    """A request, as the harness has it."""

    kind: str
    doc: dict[str, Any]
    arguments: tuple[Any, ...]
    number: int


class Echo:
    """A model that writes back what it was asked."""

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        return [f"{each.arguments[0]}|{each.arguments[1]['max_gen_toks']}" for each in requests]

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, int]]:
        return [(-len(each.arguments[1]), each.number) for each in requests]

    def apply_chat_template(self, turns: Sequence[dict[str, str]]) -> str:
        return f"<{turns[0]['role']}>{turns[0]['content']}"


def asked(template: bool = False) -> Asked:
    return Asked(Echo(), Instance, template)


def score_by(function: Callable[[Asked], object], split: Split | None = None) -> Evaluation:
    return by_function(asked(), Task("mine", "mine.py:f", "0123456789", function), SETTINGS, Of("model", "d"), split)


def test_prompts_are_put_into_the_chat_template_where_that_is_on() -> None:
    assert asked().answers(["a", "b"], max_tokens=3) == ["a|3", "b|3"]
    assert asked(template=True).answers(["a"]) == ["<user>a|64"]
    assert asked().likelihoods([("a", "xyz"), ("b", "x")]) == [(-3.0, False), (-1.0, True)]
    assert asked().answers([]) == []


def test_a_score_is_the_mean_of_what_the_function_returns() -> None:
    found = score_by(lambda _: [1, 0, True, 0.5])
    assert (found.value, found.n, found.metric) == (0.625, 4, "score")
    assert found.stderr == pytest.approx(0.23936, rel=1e-4)  # 0.47871 / sqrt(4)
    assert found.settings.task_version == "01234567"


def test_the_halves_of_the_items_are_apart_and_together_all_of_them() -> None:
    halves = [score_by(lambda _: range(20), split) for split in ("dev", "test")]
    assert sorted(item.score for half in halves for item in half.items) == list(range(20))
    with pytest.raises(TaskError, match="has 1 items in its half"):
        [score_by(lambda _: [1, 2, 3], split) for split in ("dev", "test")]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ([], "returns no score at all"),
        ([1, float("nan")], "returns no score, or one that is not finite"),
        (None, "returns NoneType, and a task returns one number an item"),
        (["a"], "returns list, and a task returns one number an item"),
    ],
    ids=str,
)
def test_what_is_no_list_of_scores_is_a_letter(returned: object, told: str) -> None:
    with pytest.raises(TaskFailed, match=rf"mine\.py:\d+: mine {told}\."):
        score_by(lambda _: returned)
