"""What the methods that add up task vectors share: elect signs, add what agrees, rescale what was thinned out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.kernels.sums import Doubles, total
from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.measures import Facts, Measure, Measuring, Values
from lamina.merge_methods.sparsifiers import Sparse

Boosts = Sequence[float]

TIE = 2.0**-20  # a sum this small beside its terms has no sign that float32 and float64 would agree on
NO_SUM = 1e-8  # MergeKit's guard: weights that cancel are added up, not divided
NO_L1 = 1e-7  # MergeKit's guard: sums of magnitudes that are no ground for a ratio


def task_vectors(
    tile: Tile,
    weight: Sequence[float],
    sparse: Sparse,
    boosts: Boosts,
    lambda_: float,
    *,
    normalize: bool,
    elect: bool,
) -> Block:
    """What is added to the base: the sum of weight · boost · delta, over all models or those of the elected sign."""
    if not elect:
        scale = lambda_ / divisor(weight, normalize)
        return summed_wide(scaled(sparse(tile, i), scale * w * boosts[i]) for i, w in enumerate(weight))
    terms = [scaled(sparse(tile, i), w * boosts[i]) for i, w in enumerate(weight)]
    agreeing = agreeing_with_elected(terms)
    result = summed_wide(term * agrees for term, agrees in zip(terms, agreeing, strict=True))
    if normalize:
        result /= _sum_of_agreeing(weight, agreeing, result.dtype.type)
    result *= lambda_
    return result


def divisor(weight: Sequence[float], normalize: bool) -> float:
    """The sum of the weights, 1 where it is not asked for or next to nothing."""
    whole = sum(weight) if normalize else 1.0
    return whole if abs(whole) >= NO_SUM else 1.0


def agreeing_with_elected(terms: Sequence[Block]) -> list[NDArray[np.bool_]]:
    """Where each term has the sign of its position's sum. Near-ties go to plus; zeros agree with no sign."""
    balance = summed([terms[0].copy(), *terms[1:]])
    magnitude = np.abs(terms[0])
    for term in terms[1:]:
        magnitude += np.abs(term)
    magnitude *= -TIE
    minus = balance < magnitude
    agreeing = []
    for term in terms:
        agrees = np.equal(term < 0, minus)
        agrees &= term != 0
        agreeing.append(agrees)
    return agreeing


def scaled(values: Block, factor: float) -> Doubles:
    """The values times a factor, in fp64."""
    result = values.astype(np.float64)
    if factor != 1:
        result *= factor
    return result


def summed(terms: list[Block]) -> Block:
    """The sum in the order given. The first term is used up."""
    result = terms[0]
    for term in terms[1:]:
        result = np.add(result, term, out=result)
    return result


def summed_wide(terms: Iterable[Block]) -> Doubles:
    """The sum in fp64, in the order given. The first term is used up."""
    rest = iter(terms)
    result = next(rest).astype(np.float64, copy=False)
    for term in rest:
        result += term
    return result


def _sum_of_agreeing(weight: Sequence[float], agreeing: Sequence[NDArray[np.bool_]], real: Any) -> Block:
    """At each position the sum of the weights that agree, 1 where none does or where they cancel."""
    whole = summed([np.multiply(agrees, real(w)) for agrees, w in zip(agreeing, weight, strict=True)])
    if min(weight) < 0 < max(weight):
        size = summed([np.multiply(agrees, real(abs(w))) for agrees, w in zip(agreeing, weight, strict=True)])
        whole[np.abs(whole) <= size * real(TIE)] = 1
    else:
        whole += whole == 0
    return whole


# Rescaling


def boost() -> Measure:
    """The factor for each model's delta after it was thinned out, as `rescale` says."""

    def run(facts: Facts, values: Values) -> Measuring:
        densities, sparse = values["density"], values["sparse"]
        if values["rescale"] == "inverse" and "epsilon" not in values:
            return tuple(1 / density if density > 0 else 1.0 for density in densities)
        thinned = [model for model in range(facts.models) if densities[model] < 1]
        if values["rescale"] != "l1" or not thinned:
            return (1.0,) * facts.models
        whole, left = [0.0] * facts.models, [0.0] * facts.models

        def fold(tile: Tile) -> None:
            for model in thinned:
                whole[model] += total(np.abs(tile.deltas[model]))
                left[model] += total(np.abs(sparse(tile, model)))

        yield fold
        return tuple(a / b if a >= NO_L1 and b >= NO_L1 else 1.0 for a, b in zip(whole, left, strict=True))

    return Measure(run, bound=("density", "rescale", "epsilon", "sparse"))


# Planning


def foresee_sum(
    *, models: int, weight: Sequence[float], density: Sequence[float], lambda_: float, normalize: bool, **_rest: Any
) -> Sequence[float] | None:
    """Where everything is kept and no sign elected, this is task arithmetic."""
    if min(density, default=1) < 1 or not models:
        return None
    return [lambda_ * w / divisor(weight, normalize) for w in weight]
