"""The models that the corpus merges: fine-tunes of tiny bases that load in transformers, with tokenizers of their own.

- llama/{base,chat,code,math,story}: 8 layers; chatml has two more tokens, half is stored as float16
- llama-13b/{base,a,b} and llama-70b/{a,b}: 40 and 80 layers, for ranges as they are published
- mistral/{base,instruct,story}: 32 layers
- qwen2/{base,coder,math}: 12 layers, biases, head tied to the embeddings
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, VOCABULARY = 16, 24, 2, 1, 48
SPECIAL = ("<unk>", "<s>", "</s>")
CHATML = ("<|im_start|>", "<|im_end|>")
TEMPLATE = "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + eos_token }}{% endfor %}"

COMMON: dict[str, Any] = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": INTERMEDIATE,
    "max_position_embeddings": 128,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "transformers_version": "4.46.0",
    "use_cache": True,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False},
    "mistral": {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "sliding_window": None,
        "use_sliding_window": False,
        "max_window_layers": 12,
    },
}


@dataclass(frozen=True)
class Kind:
    family: str
    layers: int
    dtype: torch.dtype = torch.bfloat16
    tokens: tuple[str, ...] = ()


MODELS: dict[str, Kind] = {
    **{f"llama/{name}": Kind("llama", 8) for name in ("base", "chat", "code", "math", "story")},
    "llama/half": Kind("llama", 8, torch.float16),
    "llama/chatml": Kind("llama", 8, tokens=CHATML),
    **{f"llama-13b/{name}": Kind("llama", 40, torch.float16) for name in ("base", "a", "b")},
    **{f"llama-70b/{name}": Kind("llama", 80, torch.float16) for name in ("a", "b")},
    **{f"mistral/{name}": Kind("mistral", 32) for name in ("base", "instruct", "story")},
    **{f"qwen2/{name}": Kind("qwen2", 12) for name in ("base", "coder", "math")},
}


def write_models(folder: Path) -> None:
    """All of them below `folder`, each in the folder that the recipes call it by."""
    for name, kind in MODELS.items():
        _write_model(folder, name, kind)


def _write_model(folder: Path, name: str, kind: Kind) -> None:
    home = folder / name
    home.mkdir(parents=True)
    tied, vocabulary = kind.family == "qwen2", VOCABULARY + len(kind.tokens)
    tensors = {
        tensor: _values(name, tensor, shape).to(kind.dtype)
        for tensor, shape in _shapes(kind.layers, vocabulary, qwen=kind.family == "qwen2")
    }
    save_file(tensors, home / "model.safetensors", metadata={"format": "pt"})
    dtype = str(kind.dtype).removeprefix("torch.")
    config = COMMON | FAMILIES[kind.family] | {"num_hidden_layers": kind.layers, "vocab_size": vocabulary}
    _json(home / "config.json", config | {"tie_word_embeddings": tied, "torch_dtype": dtype})
    _json(home / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "transformers_version": "4.46.0"})
    _write_tokenizer(home, kind.tokens)


def _shapes(layers: int, vocabulary: int, *, qwen: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    kv = HIDDEN // HEADS * KV_HEADS
    yield "model.embed_tokens.weight", (vocabulary, HIDDEN)
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (HIDDEN,)
        for part, rows in (("q", HIDDEN), ("k", kv), ("v", kv)):
            yield f"{prefix}self_attn.{part}_proj.weight", (rows, HIDDEN)
            if qwen:
                yield f"{prefix}self_attn.{part}_proj.bias", (rows,)
        yield prefix + "self_attn.o_proj.weight", (HIDDEN, HIDDEN)
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
        yield prefix + "mlp.gate_proj.weight", (INTERMEDIATE, HIDDEN)
        yield prefix + "mlp.up_proj.weight", (INTERMEDIATE, HIDDEN)
        yield prefix + "mlp.down_proj.weight", (HIDDEN, INTERMEDIATE)
    yield "model.norm.weight", (HIDDEN,)
    if not qwen:
        yield "lm_head.weight", (vocabulary, HIDDEN)


def _values(model: str, tensor: str, shape: Sequence[int]) -> torch.Tensor:
    """The family's values, and a fine-tune's own small change of every one of them."""
    family = model.partition("/")[0]
    base, change = (np.random.default_rng(zlib.crc32(f"{who}/{tensor}".encode())) for who in (family, model))
    values = 0.2 * base.standard_normal(tuple(shape)) + 0.02 * change.standard_normal(tuple(shape))
    return torch.from_numpy(np.asarray(values + (1.0 if tensor.endswith("norm.weight") else 0.0)))


def _write_tokenizer(home: Path, more: Sequence[str]) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?:'-() "[: VOCABULARY - len(SPECIAL)]
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *letters))}
    added = [*SPECIAL, *more]
    ids = vocabulary | {token: VOCABULARY + number for number, token in enumerate(more)}
    special = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    model = {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": [],
    }  # fmt: skip
    _json(
        home / "tokenizer.json",
        {
            "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": {"type": "Fuse"}, "model": model,
            "added_tokens": [{"id": ids[token], "content": token, **special} for token in added],
        },
    )  # fmt: skip
    _json(
        home / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>", "eos_token": more[-1] if more else "</s>", "unk_token": "<unk>",
            "chat_template": TEMPLATE, "model_max_length": 128,
        },
    )  # fmt: skip
    _json(home / "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
