"""Letters for values that the schema refuses: what was found, what is valid, and the steps that mend it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pydantic_core import ErrorDetails

from lamina.recipe.content import Content
from lamina.recipe.forms import (
    EXPECTED,
    FORMS,
    PARAMETERS,
    STAND_IN,
    as_entry,
    choice_meant,
    choices_of,
    form_steps,
    in_words,
    value_meant,
)
from lamina.recipe.steps import Misformed, Put, Step, within
from lamina.recipe.text import Way

_END = "names the model whose %s the result takes, and left out it comes with the layers"
_ROLES = {
    "embed": _END % "embedding", "norm": _END % "final norm", "head": _END % "head",
    "tokenizer_source": "is `base`, `union`, or a model whose tokenizer the result takes",
}  # fmt: skip


class Letter(NamedTuple):
    """What is wrong, and where; `suggestion` and `steps` as a `Problem` has them."""

    code: str
    message: str
    way: Way
    suggestion: str
    steps: Sequence[Step]


def wrong_value(detail: ErrorDetails, way: Way, content: Content) -> Letter:
    """The letter for one fault that the schema found, at `way`."""
    kind, name = detail["type"], str(way[-1]) if way else ""
    steps: Sequence[Step]
    if kind == "missing":
        form = FORMS.get(name, f"`{name}: ...`")
        steps = [Put(way, model) for model in content.named()[:1] if name == "model"]
        return Letter("missing-key", f"`{name}` is missing here: {form}.", way[:-1], name, steps)
    if kind == "literal_error":
        meant = choice_meant(detail)
        valid = ", ".join(f"`{choice}`" for choice in choices_of(detail))
        hint = f" Did you mean `{meant}`?" if meant else f" Valid are {valid}."
        steps = [Put(way, meant or STAND_IN[name])]
        message = f"`{name}` cannot be `{detail['input']}`.{hint}"
        return Letter("wrong-value", message, way, meant or "", steps)
    if kind == "value_error":
        message = _role_of(way, str(detail["msg"]).removeprefix("Value error, "))
        hinted = re.search(r"[Dd]id you mean `(.+?)`", message)
        end = "" if message.endswith("?") else "."
        steps = value_steps(detail, way, content)
        return Letter("wrong-value", message + end, way, hinted[1] if hinted else "", steps)
    key = next((str(part) for part in reversed(way) if isinstance(part, str)), "")
    form = f": {FORMS[key]}" if key in FORMS else ""
    if kind in ("model_type", "model_attributes_type") and isinstance(way[-1], int):
        meant = f"model: {detail['input']}" if key == "models" and isinstance(detail["input"], str) else ""
        hint = f" Did you mean `{meant}`?" if meant else ""
        message = f"an entry of `{key}` is a mapping, and this is {in_words(detail['input'])}{form}.{hint}"
        steps = [Put(way, value) for value in [as_entry(key, detail["input"])] if value is not None]
        return Letter("wrong-value", message, way, meant, steps)
    expected = EXPECTED.get(kind, str(detail["msg"]).lower().removeprefix("input should be "))
    given = detail["input"]
    shown = f"the text {in_words(given)}" if isinstance(given, str) and kind == "int_type" else in_words(given)
    meant = given if isinstance(given, str) and kind == "int_type" and given.isdecimal() else ""
    hint = f" Did you mean `{meant}` without quotes?" if meant else ""
    message = f"`{key}` takes {expected}, and this is {shown}{form}.{hint}"
    if key == "at" and not meant:
        message += (
            " It is the layer of the result at which the entry starts, counted from 0 at the bottom, never from "
            "the end. Left out, the entry starts after the one above it."
        )
    return Letter("wrong-value", message, way, meant, form_steps(kind, key, given, way))


def value_steps(detail: ErrorDetails, way: Way, content: Content) -> Sequence[Step]:
    """How to mend a value that a reader of its own refuses."""
    while way not in content.places and len(way) > 1:
        way = way[:-1]  # pydantic's way leads on into what it tried
    given, error = detail["input"], detail.get("ctx", {}).get("error")
    if isinstance(error, Misformed) and error.steps:
        return within(way, error.steps)
    if (meant := value_meant(detail)) is not None:
        extra = given if way[-1] == "layer_range" and isinstance(given, dict) else {}
        parameters = {key: value for key, value in extra.items() if key in PARAMETERS}
        return (
            Put(way, meant),
            *(Put((*way[:-1], "parameters", name), value) for name, value in parameters.items()),
        )
    if way[-1] in ("model", "base_model", "embed", "norm", "head", "tokenizer_source", "source"):
        if isinstance(given, list) and given and isinstance(given[0], str):
            return (Put(way, given[0]),)
        return [Put(way, model) for model in content.named()[:1]]
    return ()


def _role_of(way: Way, message: str) -> str:
    """The letter for what is no model, with what the key names a model for."""
    if message.startswith("a model is ") and way[0] in _ROLES:
        return f"`{way[0]}` {_ROLES[str(way[0])]}; {message}"
    return message
