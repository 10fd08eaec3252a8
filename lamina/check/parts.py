"""What a sample of a layer's matrices does not show: its norms, and rows that have died."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lamina.architectures.roles import Role, role_of
from lamina.check.descent import SAME, Descent, Kin, read_run
from lamina.check.findings import Finding, Level
from lamina.check.naming import short_name
from lamina.check.weights import Figures
from lamina.models.plain import PlainModel
from lamina.wording import counted, spans

LEAST_RATIO, MOST_RATIO = 0.5, 2.0  # of sizes; a blend of two layers at right angles has a ratio of 0.7


def unlike_norms(descent: Descent) -> Iterator[Finding]:
    """Norms that are far larger or smaller than those of the layer that the matrices come from.

    Norms of unlike depths differ by more: layers that blend such are left out.
    """
    for layer, kin, parent in _at_home(descent):
        for suffix in descent.model.architecture.layers[layer]:
            name = descent.model.architecture.layer_name(layer, suffix)
            other = parent.architecture.layer_name(kin.layer, suffix)
            if role_of(suffix) is not Role.NORM or not _comparable(descent.model, name, parent, other):
                continue
            own, theirs = (_length(model, each) for model, each in ((descent.model, name), (parent, other)))
            if theirs and np.isfinite([own, theirs]).all() and not LEAST_RATIO <= own / theirs <= MOST_RATIO:
                message = f"layer {layer}: {suffix} is {own / theirs:.2g} times as large as that of "
                message += f"{short_name(kin.model)}'s layer {kin.layer}, from which the matrices come."
                yield Finding(Level.SUSPICIOUS, "norm", message, layer, name)


def dead_rows(descent: Descent, found: Mapping[str, Figures]) -> Iterator[Finding]:
    """Rows of matrices that are zero here, and not in the layer that the matrix comes from."""
    for layer, kin, parent in _at_home(descent):
        if layer in descent.idle:
            continue
        for suffix in descent.model.architecture.layers[layer]:
            name = descent.model.architecture.layer_name(layer, suffix)
            other = parent.architecture.layer_name(kin.layer, suffix)
            figures = found.get(name)
            if figures is None or not figures.dead_rows or figures.is_zero:
                continue
            if not _comparable(descent.model, name, parent, other):
                continue
            died = sorted(_dead(descent.model, name) - _dead(parent, other))
            if died:
                message = f"layer {layer}: {suffix} has {counted(len(died), 'dead row')} ({spans(died)}) that "
                message += f"{short_name(kin.model)}'s layer {kin.layer} has not."
                yield Finding(Level.SUSPICIOUS, "dead-rows", message, layer, name)


def _at_home(descent: Descent) -> Iterator[tuple[int, Kin, PlainModel]]:
    """Layers that are one layer of a parent, at the most trained a little further; with it."""
    parents = {parent.name: parent for parent in descent.parents}
    for layer, kin in enumerate(descent.origins):
        if kin and kin[0].cosine >= SAME:
            yield layer, kin[0], parents[kin[0].model]


def _comparable(model: PlainModel, name: str, parent: PlainModel, other: str) -> bool:
    there = parent.checkpoint.specs.get(other)
    return there is not None and there.shape == model.checkpoint.specs[name].shape


def _length(model: PlainModel, name: str) -> float:
    values = read_run(model.checkpoint, name, 0, model.checkpoint.specs[name].count)
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.linalg.norm(values))


def _dead(model: PlainModel, name: str) -> set[int]:
    """The numbers of a matrix's rows that are zero; along its last dimension, whatever its others are."""
    spec = model.checkpoint.specs[name]
    row = spec.shape[-1]
    return {index for index in range(spec.count // row) if not read_run(model.checkpoint, name, index * row, row).any()}
