"""What can be done to a model for `lamina check` to find: faults that people make, as functions of its tensors.

The study of checks plants them in a real model, the tests of checks in a tiny one. Tensors are called as in a Llama.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamina.check.findings import Level

Weights = dict[str, Any]  # torch tensors by name; changed in place
Tamper = Callable[[Weights], object]
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Fault:
    """Something done to a model, and what a check against the model as it was must name: a layer, or a key."""

    name: str
    weights: Tamper | None = None
    config: Callable[[dict[str, Any]], object] = lambda _config: None
    folder: Callable[[Path], object] = lambda _folder: None
    layer: int | None = None
    key: str = ""
    level: Level = Level.SUSPICIOUS


def in_layer(number: int, name: str) -> str:
    """The name of one of a layer's matrices or norms: `in_layer(2, "mlp.up_proj")`."""
    return f"model.layers.{number}.{name}.weight"


def nan_block(layer: int) -> Tamper:
    """A few rows and columns that are NaN."""

    def spoil(weights: Weights) -> None:
        weights[in_layer(layer, "mlp.up_proj")][5:9, 3:20] = float("nan")

    return spoil


def infinite_norm(weights: Weights) -> None:
    weights["model.norm.weight"][:1] = float("inf")


def zeroed(layer: int) -> Tamper:
    """A layer of zeros."""

    def zero(weights: Weights) -> None:
        for name in _of_layer(weights, layer):
            weights[name].zero_()

    return zero


def swapped(one: int, other: int) -> Tamper:
    """Two layers, each in the other's place."""

    def swap(weights: Weights) -> None:
        for name in _of_layer(weights, one):
            twin = _in(name, one, other)
            weights[name], weights[twin] = weights[twin], weights[name]

    return swap


def late(first: int, last: int) -> Tamper:
    """Each layer from `first` to `last` is the one before it: a loop was off by one."""

    def shift(weights: Weights) -> None:
        for layer in range(last, first - 1, -1):
            for name in _of_layer(weights, layer):
                weights[name] = weights[_in(name, layer, layer - 1)].clone()

    return shift


def other_mlp(layer: int, other: int) -> Tamper:
    """The attention of one layer and the MLP of another."""

    def mix(weights: Weights) -> None:
        for name in _of_layer(weights, layer):
            if ".mlp." in name:
                weights[name] = weights[_in(name, layer, other)].clone()

    return mix


def rolled(projection: str, layer: int, rows: int) -> Tamper:
    """A projection of the attention whose rows are moved on: by a head's rows, heads change places."""

    def roll(weights: Weights) -> None:
        name = in_layer(layer, f"self_attn.{projection}")
        weights[name] = weights[name].roll(rows, 0)

    return roll


def stranger(layer: int) -> Tamper:
    """A layer of another model: noise of the same size."""

    def replace(weights: Weights) -> None:
        import torch

        generator = torch.Generator().manual_seed(3)
        for name in _of_layer(weights, layer):
            if weights[name].dim() == 2:
                noise = torch.randn(weights[name].shape, generator=generator) * weights[name].float().std()
                weights[name] = noise.to(weights[name].dtype)

    return replace


def three_times(weights: Weights) -> None:
    """What weights that sum to 3 give."""
    for tensor in weights.values():
        tensor.mul_(3)


def shuffled(name: str) -> Tamper:
    """An embedding or head in the order of another tokenizer."""

    def shuffle(weights: Weights) -> None:
        import torch

        order = torch.randperm(len(weights[name]), generator=torch.Generator().manual_seed(1))
        weights[name] = weights[name][order]

    return shuffle


def cut_to(rows: int, *names: str) -> Tamper:
    """Tensors of which only the first rows are left."""

    def cut(weights: Weights) -> None:
        for name in names:
            weights[name] = weights[name][:rows]

    return cut


def _of_layer(weights: Weights, number: int) -> list[str]:
    return [name for name in weights if name.startswith(f"model.layers.{number}.")]


def _in(name: str, layer: int, other: int) -> str:
    """The name that a tensor of a layer has in another."""
    return name.replace(f".layers.{layer}.", f".layers.{other}.")
