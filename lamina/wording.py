"""Numbers as people read them. A GB is 10^9 bytes."""

from __future__ import annotations

from collections.abc import Sequence


def in_bytes(count: float) -> str:
    """`18.0 GB`, `181 MB`, `1.2 KB`, `384 bytes`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= size:
            digits = 1 if unit == "GB" or count < 10 * size else 0
            return f"{count / size:.{digits}f} {unit}"
    return f"{count:.0f} bytes"


def in_seconds(seconds: float) -> str:
    """`0.4 s`, `17 s`, `3 min 5 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def in_parameters(count: int) -> str:
    """`8.99B`, `563K`."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def counted(count: int, noun: str) -> str:
    """`1 shard`, `4 shards`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def span(first: int, last: int) -> str:
    """`0-31`, or `7` for a single one."""
    return str(first) if first == last else f"{first}-{last}"


def spans(numbers: Sequence[int]) -> str:
    """Sorted whole numbers in words: `0-7, 9, 12-14`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(span(run[0], run[-1]) for run in runs)
