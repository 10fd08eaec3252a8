"""Kinds of layers that come round: every second layer slides, every sixth sees everything.

transformers and vLLM read the kind of each layer from config.json, so any stack runs as it is written. llama.cpp
takes the kinds from a period that it knows by the architecture: there, layer i is what i is in that rhythm, whatever
it was trained as. A seam that goes back, or on, by a whole number of periods keeps the rhythm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.architectures.infer import text_config
from lamina.architectures.layer_facts import FACTS


def kinds_of(config: Mapping[str, Any], depth: int) -> list[tuple[str, ...]]:
    """Of each layer what comes round of it, as config.json or the model type has it; equal tuples are equal kinds."""
    text = text_config(config)
    facts = [fact.read(text, depth) for fact in FACTS if not fact.of_layers]
    coming_round = [[repr(value) for value in values] for values in facts if values and period_of(values) > 1]
    return [tuple(values[layer] for values in coming_round) for layer in range(depth)]


def period_of(kinds: Sequence[object]) -> int:
    """After how many layers the kinds come round: 1 where all are alike, 0 where they never do twice over."""
    for period in range(1, len(kinds) // 2 + 1):
        if all(kinds[i] == kinds[i - period] for i in range(period, len(kinds))):
            return period
    return 0


@dataclass(frozen=True)
class Lapse:
    """Output layers that are `out` of the rhythm of `period`; where it is lost first, and what would keep it.

    There output layer `place` is source layer `begins`, after `ends` (None at the bottom); any of `instead` keeps step.
    """

    period: int
    out: tuple[int, ...]
    place: int
    ends: int | None
    begins: int
    instead: tuple[int, ...]


def lapse(kinds: Sequence[object], stack: Sequence[tuple[int, object]]) -> Lapse | None:
    """Where a stack of layers falls out of step with its model's rhythm; None where it does not, or there is none.

    `kinds` are the model's; `stack` has for each output layer the source layer and its kind.
    """
    period = period_of(kinds)
    out = tuple(place for place, (_, kind) in enumerate(stack) if kind != kinds[place % period]) if period > 1 else ()
    if not out:
        return None
    place = next(place for place, (layer, _) in enumerate(stack) if (layer - place) % period)
    begins = stack[place][0]
    below = begins - (begins - place) % period
    instead = tuple(layer for layer in (below, below + period) if 0 <= layer < len(kinds))
    return Lapse(period, out, place, stack[place - 1][0] if place else None, begins, instead)
