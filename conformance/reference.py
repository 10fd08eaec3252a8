"""What a recipe must give, in float64, from the documented semantics and the formulas, and from nothing else.

`parts_of` says of each output tensor what enters it; `expected` computes it. Also told is where equal magnitudes, or
numbers that float32 cannot tell apart, leave a choice: which of several equals is kept is no part of a formula.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.formulas import FORMULAS, Array, largest, middle, sce_mean, softmax
from conformance.methods import EFFECTLESS, METHODS
from conformance.settings import resolve

Recipe = Mapping[str, Any]
Names = Mapping[str, Sequence[str]]

# Numbers that lie nearer than this, relative to their size, are equals: float32 may order them either way.
NEAR = 2.0**-20
STEP = 2.0**-22  # a rounding of float32 or two, relative to what is rounded


@dataclass(frozen=True)
class Part:
    """One output tensor: (model, tensor name) of each input in order, of the base where it is none of them."""

    name: str
    inputs: tuple[tuple[str, str], ...]
    base: tuple[str, str] | None
    parameters: Mapping[str, Any]


def parts_of(recipe: Recipe, names: Names) -> Iterator[Part]:
    """Every output tensor. `names` has the tensors of each model; a tied model's head is its embedding."""
    slices = recipe["slices"] if "slices" in recipe else [_slice_of_models(recipe, names)]
    yield _part(recipe, slices[0], "model.embed_tokens.weight", None, 0.0, names)
    depth = 0
    for part in slices:
        first, end = part["sources"][0]["layer_range"]
        for i in range(end - first):
            t = i / (end - first - 1) if end - first > 1 else 1.0
            prefix = f"model.layers.{first + i}."
            for name in names[part["sources"][0]["model"]]:
                if name.startswith(prefix):
                    yield _part(recipe, part, f"model.layers.{depth}.{name.removeprefix(prefix)}", i, t, names)
            depth += 1
    yield _part(recipe, slices[-1], "model.norm.weight", None, 0.0, names)
    if any("lm_head.weight" in names[source["model"]] for source in slices[-1]["sources"]):
        yield _part(recipe, slices[-1], "lm_head.weight", None, 0.0, names)


def ends_differ(recipe: Recipe, names: Names) -> bool:
    """True where a recipe makes the head of tied models of other inputs, or by other parameters, than the embedding."""
    slices = recipe["slices"] if "slices" in recipe else [_slice_of_models(recipe, names)]
    embedding = _part(recipe, slices[0], "model.embed_tokens.weight", None, 0.0, names)
    head = _part(recipe, slices[-1], "lm_head.weight", None, 0.0, names)
    one, other = (
        (part.inputs, part.base, {name: part.parameters[name] for name in part.parameters if name not in EFFECTLESS})
        for part in (embedding, head)
    )
    return one != other


def _slice_of_models(recipe: Recipe, names: Names) -> dict[str, Any]:
    entries = list(recipe["models"])
    base = recipe.get("base_model")
    if base is not None and base not in [entry["model"] for entry in entries]:
        entries.append({"model": base})
    return {"sources": [{**entry, "layer_range": [0, depth(names[entry["model"]])]} for entry in entries]}


def depth(names: Sequence[str]) -> int:
    """The number of layers that tensors of these names make up."""
    found = (re.match(r"model\.layers\.(\d+)\.", name) for name in names)
    return 1 + max(int(match.group(1)) for match in found if match)


def _part(recipe: Recipe, part: Recipe, name: str, layer: int | None, t: float, names: Names) -> Part:
    method = METHODS[recipe["merge_method"]]

    def input_name(source: Recipe) -> str:
        if layer is None:
            return "model.embed_tokens.weight" if name not in names[source["model"]] else name
        suffix = re.sub(r"^model\.layers\.\d+\.", "", name)
        return f"model.layers.{source['layer_range'][0] + layer}.{suffix}"

    shared_levels = [part.get("parameters") or {}, recipe.get("parameters") or {}]
    sources = list(part["sources"])
    base = next((source for source in sources if source["model"] == recipe.get("base_model")), None)
    if method.base != "ordinary" and base is not None:
        sources.remove(base)
        if method.base == "first":
            sources.insert(0, base)
    parameters: dict[str, Any] = {
        parameter: resolve(parameter, shared_levels, name, t, method.defaults.get(parameter))
        for parameter in method.shared
    }
    for parameter in method.own:
        parameters[parameter] = [
            resolve(parameter, [source.get("parameters") or {}, *shared_levels],
                    _filtered_name(input_name(source), name, layer), t, method.defaults.get(parameter))
            for source in sources
        ]  # fmt: skip
    apart = base if method.base in ("required", "optional") else None
    return Part(
        name,
        tuple((source["model"], input_name(source)) for source in sources),
        None if apart is None else (apart["model"], input_name(apart)),
        parameters,
    )


def _filtered_name(input_name: str, name: str, layer: int | None) -> str:
    """The name that filters of a model's own parameters see: of ends, the output's."""
    return name if layer is None else input_name


@dataclass(frozen=True)
class Expected:
    """A tensor's value, and where there is a choice among equals: kept or not, this sign or the other.

    `slack` is how far a choice elsewhere moves an element: the weights of sce follow from what was selected.
    """

    value: Array
    choice: Array
    slack: Array | float = 0.0


