"""Are the layers those of the parents, in order and whole? By likeness, where no recipe says more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np

from lamina.architectures.config_values import config_values
from lamina.check.descent import (
    RELATED,
    SAME,
    SAMPLED_ROWS,
    Descent,
    Kin,
    cosine,
    read_run,
    row_numbers,
    rows_of,
)
from lamina.check.findings import Finding, Level, Section
from lamina.check.likeness import Tensors
from lamina.check.naming import short_name
from lamina.check.parts import LEAST_RATIO, MOST_RATIO, dead_rows, unlike_norms
from lamina.check.weights import Figures
from lamina.models.plain import PlainModel
from lamina.wording import counted, listed, span, spans

PERMUTED = 0.9  # rows with a cosine above this are the same row
END_ROWS = 64  # of embedding and head
SHORT_RUN = 2  # so many layers out of place between two that are in place are a slip; more are a stack


def check_order(descent: Descent) -> Section:
    """Where layers follow one another as they did in no parent, and where unlike depths are blended."""
    findings = []
    for layer, kin in descent.seams:
        message = (
            f"layer {layer} ({short_name(kin.model)} {kin.layer}) follows on a layer that it did not follow on there."
        )
        findings.append(Finding(Level.NEEDS_TRAINING, "seam", message, layer))
    if descent.blends:
        several = len(descent.blends) > 1
        message = f"layer{'s' * several} {spans(descent.blends)} blend{'' if several else 's'} unlike depths."
        findings.append(Finding(Level.NEEDS_TRAINING, "blend", message, descent.blends[0]))
    return Section("seams", "every layer follows on the one that it follows on in its parent", tuple(findings))


def check_against_parents(descent: Descent, found: Mapping[str, Figures]) -> Section:
    """Without a recipe: each layer's origin among the parents, and whether it stands in order and whole.

    `found` are the figures of the model's own tensors.
    """
    findings = [*_strangers(descent), *_out_of_place(descent), *_unlike_matrices(descent), *_sizes(descent)]
    findings += [*_ends(descent), *unlike_norms(descent), *dead_rows(descent, found)]
    return Section("identity", _told_origins(descent), tuple(findings))


def check_config(model: PlainModel, parents: Sequence[PlainModel]) -> Section:
    """The values of config.json that decide what the weights compute, against the parents'."""
    own = config_values(model.config)
    findings = []
    for key in dict.fromkeys(key for parent in parents for key in config_values(parent.config)):
        values = {parent.name: config_values(parent.config).get(key) for parent in parents}
        equal = [_same(value, own.get(key)) for value in values.values()]
        if all(equal):
            continue
        said = "; ".join(f"{short_name(name)} has {value}" for name, value in values.items())
        message = f"config.json says {key} {own.get(key)}; {said}."
        if any(equal):
            message = f"the parents disagree about {key}: {said}; config.json says {own.get(key)}."
        findings.append(Finding(Level.SUSPICIOUS, "config", message, key=key))
    told = f"{counted(len(own), 'value')} that decide what the weights compute are the parents'"
    return Section("config", told, tuple(findings))


