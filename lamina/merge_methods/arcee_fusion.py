"""Arcee Fusion: take over only the changes that matter, by size and by what they do to their row."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from lamina.kernels.keys import Unsigned, value_bits, value_of_bits
from lamina.kernels.sums import CHUNK, Doubles, halved
from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.measures import Facts, Measure, Measuring, Values
from lamina.merge_methods.order_statistics import Wanted, elements_at, search_bytes
from lamina.merge_methods.registry import merge_method

FLOOR = 1e-8  # added to probabilities, whose logarithm is taken
OUTLIER = 1.5  # quartile distances above the median from which on a change counts


def _divergences(facts: Facts, _values: Values) -> Measuring:
    """The Kullback-Leibler divergence of each row's softmax from the base's."""
    divergences = np.empty(facts.count // facts.row if facts.row else 0)

    def fold(tile: Tile) -> None:
        assert tile.base is not None
        ours, bases = _softmax(tile.rows(tile.inputs[0])), _softmax(tile.rows(tile.base))
        first = tile.start // facts.row
        divergences[first : first + len(ours)] = _sums(ours * np.log(ours / bases))

    yield fold
    divergences.flags.writeable = False
    return divergences


def _bytes_of_divergences(facts: Facts, _values: Values) -> int:
    return 8 * (facts.count // max(1, facts.row))


def _threshold(facts: Facts, values: Values) -> Measuring:
    """The importance from which on a change is taken over: median plus 1.5 quartile distances."""

    def importances(tile: Tile) -> list[Unsigned]:
        return [value_bits(importance(tile, values["divergences"]))]

    wanted = [Wanted(0, int(quantile * (facts.count - 1)), exact=False) for quantile in (0.25, 0.5, 0.75)]
    cuts = yield from elements_at(importances, wanted, facts)
    low, median, high = (value_of_bits(cut.bits, facts.wide) for cut in cuts)
    return median + OUTLIER * (high - low)


@merge_method(
    "arcee_fusion",
    title="Arcee Fusion",
    reference="https://www.arcee.ai/blog/arcee-fusion-a-new-approach-to-model-merging",
    base="required",
    scope="row",
    inputs=(1, 1),
    laws=["idempotent"],
)
def arcee_fusion(
    tile: Tile,
    *,
    divergences: Annotated[Doubles, Measure(_divergences, _bytes_of_divergences, bound=(), held=_bytes_of_divergences)],
    threshold: Annotated[float, Measure(_threshold, lambda _facts, _values: search_bytes(3), bound=("divergences",))],
) -> Block:
    """The base plus those elements of the delta whose importance is an outlier among all of the tensor.

    The importance is |delta| times the divergence of the row's softmax from the base's; an outlier lies at least 1.5
    quartile distances above the median. Quantiles are of all elements, not of a sample.
    """
    (delta,) = tile.deltas
    return delta * (importance(tile, divergences) >= threshold)


def importance(tile: Tile, divergences: Doubles) -> Block:
    """|delta| times the divergence of its row."""
    (delta,) = tile.deltas
    first = tile.start // tile.row
    rows = tile.rows(np.abs(delta))
    weights = divergences[first : first + len(rows)].astype(delta.dtype)
    result: Block = (rows * weights[:, None]).reshape(-1)
    return result


def _softmax(rows: Block) -> Doubles:
    powers = rows.astype(np.float64)
    powers -= powers.max(axis=1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= _sums(powers.copy())[:, None]
    powers += FLOOR
    return powers


def _sums(rows: Doubles) -> Doubles:
    """The sum of each row, in chunks. The rows are used up."""
    result = np.zeros(len(rows))
    for start in range(0, rows.shape[1], CHUNK):
        result += halved(rows[:, start : start + CHUNK])
    return result
