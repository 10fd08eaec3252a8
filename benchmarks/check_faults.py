"""What is done to a real model for `benchmarks/check_study.py` to find: SmolLM2-135M, whose head is its embedding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamina.check.findings import Level

Weights = dict[str, Any]
EMBEDDING = "model.embed_tokens.weight"
HEAD_DIM = 64


@dataclass(frozen=True)
class Fault:
    """Something done to a model, and what a check against the model as it was must name: a layer, or a key."""

    name: str
    weights: Callable[[Weights], Any] | None = None
    config: Callable[[dict[str, Any]], Any] = lambda _config: None
    folder: Callable[[Path], Any] = lambda _folder: None
    layer: int | None = None
    key: str = ""
    level: Level = Level.SUSPICIOUS


def planted(fault: Fault, source: Path, out: Path) -> Path:
    """A copy of a model's folder with the fault in it; tensors that stay as they are are linked."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("model.safetensors"))
    if fault.weights is None:
        (out / "model.safetensors").symlink_to((source / "model.safetensors").resolve())
    else:
        from safetensors.torch import load_file, save_file

        weights = load_file(source / "model.safetensors")
        fault.weights(weights)
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, out / "model.safetensors")
    config = json.loads((out / "config.json").read_text())
    fault.config(config)
    (out / "config.json").write_text(json.dumps(config))
    fault.folder(out)
    return out


def in_layer(number: int, name: str) -> str:
    return f"model.layers.{number}.{name}.weight"


def _of_layer(weights: Weights, number: int) -> list[str]:
    return [name for name in weights if name.startswith(f"model.layers.{number}.")]


def _nan_block(weights: Weights) -> None:
    weights[in_layer(12, "mlp.up_proj")][5:9, 3:20] = float("nan")


def _infinite_norm(weights: Weights) -> None:
    weights["model.norm.weight"][:1] = float("inf")


def _zero_layer(weights: Weights) -> None:
    for name in _of_layer(weights, 7):
        weights[name].zero_()


def _swapped(one: int, other: int) -> Callable[[Weights], None]:
    def swap(weights: Weights) -> None:
        for name in _of_layer(weights, one):
            twin = name.replace(f".layers.{one}.", f".layers.{other}.")
            weights[name], weights[twin] = weights[twin], weights[name]

    return swap


def _repeat_layer(weights: Weights) -> None:
    for name in _of_layer(weights, 16):
        weights[name] = weights[name.replace(".layers.16.", ".layers.15.")].clone()


def _one_layer_late(weights: Weights) -> None:
    """From layer 20 on each is the one before it: the loop was off by one."""
    for layer in range(29, 19, -1):
        for name in _of_layer(weights, layer):
            weights[name] = weights[name.replace(f".layers.{layer}.", f".layers.{layer - 1}.")].clone()


def _rolled(projection: str, layer: int, rows: int) -> Callable[[Weights], None]:
    def roll(weights: Weights) -> None:
        name = in_layer(layer, f"self_attn.{projection}")
        weights[name] = weights[name].roll(rows, 0)

    return roll


def _stranger_layer(weights: Weights) -> None:
    import torch

    generator = torch.Generator().manual_seed(3)
    for name in _of_layer(weights, 21):
        if weights[name].dim() == 2:
            noise = torch.randn(weights[name].shape, generator=generator) * weights[name].float().std()
            weights[name] = noise.to(weights[name].dtype)


def _three_times(weights: Weights) -> None:
    for tensor in weights.values():
        tensor.mul_(3)


def _shuffled_embedding(weights: Weights) -> None:
    import torch

    order = torch.randperm(len(weights[EMBEDDING]), generator=torch.Generator().manual_seed(1))
    weights[EMBEDDING] = weights[EMBEDDING][order]


def _fewer_rows(weights: Weights) -> None:
    weights[EMBEDDING] = weights[EMBEDDING][:40000]


def _fewer_columns(weights: Weights) -> None:
    weights[in_layer(9, "mlp.gate_proj")] = weights[in_layer(9, "mlp.gate_proj")][:1200]


