"""DARE: drop elements of the task vectors at random, rescale, add up (https://arxiv.org/abs/2311.03099)."""

from __future__ import annotations

from typing import Annotated

from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.parameters import Density, Int8Mask, Lambda, Normalize, RescaleDrawn, Weight
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.sparsifiers import Sparse, keep_drawn
from lamina.merge_methods.task_vectors import Boosts, boost, foresee_sum, task_vectors


@merge_method(
    "dare_linear",
    title="DARE",
    reference="https://arxiv.org/abs/2311.03099",
    base="required",
    inputs=(0, None),
    laws=["zero weight is base"],
    foresee=foresee_sum,
    example={"density": 0.5},
)
def dare_linear(
    tile: Tile,
    *,
    weight: Weight,
    density: Density = (1.0,),
    normalize: Normalize = False,
    rescale: RescaleDrawn = "l1",
    lambda_: Lambda = 1.0,
    int8_mask: Int8Mask = False,
    sparse: Annotated[Sparse, keep_drawn()],
    boosts: Annotated[Boosts, boost()],
) -> Block:
    """The base plus lambda times the sum of weight · delta, of whose elements a random share is kept and rescaled.

    Each element of a delta is kept with the probability `density`.
    """
    return task_vectors(tile, weight, sparse, boosts, lambda_, normalize=normalize, elect=False)
