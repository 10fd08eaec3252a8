"""A plan in the user's words: where each layer comes from, as a table and as a map of the depth.

Derived from the jobs alone, so that it shows what will be done and not what was asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from lamina.expressions.inspect import is_copy, shares
from lamina.plans.plan import Job, Plan
from lamina.wording import span

_LAYER = re.compile(r"\.(\d+)\.")
MAP_WIDTH = 56  # columns of the layer map; beside a name it fits a line of 80
SHADES = "·░▒▓█"


@dataclass(frozen=True)
class Part:
    """One source of an output layer, with the smallest and largest factor by which its tensors enter."""

    model: str
    layer: int
    low: float
    high: float
    of_delta: bool

    @property
    def factor(self) -> str:
        """`0.5`, `0.2..0.5` where it differs between tensors; `0.7 Δ` where it multiplies a delta."""
        numbers = dict.fromkeys((f"{self.low:.3g}", f"{self.high:.3g}"))
        return "..".join(numbers) + (" Δ" if self.of_delta else "")


@dataclass(frozen=True)
class LayerRow:
    """Output layers `first` to `last` that are made alike: each source moves on with the output."""

    first: int
    last: int
    starts: tuple[Part, ...]
    ends: tuple[Part, ...]
    copied: bool

    @property
    def sources(self) -> str:
        """`base 8-31  +  base 0-23`."""
        return "  +  ".join(
            f"{start.model} {span(start.layer, end.layer)}" for start, end in zip(self.starts, self.ends, strict=True)
        )

    @property
    def blend(self) -> str:
        """`copied`, or how much of each: `1 -> 0  +  0 -> 1`."""
        if self.copied:
            return "copied"
        return "  +  ".join(_change(start, end) for start, end in zip(self.starts, self.ends, strict=True))


@dataclass(frozen=True)
class Track:
    """One model's layers at one offset, through the depth: its share in every output layer."""

    model: str
    offset: int
    shares: tuple[float, ...]

    @property
    def layers(self) -> tuple[int, int]:
        """First and last source layer that count."""
        used = [output - self.offset for output, share in enumerate(self.shares) if share]
        return used[0], used[-1]


def layer_rows(plan: Plan) -> list[LayerRow]:
    """The layers, those that are made alike in one row."""
    layers = _layers(plan)
    rows = []
    for _, group in groupby(enumerate(layers), key=lambda item: _likeness(item[0], *item[1])):
        members = list(group)
        (first, (starts, copied)), (last, (ends, _)) = members[0], members[-1]
        rows.append(LayerRow(first, last, starts, ends, copied))
    return _with_ramp_ends(rows)


def tracks(plan: Plan) -> list[Track]:
    """Every model at every offset that enters, in the order in which they appear."""
    layers = _layers(plan)
    found: dict[tuple[str, int], list[float]] = {}
    for output, (parts, _) in enumerate(layers):
        for part in parts:
            shares_of = found.setdefault((part.model, output - part.layer), [0.0] * len(layers))
            shares_of[output] += part.high
    return [Track(model, offset, tuple(values)) for (model, offset), values in found.items()]


