"""Passthrough: one model's tensor as it is, or scaled."""

from __future__ import annotations

from lamina.merge_methods.gram import Coefficients
from lamina.merge_methods.parameters import Scale
from lamina.merge_methods.registry import merge_method


@merge_method(
    "passthrough",
    title="Passthrough",
    reference="https://arxiv.org/abs/2312.15166",
    inputs=(1, 1),
    laws=["idempotent"],
)
def passthrough(*, scale: Scale = (1.0,)) -> Coefficients:
    """The tensor of the slice's one model, times `scale`."""
    return scale
