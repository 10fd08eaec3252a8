"""Tasks that are a function of one's own: what it asks a model by, and what becomes of what it returns."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np

from lamina.errors import TaskFailed
from lamina.evaluate.halves import Split, check_enough, split_of
from lamina.evaluate.harness_results import Of
from lamina.evaluate.results import Evaluation, Item, Settings
from lamina.evaluate.tasks import Task


class Asked:
    """A model, as a task of one's own asks it. Prompts are put into the chat template where that is on."""

    def __init__(self, running: Any, instance: Any, template: bool) -> None:
        self._running, self._instance, self._template = running, instance, template

    def answers(self, prompts: Sequence[str], *, max_tokens: int = 64, until: Sequence[str] = ("\n",)) -> list[str]:
        """What the model writes after each prompt, greedily, up to one of `until` or the end of its turn."""
        how = {"until": list(until), "max_gen_toks": max_tokens, "do_sample": False}
        return [str(each) for each in self._asked("generate_until", [(self._put(each), how) for each in prompts])]

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """For each prompt and continuation: its log-likelihood in nats, and whether greedy decoding writes it."""
        asked = [(self._put(prompt), continuation) for prompt, continuation in pairs]
        return [(float(likelihood), bool(greedy)) for likelihood, greedy in self._asked("loglikelihood", asked)]

    def _asked(self, kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        instances = [self._instance(kind, {}, each, number) for number, each in enumerate(arguments)]
        return list(getattr(self._running, kind)(instances)) if instances else []

    def _put(self, prompt: str) -> str:
        if not self._template:
            return prompt
        return str(self._running.apply_chat_template([{"role": "user", "content": prompt}]))


def by_function(asked: Asked, task: Task, settings: Settings, of: Of, split: Split | None) -> Evaluation:
    """A function's scores of a model. It is called whole, and an item is known by its number alone.

    Raises TaskFailed, with the line, where the function raises or returns no scores.
    """
    assert task.function is not None
    try:
        scores = _checked(task.function(asked))
    except Exception as error:  # somebody else's code
        code = task.function.__code__
        lines = [x.lineno for x in traceback.extract_tb(error.__traceback__) if x.filename == code.co_filename]
        place = f"{str(task.content).rpartition(':')[0]}:{lines[-1] if lines else code.co_firstlineno}"
        said = f"returns {error}" if isinstance(error, _NoScores) else f"raised {type(error).__name__}: {error}"
        raise TaskFailed(f"{place}: {task.name} {said.rstrip('.')}.") from error
    items = [Item(f"{task.digest[:8]}:{number}", None, score) for number, score in enumerate(scores)]
    if split is not None:
        items = [item for number, item in enumerate(items) if split_of(str(number)) == split]
        scores = [item.score for item in items]
        check_enough(task.name, len(items), split)
    return Evaluation(
        model=of.model, digest=of.digest, task=task.name, metric="score", value=float(np.mean(scores)),
        stderr=float(np.std(scores, ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else None,
        n=len(scores), higher_is_better=True,
        settings=Settings(**{**vars(settings), "task_version": task.digest[:8]}),
        items=tuple(items),
    )  # fmt: skip


class _NoScores(Exception):
    """What a function returned is no list of scores."""


def _checked(scores: object) -> list[float]:
    try:
        found = [float(each) for each in scores]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise _NoScores(f"{type(scores).__name__}, and a task returns one number an item") from error
    if not found or not np.isfinite(found).all():
        raise _NoScores("no score, or one that is not finite" if found else "no score at all")
    return found
