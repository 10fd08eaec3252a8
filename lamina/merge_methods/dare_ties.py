"""DARE with TIES: drop elements at random, elect signs, add up what agrees (https://arxiv.org/abs/2311.03099)."""

from __future__ import annotations

from typing import Annotated

from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.parameters import Density, Int8Mask, Lambda, NormalizeSigned, RescaleDrawn, Weight
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.sparsifiers import Sparse, keep_drawn
from lamina.merge_methods.task_vectors import Boosts, boost, task_vectors


@merge_method(
    "dare_ties",
    title="DARE TIES",
    reference="https://arxiv.org/abs/2311.03099",
    base="required",
    inputs=(0, None),
    laws=["zero weight is base"],
    example={"density": 0.5},
)
def dare_ties(
    tile: Tile,
    *,
    weight: Weight,
    density: Density = (1.0,),
    normalize: NormalizeSigned = False,
    rescale: RescaleDrawn = "l1",
    lambda_: Lambda = 1.0,
    int8_mask: Int8Mask = False,
    sparse: Annotated[Sparse, keep_drawn()],
    boosts: Annotated[Boosts, boost()],
) -> Block:
    """The base plus lambda times the sum of weight · delta over the models that agree with the elected sign.

    Each element of a delta is kept with the probability `density`; what is kept is rescaled.
    """
    return task_vectors(tile, weight, sparse, boosts, lambda_, normalize=normalize, elect=True)
