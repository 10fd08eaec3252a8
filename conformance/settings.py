"""What a recipe's settings mean, by MergeKit's documented semantics and nothing else: gradients, filters, levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def resolve(parameter: str, levels: Sequence[Mapping[str, Any]], name: str, t: float, default: Any = None) -> Any:
    """The value of the first level that has one for a tensor name, at position t of its slice."""
    for level in levels:
        found = setting(level.get(parameter), name, t)
        if found is not None:
            return found
    return default


def setting(value: Any, name: str, t: float) -> Any:
    """The value of one level's setting for a tensor name at position t, or None where the level says nothing."""
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for item in value:
            if item.get("filter") in (None, "*") or item["filter"] in name:
                return setting(item["value"], name, t)
        return None
    if isinstance(value, list):
        if not value:
            return None
        if any(isinstance(item, bool) for item in value):
            return value[math.trunc(t * (len(value) - 1))]
        return interpolate([float(item) for item in value], t)
    return value


def interpolate(gradient: Sequence[float], t: float) -> float:
    """The value at t of a line through equally spaced points."""
    position = t * (len(gradient) - 1)
    left = math.trunc(position)
    fraction = position - left
    return (1 - fraction) * gradient[left] + fraction * gradient[min(left + 1, len(gradient) - 1)]
