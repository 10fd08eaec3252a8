"""Which layer of which model a layer comes from, told by the cosine of a sample of its weights.

Weights of models that were trained apart are at right angles, whatever they do; a layer and what became of it
in a fine-tune or a merge are not. So a layer's origin shows in a few rows of its matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.check.likeness import Tensors
from lamina.kernels.interface import STORAGE, Stored
from lamina.kernels.numpy_kernels import decode
from lamina.models.plain import PlainModel
from lamina.tensor_spec import Kind

SAMPLED_ROWS = 16  # of each matrix, evenly spaced
LEAST_ELEMENTS = 1024  # a smaller matrix says little: chance cosines of a sample of n elements are about n**-0.5
RELATED = 0.3  # a cosine above this is no chance; in equal parts of ten layers each still has it
SAME = 0.9  # a cosine above this: one layer, trained a little further, at the most blended with its fine-tunes

Sample = NDArray[np.float64]


@dataclass(frozen=True)
class Kin:
    """A layer of another model that a layer is like: the mean cosine over the layer's matrices, and each one's.

    `ratio` is the norm of the layer's sampled rows to that of the same rows there. Matrices that are zero, or whose
    sampled rows are not all finite, count for nothing here.
    """

    model: str
    layer: int
    cosines: Mapping[str, float]
    ratio: float

    @cached_property
    def cosine(self) -> float:
        return sum(self.cosines.values()) / len(self.cosines) if self.cosines else 0.0


@dataclass(frozen=True)
class Descent:
    """A model and its parents, layer by layer: the parents' layers that each is related to, the nearest first.

    `idle` layers add nothing: their outputs are zero, as LLaMA-Pro lays them.
    """

    model: PlainModel
    parents: tuple[PlainModel, ...]
    origins: tuple[tuple[Kin, ...], ...]
    idle: frozenset[int] = frozenset()

    @property
    def path(self) -> list[tuple[int, Kin]]:
        """The layers that add something and have an origin, with it."""
        return [(layer, kin[0]) for layer, kin in enumerate(self.origins) if kin and layer not in self.idle]

    @property
    def seams(self) -> list[tuple[int, Kin]]:
        """Layers that follow on another layer than the one they follow on in their parent; with their origin."""
        return [(layer, kin) for (_, before), (layer, kin) in pairwise(self.path) if kin.layer != before.layer + 1]

    @property
    def blends(self) -> list[int]:
        """Layers that are related to several depths at once."""
        return [layer for layer, kin in enumerate(self.origins) if len({each.layer for each in kin}) > 1]


def descent_of(model: PlainModel, parents: Sequence[PlainModel], idle: Iterable[int]) -> Descent:
    """Find every layer's origin among the parents, from a few rows of each matrix."""
    return Descent(model, tuple(parents), tuple(map(tuple, origins(model, parents))), frozenset(idle))


def origins(model: PlainModel, parents: Sequence[PlainModel]) -> list[list[Kin]]:
    """For each layer of `model` the parents' layers that it is related to, the nearest first.

    Reads 16 rows of every matrix. Layers without matrices in common are related to nothing. Of equal cosines the
    layer at the same place comes first, then the earlier parent's, then the earlier layer.
    """
    known = [(parent.name, layer, sample(parent, layer)) for parent in parents for layer in layers_of(parent)]
    found = []
    for layer in layers_of(model):
        own = sample(model, layer)
        kin = [_kin(name, number, own, other) for name, number, other in known]
        kin.sort(key=lambda each: each.layer != layer)  # sorts are stable: the earlier parent's stays first
        found.append(sorted((each for each in kin if each.cosine > RELATED), key=lambda each: -each.cosine))
    return found


def layers_of(model: PlainModel) -> range:
    """The numbers of a model's layers."""
    return range(model.architecture.depth)


def sample(model: PlainModel, layer: int) -> dict[str, Sample]:
    """A few rows of each matrix of a layer, as one run of values, by the tensor's name within the layer."""
    return {suffix: rows_of(model.checkpoint, name, SAMPLED_ROWS) for suffix, name in matrices(model, layer)}


def matrices(model: PlainModel, layer: int) -> Iterator[tuple[str, str]]:
    """The matrices of a layer: the name within the layer, and the whole name."""
    for suffix in model.architecture.layers[layer]:
        name = model.architecture.layer_name(layer, suffix)
        spec = model.checkpoint.specs[name]
        if len(spec.shape) >= 2 and spec.count >= LEAST_ELEMENTS and spec.dtype.kind is Kind.FLOAT:
            yield suffix, name


def row_numbers(rows: int, most: int) -> list[int]:
    """At most `most` of a matrix's rows, evenly spaced."""
    return [rows * index // min(most, rows) for index in range(min(most, rows))]


def rows_of(tensors: Tensors, name: str, most: int) -> Sample:
    """At most `most` rows of a tensor, evenly spaced, decoded to fp64 and laid end to end."""
    spec = tensors.specs[name]
    row = spec.shape[-1]
    return np.concatenate([read_run(tensors, name, index * row, row) for index in row_numbers(spec.count // row, most)])


def read_run(tensors: Tensors, name: str, start: int, count: int) -> Sample:
    """`count` elements of a float tensor from the flat index `start` on, as fp64."""
    dtype = tensors.specs[name].dtype
    stored: NDArray[Any] = np.empty(count, STORAGE[dtype])
    tensors.read_into(name, start * dtype.bits // 8, stored.view(np.uint8).data)
    values = np.empty(count, np.float64)
    decode(Stored(stored, dtype), values)
    return values


def cosine(one: Sample, other: Sample) -> float:
    """Of the angle between two runs of values; zero where one is zero or not finite."""
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / norms) if norms and np.isfinite(norms) else 0.0


def _kin(model: str, layer: int, own: Mapping[str, Sample], other: Mapping[str, Sample]) -> Kin:
    common = [key for key in own if key in other and own[key].shape == other[key].shape and own[key].any()]
    with np.errstate(invalid="ignore", over="ignore"):
        squares = {key: (float(own[key] @ own[key]), float(other[key] @ other[key])) for key in common}
        finite = {key: each for key, each in squares.items() if np.isfinite(each).all()}
        cosines = {key: cosine(own[key], other[key]) for key in finite}
    lengths = [sum(side) for side in zip(*finite.values(), strict=True)] or [0.0, 0.0]
    return Kin(model, layer, cosines, (lengths[0] / lengths[1]) ** 0.5 if lengths[1] else 0.0)
