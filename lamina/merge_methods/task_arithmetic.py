"""Task arithmetic: add up what fine-tuning changed (https://arxiv.org/abs/2212.04089)."""

from __future__ import annotations

import math

from lamina.merge_methods.parameters import Lambda, Normalize, Weight
from lamina.merge_methods.registry import Coefficients, merge_method


@merge_method(
    "task_arithmetic",
    title="Task arithmetic",
    reference="https://arxiv.org/abs/2212.04089",
    space="deltas",
    inputs=(0, None),
    laws=["symmetric", "zero weight is base"],
)
def task_arithmetic(*, weight: Weight, normalize: Normalize = False, lambda_: Lambda = 1.0) -> Coefficients:
    """The base plus lambda times the sum of weight · (model - base)."""
    total = math.fsum(weight) if normalize else 1.0
    if abs(total) < 1e-8:  # MergeKit's guard: weights that cancel are added up, not divided
        total = 1.0
    return [lambda_ * w / total for w in weight]
