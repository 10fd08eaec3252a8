"""NuSLERP: SLERP by weights, of tensors, rows or columns, of the models or of their deltas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from lamina.merge_methods.gram import Along, Coefficients, Gram, GramMatrix
from lamina.merge_methods.measures import Values
from lamina.merge_methods.parameters import Flatten, RowWise, Weight
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.slerp import along_arc

NO_WEIGHT = 1e-6  # weights that sum to less are taken as equal, as in MergeKit
NO_NORM = 1e-7
# sin² of the angle below which the two are interpolated on a line. MergeKit has 1e-16, in the dtype of the models;
# in float64 the rounding of two parallel vectors' cosine alone comes to twice that.
STRAIGHT = 1e-14


def _along(values: Values) -> Along:
    if values["nuslerp_flatten"]:
        return "tensor"
    return "columns" if values["nuslerp_row_wise"] else "rows"


def _foresee(*, models: int, weight: Sequence[float], **_rest: Any) -> Coefficients | None:
    if models == 1:
        return [1.0]
    return [1 - _t(weight), _t(weight)] if _t(weight) in (0, 1) else None


@merge_method(
    "nuslerp",
    title="NuSLERP",
    reference="https://doi.org/10.1145/325334.325242",
    base="optional",
    scope="row",
    inputs=(2, 2),
    laws=["idempotent"],
    foresee=_foresee,
)
def nuslerp(
    *,
    weight: Weight,
    nuslerp_flatten: Flatten = True,
    nuslerp_row_wise: RowWise = False,
    gram: Annotated[Gram, GramMatrix(_along)],
) -> Coefficients:
    """The point on the arc between two models, or between their deltas from a base, at t = weight 2 / both weights.

    Each tensor is one vector, or each of its rows, or columns.
    """
    lengths = [max(math.sqrt(gram[i][i]), NO_NORM) for i in range(2)]
    cosine = max(-1.0, min(1.0, gram[0][1] / (lengths[0] * lengths[1])))
    return along_arc(cosine, _t(weight), straight=1 - cosine * cosine <= STRAIGHT)


def _t(weight: Sequence[float]) -> float:
    first, second = weight
    return second / (first + second) if abs(first + second) >= NO_WEIGHT else 0.5
