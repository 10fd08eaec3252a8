"""Names of runs in a column that is too narrow for them, short so that they are still told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PART = re.compile(r"\d+\.\d+|\w+|\W")  # `weight=0.1` is a word, a sign and a number


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Each name in at most `width` letters. Of a long one the end stays, which has what was changed in a recipe; where
    different ones have one end, the parts that differ stay, and what else there is room for."""
    short = [_end(name, width) for name in names]
    alike: dict[str, list[str]] = {}
    for name, end in zip(names, short, strict=True):
        if name not in alike.setdefault(end, []):
            alike[end].append(name)
    told_apart = {
        name: text for group in alike.values() if len(group) > 1 for name, text in _told_apart(group, width).items()
    }
    return [told_apart.get(name, end) for name, end in zip(names, short, strict=True)]


def _end(name: str, width: int) -> str:
    return name if len(name) <= width else "…" + name[1 - width :]


def _told_apart(names: Sequence[str], width: int) -> dict[str, str]:
    """Names of one end: parts are compared from there."""
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
