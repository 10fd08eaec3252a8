"""A plan in the user's words: where each layer comes from, as a table and as a map of the depth.

Derived from the jobs alone, so that it shows what will be done and not what was asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import TYPE_CHECKING

from lamina.expressions.inspect import is_copy, shares
from lamina.wording import span

if TYPE_CHECKING:
    from lamina.plans.plan import Job, Plan

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
        pairs = zip(self.starts, self.ends, strict=True)
        return "  +  ".join(f"{start.model} {span(start.layer, end.layer)}" for start, end in pairs)

    @property
    def blend(self) -> str:
        """`copied`, `cast` to another dtype, or how much of each: `1 -> 0  +  0 -> 1`."""
        if self.copied:
            return "copied"
        if len(self.starts) == 1 and self.starts[0].factor == self.ends[0].factor == "1":
            return "cast"
        return "  +  ".join(_change(start, end) for start, end in zip(self.starts, self.ends, strict=True))


@dataclass(frozen=True)
class Track:
    """One model's layers at one offset, through the depth: its factor in every output layer."""

    model: str
    offset: int
    factors: tuple[float, ...]

    @property
    def layers(self) -> tuple[int, int]:
        """First and last source layer that count."""
        used = [output - self.offset for output, factor in enumerate(self.factors) if factor]
        return used[0], used[-1]


def layer_of(tensor: str) -> int | None:
    """The number of the layer that a tensor's name says it is in; None outside the layers."""
    found = _LAYER.search(tensor)
    return int(found[1]) if found else None


def short_names(plan: Plan) -> dict[str, str]:
    """Each model's own name, without the folders before it, where that tells the models apart."""
    short = {source.name: source.name.rstrip("/").rpartition("/")[2] for source in plan.inputs}
    uses = Counter(short.values())
    return {name: own if own and uses[own] == 1 else name for name, own in short.items()}


Names = Callable[["Plan"], Mapping[str, str]]


def layer_rows(plan: Plan, names: Names = short_names) -> list[LayerRow]:
    """The layers, those that are made alike in one row; `names` says what a model is called."""
    rows: list[list[_Layer]] = []
    for layer in _layers(plan, names):
        if rows and _goes_on(rows[-1], layer):
            rows[-1].append(layer)
        else:
            rows.append([layer])
    return _with_ramp_ends(
        [LayerRow(row[0].output, row[-1].output, row[0].parts, row[-1].parts, row[0].copied) for row in rows]
    )


def tracks(plan: Plan) -> list[Track]:
    """Every model at every offset that enters, in the order in which they appear."""
    layers = _layers(plan, short_names)
    found: dict[tuple[str, int], list[float]] = {}
    for layer in layers:
        for part in layer.parts:
            factors = found.setdefault((part.model, layer.output - part.layer), [0.0] * len(layers))
            factors[layer.output] += part.high
    return [Track(model, offset, tuple(factors)) for (model, offset), factors in found.items() if any(factors)]


def layer_map(plan: Plan) -> list[str]:
    """The depth drawn: a line a track, darker where it counts more."""
    lines = tracks(plan)
    depth = len(lines[0].factors) if lines else 0
    columns = columns_of(depth)
    names = {track.model: track.model if len(track.model) <= 14 else track.model[:13] + "…" for track in lines}
    width = max(map(len, ("depth", *names.values())))
    drawn = [f"  {'depth':<{width}}  {ruler(columns)}"]
    for track in lines:
        bar = "".join(_shade(max((track.factors[output] for output in column), key=abs)) for column in columns)
        first, last = track.layers
        place = f"{span(first, last)} at {first + track.offset}"
        drawn.append(f"  {names[track.model]:<{width}}  {bar:<{len(columns)}}  {place}")
    return drawn


