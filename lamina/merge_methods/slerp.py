"""SLERP: from the base to the other model along the arc between them (https://doi.org/10.1145/325334.325242)."""

from __future__ import annotations

import math
from typing import Annotated, Any

from lamina.merge_methods.gram import Coefficients, Gram, GramMatrix
from lamina.merge_methods.parameters import Blend
from lamina.merge_methods.registry import merge_method

STRAIGHT = 0.9995  # |cosine| from which on the two are interpolated on a line, as in MergeKit
NO_NORM = 1e-8  # a vector this short has no direction


def _foresee(*, t: float, **_rest: Any) -> Coefficients | None:
    return [1 - t, t] if t in (0, 1) else None


@merge_method(
    "slerp",
    title="SLERP",
    reference="https://doi.org/10.1145/325334.325242",
    base="first",
    inputs=(1, 2),
    laws=["idempotent"],
    foresee=_foresee,
    example={"t": 0.5},
)
def slerp(*, t: Blend, gram: Annotated[Gram, GramMatrix()]) -> Coefficients:
    """The point at t on the arc from the base (t = 0) to the other model (t = 1), each tensor as one vector.

    It is sin((1 - t) θ) / sin θ · base + sin(t θ) / sin θ · other, θ the angle between them; where they are
    parallel, (1 - t) · base + t · other. A slice of one model is copied.
    """
    lengths = [math.sqrt(gram[i][i]) for i in range(2)]
    whole = [length if length > NO_NORM else 1.0 for length in lengths]
    cosine = max(-1.0, min(1.0, gram[0][1] / (whole[0] * whole[1])))
    return along_arc(cosine, t, straight=abs(cosine) > STRAIGHT)


def along_arc(cosine: float, t: float, *, straight: bool) -> Coefficients:
    """The coefficients of both ends for the point at `t` between them."""
    if straight:
        return [1 - t, t]
    angle = math.acos(cosine)
    return [math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)]
