"""NearSwap: take the other model's value where it is near the base's (alchemonaut, 2024)."""

from __future__ import annotations

from typing import Any

import numpy as np

from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.gram import Coefficients
from lamina.merge_methods.parameters import Threshold
from lamina.merge_methods.registry import merge_method

NO_DISTANCE = 1e-6


def _foresee(*, models: int, t: float, **_rest: Any) -> Coefficients | None:
    return [0.0] * models if t <= 0 else None


@merge_method(
    "nearswap",
    title="NearSwap",
    reference="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    base="required",
    inputs=(1, 1),
    laws=["idempotent"],
    foresee=_foresee,
    example={"t": 0.0001},
)
def nearswap(tile: Tile, *, t: Threshold) -> Block:
    """The base plus share · delta; the share is t / |delta|, at most 1: the nearer, the more."""
    (delta,) = tile.deltas
    share = delta.dtype.type(t) / np.maximum(np.abs(delta), delta.dtype.type(NO_DISTANCE))
    return delta * np.minimum(share, 1)
