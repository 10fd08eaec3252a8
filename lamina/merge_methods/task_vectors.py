"""What the methods that add up task vectors share: thin each delta out, elect signs, add, rescale.

A sparsifier makes of a tile what is left of one model's delta. It is a measured argument: cut-offs are found
by passes over the tensor, draws need none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.kernels.keys import DRAW_RANGE, draws, magnitude_bits, unmixed
from lamina.kernels.sums import total
from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.measures import Facts, Measure, Measuring, Values
from lamina.merge_methods.order_statistics import Cut, Wanted, at_or_above, elements_at, search_bytes
from lamina.merge_methods.registry import UndefinedMerge

Sparse = Callable[[Tile, int], Block]
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
        return summed([scaled(sparse(tile, i), scale * w * boosts[i]) for i, w in enumerate(weight)])
    terms = [scaled(sparse(tile, i), w * boosts[i]) for i, w in enumerate(weight)]
    agreeing = agreeing_with_elected(terms)
    result = summed([term * agrees for term, agrees in zip(terms, agreeing, strict=True)])
    if normalize:
        result /= _sum_of_agreeing(weight, agreeing, result.dtype.type)
    return scaled(result, lambda_)


def divisor(weight: Sequence[float], normalize: bool) -> float:
    """The sum of the weights, 1 where it is not asked for or next to nothing."""
    whole = sum(weight) if normalize else 1.0
    return whole if abs(whole) >= NO_SUM else 1.0


def agreeing_with_elected(terms: Sequence[Block]) -> list[NDArray[np.bool_]]:
    """Where each term has the sign of its position's sum. Near-ties go to plus; zeros agree with no sign."""
    balance = summed([terms[0].copy(), *terms[1:]])
    magnitude = summed([np.abs(term) for term in terms])
    magnitude *= -TIE
    minus = balance < magnitude
    agreeing = []
    for term in terms:
        agrees = np.equal(term < 0, minus)
        agrees &= term != 0
        agreeing.append(agrees)
    return agreeing


def scaled(values: Block, factor: float) -> Block:
    """The values times a factor that is rounded to their type."""
    if factor == 1:
        return values
    return np.multiply(values, values.dtype.type(factor))


def summed(terms: list[Block]) -> Block:
    """The sum in the order given. The first term is used up."""
    result = terms[0]
    for term in terms[1:]:
        result = np.add(result, term, out=result)
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


# Sparsifiers


def all_kept(tile: Tile, model: int) -> Block:
    """Nothing is left out. What is returned may be written to."""
    return tile.deltas[model]


def keep_largest() -> Measure:
    """Of each model, the `density` largest elements, at least one. None at density 0."""

    def run(facts: Facts, values: Values) -> Measuring:
        keep = [max(1, int(density * facts.count)) if density > 0 else 0 for density in values["density"]]
        return (yield from _between(facts, values["density"], [(facts.count - k, facts.count) for k in keep]))

    return Measure(run, lambda facts, _values: search_bytes(facts.models))


def keep_middle() -> Measure:
    """Of each model `density` of the elements: the `gamma` largest go, then the smallest.

    Where both together would be more than there is, fewer of the largest go.
    """

    def run(facts: Facts, values: Values) -> Measuring:
        ranges = []
        for density, gamma in zip(values["density"], values["gamma"], strict=True):
            keep, top = int(density * facts.count), int(gamma * facts.count)
            bottom = max(0, facts.count - keep - top)
            ranges.append((bottom, bottom + keep))
        return (yield from _between(facts, values["density"], ranges))

    return Measure(run, lambda facts, _values: search_bytes(2 * facts.models))


def _between(facts: Facts, densities: Sequence[float], ranges: Sequence[tuple[int, int]]) -> Measuring:
    """Keep, of each model, the elements at the ascending ranks [low, high) of their magnitudes."""
    wanted = {
        (model, rank): Wanted(model, rank)
        for model, (low, high) in enumerate(ranges)
        if densities[model] < 1 and low < high
        for rank in (low, high)
        if 0 < rank < facts.count
    }
    cuts = dict(zip(wanted, (yield from elements_at(_magnitudes, list(wanted.values()), facts)), strict=True))

    def sparse(tile: Tile, model: int) -> Block:
        delta, (low, high) = tile.deltas[model], ranges[model]
        if densities[model] >= 1:
            return delta
        if low == high:
            return np.zeros_like(delta)
        bits = magnitude_bits(delta)
        kept = _mask(bits, cuts.get((model, low)), tile)
        if (upper := cuts.get((model, high))) is not None:
            above = at_or_above(bits, upper, tile)
            kept = ~above if kept is None else kept & ~above
        return delta if kept is None else delta * kept

    return sparse


