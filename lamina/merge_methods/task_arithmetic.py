"""Task arithmetic: add up what fine-tuning changed (https://arxiv.org/abs/2212.04089)."""

from __future__ import annotations

from lamina.merge_methods.gram import Coefficients
from lamina.merge_methods.parameters import Lambda, Normalize, Weight
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.task_vectors import divisor


@merge_method(
    "task_arithmetic",
    title="Task arithmetic",
    reference="https://arxiv.org/abs/2212.04089",
    base="required",
    inputs=(0, None),
    laws=["symmetric", "zero weight is base"],
)
def task_arithmetic(*, weight: Weight, normalize: Normalize = False, lambda_: Lambda = 1.0) -> Coefficients:
    """The base plus lambda times the sum of weight · (model - base)."""
    return [lambda_ * w / divisor(weight, normalize) for w in weight]
