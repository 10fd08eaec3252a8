"""What `lamina upscale --scan` says: a line a layer, a line a cut, what can be said of the best, what to do next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from lamina.chance import Interval, worth
from lamina.cli.answer import interval_as_data
from lamina.ledger.runs import in_json
from lamina.planners.upscale import Cut
from lamina.studies.scan import CutLoss, Scan
from lamina.wording import counted, in_bytes, in_seconds

BAR = 24

# What `lamina upscale --scan --json` prints, by key.
SCAN_FIELDS: Mapping[str, str] = {
    "model": "as it was named",
    "rows": "of each text, those that the cuts were chosen on",
    "row_tokens": "tokens of a row",
    "layers": "each: `cosine` of what it is given and what it gives, `added` (the length of what it adds, of what it "
    "gives); means over tokens",
    "loss": "of the model as it is, on those rows, in nats a token",
    "depth": "layers of the deeper model",
    "cuts": "from the lowest to the highest, each: `first` (layers of the first copy), `second` (the layer with which "
    "the second begins), `loss`, `over` and `margin` (beside the model, and half its interval, for all cuts at once), "
    "`over_default` and `margin_default` (beside SOLAR's cut), `near_best` (not told from the best), `run` (its row in "
    "the ledger)",
    "refused": "cuts that config.json cannot say: `first`, `second`, `why`",
    "best": "the cut of the least loss",
    "default": "SOLAR's, which `lamina upscale` takes where no other is named",
    "beyond_chance": "whether the best differs from the default on the rows that it was chosen on",
    "test": "on the rows between, which chose nothing: `loss` of the model, `best` and `default` (each `loss`, `over`, "
    "`margin`), `best_over_default` (`over`, `margin`, `beyond_chance`)",
    "limited": "true under --limit",
    "measurements": "of the model and its cuts, on `dev` and on `test` rows",
    "measured": "how many of them were taken now; the ledger had the others",
    "next": "the command that writes the best",
    "seconds": "of wall time",
    "peak_memory": "of the process, in bytes",
}


def lines(found: Scan, command: str) -> Iterator[str]:
    """`command` is what writes the best."""
    asked = ", ".join(f"{name} ({rows})" for name, rows in found.rows.items())
    yield (
        f"{found.model} · {counted(len(found.layers), 'layer')} · rows of {found.row} tokens: {asked} · "
        f"{in_seconds(found.seconds)}, peak memory {in_bytes(found.peak_memory or 0)}"
        f"{_from_before(found.measurements - found.measured, found.measurements)}"
    )
    yield ""
    yield from _layers(found)
    yield ""
    yield from _cuts(found)
    yield ""
    yield from _told(found, command)


def _from_before(known: int, measurements: int) -> str:
    return f" · {known} of {measurements} from the ledger" if known else ""


def _layers(found: Scan) -> Iterator[str]:
    """A bar is as long as what the layer changes, 1 - cosine, in logarithm: from the least to the most of all."""
    changed = [max(1 - layer.cosine, 1e-6) if math.isfinite(layer.cosine) else 1e-6 for layer in found.layers]
    low, high = math.log(min(changed)), math.log(max(changed))
    yield "  layer  cosine  added  changes its input"
    for number, (layer, change) in enumerate(zip(found.layers, changed, strict=True)):
        share = (math.log(change) - low) / (high - low) if high > low else 1.0
        yield f"  {number:<5}  {layer.cosine:>6.3f}  {layer.added:>5.2f}  {_bar(share)}"


def _cuts(found: Scan) -> Iterator[str]:
    """A bar is as long as what the cut loses, from nothing to the worst."""
    count = len(found.layers)
    worst = max((each.over.difference for each in found.cuts if math.isfinite(each.loss)), default=0.0)
    texts = [each.cut.text(count) for each in found.cuts]
    width = max(len("layers"), *map(len, texts))
    overs = [_over(each.over) for each in found.cuts]
    over_width = max(len("lost"), *map(len, overs))
    yield f"  {'layers':<{width}}  {'lost':<{over_width}}  {found.depth} layers, before training"
    for each, text, over in zip(found.cuts, texts, overs, strict=True):
        share = each.over.difference / worst if worst > 0 and math.isfinite(each.loss) else 0.0
        marks = [
            "best" if each is found.best else "~" if each.is_near_best else "",
            "SOLAR" if each is found.default else "",
        ]
        mark = ", ".join(filter(None, marks))
        yield f"  {text:<{width}}  {over:<{over_width}}  {_bar(max(0.0, share)):<{BAR}}  {mark}".rstrip()
    for cut, why in found.refused.items():
        yield f"  {cut.text(count):<{width}}  cannot be written: {why}"


def _told(found: Scan, command: str) -> Iterator[str]:
    count, best, default = len(found.layers), found.best, found.default
    yield f"model       {found.loss:.3f} nats a token as it is; what is lost is beside that, in the same rows"
    yield f"best        {best.cut.text(count)}: {_over(best.over)}{'' if best.run is None else f' · {best.run}'}"
    if best is default:
        yield "            It is SOLAR's cut, which `lamina upscale` takes by default."
    else:
        yield (
            f"SOLAR       {default.cut.text(count)}: {_over(default.over)}; the best is {_over(best.over_default)} "
            f"beside it, for all cuts at once: {worth(best.over_default.is_beyond_chance)}"
        )
    _, best_over, default_over = found.test, *found.test_over[:2]
    if best is default:
        yield f"test        {_over(best_over)} on rows that chose nothing"
    else:
        between = found.test_over[2]
        yield (
            f"test        {_over(best_over)} against {_over(default_over)}: {_over(between)}, "
            f"{worth(between.is_beyond_chance)}; these rows chose nothing"
        )
    if near := sum(each.is_near_best for each in found.cuts if each is not best):
        yield f"near        {counted(near, 'other cut')} of {len(found.cuts)} within chance of the best (~)"
    if found.limited:
        yield "*           Of a part of the rows only: leave out --limit before you decide."
    yield f"next: {command}"


def next_command(found: Scan, out: str) -> str:
    """What writes the best cut."""
    first = [] if found.best is found.default else ["--first", str(found.best.cut.first)]
    return shlex.join(["lamina", "upscale", found.model, out, "--to", str(found.depth), *first])


def _bar(share: float) -> str:
    return "█" * round(1 + (BAR - 1) * share)


def _over(over: Interval) -> str:
    if not math.isfinite(over.difference):
        return "not finite"
    return f"{over.difference:+.3f} ± {over.margin:.3f}"


def as_data(found: Scan, command: str) -> dict[str, Any]:
    """The scan for JSON; `SCAN_FIELDS` says what each key holds."""
    loss, best, default = found.test
    best_over, default_over, between = found.test_over
    return {
        "model": found.model,
        "rows": dict(found.rows),
        "row_tokens": found.row,
        "layers": [{"cosine": in_json(each.cosine), "added": in_json(each.added)} for each in found.layers],
        "loss": in_json(found.loss),
        "depth": found.depth,
        "cuts": [_cut(each) for each in found.cuts],
        "refused": [{**_places(cut), "why": why} for cut, why in found.refused.items()],
        "best": _cut(found.best),
        "default": _cut(found.default),
        "beyond_chance": found.best.over_default.is_beyond_chance,
        "test": {
            "loss": in_json(loss),
            "best": {"loss": in_json(best), **interval_as_data(best_over)},
            "default": {"loss": in_json(default), **interval_as_data(default_over)},
            "best_over_default": {**interval_as_data(between), "beyond_chance": between.is_beyond_chance},
        },
        "limited": found.limited,
        "measurements": found.measurements,
        "measured": found.measured,
        "next": command,
        "seconds": round(found.seconds, 3),
        "peak_memory": found.peak_memory,
    }


def _cut(each: CutLoss) -> dict[str, Any]:
    beside = interval_as_data(each.over_default)
    return {
        **_places(each.cut), "loss": in_json(each.loss), **interval_as_data(each.over), "over_default": beside["over"],
        "margin_default": beside["margin"], "near_best": each.is_near_best,
        "run": each.run,
    }  # fmt: skip


def _places(cut: Cut) -> dict[str, int]:
    return {"first": cut.first, "second": cut.second}
