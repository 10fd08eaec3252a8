"""Sizes as people write them on a command line: `200MB`, `5 GB`."""

from __future__ import annotations

import re
from typing import Any

import click

UNLIMITED = 1 << 62

_UNITS = {
    "": 1,
    "K": 10**3,
    "KB": 10**3,
    "M": 10**6,
    "MB": 10**6,
    "G": 10**9,
    "GB": 10**9,
    "B": 10**9,  # MergeKit's `5B`: a billion of bytes. Nobody asks for files of 5 bytes
    "T": 10**12,
    "TB": 10**12,
}


class Size(click.ParamType[int]):
    """A number of bytes: `200MB`, `5GB`, `1.5G`; `5B` are five billion, as MergeKit writes it."""

    name = "size"

    def __init__(self, *, zero_is_unlimited: bool = False) -> None:
        self._zero_is_unlimited = zero_is_unlimited

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
        if not found or found[2].upper() not in _UNITS:
            self.fail(f"`{value}` is no size; write `200MB` or `5GB`.", param, ctx)
        size = int(float(found[1]) * _UNITS[found[2].upper()])
        return UNLIMITED if size == 0 and self._zero_is_unlimited else size
