"""Deeper models from one: the recipe that an up-scaling stands for.

SOLAR (https://arxiv.org/abs/2312.15166) lays a model of n layers over itself: the first copy without its last m
layers, the second without its first m, together 2 (n - m). LLaMA-Pro (https://arxiv.org/abs/2401.02415) puts new
layers between the old ones, each a copy of the one before with the matrices that its blocks end in at zero: the
model computes what it did, to the bit, until the new layers are trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import yaml

from lamina.architectures.identity import is_normed_behind, outputs_of, why_no_identity
from lamina.errors import Problem, RecipeError
from lamina.models.plain import PlainModel
from lamina.planners.rhythm import kinds_of, period_of
from lamina.tensor_spec import Kind
from lamina.wording import counted, span, spans

Overlap = Literal["cut", "ramp", "average"]


@dataclass(frozen=True)
class Upscaling:
    """A recipe's text, what was chosen in a sentence each, and the output layers to train with the reason.

    `train` has for each of these layers a source layer that holds the same tensors.
    """

    text: str
    said: tuple[str, ...]
    depth: int
    train: Mapping[int, int]
    why: str


@dataclass(frozen=True)
class Cut:
    """Where two copies of a model are cut: the first `first` layers of it, then those from `second` to its end."""

    first: int
    second: int

    def order(self, count: int) -> list[int]:
        """The source layer of each output layer, for a model of `count` layers."""
        return [*range(self.first), *range(self.second, count)]

    def spans(self, count: int) -> tuple[str, str]:
        """`0-23` and `6-29`, for a model of `count` layers."""
        return span(0, self.first - 1), span(self.second, count - 1)

    def text(self, count: int) -> str:
        """`0-23, then 6-29`."""
        return ", then ".join(self.spans(count))


def cuts_to(count: int, depth: int) -> list[Cut]:
    """Every way to cut two copies of `count` layers so that they make `depth`, from the lowest to the highest."""
    return [Cut(first, first - (depth - count)) for first in range(depth - count, count + 1)]


def middle_cut(count: int, depth: int) -> Cut:
    """SOLAR's: as many layers are dropped at the end of the first copy as at the start of the second, or one less."""
    dropped = 2 * count - depth
    return Cut(count - dropped // 2, dropped - dropped // 2)


def solar(
    model: PlainModel,
    *,
    to: int | None = None,
    drop: int | None = None,
    first: int | None = None,
    overlap: Overlap = "cut",
    scale_repeated: float | None = None,
) -> Upscaling:
    """The model laid over itself: `to` layers in all, or `drop` of each copy; by default about n/4 are dropped.

    Where layers of several kinds come round, the default is the nearest depth at which their rhythm goes on. The
    first copy brings `first` layers, by default so many that both copies lose alike. With `overlap` ramp or average
    the copies are whole, and blended where they cross. `scale_repeated` multiplies the outputs of every layer that is
    there twice. Raises RecipeError.
    """
    count = model.architecture.depth
    depth, reason = solar_depth(model, to=to, drop=drop)
    said = [f"{count} layers up-scaled to {depth}, as in SOLAR (https://arxiv.org/abs/2312.15166)", *reason]
    dropped = 2 * count - depth
    if overlap != "cut" and dropped:
        if first is not None:
            raise _refused(f"`--first` places a cut, and `--overlap {overlap}` blends whole copies.")
        if scale_repeated is not None:
            raise _refused(f"`--scale-repeated` is for whole layers, and `--overlap {overlap}` blends them.")
        start = depth - count
        said.append(
            f"layers 0-{count - 1} stand at 0 and at {start}, and are blended where they cross: {start}-{count - 1}"
        )
        entries = [_Entry(range(count), at=0), _Entry(range(count), at=start)]
        train = {layer: layer for layer in range(start, count)}
        why = "they are blends of layers from different depths: functions that nobody trained"
        return _upscaling(model, f"merge_method: linear\noverlap: {overlap}\n", entries, said, depth, train, why)
    cut = middle_cut(count, depth)
    if first is not None:
        least = depth - count
        if not least <= first <= count:
            raise _refused(
                f"for {depth} layers the first copy can bring {least} to {count} of its {count} layers, not {first}."
            )
        cut = Cut(first, first - least)
    said.append(
        f"layers {cut.text(count)}: {count - cut.first} dropped at the end of the first copy, {cut.second} at the "
        "start of the second"
    )
    entries = [_Entry(range(cut.first)), _Entry(range(cut.second, count))]
    if scale_repeated is not None:
        both = range(cut.second, cut.first)
        entries = _with_repeated_scaled(model, both, scale_repeated)
        said.append(f"layers {spans(both)} are there twice: what they add is multiplied by {scale_repeated:g}")
    train = {cut.first - 1: cut.first - 1, cut.first: cut.second}
    why = "they lie on both sides of the seam, where a layer is given what it was not trained on"
    return _upscaling(model, "merge_method: passthrough\n", entries, said, depth, train, why)


def llama_pro(model: PlainModel, *, add: int | None = None, at: Sequence[int] = ()) -> Upscaling:
    """New layers that change nothing yet: `add` of them evenly spread (default n/4), or `at` these output layers.

    Each is a copy of the layer before it in which every tensor that a block ends in is zero. Raises RecipeError, with
    the reason, for models whose layers would not be an identity that way.
    """
    count = model.architecture.depth
    if (reason := why_no_identity(model.config)) is not None:
        raise _refused(f"`{model.name}`: {reason}. `--method solar` repeats its layers as they are.", "no-identity")
    places = _places(count, add, at)
    layers = _grown(count, places)
    entries = []
    for is_new, group in groupby(range(len(layers)), key=lambda place: place in places):
        members = [layers[place] for place in group]
        entries += (
            [_Entry([layer], scale=_scale(model, layer, 0)) for layer in members] if is_new else [_Entry(members)]
        )
    said = [
        f"{count} layers grown to {len(layers)}, as in LLaMA-Pro (https://arxiv.org/abs/2401.02415)",
        f"layers {spans(sorted(places))} are new: each a copy of the one before that adds nothing until it is trained",
    ]
    if any(is_normed_behind(model.architecture.layers[layers[place]]) for place in places):
        said.append(
            "a norm stands behind what a layer adds, and at zero its slope is 1/sqrt(eps): begin training with a "
            "small learning rate and clipped gradients"
        )
    train = {place: layers[place] for place in sorted(places)}
    why = "they are new, and add nothing yet; all others are the model's own, to the bit"
    return _upscaling(model, "merge_method: passthrough\n", entries, said, len(layers), train, why)


def solar_depth(model: PlainModel, *, to: int | None = None, drop: int | None = None) -> tuple[int, list[str]]:
    """How deep the result is, and what to say of how that was chosen. Raises RecipeError."""
    count = model.architecture.depth
    period = period_of(kinds_of(model.config, count))
    if to is not None and drop is not None:
        raise _refused("`--to` and `--drop` say the same thing; give one of them.")
    if drop is not None:
        if not 0 <= drop < count / 2:
            raise _refused(f"of {count} layers 0 to {(count - 1) // 2} can be dropped from each copy, not {drop}.")
        return 2 * (count - drop), []
    if to is not None:
        if not count < to <= 2 * count:
            raise _refused(f"two copies of {count} layers make {count + 1} to {2 * count} layers, not {to}.")
        return to, []
    usual = 2 * (count - count // 4)
    if period <= 1:
        return usual, ["a quarter is dropped from each copy by default; `--to` or `--drop` choose otherwise"]
    periods = min(max(1, round((usual - count) / period)), count // period)
    depth = count + periods * period
    beside = "" if depth == usual else f" (a quarter dropped from each copy would be {usual})"
    return depth, [
        f"layer kinds come round every {counted(period, 'layer')}, and at {depth} layers their rhythm goes on{beside}; "
        "`--to` or `--drop` choose otherwise"
    ]


def _places(count: int, add: int | None, at: Sequence[int]) -> frozenset[int]:
    """The output layers that are new."""
    if at:
        if add is not None and add != len(at):
            raise _refused(f"`--add {add}`, and `--at` places {counted(len(at), 'layer')}; one of them is enough.")
        last = count + len(at) - 1
        if len(set(at)) < len(at) or not 1 <= min(at) <= max(at) <= last:
            raise _refused(
                f"`--at {','.join(map(str, at))}`: new layers stand at different output layers of 1 to {last}; each is "
                "a copy of the one before."
            )
        return frozenset(at)
    wanted = max(1, count // 4) if add is None else add
    if not 1 <= wanted <= count:
        raise _refused(f"1 to {count} new layers can be spread over {count}, not {wanted}.")
    return frozenset((number + 1) * count // wanted + number for number in range(wanted))


def _grown(count: int, places: frozenset[int]) -> list[int]:
    """For each output layer its source layer: the next one, or that of the layer before where it is new."""
    old = iter(range(count))
    layers: list[int] = []
    for place in range(count + len(places)):
        layers.append(layers[-1] if place in places else next(old))
    return layers


@dataclass(frozen=True)
class _Entry:
    """A line of the stack: consecutive layers, where they stand if that is said, what their tensors are times."""

    layers: Sequence[int]
    at: int | None = None
    scale: str = ""


def _with_repeated_scaled(model: PlainModel, both: range, factor: float) -> list[_Entry]:
    """The two copies, with the outputs of the layers that are in both multiplied."""
    if normed := [layer for layer in both if is_normed_behind(model.architecture.layers[layer])]:
        raise _refused(
            f"`{model.name}`: in layers {spans(normed)} a norm stands behind what they add, which undoes any factor on "
            "it; leave `--scale-repeated` out."
        )
    repeated = [
        _Entry(list(group), scale=scale)
        for scale, group in groupby(both, key=lambda layer: _scale(model, layer, factor))
    ]
    before, after = range(both[0]), range(both[-1] + 1, model.architecture.depth)
    return [entry for entry in (_Entry(before), *repeated, *repeated, _Entry(after)) if entry.layers]


def _scale(model: PlainModel, layer: int, factor: float) -> str:
    """A `scale` for all that a layer's blocks end in, biases included, by filters that match nothing else."""
    architecture, specs = model.architecture, model.checkpoint.specs
    names = {suffix: architecture.layer_name(layer, suffix) for suffix in architecture.layers[layer]}
    outputs = [names[suffix] for suffix in outputs_of(names)]
    packed = [name for name in outputs if specs[name].dtype.kind is not Kind.FLOAT]
    found = "no output projection was found" if not outputs else ""
    found = f"`{packed[0]}` is stored as {specs[packed[0]].dtype}" if packed else found
    found = "it is quantised" if "quantization_config" in model.config else found
    if found:
        raise _refused(f"`{model.name}`, layer {layer}: {found}, so what it adds cannot be multiplied.", "no-identity")
    others = [*(name for name in names.values() if name not in outputs), *architecture.before, *architecture.after]
    filters: list[str] = []
    for name in outputs:
        if not any(each in name for each in filters):
            filters.append(_filter(name, architecture.layer_name(layer, ""), others))
    return f"[{', '.join(f'{{filter: {each}, value: {factor:g}}}' for each in filters)}]"


def _filter(output: str, prefix: str, others: Sequence[str]) -> str:
    """The shortest end of an output's name, without `weight` or `bias`, that no other tensor's name contains."""
    words = output.removeprefix(prefix).split(".")
    stem = words[:-1] if words[-1] in ("weight", "bias") else words
    ends = (".".join(stem[-length:]) for length in range(1, len(stem) + 1))
    return next((end for end in ends if not any(end in other for other in others)), output)


def _upscaling(
    model: PlainModel,
    head: str,
    entries: Sequence[_Entry],
    said: Sequence[str],
    depth: int,
    train: Mapping[int, int],
    why: str,
) -> Upscaling:
    comments = "".join(f"# {line[0].upper()}{line[1:]}.\n" for line in said)
    stack = "\n".join(_lines(yaml.safe_dump([model.name], default_flow_style=True, width=10**6).strip()[1:-1], entries))
    return Upscaling(f"{comments}{head}stack:\n{stack}\n", tuple(said), depth, train, why)


def _lines(name: str, entries: Sequence[_Entry]) -> Iterator[str]:
    """The stack. A `scale` that comes again is written once, and referred to."""
    scales = [entry.scale for entry in entries]
    anchors: dict[str, str] = {}
    for entry in entries:
        words = [f"model: {name}", f"layers: {span(entry.layers[0], entry.layers[-1])}"]
        if entry.at is not None:
            words.append(f"at: {entry.at}")
        if entry.scale in anchors:
            words.append(f"parameters: {{scale: *{anchors[entry.scale]}}}")
        elif entry.scale:
            anchor = ""
            if scales.count(entry.scale) > 1:
                anchors[entry.scale] = f"outputs{len(anchors) or ''}"
                anchor = f"&{anchors[entry.scale]} "
            words.append(f"parameters: {{scale: {anchor}{entry.scale}}}")
        yield f"  - {{{', '.join(words)}}}"


def _refused(message: str, code: str = "upscale") -> RecipeError:
    return RecipeError([Problem(code, message)])
