"""Numbers as people write and read them: `200MB`, `5 GB`, `17 s`."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {
    "": 1,
    "B": 1,
    "K": 10**3,
    "KB": 10**3,
    "M": 10**6,
    "MB": 10**6,
    "G": 10**9,
    "GB": 10**9,
    "T": 10**12,
    "TB": 10**12,
}


class Size(click.ParamType[int]):
    """A number of bytes: `200MB`, `5GB`, `1.5G`, `5B` as MergeKit writes billions of bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
        if not found or found[2].upper() not in _UNITS:
            self.fail(f"`{value}` is no size; write `200MB` or `5GB`.", param, ctx)
        return int(float(found[1]) * _UNITS[found[2].upper()])


def in_bytes(count: float) -> str:
    """`18.0 GB`, `181 MB`, `12 KB`; a GB is 10^9 bytes."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if unit == "GB" or count < 10 * size else f"{count / size:.0f} {unit}"
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