def _mask(bits: Any, cut: Cut | None, tile: Tile) -> Any:
    return None if cut is None else at_or_above(bits, cut, tile)


def _magnitudes(tile: Tile) -> list[Any]:
    return [magnitude_bits(delta) for delta in tile.deltas]


def keep_drawn() -> Measure:
    """Of each model, each element with the probability `density`."""

    def run(facts: Facts, values: Values) -> Measuring:
        densities = values["density"]
        yield from ()

        def sparse(tile: Tile, model: int) -> Block:
            if densities[model] >= 1:
                return tile.deltas[model]
            drawn = draws(facts.draw_keys[model], tile.start, tile.stop)
            return tile.deltas[model] * (drawn < np.uint32(densities[model] * DRAW_RANGE))

        return sparse

    return Measure(run, draws=True)


def keep_ranked() -> Measure:
    """Of each model, each element with a probability that rises with the rank of its magnitude in its row."""

    def run(facts: Facts, values: Values) -> Measuring:
        inverse = values["rescale"] == "inverse"
        chances = [_chances(d, e, facts.row) for d, e in zip(values["density"], values["epsilon"], strict=True)]
        yield from ()

        def sparse(tile: Tile, model: int) -> Block:
            density, delta = values["density"][model], tile.deltas[model]
            if density >= 1:
                return delta
            if density <= 0:
                return np.zeros_like(delta)
            places = ranked_in_rows(delta, tile)
            drawn = draws(facts.draw_keys[model], tile.start, tile.stop)[places]
            kept = tile.rows(drawn) < np.ceil(chances[model] * DRAW_RANGE).astype(np.uint32)
            factor = np.empty(len(delta), delta.dtype if inverse else np.bool_)
            factor[places] = (kept / chances[model] if inverse else kept).reshape(-1)
            return np.multiply(delta, factor)

        return sparse

    return Measure(run, draws=True)


def _chances(density: float, epsilon: float, row: int) -> Block:
    """The probability to stay of each rank in a row."""
    if row == 1:
        return np.full(1, density, np.float64)
    return density - epsilon + np.arange(row) * (2 * epsilon / (row - 1))


def ranked_in_rows(values: Block, tile: Tile) -> NDArray[np.intp]:
    """The places of a tile, row by row in ascending order of magnitude; equals in the order of their keys."""
    bits = magnitude_bits(values)
    if bits.dtype == np.uint64 or tile.count > 1 << 32:
        return np.lexsort((tile.tie_keys, bits, np.arange(len(values)) // tile.row))
    # One number holds bits and key; the key is a bijection of the index, so that the sorted numbers know their place.
    pairs = bits.astype(np.uint64)
    pairs <<= np.uint64(32)
    pairs |= tile.tie_keys
    tile.rows(pairs).sort(axis=1)
    places = unmixed(pairs.astype(np.uint32))
    places -= np.uint32(tile.start & 0xFFFF_FFFF)
    return places.astype(np.intp)


# Rescaling


def boost() -> Measure:
    """The factor for each model's delta after it was thinned out, as `rescale` says."""

    def run(facts: Facts, values: Values) -> Measuring:
        densities, sparse = values["density"], values["sparse"]
        if values["rescale"] == "inverse" and "epsilon" not in values:
            return [1 / density if density > 0 else 1.0 for density in densities]
        thinned = [model for model in range(facts.models) if densities[model] < 1]
        if values["rescale"] != "l1" or not thinned:
            return [1.0] * facts.models
        whole, left = [0.0] * facts.models, [0.0] * facts.models

        def fold(tile: Tile) -> None:
            for model in thinned:
                whole[model] += total(np.abs(tile.deltas[model]))
                left[model] += total(np.abs(sparse(tile, model)))

        yield fold
        return [a / b if a >= NO_L1 and b >= NO_L1 else 1.0 for a, b in zip(whole, left, strict=True)]

    return Measure(run)


# Planning


def foresee_sum(
    *, models: int, weight: Sequence[float], density: Sequence[float], lambda_: float, normalize: bool, **_rest: Any
) -> Sequence[float] | None:
    """Where everything is kept and no sign elected, this is task arithmetic."""
    if min(density, default=1) < 1 or not models:
        return None
    return [lambda_ * w / divisor(weight, normalize) for w in weight]


def check_probabilities(*, density: Sequence[float], epsilon: Sequence[float], **_rest: Any) -> None:
    """Raises UndefinedMerge where a probability would not lie between 0 and 1. Density 0 and 1 need none."""
    for d, e in zip(density, epsilon, strict=True):
        if 0 < d < 1 and not (d - e > 0 and d + e < 1):
            raise UndefinedMerge(
                f"density {d:g} with epsilon {e:g} gives probabilities from {d - e:g} to {d + e:g}; both must lie "
                "between 0 and 1"
            )
