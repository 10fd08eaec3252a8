"""`stack` to slices: entries put layers of models at output layers; where two cross they are blended.

    stack:
      - {model: base, layers: 0-31, at: 0}
      - {model: base, layers: 0-31, at: 8}
    overlap: ramp

Each maximal run of output layers that the same entries cover, with consecutive layers each, is one slice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import yaml

from lamina.errors import Problem
from lamina.recipe.layer_words import MOST_LAYERS, parse_layers
from lamina.recipe.load import Recipe
from lamina.recipe.overlap import Entry, crossing_problems
from lamina.recipe.schema import StackEntry
from lamina.recipe.settings import Conditional, Position, Scalar, Setting, on_gradient
from lamina.recipe.slices import Depth, Slice, Source
from lamina.recipe.steps import Put, Remove, Step
from lamina.recipe.text import KEY, Way
from lamina.wording import span


@dataclass(frozen=True)
class _Share:
    """One entry's part in one output layer. `weight` is None where the entry's own setting gives it."""

    entry: Entry
    weight: float | None

    def place(self, output: int) -> int:
        """How far into its entry the output layer lies."""
        return output - self.entry.at

    def layer(self, output: int) -> int:
        return self.entry.layers[self.place(output)]


def slices_of_stack(recipe: Recipe, depth: Depth, problems: list[Problem]) -> list[Slice]:
    """The slices that a recipe's `stack` stands for; none, and an entry in `problems`, where it is at fault."""
    entries = _placed(recipe, depth, problems)
    if entries is None:
        return []
    found: list[Problem] = []
    shares = _shares(recipe, entries, found)
    problems += found
    if found:
        return []
    return [_slice(shares, run, recipe.schema.merge_method or "linear") for run in _runs(shares)]


_EITHER = "an entry has either `layers: 8-31` or `layer_range: [8, 32]`"


def _placed(recipe: Recipe, depth: Depth, problems: list[Problem]) -> list[Entry] | None:
    """The entries with their layers as numbers and their places; `at` defaults to the end of the one before.

    None where an entry's layers cannot be told, since that moves all that follow.
    """
    entries: list[Entry] = []
    complete = True
    for number, entry in enumerate(recipe.schema.stack or ()):
        way: Way = ("stack", number)
        if entry.weight is not None and "weight" in entry.parameters:
            message, twice = "`weight` is given twice; keep one.", (*way, "weight")
            problems.append(recipe.problem("weight", message, (*twice, KEY), steps=[Remove(twice)]))
        try:
            count = depth(entry.model)
            layers = _layers_of(entry, count)
        except ValueError as error:
            message = str(error)
            hinted = re.search(r"(?:Did you mean|; write) `(?:layers: )?(.+?)`", message)
            key = "layers" if entry.layers is not None else "layer_range"
            end = "" if message.endswith("?") else "."
            suggestion = hinted[1] if hinted else ""
            steps = _layer_steps(entry, (*way, key), suggestion)
            problems.append(recipe.problem("layers", message + end, (*way, key), suggestion, steps))
            complete = False
            continue
        complete = complete and count is not None
        at = entry.at if entry.at is not None else entries[-1].end if entries else 0
        if at + len(layers) > MOST_LAYERS:
            problems.append(recipe.problem("gap", f"output layer {at} is more than any model has.", (*way, "at")))
            complete = False
            continue
        parameters = {name: setting for name, setting in entry.parameters.items() if name != "weight"}
        weight = entry.weight or entry.parameters.get("weight")
        entries.append(Entry(number, entry.model, layers, at, weight, parameters))
    return entries if complete else None


def _layer_steps(entry: StackEntry, way: Way, suggestion: str) -> list[Step]:
    if entry.layers is not None and entry.layer_range is not None:
        return [Remove((*way[:-1], "layer_range"))]
    if entry.layers is None and entry.layer_range is None:
        return [Put((*way[:-1], "layers"), "0-")]
    return [Put(way, yaml.safe_load(suggestion))] if suggestion else []


def _layers_of(entry: StackEntry, depth: int | None) -> tuple[int, ...]:
    """The layers of an entry. Raises ValueError unless it names them once, and they are there."""
    if entry.layers is not None and entry.layer_range is not None:
        raise ValueError(f"{_EITHER}, and this one has both; keep one")
    if entry.layers is not None:
        return parse_layers(entry.layers, depth, f"the model `{entry.model}`")
    if entry.layer_range is None:
        raise ValueError(f"{_EITHER}, and this one has neither; `layers: 0-` takes all of them")
    start, stop = entry.layer_range
    written = f"layer_range [{start}, {stop}]"
    if not 0 <= start < stop:
        hint = f". Did you mean `[{stop}, {start}]`?" if 0 <= stop < start else ""
        raise ValueError(f"{written} holds no layer; the form is [start, end], the end not included{hint}")
    if depth is not None and stop > depth:
        raise ValueError(
            f"{written} ends beyond the model `{entry.model}`, which has {depth} layers (0 to {depth} is valid). "
            f"Did you mean `[{min(start, depth - 1)}, {depth}]`?"
        )
    return parse_layers(f"{start}-{stop - 1}", depth)


