"""DELLA: drop at random, the small rather than the large, elect signs, add up what agrees (https://arxiv.org/abs/2406.11617)."""

from __future__ import annotations

from typing import Annotated

from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.parameters import Density, Epsilon, Int8Mask, Lambda, NormalizeSigned, RescaleDrawn, Weight
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.sparsifiers import Sparse, check_probabilities, keep_ranked
from lamina.merge_methods.task_vectors import Boosts, boost, task_vectors


@merge_method(
    "della",
    title="DELLA",
    reference="https://arxiv.org/abs/2406.11617",
    base="required",
    scope="row",
    inputs=(0, None),
    laws=["zero weight is base"],
    foresee=check_probabilities,
    example={"density": 0.5, "epsilon": 0.15},
)
def della(
    tile: Tile,
    *,
    weight: Weight,
    density: Density = (1.0,),
    epsilon: Epsilon = (0.15,),
    normalize: NormalizeSigned = True,
    rescale: RescaleDrawn = "l1",
    lambda_: Lambda = 1.0,
    int8_mask: Int8Mask = False,
    sparse: Annotated[Sparse, keep_ranked()],
    boosts: Annotated[Boosts, boost()],
) -> Block:
    """The base plus lambda times the sum of weight · delta over the models that agree with the elected sign.

    Each element of a delta is kept with a probability that rises with its rank in its row, from density - epsilon
    for the smallest to density + epsilon for the largest; what is kept is rescaled.
    """
    return task_vectors(tile, weight, sparse, boosts, lambda_, normalize=normalize, elect=True)
