"""MultiSLERP: the weighted mean of directions, with the weighted mean of lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from lamina.merge_methods.gram import Coefficients, Gram, GramMatrix
from lamina.merge_methods.parameters import Eps, NormalizeWeights, Weight
from lamina.merge_methods.registry import UndefinedMerge, merge_method


def _foresee(*, models: int, weight: Sequence[float], normalize_weights: bool, **_rest: Any) -> Coefficients | None:
    if models == 1:
        return [1.0]
    _shares(weight, normalize_weights)
    return None


@merge_method(
    "multislerp",
    title="MultiSLERP",
    reference="https://doi.org/10.1145/325334.325242",
    base="optional",
    inputs=(1, None),
    laws=["symmetric", "idempotent"],
    foresee=_foresee,
)
def multislerp(
    *,
    weight: Weight,
    normalize_weights: NormalizeWeights = True,
    eps: Eps = 1e-8,
    gram: Annotated[Gram, GramMatrix()],
) -> Coefficients:
    """The weighted mean of the models' directions, as long as the weighted mean of their lengths.

    Of the deltas where there is a base. Two models whose directions cancel are added up by weight. (The formula goes
    on from the mean m along the tangents of the models at m; their weighted sum is zero, and what is left of the
    step is the factor cos(eps).)
    """
    shares = _shares(weight, normalize_weights)
    lengths = [math.sqrt(gram[i][i]) for i in range(len(shares))]
    if not any(lengths):
        return [0.0] * len(shares)
    mean = [share / (length + eps) for share, length in zip(shares, lengths, strict=True)]
    size = norm(mean, gram)
    if size < eps:
        if len(shares) == 2:
            return shares
        raise UndefinedMerge("the weighted directions of the models cancel, so there is no mean direction")
    length = math.fsum(share * length for share, length in zip(shares, lengths, strict=True))
    return [math.cos(eps) * length / size * factor for factor in mean]


def norm(factors: Sequence[float], gram: Sequence[Sequence[float]]) -> float:
    """The length of the combination with these coefficients."""
    square = math.fsum(a * b * gram[i][j] for i, a in enumerate(factors) for j, b in enumerate(factors))
    return math.sqrt(max(0.0, square))


def _shares(weight: Sequence[float], normalize: bool) -> list[float]:
    whole = math.fsum(weight) if normalize else 1.0
    if abs(whole) <= 1e-9 * math.fsum(map(abs, weight)):
        raise UndefinedMerge("the weights sum to zero, and `normalize_weights` divides by that sum")
    return [w / whole for w in weight]
