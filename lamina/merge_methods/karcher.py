"""Karcher: the mean on the sphere, found by steps along tangents (https://arxiv.org/abs/2603.04972)."""

from __future__ import annotations

import math
from typing import Annotated, Any

from lamina.merge_methods.gram import Coefficients, Gram, GramMatrix
from lamina.merge_methods.multislerp import norm
from lamina.merge_methods.parameters import Iterations, Tolerance
from lamina.merge_methods.registry import merge_method

ANTIPODE = 1e-9  # sine of an angle so near 180° that no direction leads there


def _foresee(*, models: int, **_rest: Any) -> Coefficients | None:
    return [1.0] if models == 1 else None


@merge_method(
    "karcher",
    title="Karcher mean",
    reference="https://arxiv.org/abs/2603.04972",
    laws=["symmetric", "idempotent"],
    foresee=_foresee,
)
def karcher(*, max_iter: Iterations = 10, tol: Tolerance = 1e-5, gram: Annotated[Gram, GramMatrix()]) -> Coefficients:
    """The point of the sphere with the least sum of squared angles to the models, as long as they are on average.

    Starts at the mean direction and goes on by the mean of the tangents that lead to the models. Every point on the
    way is a combination of the models, so that only coefficients are computed with.
    """
    models = range(len(gram))
    lengths = [math.sqrt(gram[i][i]) for i in models]
    pointing = [i for i in models if lengths[i] > tol]
    if not pointing:
        return [0.0] * len(gram)
    share = 1 / len(pointing)
    # By the models' directions instead of the models: `cosines` is their Gram matrix.
    cosines = [[gram[i][j] / (lengths[i] * lengths[j]) for j in pointing] for i in pointing]
    units = range(len(pointing))
    mean = [share] * len(pointing)
    size = norm(mean, cosines)
    mean = [factor / size for factor in mean] if size >= tol else [1.0, *[0.0] * (len(pointing) - 1)]
    for _ in range(max_iter):
        step = [0.0] * len(pointing)
        for i in units:
            cosine = max(-1.0, min(1.0, math.fsum(mean[j] * cosines[i][j] for j in units)))
            angle = math.acos(cosine)
            if angle >= tol and math.sin(angle) > ANTIPODE:
                pull = share * angle / math.sin(angle)
                step = [s - pull * cosine * m for s, m in zip(step, mean, strict=True)]
                step[i] += pull
        size = norm(step, cosines)
        if size < tol:
            break
        mean = [math.cos(size) * m + math.sin(size) / size * s for m, s in zip(mean, step, strict=True)]
        length = norm(mean, cosines)
        if length > tol:
            mean = [factor / length for factor in mean]
    average = math.fsum(lengths) / len(gram)
    result = [0.0] * len(gram)
    for i, factor in zip(pointing, mean, strict=True):
        result[i] = average * factor / lengths[i]
    return result
