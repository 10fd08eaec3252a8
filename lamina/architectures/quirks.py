"""What cannot be read off tensor names: small tables for the exceptions."""

from __future__ import annotations

# Where config.json keeps the number of the decoder's layers; a decoder's own key before one that its encoder may use.
DEPTH_KEYS = (
    "decoder_layers", "num_decoder_layers", "num_blocks", "num_hidden_layers", "n_layer", "n_layers", "num_layers",
)  # fmt: skip

# Keys that say the depth once more.
DEPTH_TWINS = {"num_blocks": "num_hidden_layers", "layers_block_type": "num_hidden_layers"}

# A list that defines the depth where no number does (Nemotron-H).
DEPTH_LISTS = ("layers_block_type", "hybrid_override_pattern")

# Parts of config.json that may describe the decoder.
TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "decoder")

# How many layers for predicting further tokens a file may hold after the decoder's last, or under a name of their own.
NEXT_TOKEN_KEYS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "mtp_num_layers")

# The head of a tied model is in no file; this is what files call it where their model's class calls it otherwise.
HEAD_NAMES = {"gpt_neox": "embed_out.weight"}
USUAL_HEAD_NAME = "lm_head.weight"

# Lists side by side, each with a part of every layer, where others have one list of layers.
PARTS = {"xlm": ("attentions", "layer_norm1", "ffns", "layer_norm2")}

# A block that all layers of one kind share, and that files hold in the first of them alone.
SHARED_BLOCKS = {"zamba": "shared_transf"}

# Tensors that hold something of every layer side by side (Gemma 3n and 4), and the axis on which they do.
PACKED = {"embed_tokens_per_layer": -1, "per_layer_model_projection": 0}
