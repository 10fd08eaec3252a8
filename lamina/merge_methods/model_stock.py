"""Model Stock: the mean of the models, as far from the base as their angle says (https://arxiv.org/abs/2403.19522)."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Annotated

from lamina.merge_methods.gram import Along, Coefficients, Gram, GramMatrix
from lamina.merge_methods.measures import Values
from lamina.merge_methods.parameters import FilterWise
from lamina.merge_methods.registry import merge_method

NO_PRODUCT = 1e-6  # MergeKit's floor under the product of two lengths; it shrinks the cosine of very short deltas
NO_DENOMINATOR = 1e-6


def _along(values: Values) -> Along:
    return "rows" if values["filter_wise"] else "tensor"


@merge_method(
    "model_stock",
    title="Model Stock",
    reference="https://arxiv.org/abs/2403.19522",
    base="required",
    scope="row",
    inputs=(2, None),
    laws=["symmetric"],
)
def model_stock(
    *,
    filter_wise: FilterWise = False,
    gram: Annotated[Gram, GramMatrix(_along)],
) -> Coefficients:
    """The base plus t times the mean delta, t = N c / (1 + (N - 1) c), c the mean cosine between two deltas."""
    models = len(gram)
    cosines = [
        max(-1.0, min(1.0, gram[i][j] / max(math.sqrt(gram[i][i]) * math.sqrt(gram[j][j]), NO_PRODUCT)))
        for i, j in combinations(range(models), 2)
    ]
    cosine = math.fsum(cosines) / len(cosines)
    denominator = 1 + (models - 1) * cosine
    t = models * cosine / denominator if abs(denominator) >= NO_DENOMINATOR else 0.0
    return [t / models] * models
