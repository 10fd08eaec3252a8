"""What config.json says that weights compute, each value under one name, however it is spelled.

Transformers 4 writes `rope_theta` and `rope_scaling`, transformers 5 `rope_parameters`; models call the same
thing `hidden_act` or `activation_function`. Two configs are compared by what they mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lamina.architectures.infer import text_config

# A merge has one of each: layers that want another do not fit beside the donor's.
SHARED = (
    "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size", "activation",
    "rope_type",
)  # fmt: skip

# Under one name the spellings of it, the one that counts first.
_SPELLINGS: Mapping[str, Sequence[str]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim"),
    "norm eps": ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"),
    "max_position_embeddings": ("max_position_embeddings", "n_positions"),
}

# Taken as they are written, and compared where both models write them.
_PLAIN = (
    "model_type", "architectures", "query_pre_attn_scalar", "attention_multiplier", "scale_depth", "dim_model_base",
    "logit_scale", "use_parallel_residual", "parallel_attn", "use_qk_norm", "num_experts_per_tok", "norm_topk_prob",
    "routed_scaling_factor", "scoring_func", "attn_temperature_tuning",
)  # fmt: skip

# What a value is where a model does not write it: nothing is capped, scaled or cut off. 10000 is the theta of
# all models that leave it unsaid and have no default of their own.
_NEUTRAL: Mapping[str, object] = {
    "attn_logit_softcapping": None, "final_logit_softcapping": None, "clip_qkv": None, "attention_chunk_size": None,
    "residual_multiplier": 1.0, "embedding_multiplier": 1.0, "logits_scaling": 1.0, "scale_emb": 1.0,
}  # fmt: skip
_USUAL_THETA = 10_000.0

# Names of one and the same function.
_ACTIVATIONS = {"swish": "silu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
_ROPE_TYPES = {"su": "longrope"}


def config_values(config: Mapping[str, Any]) -> dict[str, object]:
    """The values that decide what the weights compute. What is not written and not implied is left out."""
    text = text_config(config)
    values: dict[str, object] = {key: text[key] for key in _PLAIN if text.get(key) is not None}
    for name, spellings in _SPELLINGS.items():
        written = next((text[key] for key in spellings if text.get(key) is not None), None)
        if written is not None:
            values[name] = written
    values |= _heads(text, values)
    values |= {key: neutral if text.get(key) is None else text[key] for key, neutral in _NEUTRAL.items()}
    values["sliding_window"] = None if text.get("use_sliding_window") is False else text.get("sliding_window")
    if (activation := _activation(text)) is not None:
        values["activation"] = activation
    values |= dict(_rope(text))
    return values


def spelled(key: str, config: Mapping[str, Any]) -> str:
    """A value's name as this config.json writes it."""
    text = text_config(config)
    return next((name for name in _SPELLINGS.get(key, ()) if text.get(name) is not None), key)


def _heads(text: Mapping[str, Any], values: Mapping[str, object]) -> dict[str, object]:
    """Each query head has its own keys, and heads share the width, where nothing else is said."""
    heads, width = values.get("num_attention_heads"), values.get("hidden_size")
    found = {"num_key_value_heads": text.get("num_key_value_heads") or heads, "head_dim": text.get("head_dim")}
    if found["head_dim"] is None and isinstance(heads, int) and isinstance(width, int) and heads > 0:
        found["head_dim"] = width // heads
    return {name: value for name, value in found.items() if value is not None}


def _activation(text: Mapping[str, Any]) -> str | None:
    keys = ("hidden_activation", "hidden_act", "activation_function", "activation")
    written = next((text[key] for key in keys if isinstance(text.get(key), str)), None)
    if written == "gelu" and str(text.get("model_type")).startswith("gemma"):
        return "gelu_tanh"  # Gemma's first configs say gelu and mean this
    return None if written is None else _ACTIVATIONS.get(written, written)


def _rope(text: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Rotary embeddings: for all layers, or for each kind of layer (`rope_theta of sliding_attention`)."""
    raw = text.get("rope_parameters") or text.get("rope_scaling")
    written: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    is_flat = any(key in written for key in ("rope_type", "type", "rope_theta"))
    kinds = {kind: part for kind, part in written.items() if isinstance(part, Mapping) and not is_flat}
    local = text.get("rope_local_base_freq")
    if not kinds and local is not None:  # Gemma 3 in transformers 4: scaling is for full attention alone
        kinds = {"full_attention": written, "sliding_attention": {"rope_theta": local}}
    if not kinds:
        yield from _rope_of(written, text, "")
    for kind, part in kinds.items():
        yield from _rope_of(part, text, f" of {kind}")


def _rope_of(part: Mapping[str, Any], text: Mapping[str, Any], of: str) -> Iterator[tuple[str, object]]:
    kept = {key: value for key, value in part.items() if value is not None}
    kind = str(kept.pop("rope_type", None) or kept.pop("type", None) or "default")
    kept.pop("type", None)
    theta = kept.pop("rope_theta", None) or text.get("rope_theta") or text.get("rotary_emb_base")
    rotated = kept.pop("partial_rotary_factor", None) or next(
        (text[key] for key in ("partial_rotary_factor", "rotary_pct", "rope_pct") if text.get(key) is not None), 1.0
    )
    original = text.get("original_max_position_embeddings")
    if kind == "default" or (kind == "linear" and kept.get("factor") == 1):
        kind = "default"  # whatever else is written there counts for nothing
        kept = {key: value for key, value in kept.items() if key == "mrope_section"}
    elif original is not None:
        kept.setdefault("original_max_position_embeddings", original)
    yield f"rope_type{of}", _ROPE_TYPES.get(kind, kind)
    yield f"rope_theta{of}", theta or _USUAL_THETA
    yield f"partial_rotary_factor{of}", rotated
    yield f"rope scaling{of}", kept or None
