"""Ways into a recipe, as `--set` writes them: `stack[1].at`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Way = tuple[str | int, ...]  # the way to a value: ("slices", 0, "sources", 1, "model")

_PATH = r"[A-Za-z_]\w*(\[\d+\])*(\.[A-Za-z_]\w*(\[\d+\])*)*"


def parse_way(text: str) -> Way:
    """`stack[1].at` as a way. Raises ValueError for anything else."""
    if not re.fullmatch(_PATH, text):
        meant = re.sub(r"\.(\d+)", r"[\1]", text)
        hint = f" Did you mean `{meant}`?" if meant != text and re.fullmatch(_PATH, meant) else ""
        raise ValueError(f"`{text}` is no path into a recipe; the form is `parameters.t` or `stack[1].at`.{hint}")
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"\w+", text))


def with_value_at(content: Any, way: Way, value: Any, whole: Way) -> Any:
    """The content with a value set anew at the end of `way`, the rest of the `whole` one. Raises ValueError."""
    if not way:
        return value
    head, *rest = way
    if isinstance(head, int):
        if not isinstance(content, list) or head >= len(content):
            found = "is no list"
            if isinstance(content, list):
                found = f"ends with [{len(content) - 1}]" if content else "is empty"
            before = whole[: len(whole) - len(way)]
            hint = f" Did you mean `{written_way((*before, len(content) - 1, *rest))}`?" if content else ""
            message = f"`{written_way(whole)}` leads nowhere: what stands before [{head}] {found}."
            raise ValueError(message + (hint if isinstance(content, list) else ""))
        return [*content[:head], with_value_at(content[head], tuple(rest), value, whole), *content[head + 1 :]]
    if content is not None and not isinstance(content, dict):
        around = written_way(whole[: len(whole) - len(way)])
        raise ValueError(
            f"`{written_way(whole)}` leads nowhere: what stands before `{head}` is no mapping. Did you mean `{around}`?"
        )
    inside = content or {}
    return {**inside, head: with_value_at(inside.get(head), tuple(rest), value, whole)}


def written_way(way: Sequence[str | int]) -> str:
    """A way as `--set` takes it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in way).lstrip(".")
