"""lm-evaluation-harness: the one place that imports it. A model is asked a task, and what comes out is an Evaluation.

Nothing is done to a score here: it is what the harness gives for the same model, task, batch and dtype by hand.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from lamina.errors import CheckpointError, MissingExtra, TaskError, TaskFailed, did_you_mean
from lamina.evaluate.functions import Asked, by_function
from lamina.evaluate.halves import Split, asking_half
from lamina.evaluate.harness_results import Of, evaluations_of
from lamina.evaluate.results import Evaluation, Settings
from lamina.evaluate.tasks import OPENLLM, OWN_NAMES, Task
from lamina.execute.live_model import device_here, frameworks
from lamina.wording import counted

# What the harness's own command line takes where nothing is said: of `random`, and of numpy, torch and the choice of
# few-shot examples.
PYTHON_SEED, SEED = 0, 1234
TOO_FEW = "larger than population"  # what random.sample says, which draws the examples
RESAMPLED = 100_000  # for standard errors without a formula; also its own


@dataclass(frozen=True)
class Loaded:
    """A task with its data. `tree` is what the harness runs; a function of one's own has none."""

    task: Task
    tree: Any = None


class Harness:
    """The harness, set up in one way for all models: `template`, `batch`, `device`, `few_shot`, `limit`.

    `few_shot` of None leaves to each task how many examples it shows. `other_names` are what else the caller knows, for
    the letter about a name that the harness does not. Raises MissingExtra without the extra `eval`, and
    DeviceError where there is no such device.
    """

    def __init__(
        self,
        *,
        batch: int,
        device: str,
        few_shot: int | None = None,
        limit: int | None = None,
        allow_own_code: bool = False,
        shown: bool = False,
        other_names: Sequence[str] = OWN_NAMES,
    ) -> None:
        try:
            self.version = version("lm_eval")
        except PackageNotFoundError as error:
            raise MissingExtra("eval", "lm_eval") from error
        device_here(device)
        self.device, self._batch, self._few_shot, self._limit = device, batch, few_shot, limit
        self._allow_own_code, self._shown, self._other_names = allow_own_code, shown, other_names

    @property
    def setup(self) -> dict[str, Any]:
        """All of it that decides a score."""
        return {
            "harness": self.version, "batch": self._batch, "device": self.device, "few_shot": self._few_shot,
            "limit": self._limit, "seed": SEED,
        }  # fmt: skip

    @cached_property
    def _lm_eval(self) -> Any:
        """The package. Importing it takes some 7 s, and where all was scored before it is not needed."""
        frameworks()  # whose letter names the extra that they belong to
        import lm_eval
        import lm_eval.evaluator
        import lm_eval.models.huggingface
        import lm_eval.tasks

        logging.getLogger(lm_eval.__name__).setLevel(logging.ERROR)
        return lm_eval

    # Tasks

    def expanded(self, tasks: Iterable[Task]) -> list[Task]:
        """The tasks, `openllm` as the six that it stands for: each with the examples that the harness's group asks."""
        found: dict[str, Task] = {}
        for task in tasks:
            for each in self._openllm() if task.content == OPENLLM else [task]:
                found.setdefault(each.name, each)
        return list(found.values())

    def _openllm(self) -> Iterator[Task]:
        for member in self._known.task_index[OPENLLM].cfg["task"]:
            # The group asks all three questions of TruthfulQA; what is reported for it is the second.
            name = member["task"] if member["task"] != "truthfulqa" else "truthfulqa_mc2"
            yield Task(name, {**member, "task": name})

    @cached_property
    def _known(self) -> Any:
        """All tasks that come with the harness; listing them takes it some 20 s."""
        return self._lm_eval.tasks.TaskManager()

    def load(self, task: Task) -> Loaded:
        """A task with its data, fetched where they are not cached. Raises TaskError."""
        if task.function is not None:
            return self._own(task)
        mine = task.digest != ""
        manager = self._lm_eval.tasks.TaskManager(include_defaults=False) if mine else self._known
        if isinstance(task.content, str) and not mine:
            known = [*manager.all_tasks, *manager.all_groups, *manager.all_tags]
            if task.content not in known:
                hint = _near(task.content, [*self._other_names, *known])
                raise TaskError(f"lm-eval {self.version} has no task `{task.content}`.{hint}")
        try:
            with self.quiet(), tempfile.TemporaryDirectory(prefix="lamina-eval-") as folder:
                given = task.content if mine else self._changed(task, Path(folder))
                tree = manager.load([given])
        except (ConnectionError, FileNotFoundError) as error:
            raise TaskError(
                f"the data of `{task.name}` are not cached here and cannot be fetched: {_first_line(error)} "
                "Run it once where the Hub can be reached, with the same HF_HOME; or name a file of your own."
            ) from error
        except Exception as error:  # whatever a task's description makes of the harness
            raise TaskError(f"`{task.name}` cannot be loaded: {type(error).__name__}: {_first_line(error)}") from error
        of_group = None if mine or isinstance(task.content, str) else task.content.get("num_fewshot")
        examples = of_group if self._few_shot is None else self._few_shot
        for each in tree["tasks"].values():
            # Tasks whose text brings its own examples say 0, and no others are put before them.
            if examples is not None and each.get_config("num_fewshot") != 0:
                each.set_config(key="num_fewshot", value=examples)
        return Loaded(task, tree)

    def _changed(self, task: Task, folder: Path) -> str:
        """What the harness loads a task of its own by: its name, or a file that includes it and changes something."""
        if isinstance(task.content, str):
            return task.content
        entry = self._known.task_index[task.name]
        if entry.name in self._known.all_groups:  # which no file includes; `load` sets its examples
            return task.name
        path = folder / f"{task.name}.yaml"
        path.write_text(json.dumps({"include": str(entry.yaml_path), **task.content}), encoding="utf-8")
        return str(path)

    def _own(self, task: Task) -> Loaded:
        for given, flag in ((self._limit, "--limit"), (self._few_shot, "--few-shot")):
            if given is not None:
                raise TaskError(f"`{task.content}` decides itself what it asks: {flag} does not reach into it.")
        return Loaded(task)

    # Models

    def running(self, pretrained: Any, tokenizer: Any = None, dtype: str = "auto") -> Any:
        """A model that can be asked: of a folder, or one in memory with its tokenizer."""
        own = {} if tokenizer is None else {"tokenizer": tokenizer}
        try:
            with self.quiet():
                return self._lm_eval.models.huggingface.HFLM(
                    pretrained=pretrained, dtype=dtype, batch_size=self._batch, device=self.device, **own
                )
        except Exception as error:  # whatever a class does with a config that is at fault
            raise CheckpointError(f"transformers cannot load {pretrained}: {_first_line(error)}") from error

    def ask(
        self, running: Any, loaded: Loaded, *, model: str, digest: str, template: bool, split: Split | None = None
    ) -> list[Evaluation]:
        """The model's scores on a task: one, or one for each task of a group that has no score of its own.

        `split` asks one half of the items, each as it is asked among all; `limit` is then of that half. Raises
        TaskFailed where the task raises, and TaskError where the half has too few items, or the task for its examples.
        """
        random.seed(PYTHON_SEED)
        np.random.seed(SEED)
        frameworks()[0].manual_seed(SEED)
        of = Of(model, digest)
        settings = Settings(
            harness=self.version, task_version="", few_shot=0, template=template,
            dtype=str(running.model.dtype).removeprefix("torch."), batch=self._batch,
            device=str(running.model.device), seed=SEED, limit=self._limit,
        )  # fmt: skip
        if loaded.task.function is not None:
            asked = Asked(running, self._lm_eval.api.instance.Instance, template)
            with self.quiet():
                return [by_function(asked, loaded.task, settings, of, split)]
        tasks = loaded.tree["tasks"]
        for each in tasks.values():
            each.set_fewshot_seed(SEED)  # drawing goes on where it stopped: without this no two models see the same
        with contextlib.ExitStack() as during:
            which: dict[str, Any] = {"limit": self._limit}
            if split is not None:
                which = {"samples": during.enter_context(asking_half(tasks, split, self._limit))}
            try:
                with self.quiet():
                    found = self._lm_eval.evaluator.evaluate(
                        lm=running, task_dict=loaded.tree, bootstrap_iters=RESAMPLED, apply_chat_template=template,
                        fewshot_as_multiturn=template, confirm_run_unsafe_code=self._allow_own_code, **which,
                    )  # fmt: skip
            except Exception as error:  # a task's own code, a template's, or a device without room
                if isinstance(error, ValueError) and TOO_FEW in str(error):
                    raise _without_examples(tasks) from error
                raise TaskFailed(
                    f"{model}: `{loaded.task.name}` stopped: {type(error).__name__}: {_first_line(error)}"
                ) from error
        return evaluations_of(found, loaded.tree["group_map"], settings, of)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Without what the harness prints; on a terminal its bars are shown, as an evaluation can take hours."""
        logs = frameworks()[1].utils.logging
        level = logs.get_verbosity()
        logs.set_verbosity_error()
        aside = contextlib.nullcontext() if self._shown else contextlib.redirect_stderr(io.StringIO())
        try:
            with aside, contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            logs.set_verbosity(level)


def _without_examples(tasks: Mapping[str, Any]) -> TaskError:
    shown = {name: int(each.get_config("num_fewshot") or 0) for name, each in tasks.items()}
    name = max(shown, key=lambda each: shown[each])
    return TaskError(
        f"--few-shot {shown[name]}: `{name}` has too few items to draw {counted(shown[name], 'example')} from, as an "
        "item is no example of itself. Show fewer, or give a file with more questions."
    )


def _near(name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known)
    return hint if hint.startswith(" Did") else " `lm_eval ls tasks` lists them."


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"{line.rstrip('.')}."
