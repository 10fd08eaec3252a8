"""What cannot be read off tensor names: small records for the exceptions."""

from __future__ import annotations

# Where config.json keeps the number of layers, the usual name first.
DEPTH_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")

# The output head of a tied model is in no file; this is what it is called once it is written.
HEAD_NAMES = {"gpt_neox": "embed_out.weight"}
USUAL_HEAD_NAME = "lm_head.weight"

# Scalars of config.json that decide a layer's kind by its index. While they hold what stands here, or are
# absent, they decide nothing; with any other value moved layers would change their kind.
INDEX_SCALARS: dict[str, tuple[object, ...]] = {
    "first_k_dense_replace": (0, None),
    "num_dense_layers": (0, None),
    "decoder_sparse_step": (1, None),
    "moe_layer_start_index": (0, None),
    "moe_layer_interval": (1, None),
    "interleave_moe_layer_step": (1, None),
    "expert_layer_period": (1, None),
    "attn_layer_period": (1, None),
    "num_kv_shared_layers": (0, None),
    "rescale_every": (0, None),
    "num_mem_blocks": (None,),
    "n_layers_per_attn_res_block": (None,),
    "num_nextn_predict_layers": (0, None),
    "num_mtp_layers": (0, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "full_attention_interval": (1, None),
    "global_attn_every_n_layers": (1, None),
    "layer_group_size": (1, None),
    "hidden_size_per_layer_input": (0, None),
}

# Scalars that only say how `layer_types` (or `no_rope_layers`) is made where it is not written out.
DERIVING_SCALARS = ("sliding_window_pattern", "_sliding_window_pattern", "no_rope_layer_interval")

# Keys that name layers by number.
INDEX_LISTS = (
    "mlp_only_layers", "moe_layers", "full_attn_idxs", "attn_layer_indices", "per_layer_config",
    "cross_attention_layers", "kv_source_layers", "ple_layer_ids", "local_layer_ids", "rope_scaling_layers",
    "linear_attn_config",
)  # fmt: skip

# Model types whose layers differ in kind by default, where config.json says nothing.
IMPLICIT_LAYER_KINDS = (
    "afmoe", "bamba", "cohere2", "cohere2_moe", "exaone4", "exaone_moe", "falcon_h1", "gemma2", "gemma3",
    "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gpt_neo", "gpt_oss", "granitemoehybrid",
    "jamba", "lfm2", "lfm2_moe", "llama4", "llama4_text", "minimax", "ministral", "modernbert-decoder",
    "nemotron_h", "olmo3", "olmo_hybrid", "qwen3_5", "qwen3_5_text", "qwen3_next", "recurrent_gemma", "smollm3",
    "vaultgemma",
)  # fmt: skip

# Model types whose arithmetic depends on a layer's index, whatever the config says.
INDEX_IN_ARITHMETIC = ("diffllama", "rwkv", "gpt_neox_japanese", "zamba", "zamba2")
