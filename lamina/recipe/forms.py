"""The forms that a recipe's keys and values have, in words, and what other forms are taken for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from lamina.errors import nearest
from lamina.recipe.schema import (
    InputModel,
    OutputModule,
    OutputSlice,
    RecipeSchema,
    SliceSource,
    StackEntry,
    TokenizerSettings,
    WeightedModel,
)
from lamina.recipe.steps import Put, Remove, Rewrite, Step
from lamina.recipe.text import Way

LEVELS: dict[type[BaseModel], str] = {
    RecipeSchema: "at the top level",
    OutputSlice: "in an entry of `slices`",
    SliceSource: "in an entry of `sources`",
    InputModel: "in an entry of `models`",
    OutputModule: "in an entry of `modules`",
    StackEntry: "in an entry of `stack`",
    WeightedModel: "in an entry of `embed`, `norm` or `head`",
    TokenizerSettings: "under `tokenizer`",
}

OVERRIDE = "override_architecture"
NEEDED = ("model", "layer_range", "sources")  # an entry without them cannot be looked at any further
PARAMETERS = ("weight", "density", "scale", "normalize", "t", "lambda", "gamma", "epsilon", "rescale")
_LAYERS = {"models", "slices"}  # what a module has
STAND_IN = {"overlap": "average", "gradient_ends": "own"}  # never a fault by itself
OTHER_NAMES = {  # what people call a key, and no slip of the finger
    "method": ("merge_method",), "merge_type": ("merge_method",), "merge": ("merge_method",),
    "base": ("base_model",), "basemodel": ("base_model",), "range": ("layer_range", "layers"),
    "params": ("parameters",), "type": ("dtype",), "torch_dtype": ("dtype",), "precision": ("dtype",),
    "output_dtype": ("out_dtype",), "name": ("model",), "path": ("model",), "start": ("at",), "offset": ("at",),
    "lm_head": ("head",), "embed_tokens": ("embed",), "embeddings": ("embed",),
}  # fmt: skip
FORMS = {
    "models": "`models: [{model: org/name}]`",
    "slices": "`slices: [{sources: [{model: org/name, layer_range: [0, 8]}]}]`",
    "sources": "`sources: [{model: org/name, layer_range: [0, 8]}]`",
    "stack": "`stack: [{model: org/name, layers: 0-7}]`",
    "modules": "`modules: {text_decoder: {models: [{model: org/name}]}}`",
    "model": "`model: org/name`",
    "layer_range": "`layer_range: [start, end]`, the end not included",
    "parameters": "`parameters: {weight: 0.5}`",
}
EXPECTED = {
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "text",
    "int_type": "a whole number",
    "too_short": "a list with at least one entry",
    "greater_than_equal": "a whole number from 0 on",
}


def value_meant(detail: ErrorDetails) -> Any:
    """What a letter takes a value for, None where it does not know."""
    hinted = re.search(r"[Dd]id you mean `(.+?)`", str(detail["msg"])) if detail["type"] == "value_error" else None
    try:
        return yaml.safe_load(hinted[1]) if hinted else None
    except yaml.YAMLError:  # cut short by a backquote in what the user wrote
        return None


def as_entry(key: str, given: Any) -> Any:
    """What stands for an entry of a list, as an entry; None where nobody can tell."""
    if key in ("models", "sources") and isinstance(given, str):
        return {"model": given}
    if key == "slices" and isinstance(given, list):
        return {"sources": given}
    return None


def form_steps(kind: str, key: str, given: Any, way: Way) -> Sequence[Step]:
    """How to mend a value of another kind than the key takes."""
    match kind, given:
        case "list_type", dict() if key == "models" and given and "model" not in given:
            return [Put(way, [{"model": model} | _as_parameters(value) for model, value in given.items()])]
        case "list_type", dict() | list() | str():
            return [Put(way, [entry if (entry := as_entry(key, given)) is not None else given])]
        case "dict_type", [dict() as module] if key == "modules" and len(module) == 1 and module.keys() <= _LAYERS:
            return [Rewrite(way, *next(iter(module.items())))]
        case "dict_type", list() if key == "parameters" and all(isinstance(part, dict) for part in given):
            return [Put(way, {key: value for part in given for key, value in part.items()})]
        case "dict_type", int() | float() if key == "parameters":
            return [Put(way, {"weight": given})]
        case "string_type", [str() as text]:
            return [Put(way, text)]
        case "int_type", str() if given.isdecimal():
            return [Put(way, int(given))]
        case "int_type", float() if math.isfinite(given) and given >= 0:
            return [Put(way, int(given))]
        case "too_short", _:
            return [Remove(way)] if key == "sources" else []
        case (("int_type" | "greater_than_equal" | "string_type"), _) if (
            key in RecipeSchema.model_fields or key == "at"
        ):
            return [Remove(way)] if key != "merge_method" else []
    return []


def _as_parameters(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value if "parameters" in value else {"parameters": value}
    return {} if value is None else {"parameters": {"weight": value}}


def items_of(content: Any) -> list[tuple[str | int, Any]]:
    """What stands in a mapping or a list, by key or number."""
    if isinstance(content, dict):
        return list(content.items())
    return list(enumerate(content)) if isinstance(content, list) else []


def choices_of(detail: ErrorDetails) -> list[str]:
    """The values that pydantic names in `'cut', 'average' or 'ramp'`."""
    return re.findall(r"'(.+?)'", str(detail.get("ctx", {}).get("expected", "")))


def choice_meant(detail: ErrorDetails) -> str | None:
    """The valid choice that a value is most likely a slip of."""
    return nearest(str(detail["input"]), choices_of(detail))


def in_order(way: Way) -> list[tuple[bool, str | int]]:
    """Sorts ways as the recipe has them, whatever stands in one place of two of them."""
    return [(isinstance(part, str), part) for part in way]


def entry_of(way: Way) -> Way:
    """The innermost list entry that a way leads into, else its top-level key."""
    for end in range(len(way) - (isinstance(way[-1], int) is False), 0, -1):
        if isinstance(way[end - 1], int):
            return way[:end]
    return way[:1]


def moved_up(way: Way, prefix: Way, removed: int) -> Way:
    """The way of what stands behind a list entry that was taken out, or the same way."""
    place = len(prefix)
    if way[:place] == prefix and len(way) > place:
        index = way[place]
        if isinstance(index, int) and index > removed:
            return (*prefix, index - 1, *way[place + 1 :])
    return way


def keys_at(way: Way) -> list[str]:
    """The keys that are valid in the mapping at a way."""
    names = [part for part in way if isinstance(part, str)]
    if names[:1] == ["modules"] and len(names) == 2:
        return list(OutputModule.model_fields)
    by_name: dict[str, type[BaseModel]] = {
        "models": InputModel, "slices": OutputSlice, "sources": SliceSource, "stack": StackEntry,
        "embed": WeightedModel, "norm": WeightedModel, "head": WeightedModel,
        "tokenizer": TokenizerSettings,
    }  # fmt: skip
    return list(by_name.get(names[-1] if names else "", RecipeSchema).model_fields)


def in_words(value: object) -> str:
    """A value as a letter shows it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if len(str(value)) < 60 else "something else"
