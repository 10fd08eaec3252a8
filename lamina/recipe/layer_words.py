"""Layers of a model in words: `0-31`, `7`, `8-`, `0-31:2`, or a list of them."""

from __future__ import annotations

import re

MOST_LAYERS = 100_000  # a slip of a few digits is told, and not carried out
FORMS = "the forms are `0-31`, `7`, `8-`, `0-31:2`, or a list of them"


def parse_layers(raw: object, depth: int | None, model: str = "the model") -> tuple[int, ...]:
    """Source layers in words: `0-31`, `7`, `8-`, `0-31:2`, or a list of them. First and last are included.

    `depth` is the number of layers there are, None where that is not known and no end is checked; `model` is
    what a letter calls it.

    Raises ValueError with what is valid.
    """
    if isinstance(raw, list):
        if not raw:
            raise ValueError(f"an empty list places no layer; {FORMS}. Did you mean `0-`, all of them?")
        if any(isinstance(part, list) for part in raw):
            message = f"`{raw}` is a list within a list; write one list of ranges, as `[0-23, 8-31]`"
            pair = raw[0] if len(raw) == 1 else None
            if isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair):
                message += f". Did you mean `{pair[0]}-{pair[1]}`?"
            raise ValueError(message)
        return tuple(layer for part in raw for layer in parse_layers(part, depth, model))
    text = str(raw).strip()
    if isinstance(raw, bool) or not (found := re.fullmatch(r"(\d+)(?:(-)(\d*)(?::(\d+))?)?", text)):
        if colon := re.fullmatch(r"(\d+):(\d+)", text):
            first, end = map(int, colon.groups())
            if depth is not None and end > depth:
                raise ValueError(
                    f"`{text}` could include layer {end} or not, and goes beyond {model}, which has {depth} layers; "
                    f"write `layers: {min(first, depth - 1)}-{depth - 1}`, which takes the last"
                )
            raise ValueError(
                f"`{text}` could include layer {end} or not; write `layers: {first}-{end - 1}`, "
                f"or `layer_range: [{first}, {end}]`, which both leave it out"
            )
        if other := re.fullmatch(r"(\d+)\s*(?:\.\.|-|–|to|,)\s*(\d+)", text):
            raise ValueError(f"`{text}` is no range of layers; {FORMS}. Did you mean `{other[1]}-{other[2]}`?")
        raise ValueError(
            f"`{raw if raw != '' else ' '}` is no range of layers; {FORMS}. Did you mean `0-`, all of them?"
        )
    first_text, dash, last_text, step = found.groups()
    start = int(first_text)
    last = start if dash is None else int(last_text) if last_text else (depth or start + 1) - 1
    if depth is not None and max(start, last) >= depth:
        first, step_ = min(start, depth - 1), f":{step}" if step else ""
        meant = f"{first}-{depth - 1}{step_}" if dash else f"{depth - 1}"
        raise ValueError(
            f"`{text}` goes beyond {model}, which has {depth} layers (0 to {depth - 1} is valid). "
            f"Did you mean `{meant}`?"
        )
    if last < start:
        raise ValueError(f"`{text}` runs backwards. Did you mean `{last}-{start}`?")
    if step == "0":
        raise ValueError(f"`{text}` takes steps of 0 layers; the smallest is 1. Did you mean `{start}-{last}`?")
    if last - start >= MOST_LAYERS:
        raise ValueError(f"`{text}` is more layers than any model has")
    return tuple(range(start, last + 1, int(step or 1)))
