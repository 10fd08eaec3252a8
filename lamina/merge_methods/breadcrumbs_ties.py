"""Breadcrumbs with TIES: drop the largest and the smallest, elect signs, add up what agrees (https://arxiv.org/abs/2312.06795)."""

from __future__ import annotations

from typing import Annotated

from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.parameters import Density, Gamma, Int8Mask, Lambda, NormalizeSigned, Rescale, Weight
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.sparsifiers import Sparse, keep_middle
from lamina.merge_methods.task_vectors import Boosts, boost, task_vectors


@merge_method(
    "breadcrumbs_ties",
    title="Model Breadcrumbs with TIES",
    reference="https://arxiv.org/abs/2312.06795",
    base="required",
    inputs=(0, None),
    laws=["symmetric", "zero weight is base"],
    example={"density": 0.9, "gamma": 0.01},
)
def breadcrumbs_ties(
    tile: Tile,
    *,
    weight: Weight,
    density: Density = (1.0,),
    gamma: Gamma = (0.01,),
    normalize: NormalizeSigned = False,
    rescale: Rescale = "false",
    lambda_: Lambda = 1.0,
    int8_mask: Int8Mask = False,
    sparse: Annotated[Sparse, keep_middle()],
    boosts: Annotated[Boosts, boost()],
) -> Block:
    """The base plus lambda times the sum of weight · delta over the models that agree with the elected sign.

    Of each delta the `gamma` largest elements are dropped, then the smallest, until `density` is left.
    """
    return task_vectors(tile, weight, sparse, boosts, lambda_, normalize=normalize, elect=True)