def _halves_of_two_layers(weights: Weights) -> None:
    """The attention of one layer and the MLP of another."""
    for name in _of_layer(weights, 11):
        if ".mlp." in name:
            weights[name] = weights[name.replace(".layers.11.", ".layers.4.")].clone()


def _generation(**values: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "generation_config.json").write_text(json.dumps(values))

    return write


FAULTS = (
    Fault("a block of NaN", _nan_block, layer=12, key=in_layer(12, "mlp.up_proj"), level=Level.BROKEN),
    Fault("an infinite norm", _infinite_norm, key="model.norm.weight", level=Level.BROKEN),
    Fault("a zeroed layer", _zero_layer, layer=7, level=Level.BROKEN),
    Fault("a zeroed matrix", lambda w: w[in_layer(2, "mlp.down_proj")].zero_(), layer=2,
          key=in_layer(2, "mlp.down_proj")),
    Fault("a dead head", lambda w: w[in_layer(17, "self_attn.q_proj")][64:128].zero_(), layer=17,
          key=in_layer(17, "self_attn.q_proj")),
    Fault("a norm of another size", lambda w: w[in_layer(22, "input_layernorm")].mul_(3), layer=22,
          key=in_layer(22, "input_layernorm")),
    Fault("two neighbours swapped", _swapped(10, 11), layer=10),
    Fault("two far layers swapped", _swapped(5, 20), layer=5),
    Fault("a layer twice where another belongs", _repeat_layer, layer=16),
    Fault("ten layers off by one", _one_layer_late, layer=20),
    Fault("attention and MLP of two layers", _halves_of_two_layers, layer=11),
    Fault("rolled query heads", _rolled("q_proj", 14, HEAD_DIM), layer=14, key=in_layer(14, "self_attn.q_proj")),
    Fault("rolled key heads", _rolled("k_proj", 3, HEAD_DIM), layer=3, key=in_layer(3, "self_attn.k_proj")),
    Fault("rolled rows of values", _rolled("v_proj", 28, 5), layer=28, key=in_layer(28, "self_attn.v_proj")),
    Fault("a layer of another model", _stranger_layer, layer=21),
    Fault("weights that sum to 3", _three_times, layer=0),
    Fault("an embedding of another tokenizer", _shuffled_embedding, key=EMBEDDING),
    Fault("a truncated embedding", _fewer_rows, key=EMBEDDING, level=Level.BROKEN),
    Fault("fewer rows than tokens", _fewer_rows, lambda c: c.update(vocab_size=40000), key=EMBEDDING,
          level=Level.BROKEN),
    Fault("another theta", config=lambda c: c["rope_parameters"].update(rope_theta=5e5), key="rope_theta"),
    Fault("another eps", config=lambda c: c.update(rms_norm_eps=1e-6), key="norm eps"),
    Fault("another activation", config=lambda c: c.update(hidden_act="gelu"), key="activation"),
    Fault("more heads in config.json", config=lambda c: c.update(num_attention_heads=12), layer=0,
          key=in_layer(0, "self_attn.q_proj"), level=Level.BROKEN),
    Fault("no eos", config=lambda c: c.pop("eos_token_id"), folder=_generation(bos_token_id=1), key="eos_token_id"),
    Fault("an eos of another model", folder=_generation(eos_token_id=128009), key="eos_token_id"),
    Fault("a template whose end of turn is no eos", folder=_generation(eos_token_id=0), key="chat_template"),
    Fault("a lost tensor", lambda w: w.pop(in_layer(25, "mlp.up_proj")), layer=25, key=in_layer(25, "mlp.up_proj"),
          level=Level.BROKEN),
    Fault("a tensor of another shape", _fewer_columns, layer=9, key=in_layer(9, "mlp.gate_proj"), level=Level.BROKEN),
    Fault("a lost head", config=lambda c: c.update(tie_word_embeddings=False), key="lm_head.weight",
          level=Level.BROKEN),
)  # fmt: skip
