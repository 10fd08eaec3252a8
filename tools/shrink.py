"""Make a tiny random instance of any causal-LM class of the installed transformers.

A class's own defaults are kept; what makes a model big is replaced by name (`SIZES`), and what is left to a
class's peculiarities by type (`OVERRIDES`). No parameter stays at zero or one, so that nothing can hide in it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

HIDDEN, HEAD, HEADS, WINDOW, VOCABULARY, DEPTH, TOWER_DEPTH = 64, 16, 4, 8, 128, 6, 3
PROMPT = 24  # tokens: three windows

# What every spelling of a size becomes. A key that a config does not have, or has as None, stays away.
_SIZES_BY_VALUE: Mapping[int, tuple[str, ...]] = {
    DEPTH: (
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers", "num_blocks",
        "encoder_layers", "num_encoder_layers",
    ),
    HIDDEN: (
        "hidden_size", "d_model", "n_embd", "word_embed_proj_dim", "emb_dim", "embedding_dim", "embedding_size",
        "attention_hidden_size", "lru_width", "hidden_size_global", "backbone_hidden_size", "input_embedding_size",
        "output_embedding_size", "mamba_d_ssm",
    ),
    96: (
        "intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_hidden_size", "dim_ff", "dff",
        "feed_forward_size", "d_inner", "shared_intermediate_size", "intermediate_size_mlp", "d_ff",
        "dense_intermediate_size",
    ),
    48: (
        "moe_intermediate_size", "shared_expert_intermediate_size", "shared_experts_intermediate_size",
        "expert_ffn_hidden_size", "moe_shared_expert_intermediate_size",
    ),
    24: ("encoder_hash_byte_group_vocab",),
    HEAD: (
        "head_dim", "dim_head", "d_head", "kv_channels", "attention_head_size", "v_head_dim", "qk_nope_head_dim",
        "index_head_dim", "linear_key_head_dim", "linear_value_head_dim", "linear_head_dim", "swa_head_dim",
        "mamba_d_head", "qk_rope_head_dim", "query_pre_attn_scalar", "d_kv", "kv_lora_rank", "q_lora_rank",
        "o_lora_rank", "mamba_head_dim", "mamba_headdim", "hc_lowrank", "pronunciation_embed_dim", "shape_embed_dim",
    ),
    8: (
        "sliding_window", "window_size", "local_attention", "sliding_window_size", "attention_window_size",
        "attention_chunk_size", "state_size", "ssm_state_size", "mamba_d_state", "rotary_dim",
        "time_step_rank", "mamba_dt_rank", "chunk_size", "mamba_chunk_size", "rel_extent", "index_topk", "d_rel",
        "gated_norm_rank", "laurel_rank", "adapter_rank", "router_hidden_size", "hidden_size_per_layer_input",
        "local_attn_chunk_length", "lsh_attn_chunk_length", "floor_scale", "block_size", "mamba_n_heads",
        "mamba_num_heads", "n_mamba_heads", "ple_embed_dim", "keep_window_size", "index_block_size",
    ),
    HEADS: (
        "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "attention_heads",
        "encoder_attention_heads", "num_decoder_attention_heads", "num_encoder_attention_heads", "linear_num_heads",
        "linear_num_value_heads", "index_n_heads", "swa_num_attention_heads", "num_experts", "num_local_experts",
        "n_routed_experts", "moe_num_experts",
    ),
    2: (
        "num_key_value_heads", "kv_n_heads", "num_kv_heads", "swa_num_key_value_heads", "num_experts_per_tok",
        "num_experts_per_token", "moe_topk", "moe_k", "moe_top_k", "linear_num_key_heads", "n_group",
        "num_expert_group",
        "depth", "global_attn_every_n_layers", "no_rope_layer_interval",
        "o_groups", "num_query_groups", "n_groups", "zero_expert_num", "heads_per_ngram", "index_topk_blocks",
        "n_layers_per_attn_res_block", "hc_mult", "hc_count", "hc_sinkhorn_iters", "altup_num_inputs", "mamba_ngroups",
    ),
    1: (
        "first_k_dense_replace", "num_dense_layers", "topk_group", "n_shared_experts", "num_shared_experts",
        "moe_num_shared_experts", "num_logits_to_keep", "moe_layer_start_index",
    ),
    VOCABULARY: (
        "vocab_size", "vocab_size_per_layer_input", "decoder_vocab_size", "unpadded_vocab_size", "audio_vocab_size",
        "pronunciation_vocab_size", "shape_vocab_size",
    ),
    256: ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length", "max_target_positions"),
}  # fmt: skip
SIZES = {key: value for value, keys in _SIZES_BY_VALUE.items() for key in keys}

# Ids beyond a tiny vocabulary. None of them is met in the prompt.
TOKEN_IDS = {"pad_token_id": 0, "bos_token_id": 1, "decoder_start_token_id": 1, "eos_token_id": 2, "sep_token_id": 3}

_MIXED = [
    "full_attention",
    "sliding_attention",
    "sliding_attention",
    "full_attention",
    "sliding_attention",
    "full_attention",
]
_RECURRENT = [
    "linear_attention",
    "linear_attention",
    "full_attention",
    "linear_attention",
    "full_attention",
    "linear_attention",
]
_CONVOLVED = ["conv", "conv", "full_attention", "conv", "full_attention", "conv"]
_SHARED_BLOCKS = ["linear_attention", "hybrid", "linear_attention", "linear_attention", "hybrid", "linear_attention"]
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_KV_SHARED = {"layer_types": ["sliding_attention", "full_attention"] * 3, "num_kv_shared_layers": 2}
_INDEXER = {
    "indexer_n_heads": HEADS, "indexer_kv_heads": 1, "indexer_head_dim": HEAD, "indexer_budget": WINDOW,
    "indexer_compress_ratio": 2,
}  # fmt: skip
_WINDOWED = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}

# What the sizes leave to a class: kinds of layers that its defaults do not show at this depth, values that must
# fit each other, arguments without a default.
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"attn_layer_indices": [2, 4]},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE},
        "layer_types": _MIXED,
        "sliding_window": WINDOW,
    },
    "dbrx": {"rope_parameters": _ROPE, "attn_config": {"rope_theta": 10_000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots1": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "layer_types": _MIXED,
        "sliding_window": WINDOW,
    },
    "dots3_note": {
        "text_config": {"head_dim": 2 * HEAD},
        "vision_config": {"adapter_in_dim": HIDDEN, "adapter_out_dim": HIDDEN},
        "audio_config": {"adapter_input_size": HIDDEN, "adapter_out_dim": HIDDEN},
    },
    "dots3_note_text": {"head_dim": 2 * HEAD},
    "ernie4_5_moe": {"moe_layer_end_index": 5},
    "gemma3n_text": {
        **_KV_SHARED,
        "activation_sparsity_pattern": [0.9, 0.9, 0.0, 0.0, 0.0, 0.0],
        "intermediate_size": 96,
    },
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
    "gemma4_text": _KV_SHARED,
    "glm_moe_dsa": {"indexer_types": ["full", "full", "shared", "full", "shared", "shared"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 3]]},
    "granitemoehybrid": {"layer_types": _RECURRENT},
    "hunyuan_v1_dense": {"head_dim": HEAD},
    "hunyuan_v1_moe": {"head_dim": HEAD},
    "laguna": {"layer_types": _MIXED, "sliding_window": WINDOW, "num_attention_heads_per_layer": [4, 8, 4, 8, 8, 4]},
    "lfm2": {"layer_types": _CONVOLVED, "full_attn_idxs": [2, 4]},
    "lfm2_moe": {"layer_types": _CONVOLVED},
    "llama4": {"text_config": {"interleave_moe_layer_step": 2}},
    "llama4_text": {"interleave_moe_layer_step": 2},
    "mamba2": {"num_heads": 8, "head_dim": HEAD},
    "mellum": {"layer_types": _MIXED, "sliding_window": WINDOW, "mlp_layer_types": ["dense", "sparse"] * 3},
    "ministral": {"head_dim": HEAD, "layer_types": _MIXED},
    "mistral": {"sliding_window": WINDOW, "head_dim": HEAD},
    "mllama": {"text_config": {"cross_attention_layers": [1, 4]}},
    "musicgen": {"decoder": {"num_codebooks": 1, "audio_channels": 1}},
    "musicgen_melody": {"decoder": {"num_codebooks": 1, "audio_channels": 1}},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "linear_attention", "moe"]
    },
    "qwen2": _WINDOWED,
    "qwen3": _WINDOWED,
    "qwen2_moe": {**_WINDOWED, "decoder_sparse_step": 2},
    "qwen3_moe": {"mlp_only_layers": [0, 3]},
    "reformer": {"is_decoder": True, "axial_pos_embds": False, "hash_seed": 0},
    "xlm": {"causal": True},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "zamba": {
        "layers_block_type": _SHARED_BLOCKS,
        "attention_hidden_size": 2 * HIDDEN,
        "attention_head_dim": 2 * HEAD,
        "n_mamba_heads": 2,
    },
    "zamba2": {
        "layers_block_type": _SHARED_BLOCKS,
        "attention_hidden_size": 2 * HIDDEN,
        "attention_head_dim": 2 * HEAD,
    },
}


def causal_types() -> tuple[str, ...]:
    """Every model type that AutoModelForCausalLM knows, sorted."""
    return tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


def tiny_config(model_type: str, over: Mapping[str, Any] | None = None) -> Any:
    """The config of a tiny model, with the values of `over`. Raises what the class raises where they do not fit it."""
    kind = CONFIG_MAPPING[model_type]
    try:
        defaults = kind().to_dict()
    except Exception:  # a class whose defaults contradict each other: only its overrides count
        defaults = {}
    return kind(**_merged(_shrunk(defaults), {**OVERRIDES.get(model_type, {}), **(over or {})}))


def tiny_model(model_type: str, over: Mapping[str, Any] | None = None) -> Any:
    """A tiny random model in fp32, ready to run on the CPU; `over` are values of its config."""
    torch.manual_seed(0)
    model = from_config(causal_class(model_type), tiny_config(model_type, over))
    randomise(model)
    return model.eval()


def causal_class(model_type: str) -> Any:
    """The class that AutoModelForCausalLM makes of this type."""
    names: Mapping[str, str] = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return getattr(transformers, names[model_type])


def from_config(kind: Any, config: Any) -> Any:
    """A new model of a class, in fp32 and with the attention whose sums are written out.

    A class that is one part of a composite model takes that part's config; one that stands for several types the
    config of each.
    """
    part = next((each for each in (config, *vars(config).values()) if isinstance(each, kind.config_class)), config)
    return kind._from_config(copy.deepcopy(part), attn_implementation="eager", dtype=torch.float32)


def randomise(model: torch.nn.Module) -> None:
    """Add noise to all that is stored: matrices keep the scale of what flows through them, vectors are told apart.

    Tables of numbers that a class leaves at zero, such as tokens' experts, get zeros and ones.
    """
    seen = set()
    with torch.no_grad():
        for tensor in model.state_dict(keep_vars=True).values():
            if tensor.data_ptr() in seen:
                continue
            seen.add(tensor.data_ptr())
            if tensor.is_floating_point():
                scale = 0.3 if tensor.ndim < 2 else 1 / math.sqrt(tensor.shape[-1])
                tensor.add_(torch.randn_like(tensor) * scale)
            elif tensor.ndim > 0 and tensor.dtype is not torch.bool and not tensor.any():
                tensor.copy_(torch.randint_like(tensor, 2))


def _shrunk(config: Mapping[str, Any], depth: int = DEPTH) -> dict[str, Any]:
    """The keys of `config` that have to be smaller, with their small values; nested configs likewise.

    Towers beside the decoder have another depth than it has.
    """
    small: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and (key.endswith("_config") or key in ("decoder", "encoder")):
            small[key] = _shrunk(value, depth if key in ("text_config", "decoder") else TOWER_DEPTH)
            if value.get("model_type"):
                small[key]["model_type"] = value["model_type"]
        elif key in TOKEN_IDS and value is not None:
            small[key] = TOKEN_IDS[key]
        elif key == "is_decoder":
            small[key] = True
        elif type(value) is int and key in SIZES:
            small[key] = min(value, depth if SIZES[key] == DEPTH else SIZES[key])
    if "kv_lora_rank" in small:
        small["num_key_value_heads"] = HEADS  # latent attention has keys for every head
    return small


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return {key: value for key, value in merged.items() if value is not ...}
