"""The rules by which two results are equal. They are fixed here, and no recipe has any of its own.

float32   |ours - theirs| <= 2e-5 of the tensor's largest magnitude, element by element.
bfloat16  that, and one rounding: a step of bfloat16 at the larger of the two.
equals    Where a formula leaves a choice among elements of equal magnitude (at a cut-off, or between signs), told from
          the inputs alone (`reference.expected`), the element is aside. Where one model alone is thinned out, and
          the result is float32, what is aside must still agree: as many elements changed, by the same magnitudes.
          What the choice of sce moves elsewhere, through the weights that follow from it, is allowed for.
config    num_hidden_layers, vocab_size, tie_word_embeddings and max_position_embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.formulas import Array
from conformance.models import BF16, Checkpoint
from conformance.peer import Outcome
from conformance.reference import Expected, Part, expected, parts_of

TOLERANCE = 2e-5
CONFIG_KEYS = ("num_hidden_layers", "vocab_size", "tie_word_embeddings", "max_position_embeddings")

COUNTED = ("ties", "breadcrumbs", "breadcrumbs_ties", "sce")  # methods that keep so many, whichever these are

Models = Mapping[str, Checkpoint]
Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class Errors:
    """Sums over elements of the distance from the float64 reference, relative to a tensor's largest magnitude."""

    count: int = 0
    ours: float = 0.0
    theirs: float = 0.0

    def __add__(self, other: Errors) -> Errors:
        return Errors(self.count + other.count, self.ours + other.ours, self.theirs + other.theirs)


@dataclass(frozen=True)
class Verdict:
    """How two results compare. `worst` is the largest difference beside the tolerance, in tensors' largest magnitudes.

    `errors` by stored dtype. `aside` counts elements where the formula leaves a choice; `differing` those of them that
    differ. `matched` counts tensors whose changed elements were compared by number and magnitude.
    """

    problems: tuple[str, ...]
    worst: float = 0.0
    errors: Mapping[str, Errors] | None = None
    aside: int = 0
    differing: int = 0
    matched: int = 0

    @property
    def equal(self) -> bool:
        return not self.problems


def compare(recipe: Recipe, models: Models, ours: Outcome, theirs: Outcome) -> Verdict:
    """Whether both programs made the same of a recipe of a deterministic method."""
    if ours.checkpoint is None or theirs.checkpoint is None:
        told = [f"{who} refuses: {each.error}" for who, each in (("Lamina", ours), ("MergeKit", theirs)) if each.error]
        return Verdict(tuple(told))
    problems = list(_unlike_frames(ours.checkpoint, theirs.checkpoint))
    if problems:
        return Verdict(tuple(problems))
    worst, aside, differing, matched = 0.0, 0, 0, 0
    errors: dict[str, Errors] = {}
    for part, wanted in expectations(recipe, models):
        one, other = ours.checkpoint.tensors[part.name], theirs.checkpoint.tensors[part.name]
        dtype = ours.checkpoint.dtypes[part.name]
        scale = max(np.abs(one).max(), np.abs(other).max())
        if not np.isfinite(scale):
            problems.append(f"{part.name} is not finite")
            continue
        beyond = np.abs(one - other) - (step_of_bf16(one, other) if dtype == BF16 else 0.0)
        apart = beyond > TOLERANCE * scale + wanted.slack
        aside += int(wanted.choice.sum())
        differing += int((apart & wanted.choice).sum())
        if (apart & ~wanted.choice).any():
            problems.append(_place(part, one, other, apart & ~wanted.choice))
        if scale and not np.any(wanted.slack):
            worst = max(worst, float((np.where(wanted.choice, 0.0, beyond)).max() / scale))
            plain = ~wanted.choice
            distances = (np.abs(each - wanted.value)[plain].sum() / scale for each in (one, other))
            errors[dtype] = errors.get(dtype, Errors()) + Errors(int(plain.sum()), *map(float, distances))
        if len(part.inputs) == 1 and recipe["merge_method"] in COUNTED and wanted.choice.any() and dtype != BF16:
            assert part.base is not None
            matched += 1
            problems += _unlike_changes(part, models[part.base[0]].tensors[part.base[1]], one, other, scale)
    return Verdict(tuple(problems), max(worst, 0.0), errors, aside, differing, matched)


def expectations(recipe: Recipe, models: Models) -> Iterator[tuple[Part, Expected]]:
    """What the float64 reference says of every tensor."""
    for part in parts_of(recipe, {name: list(model.tensors) for name, model in models.items()}):
        inputs = [models[model].tensors[name] for model, name in part.inputs]
        base = None if part.base is None else models[part.base[0]].tensors[part.base[1]]
        yield part, expected(recipe["merge_method"], inputs, base, part.parameters)


def step_of_bf16(one: Array, other: Array) -> Array:
    """The distance between neighbours of bfloat16 at the larger of two values."""
    _, exponent = np.frexp(np.maximum(np.abs(one), np.abs(other)))
    step: Array = np.exp2(np.maximum(exponent - 8, -133).astype(np.float64))
    return step


def unlike_configs(ours: Checkpoint, theirs: Checkpoint) -> list[str]:
    """What the two configs say differently."""
    return [
        f"config.json: {key} is {ours.config.get(key)} in Lamina's, {theirs.config.get(key)} in MergeKit's"
        for key in CONFIG_KEYS
        if ours.config.get(key) != theirs.config.get(key)
    ]


def _unlike_frames(ours: Checkpoint, theirs: Checkpoint) -> Iterator[str]:
    yield from unlike_configs(ours, theirs)
    for who, one, other in (("Lamina", ours, theirs), ("MergeKit", theirs, ours)):
        if missing := [name for name in one.tensors if name not in other.tensors]:
            yield f"only {who} has {missing[0]} ({len(missing)} such tensors)"
    for name in ours.tensors.keys() & theirs.tensors.keys():
        one, other = ours, theirs
        if one.tensors[name].shape != other.tensors[name].shape:
            yield f"{name} is {one.tensors[name].shape} in Lamina's, {other.tensors[name].shape} in MergeKit's"
        elif one.dtypes[name] != other.dtypes[name]:
            yield f"{name} is {one.dtypes[name]} in Lamina's, {other.dtypes[name]} in MergeKit's"


def _unlike_changes(part: Part, base: Array, one: Array, other: Array, scale: float) -> list[str]:
    mine, yours = (np.sort(np.abs(each - base), axis=None) for each in (one, other))
    if np.abs(mine - yours).max() <= TOLERANCE * scale and np.count_nonzero(mine) == np.count_nonzero(yours):
        return []
    return [
        f"{part.name}: Lamina changes {np.count_nonzero(mine)} elements, MergeKit {np.count_nonzero(yours)}, "
        "or by other magnitudes"
    ]


def _place(part: Part, one: Array, other: Array, where: Array) -> str:
    worst = np.unravel_index(int(np.argmax(np.where(where, np.abs(one - other), 0))), one.shape)
    return (
        f"{part.name}{list(map(int, worst))}: {one[worst]:.9g} in Lamina's, {other[worst]:.9g} in MergeKit's "
        f"({int(where.sum())} of {where.size} elements)"
    )
