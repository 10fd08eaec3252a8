"""Where the depth of a result has a seam: a layer that does not follow on the one it was trained behind.

From the recipe's factors alone; `lamina check` measures what a seam does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lamina.plans.weights import EffectiveWeights

MOST_OF_IT = 0.75  # what of a layer goes on from the one below where there is no seam worth a mark


@dataclass(frozen=True)
class Seam:
    """Before `output`. `goes_on` is the share (0 to 1) of the two layers that follow on one another.

    `of_depth`: source layers do not follow; else they do, and come from another model. `below` and `above` are the
    source layers that count on both sides, those that count most first.
    """

    output: int
    goes_on: float
    of_depth: bool
    below: tuple[int, ...]
    above: tuple[int, ...]


def seams(weights: EffectiveWeights) -> list[Seam]:
    """Every seam, from the bottom up. Layers that add nothing are passed over: what comes behind follows on
    what comes before them.
    """
    found = []
    below: Mapping[tuple[str, int], float] | None = None
    for output, silent in enumerate(weights.silent):
        above = _shares(weights, output)
        if silent or not above:
            continue
        if below is not None:
            of_model = sum(min(share, above.get((model, layer + 1), 0.0)) for (model, layer), share in below.items())
            lower, upper = _by_layer(below), _by_layer(above)
            of_depth = sum(min(share, upper.get(layer + 1, 0.0)) for layer, share in lower.items())
            if min(of_model, of_depth) < MOST_OF_IT:
                is_jump = of_depth < MOST_OF_IT
                share = of_depth if is_jump else of_model
                found.append(Seam(output, share, is_jump, _main(lower), _main(upper)))
        below = above
    return found


def _shares(weights: EffectiveWeights, output: int) -> dict[tuple[str, int], float]:
    """How much of a layer each model's layer is: of what enters whole, or of the deltas where nothing does."""
    whole: dict[tuple[str, int], float] = {}
    deltas: dict[tuple[str, int], float] = {}
    for row, cells in zip(weights.rows, weights.overall, strict=True):
        if (cell := cells[output]) is not None:
            shares = deltas if row.of_delta else whole
            source = (row.model, output - row.offset)
            shares[source] = shares.get(source, 0.0) + max(abs(cell.low), abs(cell.high))
    counted = whole if any(whole.values()) else deltas
    total = sum(counted.values())
    return {source: share / total for source, share in counted.items()} if total else {}


def _by_layer(shares: Mapping[tuple[str, int], float]) -> dict[int, float]:
    """The same by source layer, whichever model it is of."""
    layers: dict[int, float] = {}
    for (_, layer), share in shares.items():
        layers[layer] = layers.get(layer, 0.0) + share
    return layers


def _main(layers: Mapping[int, float]) -> tuple[int, ...]:
    """The source layers that are at least a quarter of it, or the largest."""
    ordered = sorted(layers, key=lambda layer: -layers[layer])
    return tuple(layer for layer in ordered if layers[layer] >= 0.25) or (ordered[0],)
