"""A Llama forward pass in numpy, in fp32: token ids in, logits out.

It exists so that a newcomer can score the bundled models, and merges of them, without installing a
deep-learning framework. It is written to be read and to be right: no cache, no sampling, no device, and
whatever it has not been checked against is refused. It knows nothing of text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.checkpoints.checkpoint import Checkpoint, open_checkpoint, read_json
from lamina.kernels.interface import STORAGE, Stored
from lamina.kernels.numpy_kernels import decode
from lamina.tensor_spec import Kind

Array = NDArray[np.float32]
Tokens = NDArray[np.int64]


def load_tiny_llama(folder: Path) -> TinyLlama:
    """The model of a checkpoint folder, all of it in memory as fp32."""
    config = read_json(folder / "config.json")
    with closing(open_checkpoint(folder)) as checkpoint:
        weights = {name: read_fp32(checkpoint, name) for name in checkpoint.specs}
    return build_tiny_llama(config, weights)


def build_tiny_llama(config: Mapping[str, Any], weights: Mapping[str, Array]) -> TinyLlama:
    """The model of a config.json and its tensors. ValueError for what this forward pass does not know."""
    shape = shape_of(config)
    check_weights(weights, shape)
    return TinyLlama(shape, weights)


@dataclass(frozen=True)
class LlamaShape:
    """What a forward pass needs of config.json."""

    vocabulary: int
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int  # fewer than heads: each serves a group of them (grouped-query attention)
    head_dim: int
    norm_epsilon: float
    rope_theta: float
    tied: bool  # the head is the embedding


@dataclass(frozen=True)
class TinyLlama:
    """A Llama whose weights lie in memory."""

    shape: LlamaShape
    weights: Mapping[str, Array]

    def logits(self, tokens: Tokens) -> Array:
        """Logits [rows, length, vocabulary] of token ids [rows, length].

        Rows of unequal length are padded on the right, with any id: attention looks back only, so padding
        cannot reach a position before it. What stands at the padded positions themselves means nothing.
        """
        weights, shape = self.weights, self.shape
        rope = rope_table(tokens.shape[1], shape)
        hidden = weights["model.embed_tokens.weight"][tokens]
        for layer in range(shape.layers):
            prefix = f"model.layers.{layer}."
            own = {name: weights[prefix + name] for name in layer_shapes(shape)}
            normed = rms_norm(hidden, own["input_layernorm.weight"], shape)
            hidden = hidden + attention(normed, own, rope, shape)
            normed = rms_norm(hidden, own["post_attention_layernorm.weight"], shape)
            hidden = hidden + mlp(normed, own)
        hidden = rms_norm(hidden, weights["model.norm.weight"], shape)
        head = weights["model.embed_tokens.weight" if shape.tied else "lm_head.weight"]
        return linear(hidden, head)


# The forward pass. Names of dimensions: b rows, t positions, d head_dim.


def rms_norm(hidden: Array, scale: Array, shape: LlamaShape) -> Array:
    mean_square = np.mean(np.square(hidden), axis=-1, keepdims=True)
    root: Array = np.sqrt(mean_square + np.float32(shape.norm_epsilon))
    return hidden / root * scale


def attention(hidden: Array, own: Mapping[str, Array], rope: tuple[Array, Array], shape: LlamaShape) -> Array:
    """Causal attention; one matrix product serves a KV head and the group of query heads that share it."""
    rows, length, _ = hidden.shape
    groups = shape.heads // shape.kv_heads

    def heads_of(name: str) -> Array:  # [b, heads, t, d]
        projected = linear(hidden, own[f"self_attn.{name}_proj.weight"])
        return projected.reshape(rows, length, -1, shape.head_dim).transpose(0, 2, 1, 3)

    queries, keys, values = rotate(heads_of("q"), rope), rotate(heads_of("k"), rope), heads_of("v")
    queries = queries.reshape(rows, shape.kv_heads, groups * length, shape.head_dim)

    scores = queries @ keys.transpose(0, 1, 3, 2) / np.float32(math.sqrt(shape.head_dim))
    future = np.triu(np.ones((length, length), dtype=bool), k=1)
    scores[:, :, np.tile(future, (groups, 1))] = -np.inf
    mixed = (softmax(scores) @ values).reshape(rows, shape.heads, length, shape.head_dim)
    return linear(mixed.transpose(0, 2, 1, 3).reshape(rows, length, -1), own["self_attn.o_proj.weight"])


def mlp(hidden: Array, own: Mapping[str, Array]) -> Array:
    """SwiGLU: the up projection, gated by silu(gate) = gate * sigmoid(gate)."""
    gate = linear(hidden, own["mlp.gate_proj.weight"])
    sigmoid = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * gate))  # this form cannot overflow
    return linear(gate * sigmoid * linear(hidden, own["mlp.up_proj.weight"]), own["mlp.down_proj.weight"])


def linear(hidden: Array, weight: Array) -> Array:
    product: Array = hidden @ weight.T
    return product


def softmax(scores: Array) -> Array:
    powers: Array = np.exp(scores - scores.max(axis=-1, keepdims=True))
    total: Array = powers.sum(axis=-1, keepdims=True)
    return powers / total


def rope_table(length: int, shape: LlamaShape) -> tuple[Array, Array]:
    """cos and sin, [t, d/2] each: per position, pair j turns by theta^(-2j/d).

    https://arxiv.org/abs/2104.09864, eq. 15.
    """
    turns = shape.rope_theta ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim)
    angles = np.outer(np.arange(length), turns).astype(np.float32)
    return np.cos(angles), np.sin(angles)


def rotate(heads: Array, rope: tuple[Array, Array]) -> Array:
    """Turn the pairs (x[j], x[j + d/2]): in Llama checkpoints the halves of a pair lie apart."""
    cos, sin = rope
    left, right = np.split(heads, 2, axis=-1)
    return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


# The door: what config.json and the tensors must be. What is not known here is refused, never passed over.

# Settings that change what a Llama computes, each with the one value known here; absent means the same.
KNOWN_SETTINGS: Mapping[str, object] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "quantization_config": None,
}


def shape_of(config: Mapping[str, Any]) -> LlamaShape:
    if config.get("model_type") != "llama":
        raise ValueError(f"this forward pass knows `model_type: llama`, not `{config.get('model_type')}`")
    for name, known in KNOWN_SETTINGS.items():
        if config.get(name, known) != known:
            found = json.dumps(config[name])
            raise ValueError(f"this forward pass knows no `{name}: {found}`, only `{json.dumps(known)}`")
    try:
        return LlamaShape(
            vocabulary=config["vocab_size"],
            hidden=config["hidden_size"],
            mlp=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
            head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
            norm_epsilon=config.get("rms_norm_eps", 1e-6),
            rope_theta=rope_theta_of(config),
            tied=config.get("tie_word_embeddings", False),
        )
    except KeyError as missing:
        raise ValueError(f"config.json has no {missing}, which a Llama needs") from None


def rope_theta_of(config: Mapping[str, Any]) -> float:
    """`rope_parameters` since transformers 5; `rope_theta` and `rope_scaling` before."""
    written = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope = {"rope_type": "default", "rope_theta": config.get("rope_theta", 10000.0), **written}
    if rope["rope_type"] != "default" or rope.keys() - {"rope_type", "rope_theta"}:
        raise ValueError(f"this forward pass knows rotary embeddings of `rope_type: default`, not {written}")
    return float(rope["rope_theta"])


def check_weights(weights: Mapping[str, Array], shape: LlamaShape) -> None:
    expected = tensor_shapes(shape)
    if missing := expected.keys() - weights.keys():
        raise ValueError(f"the tensor {min(missing)} is missing ({len(missing)} of {len(expected)} are)")
    if unknown := weights.keys() - expected.keys():
        raise ValueError(f"this forward pass has no place for {min(unknown)} ({len(unknown)} such tensors)")
    for name, dims in expected.items():
        if weights[name].shape != dims:
            raise ValueError(f"{name} has shape {weights[name].shape}; config.json asks for {dims}")


def tensor_shapes(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, shape.hidden)}
    for layer in range(shape.layers):
        shapes |= {f"model.layers.{layer}.{name}": dims for name, dims in layer_shapes(shape).items()}
    shapes["model.norm.weight"] = (shape.hidden,)
    if not shape.tied:
        shapes["lm_head.weight"] = (shape.vocabulary, shape.hidden)
    return shapes


def layer_shapes(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    """The tensors of one layer; a projection is stored [outputs, inputs]."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "input_layernorm.weight": (shape.hidden,),
        "self_attn.q_proj.weight": (queries, shape.hidden),
        "self_attn.k_proj.weight": (keys, shape.hidden),
        "self_attn.v_proj.weight": (keys, shape.hidden),
        "self_attn.o_proj.weight": (shape.hidden, queries),
        "post_attention_layernorm.weight": (shape.hidden,),
        "mlp.gate_proj.weight": (shape.mlp, shape.hidden),
        "mlp.up_proj.weight": (shape.mlp, shape.hidden),
        "mlp.down_proj.weight": (shape.hidden, shape.mlp),
    }


def read_fp32(checkpoint: Checkpoint, name: str) -> Array:
    """A float tensor as fp32; only float64 is rounded for it."""
    spec = checkpoint.specs[name]
    if spec.dtype.kind is not Kind.FLOAT:
        raise ValueError(f"{name} is stored as {spec.dtype}; this forward pass reads floating-point tensors")
    stored = np.frombuffer(checkpoint.read(name), dtype=STORAGE[spec.dtype])
    values = np.empty(spec.count, dtype=np.float32)
    decode(Stored(stored, spec.dtype), values)
    return values.reshape(spec.shape)
