"""Where could a model be cut to be made deeper: what each layer changes, and what every cut costs before training.

The story: every cut is planned; what it loses is looked up in the ledger, else measured. The best is chosen on every
other row of the texts, `dev`; on the rows between, `test`, only the best and SOLAR's cut are asked. Nothing is written
but rows of the ledger. Needs the extra `hf`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamina import api
from lamina.chance import Interval, simultaneous
from lamina.check.models import opened
from lamina.checkpoints.hub_client import HubOptions
from lamina.errors import RecipeError
from lamina.evaluate.subjects import Subject, subject
from lamina.execute.live_model import device_here
from lamina.execute.memory import peak_memory
from lamina.ledger.notebook import Notebook
from lamina.ledger.runs import Run
from lamina.planners.upscale import Cut, cuts_to, middle_cut, solar_depth
from lamina.studies.cuts import CutStudy, LayerChange, cut_row
from lamina.studies.sweep import standings
from lamina.upscaling import upscale_recipe


@dataclass(frozen=True)
class CutLoss:
    """A cut on the `dev` rows. `over` is what it loses beside the model as it is, for all cuts at once.

    `over_default` is what it loses beside SOLAR's cut, likewise; `is_near_best` where it is not told from the best.
    `run` is its row in the ledger.
    """

    cut: Cut
    loss: float
    over: Interval
    over_default: Interval
    is_near_best: bool
    run: str | None


@dataclass(frozen=True)
class Scan:
    """A model's layers, and its cuts to `depth` from the lowest to the highest.

    `said` has why that depth. `loss` is the model's own on the dev rows. `refused` has the cuts that config.json cannot
    say, with the reason. `test` has on the test rows the losses of the model, of the best cut and of SOLAR's; what
    the two cuts lose beside the model, and the best beside SOLAR's, are `test_over`, with plain 95% intervals.
    `measured` is how many of `measurements` were taken now; the ledger had the others.
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
    measured: int
    measurements: int
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
    notebook: Notebook | None = None,
    progress: Callable[[str], None] = lambda _what: None,
) -> Scan:
    """What the layers of a model change, and what each cut of two copies of it to `to` layers loses.

    `texts` by name, by default those of `lamina check`; `limit` is of the dev rows, and of the test rows, of each. A
    model larger than `memory` bytes is brought in layer by layer. Rows go where `notebook` says, by default into the
    user's own ledger, and what is there is not measured again: of the same model, plan, texts, limit, device and
    version of Lamina. Raises DeviceError where there is no such `device`, RecipeError where the model cannot be
    up-scaled, and CheckpointError where it cannot be run.
    """
    started = time.monotonic()
    device_here(device)
    hub = hub or HubOptions()
    with opened(model, hub) as found:
        depth, said = solar_depth(found, to=to, drop=drop)
        count = found.architecture.depth
        usual = middle_cut(count, depth)
        known_as = subject(str(model), hub, api.Options())
        possible, refused = _planned(model, known_as, count, depth, hub)
        study = CutStudy(
            found, known_as, possible, texts, limit, notebook or Notebook(),
            device=device, memory=memory, progress=progress,
        )  # fmt: skip
        dev = study.losses("dev", [*possible])
        cuts, best = _compared(dev.model, dev.cuts, usual)
        default = next(each for each in cuts if each.cut == usual)
        test = study.losses("test", [*dict.fromkeys((best.cut, default.cut))])
    best_test, default_test = test.cuts[best.cut], test.cuts[default.cut]
    pairs = ((best_test, test.model), (default_test, test.model), (best_test, default_test))
    over = [simultaneous([_beside(theirs, ours)])[0] for ours, theirs in pairs]
    return Scan(
        str(model), dev.layers, depth, tuple(said), dev.rows, dev.row, dev.model.scores[0].value, cuts, refused, best,
        default, (test.model.scores[0].value, best_test.scores[0].value, default_test.scores[0].value),
        (over[0], over[1], over[2]), limit is not None, study.measured, 2 + len(dev.cuts) + len(test.cuts),
        time.monotonic() - started, peak_memory(),
    )  # fmt: skip


def _planned(
    model: str | Path, known_as: Subject, count: int, depth: int, hub: HubOptions
) -> tuple[dict[Cut, Run], dict[Cut, str]]:
    """The cuts that can be written, and why others cannot. Raises RecipeError where SOLAR's cannot."""
    options: dict[str, Any] = {
        "cache_dir": hub.cache_dir, "token": hub.token, "offline": hub.offline, "revision": hub.revision,
    }  # fmt: skip
    possible, refused = {}, {}
    for cut in cuts_to(count, depth):
        try:
            recipe = upscale_recipe(model, first=cut.first, to=depth, **options)
            possible[cut] = cut_row(known_as, count, cut, recipe, api.plan(recipe, **options))
        except RecipeError as error:
            if cut == middle_cut(count, depth):
                raise
            refused[cut] = error.problems[0].message
    return possible, refused


def _compared(model: Run, cuts: Mapping[Cut, Run], default: Cut) -> tuple[tuple[CutLoss, ...], CutLoss]:
    """The cuts, and the best of them."""
    over = simultaneous([_beside(model, each) for each in cuts.values()])
    over_default = simultaneous([_beside(cuts[default], each) for each in cuts.values()])
    standing = standings([each.scores[0] for each in cuts.values()], None)
    found = [
        CutLoss(
            cut, run.scores[0].value, beside, beside_default, each.is_near_best,
            None if run.number is None else run.id,
        )
        for (cut, run), beside, beside_default, each in zip(cuts.items(), over, over_default, standing, strict=True)
    ]  # fmt: skip
    return tuple(found), next(cut for cut, each in zip(found, standing, strict=True) if each.is_best)


def _beside(reference: Run, run: Run) -> list[float]:
    """What each row loses, beside that of another."""
    return reference.scores[0].gains_over(run.scores[0])