def expected(method: str, inputs: Sequence[Array], base: Array | None, parameters: Mapping[str, Any]) -> Expected:
    """The formula's value in float64, and its choices."""
    told = {
        ("lambda_" if name == "lambda" else name): value for name, value in parameters.items() if name not in EFFECTLESS
    }
    value = np.asarray(sum(FORMULAS[method](list(inputs), base, **told)))
    none = np.zeros(value.shape, bool)
    if base is None:
        return Expected(value, none)
    deltas = [each - base for each in inputs]
    if method in ("ties", "breadcrumbs", "breadcrumbs_ties"):
        return Expected(value, _choice_of_thinned(method, deltas, parameters))
    if method == "sce":
        return _expected_of_sce(value, base, deltas, parameters["select_topk"])
    if method in ("ram", "ramplus_tl"):
        limit = parameters["epsilon"]
        return Expected(value, np.any([np.abs(np.abs(d) - limit) <= STEP * np.abs(base) for d in deltas], axis=0))
    if method == "arcee_fusion":
        return Expected(value, _choice_of_arcee(inputs[0], base))
    return Expected(value, none)


def _choice_of_thinned(method: str, deltas: Sequence[Array], parameters: Mapping[str, Any]) -> Array:
    kept, found = [], []
    for number, delta in enumerate(deltas):
        density = parameters["density"][number]
        if method == "ties":
            ranks = [delta.size - max(1, int(density * delta.size))]
            kept.append(largest(delta, density))
        else:
            gamma = parameters["gamma"][number]
            keep, top = int(density * delta.size), int(gamma * delta.size)
            bottom = max(0, delta.size - keep - top)
            ranks = [bottom, bottom + keep]
            kept.append(middle(delta, density, gamma))
        if 0 < density < 1:
            found.append(_at_cuts(np.abs(delta), ranks))
    if METHODS[method].elects:
        found.append(_unclear_sign(deltas, kept, parameters["weight"]))
    return np.any(found, axis=0) if found else np.zeros(deltas[0].shape, bool)


def _at_cuts(values: Array, ranks: Sequence[int]) -> Array:
    """The elements that are as large as the last that is dropped, or the first that is kept."""
    found = np.zeros(values.shape, bool)
    ordered = np.sort(values, axis=None)
    for rank in ranks:
        if 0 < rank < values.size:
            low, high = ordered[rank - 1], ordered[rank]
            if high - low <= NEAR * high:  # else float32 tells them apart, and there is no choice
                found |= np.abs(values - high) <= 2 * NEAR * high
    return found


def _unclear_sign(deltas: Sequence[Array], kept: Sequence[Array], weight: Sequence[float]) -> Array:
    """Where the weighted deltas cancel, of which some are not zero."""
    terms = [w * d * each for w, d, each in zip(weight, deltas, kept, strict=True)]
    size = np.sum(np.abs(terms), axis=0)
    found: Array = (np.abs(np.sum(terms, axis=0)) <= NEAR * size) & (size > 0)
    return found


def _expected_of_sce(value: Array, base: Array, deltas: Sequence[Array], share: float) -> Expected:
    variance = np.var(np.stack(deltas), axis=0)
    unclear = _unclear_sign(deltas, [np.ones(value.shape, bool)] * len(deltas), [1.0] * len(deltas))
    keep = int(np.float32(np.count_nonzero(variance)) * np.float32(share))  # so MergeKit counts
    if share >= 1 or not 0 < keep < variance.size:
        return Expected(value, unclear)
    cut = np.sort(variance, axis=None)[variance.size - keep]
    # float32 takes the variance from deltas and a mean that are rounded
    noise = 2.0**-16 * cut + STEP * np.max(np.abs(deltas), axis=0) * np.sqrt(cut)
    equals = np.abs(variance - cut) <= noise
    surely = (variance > cut) & ~equals
    open_places = keep - int(surely.sum())
    slack = np.zeros(value.shape)
    if open_places < equals.sum():
        squares = np.square(deltas)
        for number in range(len(deltas)):
            for sign in (1, -1):  # the most of this model's squares, and the least
                lead = np.where(equals, sign * (2 * squares[number] - squares.sum(axis=0)), -np.inf)
                kept = surely.copy()
                kept.reshape(-1)[np.argsort(lead, axis=None)[lead.size - open_places :]] = True
                other = base + sum(sce_mean([delta * kept for delta in deltas]))
                slack = np.maximum(slack, np.abs(other - value))
    return Expected(value, unclear | equals, slack)


def _choice_of_arcee(changed: Array, base: Array) -> Array:
    """Elements whose importance float32 cannot tell from the threshold: a divergence is a difference of near equals."""
    p, q = softmax(changed) + 1e-8, softmax(base) + 1e-8
    importance = np.abs(changed - base) * (p * np.log(p / q)).sum(axis=-1, keepdims=True)
    noise = np.abs(changed - base) * 2.0**-23  # a rounding of p / q, which is near one, and of both softmaxes
    order = np.argsort(importance, axis=None)
    places = [int(share * (changed.size - 1)) for share in (0.25, 0.5, 0.75)]
    low, median, high = importance.reshape(-1)[order[places]]
    doubt = 4 * np.max(noise.reshape(-1)[order[: places[-1] + 1]])  # of the median, and 1.5 times both quartiles
    found: Array = np.abs(importance - (median + 1.5 * (high - low))) <= noise + doubt
    return found
