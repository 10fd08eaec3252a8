"""Linear: the weighted average of the models' tensors ("model soups", https://arxiv.org/abs/2203.05482)."""

from __future__ import annotations

import math

from lamina.merge_methods.gram import Coefficients
from lamina.merge_methods.parameters import Normalize, Scale, Weight
from lamina.merge_methods.registry import UndefinedMerge, merge_method


@merge_method(
    "linear",
    title="Linear",
    reference="https://arxiv.org/abs/2203.05482",
    laws=["symmetric", "idempotent"],
)
def linear(*, weight: Weight, scale: Scale = (1.0,), normalize: Normalize = True) -> Coefficients:
    """The sum of weight · scale · tensor over the models, divided by the sum of the weights."""
    total = math.fsum(weight) if normalize else 1.0
    if abs(total) <= 1e-9 * math.fsum(map(abs, weight)):  # 0.1 + 0.2 - 0.3 is zero to a user
        raise UndefinedMerge("the weights sum to zero, and `normalize` divides by that sum")
    return [w * s / total for w, s in zip(weight, scale, strict=True)]