def _same(one: object, other: object) -> bool:
    """Equal, or numbers that are one another's in fp32: so eps comes out of some conversions."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=2**-23)
    return one == other


def _strangers(descent: Descent) -> Iterator[Finding]:
    strangers = [layer for layer, kin in enumerate(descent.origins) if not kin]
    for layer in strangers:
        message = f"layer {layer} is like no layer of {_names(descent)}."
        yield Finding(Level.SUSPICIOUS, "stranger", message, layer)


def _out_of_place(descent: Descent) -> Iterator[Finding]:
    """Layers that stand where others belong: short runs between longer ones that go on past them."""
    path = descent.path
    runs = [list(run) for _, run in groupby(path, lambda each: each[1].layer - each[0])]
    if all(parent.architecture.depth == len(descent.origins) for parent in descent.parents):
        yield from (_not_at_home(run) for run in runs if _offset(run))
        return
    for number, run in enumerate(runs):
        expected = _around(runs, number)
        if len(run) > SHORT_RUN or expected is None or expected == _offset(run):
            continue
        for layer, kin in run:
            belongs = layer + expected
            message = f"layer {layer} is {short_name(kin.model)}'s layer {kin.layer}, where {belongs} belongs."
            yield Finding(Level.SUSPICIOUS, "out-of-place", message, layer)


def _not_at_home(run: Sequence[tuple[int, Kin]]) -> Finding:
    """Layers that stand elsewhere than in a parent as deep as the model: no stack, in which depth is gained."""
    (first, kin), (last, end) = run[0], run[-1]
    if first == last:
        message = f"layer {first} is {short_name(kin.model)}'s layer {kin.layer}, where {first} belongs."
    else:
        layers = f"{short_name(kin.model)}'s layers {span(kin.layer, end.layer)}"
        message = f"layers {span(first, last)} are {layers}, where {span(first, last)} belong."
    return Finding(Level.SUSPICIOUS, "out-of-place", message, first)


def _offset(run: Sequence[tuple[int, Kin]]) -> int:
    layer, kin = run[0]
    return kin.layer - layer


def _around(runs: Sequence[Sequence[tuple[int, Kin]]], number: int) -> int | None:
    """The offset that layers have both before and after a run: the one of most layers, if they are as many."""
    before, after = ([_offset(run) for run in side for _ in run] for side in (runs[:number], runs[number + 1 :]))
    both = [offset for offset in before + after if offset in before and offset in after]
    most = max(both, key=both.count, default=None)
    return most if most is not None and both.count(most) >= len(runs[number]) else None


def _unlike_matrices(descent: Descent) -> Iterator[Finding]:
    """Matrices that are not their layer's, in layers the rest of which is."""
    for layer, kin in enumerate(descent.origins):
        if not kin:
            continue
        nearest = kin[0]
        for suffix, found in nearest.cosines.items():
            others = [value for key, value in nearest.cosines.items() if key != suffix]
            if found > RELATED or not others or min(sorted(others)[-len(others) // 2 :]) < SAME:
                continue
            donor = max(kin[1:], key=lambda each: each.cosines.get(suffix, 0.0), default=nearest)
            if donor.cosines.get(suffix, 0.0) <= RELATED:
                message = _permuted(descent, layer, suffix, nearest)
            elif donor.layer == nearest.layer:
                continue  # a splice of parents
            else:
                theirs = f"{short_name(donor.model)}'s layer {donor.layer}"
                rest = f"{short_name(nearest.model)}'s layer {nearest.layer}"
                message = f"layer {layer}: {suffix} is that of {theirs}, the rest is that of {rest}."
            name = descent.model.architecture.layer_name(layer, suffix)
            yield Finding(Level.SUSPICIOUS, "unlike-matrix", message, layer, name)


def _permuted(descent: Descent, layer: int, suffix: str, kin: Kin) -> str:
    """How a matrix differs from its origin: in other places, or altogether."""
    parent = next(each for each in descent.parents if each.name == kin.model)
    own, other = descent.model.architecture.layer_name(layer, suffix), parent.architecture.layer_name(kin.layer, suffix)
    spec = descent.model.checkpoint.specs[own]
    row = spec.shape[-1]
    rows = spec.count // row
    whole = read_run(parent.checkpoint, other, 0, spec.count).reshape(rows, row)
    lengths = np.linalg.norm(whole, axis=1)
    places = []
    for index in row_numbers(rows, SAMPLED_ROWS):
        values = read_run(descent.model.checkpoint, own, index * row, row)
        with np.errstate(invalid="ignore", divide="ignore"):
            likeness = np.nan_to_num(whole @ values / (lengths * np.linalg.norm(values)))
        best = int(likeness.argmax())
        places.append((index, best) if likeness[best] > PERMUTED else None)
    where = f"{short_name(kin.model)}'s layer {kin.layer}"
    found = [place for place in places if place is not None]
    if len(found) < len(places) // 2:
        return f"layer {layer}: {suffix} is not that of {where}, from which the rest comes, nor like it."
    shifts = {(index - best) % rows for index, best in found}
    what = f"by {min(shifts)} rows" if len(shifts) == 1 else "row by row"
    heads = _in_heads(descent.model, found)
    return f"layer {layer}: {suffix} is that of {where} with its {heads} permuted ({what})."


def _in_heads(model: PlainModel, places: Sequence[tuple[int, int]]) -> str:
    """`heads` where whole heads changed places, else `rows`."""
    width = config_values(model.config).get("head_dim")
    whole = isinstance(width, int) and width > 0 and all((best - index) % width == 0 for index, best in places)
    return "heads" if whole else "rows"


def _sizes(descent: Descent) -> Iterator[Finding]:
    """Layers whose weights are far larger or smaller than their origin's, those of one factor together."""
    odd = [
        (layer, round(kin[0].ratio, 1))
        for layer, kin in enumerate(descent.origins)
        if kin and not LEAST_RATIO <= kin[0].ratio <= MOST_RATIO
    ]
    for ratio in dict.fromkeys(ratio for _, ratio in odd):
        layers = [layer for layer, found in odd if found == ratio]
        what = f"layer{'s' if len(layers) > 1 else ''} {spans(layers)}"
        message = f"{what}: weights {ratio:g} times those that they come from; do the recipe's weights sum to 1?"
        yield Finding(Level.SUSPICIOUS, "norm", message, layers[0])


def _ends(descent: Descent) -> Iterator[Finding]:
    """Embedding and head against the parents': from a few rows of each."""
    architecture, own = descent.model.architecture, descent.model.checkpoint
    for what, name in (("embedding", architecture.embedding), ("head", architecture.head)):
        if name not in own.specs:
            continue
        ends = [(parent, getattr(parent.architecture, what)) for parent in descent.parents]
        there = [
            _likeness_of_ends(own, name, parent.checkpoint, end)
            for parent, end in ends
            if end in parent.checkpoint.specs and parent.checkpoint.specs[end].shape == own.specs[name].shape
        ]
        if there and max(there) < RELATED:
            message = f"{name}, the {what}, is like that of none of {_names(descent)}."
            yield Finding(Level.SUSPICIOUS, "stranger", message, None, name)


def _likeness_of_ends(own: Tensors, name: str, other: Tensors, end: str) -> float:
    """The cosine of a few rows, without their mean: rows of an embedding have much of their direction in common."""
    width = own.specs[name].shape[-1]
    sides = [rows_of(*side, END_ROWS).reshape(-1, width) for side in ((own, name), (other, end))]
    with np.errstate(invalid="ignore", over="ignore"):
        return cosine(*((side - side.mean(axis=0)).ravel() for side in sides))


def _told_origins(descent: Descent) -> str:
    """`base 0-23, base 8-31 at 24`."""
    runs: list[tuple[int, int, str, int, int]] = []
    for layer, kin in enumerate(descent.origins):
        if not kin:
            continue
        if runs and runs[-1][1:3] == (layer - 1, kin[0].model) and runs[-1][4] == kin[0].layer - 1:
            first, _, model, start, _ = runs.pop()
            runs.append((first, layer, model, start, kin[0].layer))
        else:
            runs.append((layer, layer, kin[0].model, kin[0].layer, kin[0].layer))
    parts = [
        f"{short_name(model)} {span(start, end)}"
        if (first, last) == (start, end)
        else f"{short_name(model)} {span(start, end)} at {first}"
        for first, last, model, start, end in runs
    ]
    return f"layers come from {listed(parts)}" if parts else "no layer is like one of the parents'"


def _names(descent: Descent) -> str:
    return listed([short_name(parent.name) for parent in descent.parents])
