"""Tiny models and recipes that are planned against them. Headers and configs are what counts; tensors are zero."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import lamina
from lamina.errors import Problem, RecipeError
from lamina.plans.plan import Plan

HIDDEN, HEADS, KV_HEADS, INTERMEDIATE = 8, 2, 1, 12
TOKENS = ("<unk>", "<s>", "</s>", "a", "b", "c")


@dataclass(frozen=True)
class Desk:
    """Models and recipes in one folder; paths in recipes are relative to it."""

    folder: Path

    def model(
        self,
        name: str,
        tokens: Sequence[str] | None = TOKENS,
        *,
        rows: int = 8,
        layers: int = 2,
        tied: bool = False,
        config: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
    ) -> Path:
        """A Llama of `layers` layers; `tokens` in the order of their ids; `files` as bytes, text or data."""
        folder = self.folder / name
        folder.mkdir()
        tensors = {key: np.zeros(shape, np.float32) for key, shape in _shapes(layers, rows, tied)}
        save_file(tensors, folder / "model.safetensors")
        ours = _config(layers, rows, tied) | dict(config or {})
        written: dict[str, Any] = {"config.json": {key: value for key, value in ours.items() if value is not ...}}
        if tokens is not None:
            vocab = {token: number for number, token in enumerate(tokens)}
            written["tokenizer.json"] = {"model": {"type": "BPE", "vocab": vocab, "merges": []}, "added_tokens": []}
            written["tokenizer_config.json"] = {"bos_token": "<s>", "eos_token": "</s>"}
        for file, content in (written | dict(files or {})).items():
            raw = content if isinstance(content, str | bytes) else json.dumps(content)
            (folder / file).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        return folder

    def recipe(self, text: str) -> Path:
        path = self.folder / "recipe.yml"
        path.write_text(textwrap.dedent(text))
        return path

    def plan(self, text: str) -> Plan:
        return lamina.plan(self.recipe(text))

    def notices(self, text: str, code: str = "") -> list[str]:
        """The notices of a plan, of one code or all."""
        return [notice.message for notice in self.plan(text).notices if not code or notice.code == code]

    def problems(self, text: str) -> list[Problem]:
        """The faults of a recipe that cannot be planned."""
        with pytest.raises(RecipeError) as caught:
            self.plan(text)
        return list(caught.value.problems)

    def problem(self, text: str) -> Problem:
        """The one fault of a recipe."""
        (problem,) = self.problems(text)
        return problem

    def side_files(self, text: str) -> dict[str, bytes]:
        return {file.name: file.content for file in self.plan(text).files}


def _shapes(layers: int, rows: int, tied: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    head_dim = HIDDEN // HEADS
    yield "model.embed_tokens.weight", (rows, HIDDEN)
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (HIDDEN,)
        yield f"{prefix}.self_attn.q_proj.weight", (HEADS * head_dim, HIDDEN)
        yield f"{prefix}.self_attn.k_proj.weight", (KV_HEADS * head_dim, HIDDEN)
        yield f"{prefix}.mlp.up_proj.weight", (INTERMEDIATE, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    if not tied:
        yield "lm_head.weight", (rows, HIDDEN)


def _config(layers: int, rows: int, tied: bool) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": 64,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": tied,
        "vocab_size": rows,
    }
