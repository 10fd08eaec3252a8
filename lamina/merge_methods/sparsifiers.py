"""What is kept of a model's delta: measured arguments of the methods that thin task vectors out.

A sparsifier makes of a tile what is left of one model's delta. Cut-offs are found by passes over the tensor;
draws and the ranks of a row need none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.kernels.keys import DRAW_RANGE, Unsigned, draws, magnitude_bits, unmixed
from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.measures import Facts, Measure, Measuring, Values
from lamina.merge_methods.order_statistics import Wanted, at_or_above, elements_at, search_bytes
from lamina.merge_methods.registry import UndefinedMerge

Sparse = Callable[[Tile, int], Block]
MOST_MASK_BYTES = 1 << 25  # of all models together: a matrix of 4096 by 14336 in four models


def keep_largest() -> Measure:
    """Of each model, the `density` largest elements, at least one. None at density 0."""

    def run(facts: Facts, values: Values) -> Measuring:
        keep = [max(1, int(density * facts.count)) if density > 0 else 0 for density in values["density"]]
        return (yield from _between(facts, values["density"], [(facts.count - k, facts.count) for k in keep]))

    return Measure(run, lambda facts, _values: search_bytes(facts.models), bound=("density",))


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

    return Measure(run, lambda facts, _values: search_bytes(2 * facts.models), bound=("density", "gamma"))


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
        kept = np.ones(len(delta), np.bool_)
        if (model, low) in cuts:
            kept &= at_or_above(bits, cuts[model, low], tile)
        if (model, high) in cuts:
            kept &= ~at_or_above(bits, cuts[model, high], tile)
        result: Block = delta * kept
        return result

    return sparse


def _magnitudes(tile: Tile) -> list[Unsigned]:
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

    return Measure(run, draws=True, bound=("density",))


def keep_ranked() -> Measure:
    """Of each model, each element with a probability that rises with the rank of its magnitude in its row."""

    def run(facts: Facts, values: Values) -> Measuring:
        inverse = values["rescale"] == "inverse"
        chances = [_chances(d, e, facts.row) for d, e in zip(values["density"], values["epsilon"], strict=True)]
        kept_before: dict[tuple[int, int], NDArray[np.uint8]] = {}  # by model and start of the tile, a bit an element
        remembers = _mask_bytes(facts, values) > 0
        yield from ()

        def sparse(tile: Tile, model: int) -> Block:
            density, delta = values["density"][model], tile.deltas[model]
            if density >= 1:
                return delta
            if density <= 0:
                return np.zeros_like(delta)
            if (model, tile.start) in kept_before:
                return np.multiply(delta, np.unpackbits(kept_before[model, tile.start], count=len(delta)))
            places = ranked_in_rows(delta, tile)
            drawn = draws(facts.draw_keys[model], tile.start, tile.stop)[places]
            kept = tile.rows(drawn) < np.ceil(chances[model] * DRAW_RANGE).astype(np.uint32)
            factor = np.empty(len(delta), delta.dtype if inverse else np.bool_)
            factor[places] = (kept / chances[model] if inverse else kept).reshape(-1)
            if remembers:
                kept_before[model, tile.start] = np.packbits(factor)
            return np.multiply(delta, factor)

        return sparse

    return Measure(run, _mask_bytes, draws=True, bound=("density", "epsilon", "rescale"), held=_mask_bytes)


def _mask_bytes(facts: Facts, values: Values) -> int:
    """What is held of what was kept, where a pass for `rescale` comes before the mix: to sort the rows is most of both.

    Of a tensor for which that would be much, nothing: its rows are sorted twice.
    """
    thinned = sum(0 < density < 1 for density in values["density"])
    nbytes = thinned * (facts.count // 8 + 1)
    return nbytes if values["rescale"] == "l1" and nbytes <= MOST_MASK_BYTES else 0


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


def check_probabilities(*, density: Sequence[float], epsilon: Sequence[float], **_rest: Any) -> None:
    """Raises UndefinedMerge where a probability would not lie between 0 and 1. Density 0 and 1 need none."""
    for d, e in zip(density, epsilon, strict=True):
        if 0 < d < 1 and not (d - e > 0 and d + e < 1):
            room = min(d, 1 - d)
            raise UndefinedMerge(
                f"density {d:g} with epsilon {e:g} gives probabilities to keep an element from {d - e:g} to {d + e:g}, "
                f"and both have to lie between 0 and 1: with this density, epsilon is less than {room:g}, as "
                f"`epsilon: {room / 2:g}`",
                {"epsilon": [_valid_epsilon(*pair) for pair in zip(density, epsilon, strict=True)]},
            )


def _valid_epsilon(density: float, epsilon: float) -> float:
    """An epsilon as it is, or half of what the density has room for."""
    room = min(density, 1 - density)
    return epsilon if not 0 < density < 1 or epsilon < room else room / 2
