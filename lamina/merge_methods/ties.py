"""TIES: trim each task vector, elect a sign per element, add up what agrees (https://arxiv.org/abs/2306.01708)."""

from __future__ import annotations

from typing import Annotated

from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.parameters import Density, Int8Mask, Lambda, NormalizeSigned, Rescale, Weight
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.sparsifiers import Sparse, keep_largest
from lamina.merge_methods.task_vectors import Boosts, boost, task_vectors


@merge_method(
    "ties",
    title="TIES",
    reference="https://arxiv.org/abs/2306.01708",
    base="required",
    inputs=(0, None),
    laws=["symmetric", "zero weight is base"],
    example={"density": 0.5},
)
def ties(
    tile: Tile,
    *,
    weight: Weight,
    density: Density = (1.0,),
    normalize: NormalizeSigned = True,
    rescale: Rescale = "false",
    lambda_: Lambda = 1.0,
    int8_mask: Int8Mask = False,
    sparse: Annotated[Sparse, keep_largest()],
    boosts: Annotated[Boosts, boost()],
) -> Block:
    """The base plus lambda times the sum of weight · delta over the models that agree with the elected sign.

    Of each delta the `density` largest elements are kept; the sign of an element is that of the weighted sum.
    """
    return task_vectors(tile, weight, sparse, boosts, lambda_, normalize=normalize, elect=True)