def layer_map(plan: Plan) -> list[str]:
    """The depth drawn: a line a track, darker where it counts more."""
    lines = tracks(plan)
    depth = len(lines[0].shares) if lines else 0
    per_column = -(-depth // MAP_WIDTH) or 1
    columns = [range(start, min(start + per_column, depth)) for start in range(0, depth, per_column)]
    width = max((len(_short(track.model)) for track in lines), default=0)
    numbers = _ruler([column[0] for column in columns], depth - 1)
    drawn = [f"  {'depth':<{width}}  {numbers}"]
    for track in lines:
        bar = "".join(_shade(max(track.shares[output] for output in column)) for column in columns)
        first, last = track.layers
        drawn.append(
            f"  {_short(track.model):<{width}}  {bar:<{len(columns)}}  {span(first, last)} at {first + track.offset}"
        )
    return drawn


def other_jobs(plan: Plan) -> list[Job]:
    """What lies outside the layers: embeddings, norm, head."""
    return [job for job in plan.jobs if job.layer is None]


def made_of(job: Job) -> str:
    """One tensor's origin in words: `base`, `0.3 rev  +  0.7 sort`, `base  +  0.7 Δ rev`."""
    parts = [Part(share.read.model, 0, share.factor, share.factor, share.of_delta) for share in shares(job.expr)]
    return "  +  ".join(part.model if part.factor == "1" else f"{part.factor} {part.model}" for part in parts)


def _layers(plan: Plan) -> list[tuple[tuple[Part, ...], bool]]:
    """For each output layer its parts, and whether all of it is copied."""
    by_layer: dict[int, list[Job]] = {}
    for job in plan.jobs:
        if job.layer is not None:
            by_layer.setdefault(job.layer, []).append(job)
    return [(_parts(jobs), all(is_copy(job.expr) for job in jobs)) for _, jobs in sorted(by_layer.items())]


def _with_ramp_ends(rows: Sequence[LayerRow]) -> list[LayerRow]:
    """Rows in which a ramp holds the layers at its ends, where one source counts fully and is copied.

    The recipe's ramp includes them; by the jobs alone they would look like the copies beside them.
    """
    result: list[LayerRow] = []
    for index, row in enumerate(rows):
        first, last, starts, ends = row.first, row.last, row.starts, row.ends
        if row.copied:
            first += bool(index and _reached(rows[index - 1], +1, row))
            last -= bool(index + 1 < len(rows) and _reached(rows[index + 1], -1, row))
            starts, ends = _moved(starts, first - row.first), _moved(ends, last - row.last)
            if first > last:
                continue
        else:
            if index and (reached := _reached(row, -1, rows[index - 1])):
                first, starts = first - 1, reached
            if index + 1 < len(rows) and (reached := _reached(row, +1, rows[index + 1])):
                last, ends = last + 1, reached
        result.append(LayerRow(first, last, starts, ends, row.copied))
    return result


def _reached(ramp: LayerRow, step: int, beside: LayerRow) -> tuple[Part, ...] | None:
    """The parts one layer before (-1) or after (+1) a ramp, if there it comes to a copy that stands `beside` it."""
    length = ramp.last - ramp.first
    if ramp.copied or not beside.copied or not length or len(beside.starts) != 1:
        return None
    edge, far = (ramp.starts, ramp.ends) if step < 0 else (ramp.ends, ramp.starts)
    copy = (beside.ends if step < 0 else beside.starts)[0]
    parts = tuple(
        replace(part, layer=part.layer + step, low=value, high=value)
        for part, other in zip(edge, far, strict=True)
        for value in [round(part.low + (part.low - other.low) / length, 9)]
    )
    whole = [part for part in parts if part.low == 1]
    fits = len(whole) == 1 and all(part.low == 0 for part in parts if part is not whole[0])
    return parts if fits and (whole[0].model, whole[0].layer) == (copy.model, copy.layer) else None


def _moved(parts: Sequence[Part], steps: int) -> tuple[Part, ...]:
    return tuple(replace(part, layer=part.layer + steps) for part in parts)


def _parts(jobs: Iterable[Job]) -> tuple[Part, ...]:
    """The sources of one layer. A source that is there twice counts twice, tensor by tensor."""
    found: dict[tuple[str, int, bool], list[float]] = {}
    for job in jobs:
        totals: dict[tuple[str, int, bool], float] = {}
        for share in shares(job.expr):
            layer = _LAYER.search(share.read.name)
            key = (share.read.model, int(layer[1]) if layer else 0, share.of_delta)
            totals[key] = totals.get(key, 0.0) + share.factor
        for key, total in totals.items():
            found.setdefault(key, []).append(total)
    return tuple(
        Part(model, layer, min(values), max(values), of_delta) for (model, layer, of_delta), values in found.items()
    )


def _likeness(output: int, parts: Sequence[Part], copied: bool) -> object:
    """What two neighbouring layers share when they belong into one row."""
    constant = all(part.low == part.high for part in parts) and len(parts) > 1
    return copied, tuple((part.model, output - part.layer) for part in parts), constant


def _change(start: Part, end: Part) -> str:
    return start.factor if start.factor == end.factor else f"{start.factor} -> {end.factor}"


def _short(name: str) -> str:
    """A model's own name, without the folders before it."""
    last = name.rstrip("/").rpartition("/")[2]
    return last if len(last) <= 14 else last[:13] + "…"


def _shade(share: float) -> str:
    return SHADES[min(4, round(abs(share) * 4))] if share else " "


def _ruler(starts: Sequence[int], last: int) -> str:
    """The first output layer of every eighth column, and the last layer at the end."""
    line = ""
    for column in range(0, len(starts), 8):
        if len(line) <= column and column + 4 <= len(starts):
            line = f"{line:<{column}}{starts[column]}"
    return f"{line:<{max(len(starts) - len(str(last)), len(line) + 1)}}{last}"
