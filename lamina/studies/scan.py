"""Where could a model be cut to be made deeper: what each layer changes, and what every cut costs before training.

The story: the model is loaded once, and every cut is planned; rows of text go through it; the same layers are run
again in the order of every cut. The best is chosen on every other row, `dev`; on the rows between, `test`, only the
best and SOLAR's cut are asked. Nothing is written. Needs the extra `hf`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina import api
from lamina.chance import Interval, among_pairs, simultaneous
from lamina.check.asked import token_rows
from lamina.check.layer_order import LayerOrder, Passed
from lamina.check.models import opened
from lamina.check.running import RunningModel, Tokens
from lamina.checkpoints.hub_client import HubOptions
from lamina.errors import CheckpointError, RecipeError
from lamina.execute.memory import peak_memory
from lamina.models.plain import PlainModel
from lamina.planners.small_files import small_files
from lamina.planners.upscale import Cut, cuts_to, middle_cut, solar_depth
from lamina.tokenizers.vocabulary import VOCABULARY_FILES, Vocabulary
from lamina.upscaling import upscale_recipe

FIRST_LOOKED_AT = 16  # tokens of a row whose states are left out: the first ones are unlike all others

Losses = NDArray[np.float64]  # one a row: the mean over its tokens but the first, nats a token


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
class CutLoss:
    """A cut on the `dev` rows. `over` is what it loses beside the model as it is, for all cuts at once.

    `over_default` is what it loses beside SOLAR's cut, likewise; `is_near_best` where it is not told from the best.
    """

    cut: Cut
    loss: float
    over: Interval
    over_default: Interval
    is_near_best: bool


@dataclass(frozen=True)
class Scan:
    """A model's layers, and its cuts to `depth` from the lowest to the highest.

    `said` has why that depth. `loss` is the model's own on the dev rows. `refused` has the cuts that config.json cannot
    say, with the reason. `test` has on the test rows the losses of the model, of the best cut and of SOLAR's; what
    the two cuts lose beside the model, and the best beside SOLAR's, are `test_over`, with plain 95% intervals.
    """

    model: str
    layers: tuple[LayerChange, ...]
    depth: int
    said: tuple[str, ...]
    rows: Mapping[str, int]
    row: int
    loss: float
    cuts: tuple[CutLoss, ...]
    refused: Mapping[Cut, str]
    best: CutLoss
    default: CutLoss
    test: tuple[float, float, float]
    test_over: tuple[Interval, Interval, Interval]
    limited: bool
    seconds: float
    peak_memory: int | None


def scan(
    model: str | Path,
    *,
    to: int | None = None,
    drop: int | None = None,
    texts: Mapping[str, str] | None = None,
    limit: int | None = None,
    device: str = "cpu",
    memory: int | None = None,
    hub: HubOptions | None = None,
    progress: Callable[[str], None] = lambda _what: None,
) -> Scan:
    """What the layers of a model change, and what each cut of two copies of it to `to` layers loses.

    `texts` by name, by default those of `lamina check`; `limit` is of the dev rows, and of the test rows, of each. A
    model larger than `memory` bytes is brought in layer by layer. Raises RecipeError where it cannot be up-scaled, and
    CheckpointError where it cannot be run.
    """
    started = time.monotonic()
    hub = hub or HubOptions()
    with opened(model, hub) as found:
        depth, said = solar_depth(found, to=to, drop=drop)
        count = found.architecture.depth
        usual = middle_cut(count, depth)
        possible, refused = _planned(model, count, depth, hub)
        progress(f"loading {model}")
        running = _loaded(found, memory, device)
    rows = token_rows(running, texts)
    if not rows:
        raise CheckpointError("the texts have too few tokens: a scan takes two rows of a text, or more.")
    dev = {name: each[0::2][:limit] for name, each in rows.items()}
    test = {name: each[1::2][:limit] for name, each in rows.items()}
    layers = LayerOrder(running)
    orders = {cut: cut.order(count) for cut in possible}
    changes, own, losses = _measured(layers, dev, orders, count, progress)
    cuts = _compared(own, losses, usual)
    best = min(cuts, key=lambda each: each.loss if math.isfinite(each.loss) else math.inf)
    default = next(each for each in cuts if each.cut == usual)
    asked = {cut: orders[cut] for cut in (best.cut, default.cut)}
    _, model_test, cut_test = _measured(layers, test, asked, count, progress)
    best_test, default_test = cut_test[best.cut], cut_test[default.cut]
    pairs = ((best_test, model_test), (default_test, model_test), (best_test, default_test))
    over = [simultaneous([(ours - theirs).tolist()])[0] for ours, theirs in pairs]
    return Scan(
        str(model), changes, depth, tuple(said), {name: len(each) for name, each in dev.items()},
        next(iter(dev.values())).shape[1], float(own.mean()), cuts, refused, best, default,
        (float(model_test.mean()), float(best_test.mean()), float(default_test.mean())), (over[0], over[1], over[2]),
        limit is not None, time.monotonic() - started, peak_memory(),
    )  # fmt: skip


def _planned(model: str | Path, count: int, depth: int, hub: HubOptions) -> tuple[list[Cut], dict[Cut, str]]:
    """The cuts that can be written, and why others cannot. Raises RecipeError where SOLAR's cannot."""
    options: dict[str, Any] = {
        "cache_dir": hub.cache_dir, "token": hub.token, "offline": hub.offline, "revision": hub.revision,
    }  # fmt: skip
    possible, refused = [], {}
    for cut in cuts_to(count, depth):
        try:
            api.plan(upscale_recipe(model, first=cut.first, to=depth, **options), **options)
        except RecipeError as error:
            if cut == middle_cut(count, depth):
                raise
            refused[cut] = error.problems[0].message
        else:
            possible.append(cut)
    return possible, refused


