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
    weights: Callable[[Weights], Any] | None = None,
    config: Callable[[dict[str, Any]], Any] = lambda _config: None,
) -> Path:
    """A copy of a model's folder at `out`, its tensors and its config.json changed in place by the functions."""
    shutil.copytree(source, out)
    if weights is not None:
        tensors = load_file(out / "model.safetensors")
        weights(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "model.safetensors")
    content = json.loads((out / "config.json").read_text())
    config(content)
    (out / "config.json").write_text(json.dumps(content))
    return out
