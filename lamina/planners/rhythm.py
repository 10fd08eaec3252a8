"""Kinds of layers that come round: every second layer slides, every sixth sees everything.

transformers and vLLM read the kind of each layer from config.json, so any stack runs as it is written. llama.cpp
takes the kinds from a period that it knows by the architecture: there, layer i is what i is in that rhythm, whatever
it was trained as. A seam that goes back, or on, by a whole number of periods keeps the rhythm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lamina.architectures.infer import text_config
from lamina.architectures.layer_config import PER_LAYER_LISTS


def kinds_of(config: Mapping[str, Any], depth: int) -> list[tuple[object, ...]]:
    """What config.json says of each layer, in its lists of one value a layer; equal tuples are equal kinds."""
    text = text_config(config)
    lists = [text[key] for key in PER_LAYER_LISTS if isinstance(text.get(key), list) and len(text[key]) == depth]
    return [tuple(each[layer] for each in lists) for layer in range(depth)]


def period_of(kinds: Sequence[object]) -> int:
    """After how many layers the kinds come round: 1 where all are alike, 0 where they never do twice over."""
    for period in range(1, len(kinds) // 2 + 1):
        if all(kinds[i] == kinds[i - period] for i in range(period, len(kinds))):
            return period
    return 0


def out_of_step(kinds: Sequence[object], period: int, layers: Sequence[int]) -> list[int]:
    """Output layers whose kind is not what the rhythm has in their place; `layers` are their source layers."""
    return [place for place, layer in enumerate(layers) if kinds[layer] != kinds[place % period]]
