"""Which layers do nothing once the matrices that they end in are zero: those whose blocks only add to the stream.

A block that is added gives x + f(norm(x)); with the last matrix of f and its bias at zero that is x, to the bit,
also where a norm without a bias stands between f and the sum. It is not x where the sum itself goes through a norm,
or where the stream is multiplied on the way. Names of tensors do not tell one from the other, so what stands here was
measured: tiny random models of the classes of transformers 5.23, the outputs of every kind of layer at zero, the
stream before and after each layer compared for equality (`tests/architectures/test_identity.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lamina.architectures.infer import text_config
from lamina.architectures.roles import OUTPUTS, Role, role_of

# Model types of which every kind of layer was found to leave the stream as it is.
ADDING = frozenset(
    """
    afmoe apertus arcee aria_text biogpt bitnet bloom codegen cohere cohere2 cohere2_moe cpmant ctrl cwm emu3 ernie4_5
    ernie4_5_moe exaone4 exaone_moe falcon falcon_h1 falcon_mamba flex_olmo flint fuyu gemma gemma2 gemma3 gemma3_text
    glm glm4 glm4_moe gpt-sw3 gpt2 gpt_bigcode gpt_neox gpt_oss gptj granite granite_swa granitemoe granitemoe_swa
    granitemoeshared helium hy_v3 hy_v4 hyperclovax inkling_text internlm3 iquestcoder jais2 jamba jetmoe kolibri1
    laguna lfm2 lfm3 llama llama4 llama4_text mamba megatron-bert mellum mimo_v2_flash minimax_m2 minimax_m3_vl_text
    ministral3 mistral mixtral mllama modernbert-decoder moshi moss_transcribe_diarize mpt nanochat nemotron_h olmo
    olmo2 olmo3 olmo_hybrid olmoe opt persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_5 qwen3_5_moe
    qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next recurrent_gemma roberta-prelayernorm seed_oss smollm3 solar_open
    stablelm starcoder2 vaultgemma xglm xlm-roberta-xl
    """.split()  # noqa: SIM905 (a list of strings is four times as long)
)

_NORMED = "the sum of stream and block goes through a norm, so that a layer changes what it is given whatever it adds"
_SCALED = "a layer multiplies the stream by numbers of its own, so that it changes what it is given whatever it adds"
_INDEXED = "layers compute with their own index: a layer that is moved is another function"

# Model types of which it was found that they do not.
NOT_ADDING: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "openai-gpt",
            "rembert", "roberta", "roc_bert", "roformer", "trocr", "xlm", "xlm-roberta", "xlnet", "xmod",
        ),
        _NORMED,
    ),
    **dict.fromkeys(
        ("doge", "gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text", "minimax", "zaya"), _SCALED
    ),
    **dict.fromkeys(("diffllama", "gpt_neox_japanese", "zamba", "zamba2"), _INDEXED),
    "beam": "what a layer does to the stream depends on where it stands",
    "deepseek_v4": "the stream is several streams, which every layer mixes",
    "gemma3n": "the stream is several streams, which every layer mixes",
    "gemma3n_text": "the stream is several streams, which every layer mixes",
    "inkling2_text": "layers read what earlier layers gave, by their index",
    "rwkv": "the first layer norms the stream, and layers are rescaled by their index",
}  # fmt: skip

# Keys of config.json under which a type that adds does something else, and the values with which it adds.
_ADDING_VALUES: Mapping[str, tuple[object, ...]] = {
    "apply_residual_connection_post_layernorm": (False, None),  # BLOOM, Falcon: the stream goes on from behind a norm
    "do_layer_norm_before": (True, None),  # OPT
    "num_kv_shared_layers": (0, None),  # Gemma: the last layers read keys and values of others
}

_NORM_BEHIND = re.compile(r"^post_(feedforward|mlp|ffn|ff)_?(layer)?norm|^post_self_attn_layernorm")


def outputs_of(suffixes: Iterable[str]) -> tuple[str, ...]:
    """Of a layer's tensors those that its blocks end in, biases included: zero them and it adds nothing."""
    return tuple(suffix for suffix in suffixes if role_of(suffix) in (*OUTPUTS, Role.OUTPUT_BIAS))


def why_no_identity(config: Mapping[str, Any]) -> str | None:
    """Why a layer of this model changes the stream although its outputs are zero; None where it does not."""
    text = text_config(config)
    kinds = list(dict.fromkeys(str(each["model_type"]) for each in (text, config) if "model_type" in each))
    for kind in kinds:
        if kind in NOT_ADDING:
            return f"in {kind} {NOT_ADDING[kind]}"
    for key, values in _ADDING_VALUES.items():
        if key in text and text[key] not in values:
            return f"with `{key}: {str(text[key]).lower()}` a layer changes the stream whatever it adds"
    if not any(kind in ADDING for kind in kinds):
        return f"it was never measured whether layers of {' / '.join(kinds) or 'this model'} only add to the stream"
    return None


def is_normed_behind(suffixes: Iterable[str]) -> bool:
    """True where a norm stands between a block's last matrix and the sum: a factor on the matrix is undone by it."""
    return any(_NORM_BEHIND.match(suffix) for suffix in suffixes)
