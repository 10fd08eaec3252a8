"""RAM: average where several models changed a weight, add where one did (https://arxiv.org/abs/2601.13572)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.parameters import Active
from lamina.merge_methods.registry import merge_method
from lamina.merge_methods.task_vectors import summed_wide


@merge_method(
    "ram",
    title="RAM",
    reference="https://arxiv.org/abs/2601.13572",
    base="required",
    inputs=(0, None),
    laws=["symmetric"],
)
def ram(tile: Tile, *, epsilon: Active = 1e-5) -> Block:
    """The base plus the mean delta of those models that changed the element by more than epsilon."""
    changed = [np.abs(delta) > delta.dtype.type(epsilon) for delta in tile.deltas]
    return summed_wide(delta * each for delta, each in zip(tile.deltas, changed, strict=True)) / divisors(changed)


def divisors(changed: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """How many models changed each element; 1 where none did."""
    count = changed[0].astype(np.float32)
    for each in changed[1:]:
        count += each
    return np.maximum(count, 1)
