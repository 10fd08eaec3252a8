"""RAM+: RAM that rewards what only one model changed (https://arxiv.org/abs/2601.13572)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.measures import Facts, Measure, Measuring, Values
from lamina.merge_methods.parameters import Active, Reward, RewardLimit
from lamina.merge_methods.ram import divisors
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.task_vectors import summed_wide


def _overlaps(facts: Facts, values: Values) -> Measuring:
    """For each model the number of elements that others changed too, over the number that it alone changed."""
    shared, unique = [0] * facts.models, [0] * facts.models

    def fold(tile: Tile) -> None:
        changed = [np.abs(delta) > delta.dtype.type(values["epsilon"]) for delta in tile.deltas]
        alone = divisors(changed) == 1
        for model, each in enumerate(changed):
            own = int(np.count_nonzero(each & alone))
            unique[model] += own
            shared[model] += int(np.count_nonzero(each)) - own

    yield fold
    return tuple(s / max(u, values["epsilon"]) if u else 0.0 for s, u in zip(shared, unique, strict=True))


@merge_method(
    "ramplus_tl",
    title="RAM+ (tensor-local)",
    reference="https://arxiv.org/abs/2601.13572",
    base="required",
    inputs=(0, None),
    laws=["symmetric"],
)
def ramplus_tl(
    tile: Tile,
    *,
    r: Reward = 0.1,
    alpha: RewardLimit = 0.2,
    epsilon: Active = 1e-5,
    overlaps: Annotated[Sequence[float], Measure(_overlaps, bound=("epsilon",))],
) -> Block:
    """RAM, with the changes that one model alone made times 1 + r · min(shared / unique, alpha).

    Shared and unique are the numbers of elements that the model changed with others, and alone; of each tensor.
    """
    changed = [np.abs(delta) > delta.dtype.type(epsilon) for delta in tile.deltas]
    count = divisors(changed)
    alone = count == 1
    rewards = (np.float64(r * min(max(overlap, 0.0), alpha)) for overlap in overlaps)
    terms = (
        delta * each * (1 + reward * alone) for delta, each, reward in zip(tile.deltas, changed, rewards, strict=True)
    )
    return summed_wide(terms) / count