def _shares(recipe: Recipe, entries: Sequence[Entry], problems: list[Problem]) -> list[list[_Share]]:
    """For each output layer, the entries that make it and their weights."""
    shares: list[list[_Share]] = []
    undecided: list[Problem] = []
    for first, last in _stretches(entries):
        here = [entry for entry in entries if entry.at <= first < entry.end]
        if not here:
            after = next(entry for entry in sorted(entries, key=lambda entry: entry.at) if entry.at == last + 1)
            message = (
                f"no entry covers output layer{'s' if last > first else ''} {span(first, last)}: {after} starts "
                f"after them. Did you mean `at: {first}`? Else place an entry between."
            )
            steps = [Put((*after.way, "at"), first)]
            problems.append(recipe.problem("gap", message, (*after.way, "at"), f"at: {first}", steps))
            continue
        if len(here) > 1:
            undecided += crossing_problems(recipe, here, first, last)
        shares += [_blend(recipe.schema.overlap, here, output) for output in range(first, last + 1)]
    problems += undecided[:1]  # the others are mended by the same word
    return shares


def _stretches(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """[first, last] of each maximal stretch of output layers with the same covering entries."""
    cuts = sorted({0, *(entry.at for entry in entries), *(entry.end for entry in entries)})
    return [(start, stop - 1) for start, stop in pairwise(cuts)]


def _blend(overlap: str | None, here: Sequence[Entry], output: int) -> list[_Share]:
    if len(here) > 1 and all(entry.weight is not None for entry in here):
        return [_Share(entry, None) for entry in here]
    if len(here) != 2 or overlap == "average":
        return [_Share(entry, 1.0) for entry in here]
    earlier, later = here
    count = earlier.end - later.at
    index = output - later.at
    if overlap == "cut":
        return [_Share(earlier if index < -(-count // 2) else later, 1.0)]
    fraction = index / (count - 1) if count > 1 else 0.5
    return [_Share(earlier, 1 - fraction), _Share(later, fraction)]


def _runs(shares: Sequence[Sequence[_Share]]) -> list[range]:
    """Maximal runs of output layers with the same entries and consecutive source layers in each."""

    def goes_on(output: int) -> bool:
        before, here = shares[output - 1], shares[output]
        return [share.entry for share in before] == [share.entry for share in here] and all(
            share.layer(output) == share.layer(output - 1) + 1 for share in here
        )

    cuts = [0, *(output for output in range(1, len(shares)) if not goes_on(output)), len(shares)]
    return [range(start, stop) for start, stop in pairwise(cuts)]


def _slice(shares: Sequence[Sequence[_Share]], run: range, method: str) -> Slice:
    """One slice. Under linear its sources have weights; under slerp, two have t between them, from the earlier."""
    sources = []
    for position, share in enumerate(shares[run.start]):
        entry, start = share.entry, share.layer(run.start)
        part = range(share.place(run.start), share.place(run.start) + len(run))
        parameters = {name: _restricted(value, part, len(entry.layers)) for name, value in entry.parameters.items()}
        if method not in ("slerp", "passthrough"):
            weights = [shares[output][position].weight for output in run]
            parameters = {"weight": _weight(weights, entry, part)} | parameters
        sources.append(Source(entry.ref, start, start + len(run), parameters, entry.way))
    if method == "slerp" and len(sources) == 2:
        return Slice(tuple(sources), {"t": _t([shares[output] for output in run])}, sources[0].ref, sources[0].way)
    return Slice(tuple(sources), {}, None, sources[0].way)


def _t(shares: Sequence[Sequence[_Share]]) -> Setting:
    """How far each layer lies from the earlier of two entries to the later."""
    pairs = [(earlier.weight or 0.0, later.weight or 0.0) for earlier, later in shares]
    return _gradient([later / (earlier + later) for earlier, later in pairs])


def _weight(weights: Sequence[float | None], entry: Entry, part: range) -> Setting:
    given = [weight for weight in weights if weight is not None]
    if not given:
        return _restricted(entry.weight or (), part, len(entry.layers))
    return _gradient(given)


def _gradient(values: Sequence[float]) -> Setting:
    """The shortest gradient with these values, one a layer, of which each is as far from the next."""
    if values[0] == values[-1]:
        return (Conditional(None, (values[0],)),)
    whole_ramp = {values[0], values[-1]} == {0.0, 1.0}
    return (Conditional(None, (values[0], values[-1]) if whole_ramp else tuple(values)),)


def _restricted(setting: Setting, part: range, count: int) -> Setting:
    """A setting whose gradients run over an entry's `count` layers, for the layers `part` of it alone."""
    if len(part) == count:
        return setting
    return tuple(
        Conditional(rule.filter, _compact([on_gradient(rule.values, Position(index, count)) for index in part]))
        for rule in setting
    )


def _compact(values: Sequence[Scalar]) -> tuple[Scalar, ...]:
    return (values[0],) if all(value == values[0] for value in values) else tuple(values)
