"""Which layers do nothing once the matrices that they end in are zero: those whose blocks only add to the stream.

A block that is added gives x + f(norm(x)); with the last matrix of f and its bias at zero that is x, to the bit,
also where a norm without a bias stands between f and the sum. It is not x where the sum itself goes through a norm,
or where the stream is multiplied on the way. Names of tensors do not tell one from the other, so what stands here was
measured: tiny random models of the classes of transformers 5.23, grown, and their logits compared for equality in fp32
(`tests/architectures/test_identity.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lamina.architectures.infer import text_config
from lamina.architectures.roles import OUTPUTS, Role, role_of

# Model types that were found to keep every logit.
ADDING = frozenset(
    """
    afmoe apertus arcee aria_text axk1 axk2 bailing_hybrid bamba bigbird_pegasus biogpt bitnet blenderbot bloom codegen
    cohere cohere2 cohere2_moe cohere_compass_text cpmant ctrl cwm dbrx deepseek_v2 deepseek_v3 deepseek_v32 dots1
    dots3_note dots3_note_text emu3 emu3_text_model ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon falcon_h1
    falcon_mamba flex_olmo flint fuyu gemma gemma2 gemma3 gemma3_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa
    got_ocr2 gpt-sw3 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss gptj granite granite_swa granitemoe granitemoe_swa
    granitemoehybrid granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe hy_v3 hyperclovax internlm3 iquestcoder
    jais2 jamba jetmoe kimi_linear kolibri1 laguna lfm2 lfm2_moe lfm3 llama llama4 llama4_text mamba mamba2 mbart
    megatron-bert mellum mimo_v2_flash minicpm3 minimax_m2 ministral ministral3 mistral mixtral mllama mllama_text_model
    modernbert-decoder moshi moss_transcribe_diarize mpt musicgen musicgen_decoder musicgen_melody
    musicgen_melody_decoder nanochat nemotron nemotron_h olmo olmo2 olmo3 olmo_hybrid olmoe opt pegasus persimmon phi
    phi3 phi4_multimodal phimoe qwen2 qwen2_moe qwen3 qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_moe
    qwen3_next qwen4_exp qwen4_exp_text recurrent_gemma roberta-prelayernorm seed_oss smollm3 solar_open stablelm
    starcoder2 vaultgemma whisper xglm xlm-roberta-xl xlstm youtu
    """.split()  # noqa: SIM905 (a list of strings is four times as long)
)

_NORMED = "the sum of stream and block goes through a norm, so that a layer changes what it is given whatever it adds"
_SCALED = "a layer multiplies the stream by numbers of its own, so that it changes what it is given whatever it adds"
_ROUNDED = "a layer that adds nothing changes the last digits of what it is given"
_STREAMS = "there are several streams, which every layer mixes"
_INDEXED = "layers compute with their own index: a layer that is moved is another function"

# Model types of which it was found that they do not.
NOT_ADDING: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "bart", "bert", "bert-generation", "big_bird", "blenderbot-small", "camembert", "data2vec-text",
            "electra", "ernie", "git", "marian", "mvp", "openai-gpt", "plbart", "prophetnet", "rembert", "roberta",
            "roc_bert", "roformer", "trocr", "xlm", "xlm-roberta", "xlnet", "xmod",
        ),
        _NORMED,
    ),
    **dict.fromkeys(
        ("beam", "doge", "gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text", "minimax", "zaya"), _SCALED
    ),
    **dict.fromkeys(("diffllama", "gpt_neox_japanese", "zamba", "zamba2"), _INDEXED),
    **dict.fromkeys(("deepseek_v4", "gemma3n", "gemma3n_text", "reformer"), _STREAMS),
    **dict.fromkeys(("inkling_text", "minimax_m3_vl_text"), _ROUNDED),
    "longcat_flash": "some experts hand on what they are given, and add it whatever the weights are",
    "inkling2_text": "layers read what earlier layers gave, by their index",
    "rwkv": "the first layer norms the stream, and layers are rescaled by their index",
}  # fmt: skip

# Keys of config.json under which a type that adds does something else: the values with which it adds, and else why not.
_ADDING_VALUES: Mapping[str, tuple[tuple[object, ...], str]] = {
    "apply_residual_connection_post_layernorm": ((False, None), "the stream goes on from behind a norm"),
    "do_layer_norm_before": ((True, None), _NORMED),
    "kv_source_layers": ((None,), "layers use the keys and values of others, among which a new one would stand"),
    "num_kv_shared_layers": ((0, None), "the last layers use the keys and values of others, and have to stay the last"),
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
    for key, (values, reason) in _ADDING_VALUES.items():
        if key in text and text[key] not in values:
            return f"with `{key}: {str(text[key]).lower()}` {reason}"
    if "shared" in (text.get("indexer_types") or ()):
        return "layers attend to what an earlier layer selected (`indexer_types`), and a new one between selects anew"
    if not any(kind in ADDING for kind in kinds):
        return f"it was never measured whether layers of {' / '.join(kinds) or 'this model'} only add to the stream"
    return None


def is_normed_behind(suffixes: Iterable[str]) -> bool:
    """True where a norm stands between a block's last matrix and the sum: a factor on the matrix is undone by it."""
    return any(_NORM_BEHIND.match(suffix) for suffix in suffixes)
