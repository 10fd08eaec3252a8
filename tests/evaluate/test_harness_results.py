"""From the harness's results to scores: what is reported of groups, which metric counts, and its items in order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lamina.evaluate.harness_results import Of, evaluations_of
from lamina.evaluate.results import Evaluation, Settings

SETTINGS = Settings("0.4.13", "", 0, False, "float32", 8, "cpu", 1234)


def evaluated(
    results: Mapping[str, Mapping[str, Any]], members: Mapping[str, Sequence[str]] | None = None
) -> list[Evaluation]:
    """The scores of these results, each task of two items, the second of which was noted first."""
    samples = [
        {"doc_id": number, "filter": "none", "acc": float(number), "prompt_hash": f"p{number}", "target_hash": "t",
         "filtered_resps": [number]}
        for number in (1, 0)
    ]  # fmt: skip
    found = {
        "results": results,
        "samples": dict.fromkeys(results, samples),
        "n-samples": {name: {"effective": 2} for name in results},
        "n-shot": dict.fromkeys(results, 5),
        "versions": dict.fromkeys(results, 7),
        "higher_is_better": {name: {"acc": True, "perplexity": False} for name in results},
    }
    return evaluations_of(found, members or {}, SETTINGS, Of("model", "digest"))


def test_a_score_has_its_items_in_the_order_of_the_task_and_how_they_were_asked() -> None:
    (found,) = evaluated({"arc": {"alias": "arc", "acc,none": 0.5, "acc_stderr,none": 0.1}})
    assert (found.model, found.digest, found.task, found.metric) == ("model", "digest", "arc", "acc")
    assert (found.value, found.stderr, found.n, found.higher_is_better) == (0.5, 0.1, 2, True)
    assert [(item.answer, item.score) for item in found.items] == [([0], 0.0), ([1], 1.0)]
    assert (found.settings.task_version, found.settings.few_shot) == ("7", 5)


def test_a_figure_that_is_no_mean_of_its_items_has_none() -> None:
    (found,) = evaluated({"arc": {"acc,none": 0.7, "acc_stderr,none": "N/A"}})
    assert (found.items, found.stderr) == ((), None)
    (found,) = evaluated({"wiki": {"perplexity,none": 20.0}})
    assert (found.items, found.higher_is_better) == ((), False)


def test_of_several_metrics_the_one_that_knows_of_lengths_counts_and_the_others_are_kept() -> None:
    (found,) = evaluated({"arc": {"acc,none": 0.5, "acc_norm,none": 0.6, "bits,none": math.nan}})
    assert (found.metric, found.value, dict(found.others)) == ("acc_norm", 0.6, {"acc": 0.5})


def test_a_group_is_one_score_where_it_has_one_and_else_its_tasks() -> None:
    one, two = {"acc,none": 0.5}, {"acc,none": 0.4}
    members = {"group": ["inner", "c"], "inner": ["a", "b"]}
    with_score = evaluated({"group": one, "inner": {}, "a": one, "b": two, "c": one}, members)
    assert [(each.task, each.n) for each in with_score] == [("group", 6)]
    without = evaluated({"group": {}, "inner": two, "a": one, "b": two, "c": one}, members)
    assert [(each.task, each.n) for each in without] == [("inner", 4), ("c", 2)]


def test_a_group_that_is_a_member_of_itself_is_its_one_task() -> None:
    assert [each.task for each in evaluated({"arc": {"acc,none": 0.5}}, {"arc": ["arc"]})] == ["arc"]
