"""JSON that holds a mapping, which is all that the small files of a model are."""

from __future__ import annotations

import json
from typing import Any


def json_mapping(raw: bytes, name: str) -> dict[str, Any]:
    """The content of a JSON file that holds a mapping. Raises ValueError, with a sentence that names it."""
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name} holds a {type(content).__name__} where a mapping belongs")
    return content
