"""Models beside each other on the same items: ranked, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lamina.chance import Difference, difference
from lamina.evaluate.results import Evaluation


@dataclass(frozen=True)
class Row:
    """One model: its scores by task, their mean where all are shares, and by how much it exceeds the reference.

    `over` is of the mean, or of the only task; None of the reference itself, and where items cannot be paired.
    `over_by_task` has the tasks that can.
    """

    model: str
    is_parent: bool
    scores: Mapping[str, Evaluation]
    mean: float | None
    over: Difference | None
    over_by_task: Mapping[str, Difference]


@dataclass(frozen=True)
class Comparison:
    """All models, the best first, and the one that differences are from: None where there is one model."""

    rows: tuple[Row, ...]
    tasks: tuple[str, ...]
    reference: str | None

    @property
    def limited(self) -> bool:
        return any(each.limited for row in self.rows for each in row.scores.values())


def compared(
    found: Mapping[str, Sequence[Evaluation]], *, parents: Sequence[str] = (), against: str | None = None
) -> Comparison:
    """Rank models by the mean of their scores where all are shares, else by their first task.

    The reference is `against`, else the best of the parents, else the first. Limited scores rank among themselves:
    ValueError where they stand beside whole ones.
    """
    scores = {model: {each.task: each for each in evaluations} for model, evaluations in found.items()}
    if len({each.settings.limit for evaluations in found.values() for each in evaluations}) > 1:
        raise ValueError("scores of some items and scores of all are not ranked beside each other")
    ranked = sorted(scores, key=lambda model: _worth(scores[model]), reverse=True)  # stable: ties as they were given
    best_parent = next((model for model in ranked if model in parents), next(iter(found)))
    reference = (against or best_parent) if len(found) > 1 else None
    rows = [
        _row(model, scores[model], scores[reference] if reference not in (None, model) else {}, model in parents)
        for model in ranked
    ]
    tasks = tuple(dict.fromkeys(task for each in scores.values() for task in each))
    return Comparison(tuple(rows), tasks, reference)


def _row(model: str, ours: Mapping[str, Evaluation], theirs: Mapping[str, Evaluation], is_parent: bool) -> Row:
    paired = {
        task: theirs[task]
        for task, made in ours.items()
        if made.items_digest and task in theirs and made.items_digest == theirs[task].items_digest
    }
    by_task = {task: difference([ours[task].scores], [other.scores]) for task, other in paired.items()}
    over = None
    if len(paired) == len(ours) and (len(ours) == 1 or _mean(ours) is not None):
        over = difference([each.scores for each in ours.values()], [paired[task].scores for task in ours])
    return Row(model, is_parent, ours, _mean(ours), over, by_task)


def _mean(scores: Mapping[str, Evaluation]) -> float | None:
    if not all(each.is_share for each in scores.values()):
        return None
    return float(np.mean([each.value for each in scores.values()]))


def _worth(scores: Mapping[str, Evaluation]) -> float:
    """Larger is better."""
    mean = _mean(scores)
    if mean is not None:
        return mean
    first = next(iter(scores.values()))
    return first.value if first.higher_is_better else -first.value
