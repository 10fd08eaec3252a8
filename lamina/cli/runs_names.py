"""Names of runs in a column that is too narrow for them, short so that they are still told apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PART = re.compile(r"\d+\.\d+|\w+|\W")  # `weight=0.1` is a word, a sign and a number


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Each name in at most `width` letters. Of a long one the end stays, which has what was changed in a recipe;
    of those that differ in numbers alone, or have one end, the parts that differ, and what else there is room for."""
    short = {name: _end(name, width) for name in names}
    cut = [name for name in short if len(name) > width]
    by_shape = _alike(cut, lambda name: _NUMBER.sub("#", name))
    in_shapes = {name for group in by_shape for name in group}
    by_end = _alike([name for name in cut if name not in in_shapes], lambda name: short[name])
    for group in (*by_shape, *by_end):
        short |= _told_apart(group, width)
    return [short[name] for name in names]


def _alike(names: Sequence[str], of: Callable[[str], str]) -> list[list[str]]:
    """Those names that share what `of` tells with others."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(of(name), []).append(name)
    return [group for group in found.values() if len(group) > 1]


def _end(name: str, width: int) -> str:
    return name if len(name) <= width else "…" + name[1 - width :]


def _told_apart(names: Sequence[str], width: int) -> dict[str, str]:
    """Names that are alike: their parts are compared from the end."""
    parts = [_PART.findall(name)[::-1] for name in names]
    longest, shortest = max(map(len, parts)), min(map(len, parts))
    differ = [at >= shortest or len({each[at] for each in parts}) > 1 for at in range(longest)]
    return {name: _kept(each, differ, width) or _end(name, width) for name, each in zip(names, parts, strict=True)}


def _kept(parts: Sequence[str], differ: Sequence[bool], width: int) -> str:
    """Those of the parts, the last one first, that there is room for: at first those that differ; `…` for others."""
    kept: set[int] = set()
    for wanted in (True, False):
        for at in range(len(parts)):
            if differ[at] == wanted and len(_written(parts, kept | {at})) <= width:
                kept.add(at)
    return _written(parts, kept) if any(differ[at] for at in kept) else ""


def _written(parts: Sequence[str], kept: set[int]) -> str:
    text = ""
    for at in reversed(range(len(parts))):
        text += parts[at] if at in kept else "" if text.endswith("…") else "…"
    return text
