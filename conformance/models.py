"""Tiny Llama-like models, made on the spot: near and far parents, tied and untied, float32 and bfloat16.

The bytes follow from the names alone: raw words of a counter-based generator and IEEE arithmetic, so that they are
the same for every version of numpy. Knows nothing of Lamina.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

HIDDEN, HEADS, KV_HEADS, MLP, VOCABULARY = 32, 4, 2, 48, 72
TOKENS = 64  # that the tokenizer knows; the rows beyond are padding
SPREAD = 0.1  # standard deviation of a matrix
UNTOUCHED = 0.1  # the share of elements that a fine-tune leaves as they are
F32, BF16 = "F32", "BF16"
FOLDERS = {F32: "f32", BF16: "bf16"}


@dataclass(frozen=True)
class Kind:
    """What a model is. `change` is the standard deviation of its distance from the family's base; None: unrelated."""

    change: float | None
    layers: int = 4
    tied: bool = False
    architecture: str = "llama"
    biases: bool = False
    broken: bool = False  # one element is not a number
    context: int = 64


# Names are those of the folders below f32/ and bf16/.
MODELS: dict[str, Kind] = {
    "base": Kind(0.0),
    "near_a": Kind(0.01),
    "near_b": Kind(0.01),
    "light": Kind(0.001),
    "far": Kind(None),
    "deep": Kind(0.01, layers=6),
    "long": Kind(0.01, context=128),
    "tied_base": Kind(0.0, tied=True),
    "tied_a": Kind(0.01, tied=True),
    "tied_b": Kind(0.01, tied=True),
    "broken": Kind(0.01, broken=True),
    "biased_a": Kind(0.01, biases=True),
    "biased_b": Kind(0.01, biases=True),
    "qwen": Kind(0.0, architecture="qwen2", biases=True),
    "qwen_a": Kind(0.01, architecture="qwen2", biases=True),
}


def write_models(folder: Path) -> None:
    """All of them, each in both dtypes, as `f32/base` and so on."""
    for dtype, parent in FOLDERS.items():
        for name, kind in MODELS.items():
            home = folder / parent / name
            home.mkdir(parents=True)
            tensors = {tensor: rounded(values, dtype) for tensor, values in _tensors(name, kind)}
            write_safetensors(home / "model.safetensors", tensors, dtype)
            _write_json(home / "config.json", _config(kind, dtype))
            _write_tokenizer(home)


def shapes(kind: Kind) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of a model, by name."""
    kv = HIDDEN // HEADS * KV_HEADS
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(kind.layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (HIDDEN,)
        for part, rows in (("q", HIDDEN), ("k", kv), ("v", kv)):
            yield f"{prefix}self_attn.{part}_proj.weight", (rows, HIDDEN)
            if kind.biases:
                yield f"{prefix}self_attn.{part}_proj.bias", (rows,)
        yield prefix + "self_attn.o_proj.weight", (HIDDEN, HIDDEN)
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
        yield prefix + "mlp.gate_proj.weight", (MLP, HIDDEN)
        yield prefix + "mlp.up_proj.weight", (MLP, HIDDEN)
        yield prefix + "mlp.down_proj.weight", (HIDDEN, MLP)
    yield "model.norm.weight", (HIDDEN,)
    if not kind.tied:
        yield "lm_head.weight", (VOCABULARY, HIDDEN)


def _tensors(name: str, kind: Kind) -> Iterator[tuple[str, Array]]:
    for tensor, shape in shapes(kind):
        centre = 1.0 if tensor.endswith("norm.weight") else 0.0
        spread = SPREAD / 5 if centre else SPREAD
        if kind.change is None:
            values = spread * _normal(f"{name}/{tensor}", shape)
        else:
            values = spread * _normal(f"family/{tensor}", shape)
            change = kind.change * _normal(f"{name}/{tensor}", shape)
            values += np.where(_uniform(f"{name}/{tensor}/kept", shape) < UNTOUCHED, 0.0, change)
        values += centre
        if kind.broken and tensor == "model.layers.1.mlp.up_proj.weight":
            values[3, 5] = np.nan
        yield tensor, values


def _words(key: str, count: int) -> NDArray[np.uint64]:
    return np.random.Philox(key=zlib.crc32(key.encode())).random_raw(count)


def _uniform(key: str, shape: tuple[int, ...]) -> Array:
    values: Array = (_words(key, int(np.prod(shape))) >> np.uint64(32)).astype(np.float64).reshape(shape) / 2.0**32
    return values


def _normal(key: str, shape: tuple[int, ...]) -> Array:
    """Nearly normal values: a sum of four uniform ones, which only adds and divides."""
    words = _words(key, int(np.prod(shape)))
    parts = words.view(np.uint16).reshape(-1, 4).astype(np.float64).sum(axis=1)
    values: Array = ((parts - 2 * 65535) / (65535 * 0.5773502691896258)).reshape(shape)  # the square root of 1/3
    return values


def _config(kind: Kind, dtype: str) -> dict[str, Any]:
    qwen = kind.architecture == "qwen2"
    own: dict[str, Any] = (
        {"layer_types": ["full_attention"] * kind.layers, "use_sliding_window": False}
        if qwen
        else {"attention_bias": kind.biases, "mlp_bias": False}
    )
    return own | {
        "architectures": ["Qwen2ForCausalLM" if qwen else "LlamaForCausalLM"],
        "model_type": kind.architecture,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": MLP,
        "max_position_embeddings": kind.context,
        "num_attention_heads": HEADS,
        "num_hidden_layers": kind.layers,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": kind.tied,
        "torch_dtype": {F32: "float32", BF16: "bfloat16"}[dtype],
        "vocab_size": VOCABULARY,
    }


def _write_tokenizer(home: Path) -> None:
    special = ("<unk>", "<s>", "</s>")
    letters = [chr(ord("!") + number) for number in range(TOKENS - len(special))]
    vocabulary = {token: number for number, token in enumerate((*special, *letters))}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    model = {"type": "BPE", "unk_token": "<unk>", "vocab": vocabulary, "merges": []}
    added = [{"id": vocabulary[token], "content": token, **flags} for token in special]
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    _write_json(home / "tokenizer.json", {"version": "1.0", "added_tokens": added, "model": model})
    _write_json(
        home / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **names}
    )
    _write_json(home / "special_tokens_map.json", names)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


# Files of tensors


def rounded(values: Array, dtype: str) -> Array:
    """float64 as it is stored: float32, or the upper half of one as uint16, rounded to nearest even."""
    single: Array = values.astype(np.float32)
    if dtype == F32:
        return single
    bits = single.view(np.uint32)
    half: Array = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    half[np.isnan(single)] = 0x7FC0
    return half


def write_safetensors(path: Path, tensors: Mapping[str, Array], dtype: str) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, values in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in tensors.values()))


@dataclass(frozen=True)
class Checkpoint:
    """What lies in a folder: each tensor in float64, and the dtype in which it is stored; the config."""

    tensors: Mapping[str, Array]
    dtypes: Mapping[str, str]
    config: Mapping[str, Any]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Every tensor of a folder's one file of tensors, which holds float32 or bfloat16."""
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        raw = np.frombuffer(content[start:end], {F32: np.float32, BF16: np.uint16}[entry["dtype"]])
        single = raw if entry["dtype"] == F32 else (raw.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = single.astype(np.float64).reshape(entry["shape"])
    config = json.loads((folder / "config.json").read_text())
    return Checkpoint(tensors, {name: entry["dtype"] for name, entry in header.items()}, config)
