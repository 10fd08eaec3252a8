"""What a model and its cuts lose, row by row: as the ledger has it, else measured now and noted.

The model is loaded when the first of them is not known, and once. Rows of text go through it as it is, and the same
layers are run again in the order of every cut that is asked for. Which cut is the best is not decided here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from lamina.check.asked import digest_of_rows, token_rows
from lamina.check.layer_order import LayerOrder, Passed
from lamina.check.running import RunningModel, Tokens, is_streamed
from lamina.errors import CheckpointError
from lamina.evaluate.halves import Split
from lamina.evaluate.subjects import Subject
from lamina.execute.memory import peak_memory
from lamina.ledger.notebook import Notebook
from lamina.ledger.noting import FOLDER, parents_of
from lamina.ledger.runs import Run, in_json, now, versions
from lamina.models.plain import PlainModel
from lamina.planners.small_files import small_files
from lamina.planners.upscale import Cut
from lamina.plans.plan import Plan
from lamina.recipe.load import Recipe
from lamina.studies.metrics import Losses, loss_scores, rows_of
from lamina.tokenizers.vocabulary import VOCABULARY_FILES, Vocabulary
from lamina.version import VERSION

FIRST_LOOKED_AT = 16  # tokens of a row whose states are left out: the first ones are unlike all others
METRIC = "loss"

_LAYERS, _ROW = "layers", "tokens"  # of the details of the model's own row

Asked = Cut | None  # None for the model as it is


@dataclass(frozen=True)
class LayerChange:
    """What a layer does to its input, as means over tokens.

    `cosine` of what it is given and what it gives (1 minus it is the "block influence" of
    https://arxiv.org/abs/2403.03853, equation 1); `added` is the length of what it adds, of the length of what it
    gives.
    """

    cosine: float
    added: float


@dataclass(frozen=True)
class Measured:
    """Rows of the ledger, whether they were noted or not: that of the model as it is, and of each cut."""

    model: Run
    cuts: Mapping[Cut, Run]

    @property
    def layers(self) -> tuple[LayerChange, ...]:
        """What the layers change, on these rows of text."""
        noted = self.model.details[_LAYERS]
        return tuple(LayerChange(*(math.nan if each is None else each for each in layer)) for layer in noted)

    @property
    def row(self) -> int:
        """Tokens of a row."""
        return int(self.model.details[_ROW])

    @property
    def rows(self) -> dict[str, int]:
        """How many rows of each text were read."""
        return {score.name.partition("/")[2]: len(score.items) for score in self.model.scores[1:]}


def cut_row(subject: Subject, count: int, cut: Cut, recipe: Recipe, plan: Plan) -> Run:
    """The row of a cut of a model of `count` layers, before it is measured: a point of a sweep over its `stack`."""
    return Run(
        "sweep",
        f"{subject.name} {','.join(cut.spans(count))}",
        recipe=recipe.text,
        plan=plan.digest,
        parents=parents_of(plan),
        seed=plan.seed,
        details={
            "point": [f"stack[{entry}].layers={layers}" for entry, layers in enumerate(cut.spans(count))],
            "first": cut.first,
            "depth": len(cut.order(count)),
            FOLDER: str(recipe.folder.absolute()),
        },
    )


class CutStudy:
    """Measures a model and its cuts. `measured` is how many measurements were taken."""

    def __init__(
        self,
        model: PlainModel,
        subject: Subject,
        cuts: Mapping[Cut, Run],
        texts: Mapping[str, str] | None,
        limit: int | None,
        notebook: Notebook,
        *,
        device: str,
        memory: int | None,
        progress: Callable[[str], None],
    ) -> None:
        """`model` is open, and stays so meanwhile; `subject` is what is known of it. `cuts` are not measured yet."""
        self._model, self._subject, self._cuts, self._notebook = model, subject, cuts, notebook
        self._texts, self._limit, self._device, self._memory = texts, limit, device, memory
        self._progress = progress
        self.measured = 0

    def losses(self, split: Split, cuts: Sequence[Cut]) -> Measured:
        """The rows of the model and of these cuts, on a split of the texts. Raises CheckpointError."""
        asked: list[Asked] = [None, *cuts]
        known = {each: run for each in asked if (run := self._notebook.known(self._key(each, split))) is not None}
        if missing := [each for each in asked if each not in known]:
            known |= {each: self._noted(run) for each, run in self._measure(missing, split)}
            self.measured += len(missing)
        return Measured(known.pop(None), {cut: known[cut] for cut in cuts})

    def _key(self, asked: Asked, split: Split) -> str:
        rows = digest_of_rows(self._texts, is_streamed=is_streamed(self._elements, self._memory))
        plan = "" if asked is None else self._cuts[asked].plan
        what = [self._subject.digest, plan, METRIC, split, str(self._limit), self._device, rows, VERSION]
        return xxhash.xxh3_128_hexdigest("\n".join(what).encode())

    def _noted(self, run: Run) -> Run:
        return replace(run, number=self._notebook.note(run))

    def _measure(self, asked: Sequence[Asked], split: Split) -> Iterator[tuple[Asked, Run]]:
        """All that is missing, in one go: it is known when the last row has gone through."""
        layers, texts = self._loaded
        rows = {name: rows_of(each, split, self._limit) for name, each in texts.items()}
        orders = {cut: cut.order(self._count) for cut in asked if cut is not None}
        losses, seconds, changes = _read(layers, rows, orders, self._count, self._progress)
        tokens = next(iter(rows.values())).shape[1]
        for each in asked:
            run = _model_row(self._subject, tokens, changes) if each is None else self._cuts[each]
            yield each, replace(
                run,
                at=now(),
                versions=versions(),
                seconds=seconds[each],
                peak_memory=peak_memory(),
                scores=loss_scores(METRIC, split, losses[each], rows, limited=self._limit is not None),
                details={
                    "metric": METRIC, "split": split, **run.details,
                    "settings": {"device": self._device, "limit": self._limit},
                },
                key=self._key(each, split),
            )  # fmt: skip

    @property
    def _count(self) -> int:
        return self._model.architecture.depth

    @property
    def _elements(self) -> int:
        return sum(spec.count for spec in self._model.checkpoint.specs.values())

    @cached_property
    def _loaded(self) -> tuple[LayerOrder, Mapping[str, Tokens]]:
        """The running model's layers, and the rows of each text."""
        if not Vocabulary(small_files(self._model, VOCABULARY_FILES)).is_there:
            raise CheckpointError(f"{self._model.name} has no tokenizer, and without it no text can be read.")
        self._progress(f"loading {self._model.name}")
        running = RunningModel(
            self._model.checkpoint.folder, self._count, self._elements, memory=self._memory, device=self._device
        )
        texts = token_rows(running, self._texts)
        if not texts:
            raise CheckpointError("the texts have too few tokens: a scan takes two rows of a text, or more.")
        return LayerOrder(running), texts


def _model_row(subject: Subject, tokens: int, changes: Sequence[Sequence[float | None]]) -> Run:
    here = Path(subject.source).exists()
    output = str(Path(subject.source).absolute()) if here else subject.source
    details = {"digest": subject.digest, _ROW: tokens, _LAYERS: changes}
    return Run("sweep", subject.name, plan=subject.plan, output=output, details=details)


def _read(
    layers: LayerOrder,
    texts: Mapping[str, Tokens],
    orders: Mapping[Cut, Sequence[int]],
    count: int,
    progress: Callable[[str], None],
) -> tuple[dict[Asked, dict[str, Losses]], dict[Asked, float], list[list[float | None]]]:
    """The losses of each text's rows, of the model as it is and in every order, and the seconds that each took.

    Then what each of the model's `count` layers changes, cosine and added; None for what is no number.
    """
    losses: dict[Asked, dict[str, Losses]] = {each: {} for each in (None, *orders)}
    seconds: dict[Asked, float] = dict.fromkeys(losses, 0.0)
    changes: list[NDArray[np.float64]] = []
    weights: list[int] = []
    for name, rows in texts.items():
        parts: dict[Asked, list[Losses]] = {each: [] for each in losses}
        started = time.monotonic()
        for passed in layers.read(rows):
            progress(f"{name}: row {sum(map(len, parts[None])) + 1} of {len(rows)}, {len(orders)} cuts")
            parts[None].append(_by_row(passed.losses))
            changes.append(_changes(passed, count))
            weights.append(len(passed.losses))
            seconds[None] += time.monotonic() - started
            for cut, order in orders.items():
                started = time.monotonic()
                parts[cut].append(_by_row(passed.losses_of(order)))
                seconds[cut] += time.monotonic() - started
            started = time.monotonic()
        for each, found in parts.items():
            losses[each][name] = np.concatenate(found)
    means = np.average(changes, axis=0, weights=weights)
    noted = [[in_json(float(each)) for each in layer] for layer in means]
    return losses, seconds, noted


def _by_row(losses: NDArray[np.float32]) -> Losses:
    found: Losses = losses.mean(axis=1, dtype=np.float64)
    return found


def _changes(passed: Passed, count: int) -> NDArray[np.float64]:
    """Of each layer the mean cosine, and the mean share that is added, [layers, 2]."""
    return np.array([[float(each) for each in _change(passed.state(i), passed.state(i + 1))] for i in range(count)])


def _change(given: Any, gives: Any) -> Iterator[Any]:
    """Tensors [rows, length, hidden]; means in float32 sums over all tokens but the first of each row."""
    first = min(FIRST_LOOKED_AT, given.shape[1] // 2)
    given, gives = given[:, first:].float(), gives[:, first:].float()
    lengths = given.norm(dim=-1), gives.norm(dim=-1)
    tiny = float(np.finfo(np.float32).tiny)
    yield ((given * gives).sum(dim=-1) / (lengths[0] * lengths[1]).clamp_min(tiny)).mean()
    yield ((gives - given).norm(dim=-1) / lengths[1].clamp_min(tiny)).mean()