def _loaded(model: PlainModel, memory: int | None, device: str) -> RunningModel:
    if not Vocabulary(small_files(model, VOCABULARY_FILES)).is_there:
        raise CheckpointError(f"{model.name} has no tokenizer, and without it no text can be read.")
    elements = sum(spec.count for spec in model.checkpoint.specs.values())
    return RunningModel(model.checkpoint.folder, model.architecture.depth, elements, memory=memory, device=device)


def _measured(
    layers: LayerOrder,
    texts: Mapping[str, Tokens],
    orders: Mapping[Cut, Sequence[int]],
    count: int,
    progress: Callable[[str], None],
) -> tuple[tuple[LayerChange, ...], Losses, dict[Cut, Losses]]:
    """What the layers change, and the loss of every row: of the model as it is, and in every order."""
    own: list[Losses] = []
    losses: dict[Cut, list[Losses]] = {cut: [] for cut in orders}
    changes: list[NDArray[np.float64]] = []
    for name, rows in texts.items():
        done = 0
        for passed in layers.read(rows):
            progress(f"{name}: row {done + 1} of {len(rows)}, {len(orders)} cuts")
            own.append(_by_row(passed.losses))
            changes.append(_changes(passed, count))
            for cut, order in orders.items():
                losses[cut].append(_by_row(passed.losses_of(order)))
            done += len(own[-1])
    means = np.average(changes, axis=0, weights=[len(each) for each in own])
    return (
        tuple(LayerChange(float(cosine), float(added)) for cosine, added in means),
        np.concatenate(own),
        {cut: np.concatenate(each) for cut, each in losses.items()},
    )


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


def _compared(own: Losses, losses: Mapping[Cut, Losses], default: Cut) -> tuple[CutLoss, ...]:
    over = simultaneous(_beside(own, losses))
    over_default = simultaneous(_beside(losses[default], losses))
    best = min(losses.values(), key=lambda each: np.nan_to_num(each.mean(), nan=math.inf))
    behind = among_pairs(_beside(best, losses), len(losses))
    return tuple(
        CutLoss(cut, float(each.mean()), beside, beside_default, abs(lost.difference) <= lost.margin)
        for (cut, each), beside, beside_default, lost in zip(losses.items(), over, over_default, behind, strict=True)
    )


def _beside(reference: Losses, losses: Mapping[Cut, Losses]) -> list[list[float]]:
    return [(each - reference).tolist() for each in losses.values()]
