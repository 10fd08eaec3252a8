"""What config.json says of single layers travels with them; what cannot travel is refused with the reason."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.architectures.infer import text_config
from lamina.architectures.quirks import (
    DERIVING_SCALARS,
    IMPLICIT_LAYER_KINDS,
    INDEX_IN_ARITHMETIC,
    INDEX_LISTS,
    INDEX_SCALARS,
)

# Lists with one value a layer, which go with their layers.
PER_LAYER_LISTS = (
    "layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers", "layer_rope_theta",
    "swiglu_limits", "swiglu_limits_shared", "attn_type_list",
)  # fmt: skip

# Lists whose length can be the depth only by chance.
NOT_PER_LAYER = ("architectures", "bos_token_id", "eos_token_id", "pad_token_id", "keys_to_ignore_at_inference")


@dataclass(frozen=True)
class Origin:
    """Where an output layer comes from, as far as config.json is concerned: a config and a layer in it."""

    config: Mapping[str, Any]
    layer: int


def restacked_config(
    config: Mapping[str, Any], depth_key: Sequence[str], depth: int, origins: Sequence[Sequence[Origin]]
) -> tuple[dict[str, Any], list[str]]:
    """`config` for other layers, and a sentence for everything that stands in the way.

    `origins[j]` are the layers that output layer j is made of; their kinds must agree. `depth` is the number
    of layers that `config` itself describes. A stack that leaves every layer where it was changes nothing.
    """
    result = copy.deepcopy(dict(config))
    text = result["text_config"] if len(depth_key) > 1 else result
    text[depth_key[-1]] = len(origins)
    unmoved = _unmoved(origins, depth)
    problems = [] if unmoved else _refusals(text_config(config), depth)
    for key in PER_LAYER_LISTS:
        if _is_per_layer(text.get(key), depth):
            kinds = [[_kind(key, origin) for origin in layer] for layer in origins]
            problems += [
                f"output layer {index} blends layers of unlike `{key}`: {', '.join(map(str, layer))}."
                for index, layer in enumerate(kinds)
                if any(kind != layer[0] for kind in layer)
            ]
            if not unmoved:
                text[key] = [layer[0] for layer in kinds]
                for scalar in DERIVING_SCALARS:  # would say the same of the old layers
                    text.pop(scalar, None)
    return result, problems


def has_layer_kinds(config: Mapping[str, Any]) -> bool:
    """True where config.json, or the model type, says that layers are of several kinds."""
    text = text_config(config)
    return (
        any(text.get(key) for key in (*PER_LAYER_LISTS, *INDEX_LISTS))
        or any(key in text and text[key] not in harmless for key, harmless in INDEX_SCALARS.items())
        or text.get("model_type") in IMPLICIT_LAYER_KINDS
    )


def _kind(key: str, origin: Origin) -> object:
    kinds = text_config(origin.config).get(key)
    return kinds[origin.layer] if isinstance(kinds, list) and origin.layer < len(kinds) else None


def _unmoved(origins: Sequence[Sequence[Origin]], depth: int) -> bool:
    return len(origins) == depth and all(
        origin.layer == index for index, layer in enumerate(origins) for origin in layer
    )


def _refusals(config: Mapping[str, Any], depth: int) -> list[str]:
    """Why the layers of this model cannot be moved yet, one sentence a reason."""
    reasons = [
        f"`{key}: {config[key]}` in config.json decides a layer's kind by its index, which moved layers would lose."
        for key, harmless in INDEX_SCALARS.items()
        if key in config and config[key] not in harmless
    ]
    reasons += [
        f"`{key}` in config.json has one value a layer, and Lamina does not know how it moves with them."
        for key, value in config.items()
        if _looks_per_layer(key, value, depth)
    ]
    reasons += [
        f"`{key}` in config.json names layers by number, which moved layers would lose."
        for key in INDEX_LISTS
        if config.get(key)
    ]
    reasons += [
        f"`{key}: {config[key]}` in config.json says what kind a layer is by its index, and `layer_types` is not there."
        for key in DERIVING_SCALARS
        if config.get(key) not in (None, 1) and "layer_types" not in config and "no_rope_layers" not in config
    ]
    if config.get("use_sliding_window") and config.get("max_window_layers") is not None and "layer_types" not in config:
        reasons.append("`max_window_layers` in config.json says which layers slide, and `layer_types` is not there.")
    if config.get("model_type") in IMPLICIT_LAYER_KINDS and not any(config.get(key) for key in PER_LAYER_LISTS):
        reasons.append(
            f"layers of {config['model_type']} differ in kind by a rule that its config.json leaves unsaid; "
            "save the model with a current transformers, which writes `layer_types` out."
        )
    if config.get("model_type") in INDEX_IN_ARITHMETIC:
        reasons.append(
            f"layers of {config['model_type']} compute with their own index: moved, they are other functions."
        )
    return reasons


def _is_per_layer(value: object, depth: int) -> bool:
    return isinstance(value, list) and len(value) == depth


def _looks_per_layer(key: str, value: object, depth: int) -> bool:
    return key not in (*PER_LAYER_LISTS, *INDEX_LISTS, *NOT_PER_LAYER) and depth > 1 and _is_per_layer(value, depth)
