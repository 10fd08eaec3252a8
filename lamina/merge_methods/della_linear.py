"""DELLA without election: drop at random, the small rather than the large, add up (https://arxiv.org/abs/2406.11617)."""

from __future__ import annotations

from typing import Annotated, Any

from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.gram import Coefficients
from lamina.merge_methods.parameters import Density, Epsilon, Int8Mask, Lambda, Normalize, RescaleDrawn, Weight
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.sparsifiers import Sparse, check_probabilities, keep_ranked
from lamina.merge_methods.task_vectors import Boosts, boost, foresee_sum, task_vectors


def _foresee(**values: Any) -> Coefficients | None:
    check_probabilities(**values)
    return foresee_sum(**values)


@merge_method(
    "della_linear",
    title="DELLA, linear",
    reference="https://arxiv.org/abs/2406.11617",
    base="required",
    scope="row",
    inputs=(0, None),
    laws=["zero weight is base"],
    foresee=_foresee,
    example={"density": 0.5, "epsilon": 0.15},
)
def della_linear(
    tile: Tile,
    *,
    weight: Weight,
    density: Density = (1.0,),
    epsilon: Epsilon = (0.15,),
    normalize: Normalize = False,
    rescale: RescaleDrawn = "l1",
    lambda_: Lambda = 1.0,
    int8_mask: Int8Mask = False,
    sparse: Annotated[Sparse, keep_ranked()],
    boosts: Annotated[Boosts, boost()],
) -> Block:
    """The base plus lambda times the sum of weight · delta, of whose elements a random share is kept and rescaled.

    Each element of a delta is kept with a probability that rises with its rank in its row, from density - epsilon
    for the smallest to density + epsilon for the largest.
    """
    return task_vectors(tile, weight, sparse, boosts, lambda_, normalize=normalize, elect=False)
