"""The story of an evaluation: tasks and models are opened, every model is asked every task, answers are kept.

What was scored before, of the same model in the same way, is not asked again: a run that was stopped goes on.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import xxhash

from lamina import api
from lamina.checkpoints.files import replace_file
from lamina.checkpoints.hub_client import HubOptions
from lamina.errors import OutputError, TaskError
from lamina.evaluate.compare import Comparison, compared
from lamina.evaluate.harness import Harness
from lamina.evaluate.results import Evaluation
from lamina.evaluate.subjects import Subject, parents_of, subject
from lamina.evaluate.tasks import Task, tasks_named

Template = Literal["auto", "on", "off"]
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Step:
    """One model and one task, `number` of `total`; `kept` where it was scored before."""

    model: str
    task: str
    number: int
    total: int
    kept: bool


def evaluate(
    sources: Sequence[str],
    tasks: Sequence[str],
    out: Path,
    *,
    parents: bool = False,
    against: str | None = None,
    template: Template = "auto",
    dtype: str = "auto",
    batch: int = 8,
    device: str = "cpu",
    few_shot: int | None = None,
    limit: int | None = None,
    hub: HubOptions | None = None,
    options: api.Options | None = None,
    allow_own_code: bool = False,
    shown: bool = False,
    progress: Callable[[Step], None] = lambda _step: None,
    scored: Callable[[Subject, Sequence[Evaluation], float], object] = lambda _subject, _made, _seconds: None,
) -> Comparison:
    """Score models, and recipes that are merged in memory, on the same items. Needs the extra `eval`.

    `parents` adds the models that the recipes name; differences are from the model called `against`, by default the
    best of the parents, else the first. `template` "auto" uses the chat templates where every model has one. `dtype`
    is what all compute in, "auto" as each is stored. Scores are kept in the folder `out`. `options` are of the recipes.
    `scored` is called with each model, all its scores, and the seconds that this took; also where all were kept, as
    whoever notes them may have been killed before.
    Raises MissingExtra, DeviceError, TaskError and the letters of models and recipes before anything is
    asked, TaskFailed after.
    """
    harness = Harness(
        batch=batch, device=device, few_shot=few_shot, limit=limit, allow_own_code=allow_own_code, shown=shown
    )
    hub, options = hub or HubOptions(), options or api.Options()
    asked = harness.expanded(tasks_named(tasks, allow_own_code=allow_own_code))
    named = [subject(each, hub, options) for each in sources]
    subjects = _distinct([*named, *(parents_of(named, hub) if parents else ())])
    if against is not None and against not in [each.name for each in subjects]:
        raise TaskError(f"--against {against}: none of the models, {', '.join(each.name for each in subjects)}.")
    use_template = _decided(template, subjects)
    setup = {**harness.setup, "template": use_template, "dtype": dtype}
    kept = {(each.name, task.name): _Kept.of(out, each, task, setup) for each in subjects for task in asked}
    missing = {way for way, record in kept.items() if not record.exists}
    loaded = {task.name: harness.load(task) for task in asked if any(name == task.name for _, name in missing)}
    found: dict[str, list[Evaluation]] = {}
    for row, each in enumerate(subjects):
        started, running = time.monotonic(), None
        for column, task in enumerate(asked):
            record = kept[each.name, task.name]
            number = row * len(asked) + column + 1
            progress(Step(each.name, task.name, number, len(kept), record.exists))
            if not record.exists:
                running = each.running(harness, dtype) if running is None else running
                record.write(
                    harness.ask(running, loaded[task.name], model=each.name, digest=each.digest, template=use_template)
                )
            found.setdefault(each.name, []).extend(record.read(each.name))
        scored(each, found[each.name], time.monotonic() - started)
        del running  # one model in memory at a time
    return compared(found, parents=[each.name for each in subjects if each.is_parent], against=against)


def _distinct(subjects: Sequence[Subject]) -> list[Subject]:
    """Each model once. Raises TaskError where two different ones are called alike."""
    found: dict[str, Subject] = {}
    for each in subjects:
        found.setdefault(each.digest, each)
    twice = [name for name, count in Counter(each.name for each in found.values()).items() if count > 1]
    if twice:
        raise TaskError(f"two different models are called `{twice[0]}`; give one of their folders another name.")
    return list(found.values())


def _decided(template: Template, subjects: Sequence[Subject]) -> bool:
    """Whether chat templates are used: for all models or for none."""
    without = [each.name for each in subjects if not each.has_template]
    if template == "on" and without:
        raise TaskError(
            f"--chat-template on: {', '.join(without)} has no chat template; `auto` or `off` leaves it out."
        )
    return template == "on" or (template == "auto" and not without)


@dataclass(frozen=True)
class _Kept:
    """The file that holds what one model scored on one task, asked in one way."""

    path: Path
    way: Mapping[str, Any]

    @classmethod
    def of(cls, out: Path, each: Subject, task: Task, setup: Mapping[str, Any]) -> _Kept:
        content = task.digest or task.content
        way = {"model": each.digest, "task": task.name, "content": content, **setup}
        digest = xxhash.xxh3_64_hexdigest(json.dumps(way, sort_keys=True).encode())
        return cls(out / f"{_file_name(each.name)}-{_file_name(task.name)}-{digest[:8]}.json", way)

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def read(self, model: str) -> list[Evaluation]:
        """The scores, under the name that the model has now. Raises OutputError for what is none of our files."""
        try:
            content = json.loads(self.path.read_bytes())
            if content["way"] != self.way:
                raise ValueError("it was asked in another way")
            return [replace(Evaluation.from_json(each), model=model) for each in content["evaluations"]]
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{self.path} is no result of this evaluation ({error}); remove it.") from error

    def write(self, evaluations: Sequence[Evaluation]) -> None:
        content = {"way": self.way, "evaluations": [each.to_json() for each in evaluations]}
        try:
            replace_file(self.path, json.dumps(content, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror or error}.") from error


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in name)
