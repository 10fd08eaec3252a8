"""Values as lines of YAML, in the style of what stands around them."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import yaml

WIDTH = 110  # what fits is written in one line


class Verbatim(str):
    """A value as the user wrote it."""


def pair_of(column: int | None, key: str, value: Any, *, in_block: bool = False) -> str:
    """A key, with its colon, and its value below or behind it; below it if that `in_block` is more than an entry."""
    inline = flow(value)
    if column is None or not isinstance(value, dict | list):
        return f"{key} {inline}"
    if column + len(key) + len(inline) < WIDTH and not (in_block and _holds_entries(value)):
        return f"{key} {inline}"
    inside = " " * (column + 2)
    return f"{key}\n{inside}" + f"\n{inside}".join(lines_of(value, column + 2, in_block=in_block))


def lines_of(value: Any, column: int, *, in_block: bool = False) -> list[str]:
    """A value in block style, whatever fits into a line in one; `in_block` not what has entries of its own."""
    fits = 0 < column < WIDTH - len(flow(value)) and not (in_block and _holds_entries(value))
    if not isinstance(value, dict | list) or not value or fits:
        return [flow(value)]
    if isinstance(value, dict):
        pairs = [pair_of(column, f"{flow(key)}:", each, in_block=in_block) for key, each in value.items()]
        return [line for each in pairs for line in each.replace("\n" + " " * column, "\n").split("\n")]
    found = []
    for each in value:
        first, *rest = lines_of(each, column + 2, in_block=in_block)
        found += [f"- {first}", *(f"  {line}" for line in rest)]
    return found


def _holds_entries(value: Any) -> bool:
    """True for a list of models, and what has one in it: a tidy recipe has a line for each."""
    if isinstance(value, list):
        return any(isinstance(each, dict) and ("model" in each or _holds_entries(each)) for each in value)
    return isinstance(value, dict) and any(map(_holds_entries, value.values()))


def _in_quotes(text: str) -> str:
    """Text in double quotes, escaped as YAML has it: JSON writes a sign beyond 16 bits as two, which YAML refuses."""
    return yaml.safe_dump(text, default_style='"', width=10**6).rstrip("\n")


def flow(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, Verbatim):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        quoted = yaml.safe_dump({value: value}, default_flow_style=True, width=10**6)
        plain = re.fullmatch(r"\{(.*): \1\}\n", quoted, re.DOTALL)
        return _in_quotes(value) if plain is None or "\n" in value else plain[1]
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"{'-' * (value < 0)}.{'nan' if value != value else 'inf'}"
    return json.dumps(value)
