"""SCE: select where models differ, weigh them by what is left, erase the minority (https://arxiv.org/abs/2408.07990)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np

from lamina.kernels.keys import magnitude_bits
from lamina.kernels.sums import dot
from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.gram import Coefficients
from lamina.merge_methods.measures import Facts, Measure, Measuring, Values
from lamina.merge_methods.order_statistics import Wanted, at_or_above, elements_at, search_bytes
from lamina.merge_methods.parameters import Int8Mask, TopK
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.task_vectors import agreeing_with_elected, scaled, summed, summed_wide

Selected = Callable[[Tile], Sequence[Block]]
NO_WEIGHT = 1e-6  # MergeKit's guard: squares that sum to less give every model the same weight


def _select(facts: Facts, values: Values) -> Measuring:
    """Keep the `select_topk` share of the positions at which the deltas vary, those where they vary most."""
    if values["select_topk"] >= 1:
        return lambda tile: tile.deltas
    varying = [0]

    def count(tile: Tile) -> None:
        varying[0] += int(np.count_nonzero(_variance(tile.deltas)))

    yield count
    # In float32, as MergeKit counts: 0.29 of 100 is 29, where float64 has 28.999...
    keep = min(varying[0], int(np.float32(varying[0]) * np.float32(values["select_topk"])))
    if keep == 0:
        return lambda tile: [np.zeros_like(delta) for delta in tile.deltas]
    if keep == facts.count:
        return lambda tile: tile.deltas
    wanted = [Wanted(0, facts.count - keep)]
    (cut,) = yield from elements_at(lambda tile: [magnitude_bits(_variance(tile.deltas))], wanted, facts)

    def selected(tile: Tile) -> list[Block]:
        kept = at_or_above(magnitude_bits(_variance(tile.deltas)), cut, tile)
        return [delta * kept for delta in tile.deltas]

    return selected


def _variance(deltas: Sequence[Block]) -> Block:
    """What orders positions by the population variance over the models: its multiple by the squared number.

    Measured from the first delta, in float64: positions at which all deltas are equal come out as zero.
    """
    first = deltas[0].astype(np.float64)
    differences = [delta.astype(np.float64) for delta in deltas[1:]]  # before they are subtracted: casts are slow there
    for difference in differences:
        difference -= first
    if not differences:
        return np.zeros_like(deltas[0])
    whole = summed([differences[0].copy(), *differences[1:]])
    squares = summed([np.square(difference, out=difference) for difference in differences])
    squares *= len(deltas)
    squares -= np.square(whole, out=whole)
    return np.maximum(squares, 0, out=squares).astype(deltas[0].dtype)


def _weights(facts: Facts, values: Values) -> Measuring:
    """Of each model its share of the squares of what was selected."""
    squares = [0.0] * facts.models

    def fold(tile: Tile) -> None:
        for model, delta in enumerate(values["selected"](tile)):
            squares[model] += dot(delta, delta)

    yield fold
    means = [square / facts.count for square in squares]
    whole = sum(means)
    return tuple(mean / whole for mean in means) if whole >= NO_WEIGHT else (1 / facts.models,) * facts.models


def _foresee(*, models: int, select_topk: float, **_rest: Any) -> Coefficients | None:
    return [0.0] * models if select_topk <= 0 else None


@merge_method(
    "sce",
    title="SCE",
    reference="https://arxiv.org/abs/2408.07990",
    base="required",
    inputs=(0, None),
    laws=["symmetric"],
    foresee=_foresee,
    example={"select_topk": 0.1},
)
def sce(
    tile: Tile,
    *,
    select_topk: TopK = 1.0,
    int8_mask: Int8Mask = False,
    selected: Annotated[Selected, Measure(_select, lambda _facts, _values: search_bytes(1), bound=("select_topk",))],
    shares: Annotated[Sequence[float], Measure(_weights, bound=("selected",))],
) -> Block:
    """The base plus the weighted mean of those deltas that agree with the sign of their sum.

    Only the `select_topk` share of the positions where the deltas vary most counts. A model's weight is its share of
    the squares that are left; equal, where these sum to next to nothing.
    """
    deltas = selected(tile)
    agreeing = agreeing_with_elected(deltas)
    terms = (scaled(delta, share) * agrees for delta, share, agrees in zip(deltas, shares, agreeing, strict=True))
    whole = summed([np.multiply(agrees, np.float64(share)) for agrees, share in zip(agreeing, shares, strict=True)])
    return summed_wide(terms) / np.maximum(whole, NO_WEIGHT)
