"""Tasks of the evaluation harness as what a sweep measures: whatever `lamina eval --tasks` takes, in the same way.

A merge is asked in memory, and half of each task's items at a time: an item gets the score that it has in an evaluation
of all. The figure of several tasks is their mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import xxhash

from lamina.errors import CheckpointError, TaskError, TaskFailed
from lamina.evaluate.evaluation import Template
from lamina.evaluate.halves import Split
from lamina.evaluate.harness import Harness, Loaded
from lamina.evaluate.noting import score_of
from lamina.evaluate.results import Evaluation
from lamina.evaluate.skills import SKILLS
from lamina.evaluate.tasks import OWN_NAMES, Task, tasks_named
from lamina.execute.live_model import live_model, live_tokenizer
from lamina.execute.tensors import Tensors
from lamina.ledger.runs import Score
from lamina.plans.plan import Plan
from lamina.studies.metrics import QUESTIONS, Loss, mean_of
from lamina.tokenizers.chat_templates import template_of


@dataclass(frozen=True)
class HarnessTasks:
    """Tasks as `lamina eval` asks them. `template` and `dtype` are as there; `ready` settles a template of "auto"."""

    name: str
    tasks: tuple[Task, ...]
    harness: Harness
    template: Template = "auto"
    dtype: str = "auto"

    def asked(self, items: int) -> str:
        return f"{items:,} items by lm-eval {self.harness.version}"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**self.harness.setup, "template": self.template, "dtype": self.dtype}

    def digest(self, split: Split) -> str:
        """A task of the harness is known by its name and the harness's version; any other by its text."""
        tasks = [[task.name, task.digest or task.content] for task in self.tasks]
        return xxhash.xxh3_128_hexdigest(json.dumps([tasks, dict(self.settings), split], sort_keys=True).encode())

    def ready(self, plans: Sequence[Plan]) -> HarnessTasks:
        """With a template for all merges or for none. Raises TaskError where one is insisted on, and one has none."""
        without = [plan for plan in plans if not _has_template(plan)]
        if self.template == "on" and without:
            raise TaskError(
                f"--chat-template on: {without[0].title} makes a model without chat template at {len(without)} of "
                f"{len(plans)} points; `auto` or `off` leaves it out."
            )
        return replace(self, template="on" if self.template != "off" and not without else "off")

    def scores(self, tensors: Tensors, split: Split) -> tuple[Score, ...]:
        title, digest = tensors.plan.title, tensors.plan.digest
        loaded = self._loaded  # before the merge: what is wrong with a task is told at once
        with self.harness.quiet():
            model = live_model(tensors, self.harness.device, self.dtype)
            tokenizer = live_tokenizer(tensors.plan)
        running = self.harness.running(model, tokenizer)
        found = [
            made
            for task in loaded
            for made in self.harness.ask(
                running, task, model=title, digest=digest, template=self.template == "on", split=split
            )
        ]
        _check(found, self.name)
        parts = tuple(replace(score_of(made), name=f"{made.task}-{split}") for made in found)
        name = f"{self.name}-{split}"
        if len(parts) == 1:
            return (replace(parts[0], name=name),)
        return (
            mean_of(name, parts, xxhash.xxh3_128_hexdigest("".join(x.items_digest for x in parts).encode())),
            *parts,
        )

    @cached_property
    def _loaded(self) -> list[Loaded]:
        return [self.harness.load(task) for task in self.harness.expanded(self.tasks)]


def harness_tasks(
    names: str, harness: Harness, *, template: Template = "auto", dtype: str = "auto", allow_own_code: bool = False
) -> HarnessTasks:
    """The tasks that `lamina eval --tasks` knows by `names`, as a metric. Raises TaskError."""
    given = [name.strip() for name in names.split(",")]
    _check_no_own_metric(given)
    tasks = tasks_named(given, allow_own_code=allow_own_code)
    name = names if names in OWN_NAMES else ",".join(task.name for task in tasks)
    return HarnessTasks(name, tuple(tasks), harness, template, dtype)


def _check_no_own_metric(names: Sequence[str]) -> None:
    """Raises TaskError for what is a metric of a sweep itself, and no task: `skills` is both."""
    own = [name for name in names if name in (*QUESTIONS, Loss.name) and name not in OWN_NAMES]
    if not own:
        return
    if set(names) == set(SKILLS):
        hint = "they are asked together as `--metric skills`."
    else:
        hint = f"give it alone, `--metric {own[0]}`, or leave it out; the bundled questions are a task as `skills`."
    raise TaskError(
        f"--metric {','.join(names)}: `{own[0]}` is no task but a metric of its own, which does not mix with "
        f"others: {hint}"
    )


def _check(found: Sequence[Evaluation], name: str) -> None:
    """Raises TaskError where points cannot be compared by what was found."""
    if not found:
        raise TaskFailed(f"`{name}` gave no figure that is finite.")
    whole = next((made for made in found if not made.items), None)
    if whole is not None:
        raise TaskError(
            f"`{whole.task}` is scored by {whole.metric}, a figure of all items together, and points of a sweep are "
            "compared item by item: take a task whose score is a mean over its items, or `--metric loss --text FILE`."
        )
    odd = next((made for made in found if not made.is_share), None)
    if odd is not None and len(found) > 1:
        raise TaskError(
            f"`{odd.task}` is scored by {odd.metric}, which is no share of right answers, and has no mean with the "
            "others: sweep it alone."
        )


def _has_template(plan: Plan) -> bool:
    try:
        return template_of({file.name: file.content for file in plan.files}) is not None
    except ValueError as error:
        raise CheckpointError(f"{plan.title}: {error}.") from error
