"""The bundled models, and copies of them with something done to their tensors or config."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

MODELS = Path(__file__).parents[2] / "examples" / "models"

Weights = dict[str, torch.Tensor]


def changed(
    source: Path,
    out: Path,
    weights: Callable[[Weights], Any] = lambda _weights: None,
    config: Callable[[dict[str, Any]], Any] = lambda _config: None,
) -> Path:
    """A copy of a model's folder at `out`, its tensors and its config.json changed in place by the functions."""
    shutil.copytree(source, out)
    tensors = load_file(out / "model.safetensors")
    weights(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "model.safetensors")
    content = json.loads((out / "config.json").read_text())
    config(content)
    (out / "config.json").write_text(json.dumps(content))
    return out


def in_layer(number: int, name: str) -> str:
    return f"model.layers.{number}.{name}.weight"


def swap_layers(weights: Weights, one: int, other: int) -> None:
    first, second = f"model.layers.{one}.", f"model.layers.{other}."
    for name in [name for name in weights if name.startswith(first)]:
        twin = name.replace(first, second)
        weights[name], weights[twin] = weights[twin], weights[name]