def columns_of(depth: int) -> list[range]:
    """The layers that each column of a drawing of the depth stands for."""
    per_column = -(-depth // MAP_WIDTH) or 1
    return [range(start, min(start + per_column, depth)) for start in range(0, depth, per_column)]


def ruler(columns: Sequence[range]) -> str:
    """The first layer of every eighth column, and the last layer at the end."""
    line, last = "", columns[-1][-1] if columns else 0
    for number in range(0, len(columns), 8):
        if len(line) <= number and number + 4 <= len(columns):
            line = f"{line:<{number}}{columns[number][0]}"
    return f"{line:<{max(len(columns) - len(str(last)), len(line) + 1)}}{last}"


def end_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """What lies outside the layers: the tensor, its origin (`base`, `0.3 rev  +  0.7 sort`), whether it is copied."""
    names = short_names(plan)
    rows = []
    for job in plan.jobs:
        if job.layer is None:
            parts = [(names[share.read.model], _part(share.factor, share.of_delta)) for share in shares(job.expr)]
            origin = "  +  ".join(model if factor == "1" else f"{factor} {model}" for model, factor in parts)
            alone = "cast" if len(parts) == 1 and parts[0][1] == "1" else ""
            name = job.name.removeprefix("model.").removesuffix(".weight")
            rows.append((name, origin, "copied" if is_copy(job.expr) else alone))
    return rows


@dataclass(frozen=True)
class _Layer:
    output: int
    parts: tuple[Part, ...]
    copied: bool


def _layers(plan: Plan, names: Names) -> list[_Layer]:
    """For each output layer its parts, and whether all of it is copied."""
    called = names(plan)
    by_layer: dict[int, list[Made]] = {}
    for job, made in zip(plan.jobs, plan.made_of, strict=True):
        if job.layer is not None:
            by_layer.setdefault(job.layer, []).append((job, made))
    return [
        _Layer(output, _parts((made for _, made in jobs), called), all(is_copy(job.expr) for job, _ in jobs))
        for output, jobs in sorted(by_layer.items())
    ]


def _parts(tensors: Iterable[MadeOf], names: Mapping[str, str]) -> tuple[Part, ...]:
    """The sources of one layer. One that is there twice counts twice, and for 0 in a tensor that is made without it."""
    ways = [*distinct(tensors)]
    found = {source: [made.get(source, 0.0) for made in ways] for source in chain.from_iterable(ways)}
    return tuple(
        Part(names[model], layer, min(values), max(values), of_delta)
        for (model, layer, of_delta), values in found.items()
    )


Source = tuple[str, int, bool]  # model, as the recipe calls it; its layer, 0 outside the layers; whether it is a delta
MadeOf = Mapping[Source, float]  # the sources of a tensor, each with the sum of its factors
Made = tuple["Job", MadeOf]


def made_of(jobs: Iterable[Job]) -> Iterator[MadeOf]:
    """What each tensor is made of. Tensors that are made alike, as most of a layer are, share one mapping."""
    known: dict[tuple[tuple[Source, float], ...], MadeOf] = {}
    for job in jobs:
        totals: dict[Source, float] = {}
        for share in shares(job.expr):
            source = (share.read.model, layer_of(share.read.name) or 0, share.of_delta)
            totals[source] = totals.get(source, 0.0) + share.factor
        yield known.setdefault(tuple(totals.items()), totals)


def distinct(tensors: Iterable[MadeOf]) -> Iterable[MadeOf]:
    """Those that are made in different ways, the first of each."""
    return {id(made): made for made in tensors}.values()


def names_without_places(plan: Plan) -> dict[str, str]:
    """Each model's name as a card may show it: nothing of where it lies on this machine.

    Models whose folders have one name are numbered.
    """
    names: dict[str, str] = {}
    for name, short in short_names(plan).items():
        own = short.rstrip("/").rpartition("/")[2] if short.startswith(("/", "~", ".")) else short
        numbered = (own if number == 1 else f"{own} ({number})" for number in count(1))
        names[name] = next(each for each in numbered if each not in names.values())
    return names


def _goes_on(row: Sequence[_Layer], layer: _Layer) -> bool:
    """True when a layer is made like those of the row: the next layers of the same sources, on the same slope."""
    before = row[-1]
    ours = [(part.model, part.layer, part.of_delta) for part in layer.parts]
    if layer.copied != before.copied or ours != [(p.model, p.layer + 1, p.of_delta) for p in before.parts]:
        return False
    if len(row) == 1:
        return True
    return all(
        abs(getattr(here, bound) - 2 * getattr(last, bound) + getattr(first, bound)) < 1e-6
        for first, last, here in zip(row[-2].parts, before.parts, layer.parts, strict=True)
        for bound in ("low", "high")
    )


def _with_ramp_ends(rows: Sequence[LayerRow]) -> list[LayerRow]:
    """Rows in which a ramp holds the layers at its ends, where one source counts fully and is copied.

    The recipe's ramp includes them; by the jobs alone they would look like the copies beside them.
    """
    result: list[LayerRow] = []
    for index, row in enumerate(rows):
        first, last, starts, ends = row.first, row.last, row.starts, row.ends
        before = rows[index - 1] if index else None
        after = rows[index + 1] if index + 1 < len(rows) else None
        if row.copied:
            first += bool(before and _reached(before, +1, row))
            last -= bool(after and _reached(after, -1, row))
            starts, ends = _moved(starts, first - row.first), _moved(ends, last - row.last)
        else:
            if before and (reached := _reached(row, -1, before)):
                first, starts = first - 1, reached
            if after and (reached := _reached(row, +1, after)):
                last, ends = last + 1, reached
        if first <= last:
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
        for value in [round(part.low + (part.low - other.low) / length, 9) + 0.0]  # + 0.0: no minus zero
    )
    if any(part.layer < 0 for part in parts):
        return None
    whole = [part for part in parts if part.low == 1]
    fits = len(whole) == 1 and all(part.low == 0 for part in parts if part is not whole[0])
    return parts if fits and (whole[0].model, whole[0].layer) == (copy.model, copy.layer) else None


def _moved(parts: Sequence[Part], steps: int) -> tuple[Part, ...]:
    return tuple(replace(part, layer=part.layer + steps) for part in parts)


def _part(factor: float, of_delta: bool) -> str:
    return Part("", 0, factor, factor, of_delta).factor


def _change(start: Part, end: Part) -> str:
    return start.factor if start.factor == end.factor else f"{start.factor} -> {end.factor}"


def _shade(factor: float) -> str:
    return SHADES[min(4, round(abs(factor) * 4))] if factor else " "
