"""Breadcrumbs: drop the largest and the smallest elements of the task vectors, add up (https://arxiv.org/abs/2312.06795)."""

from __future__ import annotations

from typing import Annotated

from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.parameters import Density, Gamma, Int8Mask, Lambda, Normalize, Rescale, Weight
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.sparsifiers import Sparse, keep_middle
from lamina.merge_methods.task_vectors import Boosts, boost, foresee_sum, task_vectors


@merge_method(
    "breadcrumbs",
    title="Model Breadcrumbs",
    reference="https://arxiv.org/abs/2312.06795",
    base="required",
    inputs=(0, None),
    laws=["symmetric", "zero weight is base"],
    foresee=foresee_sum,
    example={"density": 0.9, "gamma": 0.01},
)
def breadcrumbs(
    tile: Tile,
    *,
    weight: Weight,
    density: Density = (1.0,),
    gamma: Gamma = (0.01,),
    normalize: Normalize = False,
    rescale: Rescale = "false",
    lambda_: Lambda = 1.0,
    int8_mask: Int8Mask = False,
    sparse: Annotated[Sparse, keep_middle()],
    boosts: Annotated[Boosts, boost()],
) -> Block:
    """The base plus lambda times the sum of weight · delta, without the largest and the smallest elements of a delta.

    Of each delta the `gamma` largest elements are dropped, then the smallest, until `density` is left.
    """
    return task_vectors(tile, weight, sparse, boosts, lambda_, normalize=normalize, elect=False)
