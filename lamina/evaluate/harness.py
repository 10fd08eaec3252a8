"""lm-evaluation-harness: the one place that imports it. A model is asked a task, and what comes out is an Evaluation.

Nothing is done to a score here: it is what the harness gives for the same model, task, batch and dtype by hand.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import random
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from lamina.errors import CheckpointError, MissingExtra, TaskError, TaskFailed, did_you_mean
from lamina.evaluate.halves import Split, asking_half, check_enough, split_of
from lamina.evaluate.results import Evaluation, Item, Settings
from lamina.evaluate.tasks import OPENLLM, OWN_NAMES, Task
from lamina.execute.live_model import frameworks

# What the harness's own command line takes where nothing is said: of `random`, and of numpy, torch and the choice of
# few-shot examples.
PYTHON_SEED, SEED = 0, 1234
RESAMPLED = 100_000  # for standard errors without a formula; also its own


@dataclass(frozen=True)
class Loaded:
    """A task with its data. `tree` is what the harness runs; a function of one's own has none."""

    task: Task
    tree: Any = None


@dataclass(frozen=True)
class _Of:
    """The model that an evaluation is of."""

    model: str
    digest: str


class Harness:
    """The harness, set up in one way for all models: `template`, `batch`, `device`, `few_shot`, `limit`.

    `few_shot` of None leaves to each task how many examples it shows. `other_names` are what else the caller knows, for
    the letter about a name that the harness does not. Raises MissingExtra without the extra `eval`.
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
        TaskFailed where the task raises, and TaskError where the half has too few items.
        """
        random.seed(PYTHON_SEED)
        np.random.seed(SEED)
        frameworks()[0].manual_seed(SEED)
        of = _Of(model, digest)
        settings = Settings(
            harness=self.version, task_version="", few_shot=0, template=template,
            dtype=str(running.model.dtype).removeprefix("torch."), batch=self._batch, device=self.device, seed=SEED,
            limit=self._limit,
        )  # fmt: skip
        if loaded.task.function is not None:
            return [self._asked_by_function(running, loaded.task, settings, of, split)]
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
                raise TaskFailed(
                    f"{model}: `{loaded.task.name}` stopped: {type(error).__name__}: {_first_line(error)}"
                ) from error
        members: Mapping[str, Sequence[str]] = loaded.tree["group_map"]
        return [
            _evaluation(found, name, _leaves(name, members), settings, of)
            for name in _reported(found["results"], members)
        ]

    def _asked_by_function(
        self, running: Any, task: Task, settings: Settings, of: _Of, split: Split | None
    ) -> Evaluation:
        """A function is called whole, and an item is known by its number alone."""
        assert task.function is not None
        asked = Asked(running, self._lm_eval.api.instance.Instance, settings.template)
        try:
            with self.quiet():
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


# From what the harness gives to an Evaluation


def _reported(results: Mapping[str, Mapping[str, Any]], members: Mapping[str, Sequence[str]]) -> list[str]:
    """The names to report: those that lie in no group, and in the place of a group without a score its members.

    A group whose group changes something of its one task is in the harness's lists a member of itself.
    """
    inner = {child for name, children in members.items() for child in children if child != name}
    waiting, found = [name for name in (*members, *results) if name not in inner], []
    while waiting:
        name = waiting.pop(0)
        if name in results and _metrics(results[name]):
            found.append(name)
        else:
            waiting = [*(child for child in members.get(name, ()) if child != name), *waiting]
    return list(dict.fromkeys(found))


def _leaves(name: str, members: Mapping[str, Sequence[str]]) -> list[str]:
    inner = [child for child in members.get(name, ()) if child != name]
    return [leaf for child in inner for leaf in _leaves(child, members)] or [name]


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The finite figures of a task by `metric,filter`."""
    return {
        key: float(value)
        for key, value in result.items()
        if "," in key and "_stderr," not in key and isinstance(value, int | float) and math.isfinite(value)
    }


def _evaluation(found: Mapping[str, Any], name: str, leaves: Sequence[str], settings: Settings, of: _Of) -> Evaluation:
    result = found["results"][name]
    metrics = _metrics(result)
    key = next((each for each in metrics if each.startswith("acc_norm,")), next(iter(metrics)))
    metric, _, filtered = key.partition(",")
    stderr = result.get(f"{metric}_stderr,{filtered}")
    samples = [x for leaf in leaves for x in sorted(found["samples"][leaf], key=lambda each: int(each["doc_id"]))]
    items = _items([sample for sample in samples if sample["filter"] == filtered], metric)
    is_mean = bool(items) and math.isclose(np.mean([item.score for item in items]), metrics[key], rel_tol=1e-9)
    return Evaluation(
        model=of.model, digest=of.digest, task=name, metric=_shown(key), value=metrics[key],
        stderr=float(stderr) if isinstance(stderr, int | float) and math.isfinite(stderr) else None,
        n=sum(found["n-samples"][leaf]["effective"] for leaf in leaves),
        higher_is_better=bool(found["higher_is_better"][name].get(metric, True)),
        settings=Settings(
            **{
                **vars(settings),
                "task_version": str(found["versions"].get(name, "")),
                "few_shot": int(found["n-shot"][leaves[0]]),
            }
        ),
        items=items if is_mean else (),
        others={_shown(other): value for other, value in metrics.items() if other != key},
    )  # fmt: skip


def _items(samples: Sequence[Mapping[str, Any]], metric: str) -> tuple[Item, ...]:
    """The items of a metric that gives each a number; none for a metric of all together."""
    if not all(isinstance(sample.get(metric), _NUMBER) for sample in samples):
        return ()
    return tuple(
        Item(
            xxhash.xxh3_64_hexdigest(f"{sample['prompt_hash']} {sample['target_hash']}".encode()),
            json.loads(json.dumps(sample["filtered_resps"], default=str)),
            float(sample[metric]),
        )
        for sample in samples
    )


_NUMBER = (int, float, np.number, np.bool_)


def _shown(key: str) -> str:
    return key.removesuffix(",none")


def _near(name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known)
    return hint if hint.startswith(" Did") else " `lm_eval ls tasks` lists them."


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"{line.rstrip('.')}."
