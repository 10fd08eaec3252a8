"""`lamina diff`: two models side by side, as a map of the depth."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from lamina.check.diff import Diff
from lamina.check.diff import diff as compared
from lamina.check.likeness import Likeness
from lamina.checkpoints.hub_client import HubOptions
from lamina.cli.answer import json_option, print_json
from lamina.cli.options import hub_options, workers_option
from lamina.cli.progress import MovingLine
from lamina.plans.explain import columns_of, ruler
from lamina.wording import counted, in_parameters, listed, span, spans

# What `lamina diff --json` prints, by key.
DIFF_FIELDS: Mapping[str, str] = {
    "a, b, base": "the models, as they were named",
    "descent": "whether one comes of the other, in a sentence",
    "total": "figures over all tensors that both have",
    "layers": "each layer of b: its number, `of_a` (the layer of a that it was compared with, null for none), "
    "and figures for each class of tensors: `attention`, `MLP`, `norms`, `other`",
    "outside": "figures for each class of tensors outside the layers",
    "tensors": "each tensor of b that was compared: `name`, `of_a`, figures",
    "left_out": "layers of a that no layer of b comes from",
    "unlike": "tensors that both have in other shapes: `name`, `a`, `b`",
    "non_finite": "tensors that hold NaN or infinity: `model`, `name`, how many `elements`",
    "only_a, only_b": "tensors that one alone has",
    "config": "what the two configs say differently: by name, a's value and b's",
    "(figures)": "`cosine`; `distance`, which is ‖b - a‖ / ‖a‖; `norm_ratio`, which is ‖b‖ / ‖a‖; `tensors`, and how "
    "many are `identical`; with a base `task_vectors`: their `cosine`, and `sign_conflict`, the share of elements that "
    "went opposite ways, of those that both have moved. What is not finite is null",
}

SHADES = " ·░▒▓█"
NOT_A_NUMBER = "?"
STEPS = (0.0, 0.001, 0.01, 0.1, 1.0)  # a distance above the n-th has the n-th shade; zero is blank


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--base", metavar="MODEL", help="What both were made from: compares their task vectors too.")
@workers_option
@hub_options
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def diff(a: str, b: str, base: str | None, workers: int | None, hub: HubOptions, as_json: bool, quiet: bool) -> None:
    """Compare model B with model A: how far apart they are, layer by layer.

    A layer is compared with the one that it comes from, wherever that stands. Models are folders or names of
    the Hub. Reads every tensor once, in blocks.

    Example: lamina diff examples/models/base examples/models/rev
    """
    line = MovingLine("comparing", enabled=not quiet and not as_json and sys.stderr.isatty())
    try:
        found = compared(a, b, base, hub=hub, workers=workers, on_start=line.start, progress=line.advance)
    finally:
        line.stop()
    if as_json:
        print_json(as_data(found))
        return
    for text in lines(found):
        click.echo(text)


def lines(found: Diff) -> Iterator[str]:
    """The whole comparison, as text that fits 100 columns."""
    depth = len(found.counterparts)
    size = in_parameters(found.total.elements)
    yield f"{found.a} -> {found.b} · {counted(depth, 'layer')}, {size} parameters compared"
    yield ""
    if any(own != other for own, other in enumerate(found.counterparts)) or found.left_out:
        yield from _origins(found)
        yield ""
    yield from _heat_map(found, "distance", "‖b - a‖ / ‖a‖", lambda each: each.distance, _shade)
    yield f"  {'shades':<10}  blank: identical  · to 0.001  ░ to 0.01  ▒ to 0.1  ▓ to 1  █ beyond"
    if found.base is not None:
        yield ""
        yield from _heat_map(found, "signs", "opposite, of what both moved", lambda each: each.sign_conflict, _half)
        yield f"  {'shades':<10}  ░ to 12%  ▒ to 25%  ▓ to 37%  █ beyond; half of all is chance"
    yield ""
    yield from _figures(found)


def _figures(found: Diff) -> Iterator[str]:
    sums = found.total
    alike = f"cosine {_number(sums.cosine)} · distance {_number(sums.distance)}"
    yield f"  {sums.identical} of {counted(sums.tensors, 'tensor')} identical · {alike}"
    if found.base is not None:
        opposite = f"{sums.sign_conflict:.0%} of signs opposite"
        yield f"  task vectors from {found.base}: cosine {_number(sums.moved_cosine)}, {opposite}"
    for key, (one, other) in found.config.items():
        yield f"  config: {key} {one} -> {other}"
    for name, one, other in found.unlike[:3]:
        yield f"  other shapes: {name} {one} -> {other}"
    if len(found.unlike) > 3:
        yield f"  other shapes: {len(found.unlike) - 3} more"
    for model, names in ((found.a, found.only_a), (found.b, found.only_b)):
        if names:
            yield f"  only in {model}: {listed(names)}"
    yield f"  {found.descent}"
    for model in dict.fromkeys(model for model, _, _ in found.non_finite):
        held = [f"{name} ({counted(count, 'element')})" for each, name, count in found.non_finite if each == model]
        yield f"  NaN or infinity in {model}: {listed(held)}"


def _origins(found: Diff) -> Iterator[str]:
    """Runs of layers of b, and where they stand in a."""
    start = 0
    rows = []
    for layer in range(1, len(found.counterparts) + 1):
        before = found.counterparts[layer - 1]
        goes_on = layer < len(found.counterparts) and found.counterparts[layer] == (
            None if before is None else before + 1
        )
        if not goes_on:
            first = found.counterparts[start]
            rows.append((span(start, layer - 1), "none" if first is None else span(first, before or 0)))
            start = layer
    width = max(map(len, ("layers", *(row[0] for row in rows))))
    yield f"  {'layers':<{width}}  of {found.a}"
    for own, other in rows:
        yield f"  {own:<{width}}  {other}"
    if found.left_out:
        yield f"  left out: {spans(found.left_out)}"


def _heat_map(
    found: Diff, title: str, meaning: str, figure: Callable[[Likeness], float], shade: Callable[[float], str]
) -> Iterator[str]:
    columns = columns_of(len(found.counterparts))
    yield f"  {title:<10}  {ruler(columns)}  {meaning}"
    for kind in found.kinds:
        values = {layer: figure(found.by(layer=layer, kind=kind)) for layer in range(len(found.counterparts))}
        unknown = [layer for layer, value in values.items() if math.isnan(value)]
        known = {layer: value for layer, value in values.items() if layer not in unknown}
        bar = "".join(
            NOT_A_NUMBER if set(column) & set(unknown) else shade(max(known[layer] for layer in column))
            for column in columns
        )
        layer = max(known, key=lambda each: known[each], default=None)
        most = f"most {_number(known[layer])}, layer {layer}" if layer is not None and known[layer] else "none"
        if unknown:
            most = f"not a number in layer{'s' * (len(unknown) > 1)} {spans(unknown)}" + f"; else {most}" * bool(known)
        yield f"  {kind:<10}  {bar}  {most}"
    ends = [f"{kind} {_number(figure(found.by(layer=None, kind=kind)))}" for kind in found.outside]
    if ends:
        yield f"  {'outside':<10}  {' · '.join(ends)}"


def _shade(distance: float) -> str:
    return SHADES[sum(distance > step for step in STEPS)]


def _half(share: float) -> str:
    return " ░▒▓█"[min(4, math.ceil(share * 8))]


def _number(value: float) -> str:
    return f"{value:.3g}"


def as_data(found: Diff) -> dict[str, Any]:
    """The comparison for JSON; `DIFF_FIELDS` says what each key holds."""
    has_base = found.base is not None
    layers = [
        {
            "layer": layer,
            "of_a": other,
            **{kind: _sums_as_data(found.by(layer=layer, kind=kind), has_base) for kind in found.kinds},
        }
        for layer, other in enumerate(found.counterparts)
    ]
    return {
        "a": found.a,
        "b": found.b,
        "base": found.base,
        "descent": found.descent,
        "total": _sums_as_data(found.total, has_base),
        "layers": layers,
        "outside": {kind: _sums_as_data(found.by(layer=None, kind=kind), has_base) for kind in found.outside},
        "tensors": [
            {"name": each.pair.b, "of_a": each.pair.a, **_sums_as_data(each.likeness, has_base)}
            for each in found.compared
        ],
        "left_out": list(found.left_out),
        "unlike": [{"name": name, "a": str(one), "b": str(other)} for name, one, other in found.unlike],
        "non_finite": [{"model": model, "name": name, "elements": count} for model, name, count in found.non_finite],
        "only_a": list(found.only_a),
        "only_b": list(found.only_b),
        "config": {key: list(values) for key, values in found.config.items()},
    }


def _sums_as_data(sums: Likeness, has_base: bool) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "cosine": _finite(sums.cosine),
        "distance": _finite(sums.distance),
        "norm_ratio": _finite(sums.norm_ratio),
        "tensors": sums.tensors,
        "identical": sums.identical,
    }
    if has_base:
        figures["task_vectors"] = {"cosine": _finite(sums.moved_cosine), "sign_conflict": sums.sign_conflict}
    return figures


def _finite(value: float) -> float | None:
    """JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None
