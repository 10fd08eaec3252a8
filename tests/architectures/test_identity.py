"""Layers whose outputs are zero change nothing: measured on tiny random models of transformers' classes.

A sample runs here; `IDENTITY_TYPES=all` measures every type of the table that a tiny model can be made of.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lamina
from lamina.architectures.identity import ADDING, NOT_ADDING, is_normed_behind, outputs_of, why_no_identity
from lamina.errors import RecipeError
from lamina.planners import upscale

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from answers import logits, tokens
from compare import load
from shrink import causal_types, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")

# One of each way in which blocks are put together: before a norm, between norms, in parallel, experts packed and
# single, shared experts, biases, Conv1D, mixers, several kinds of layers, latent attention.
SAMPLE = (
    "cohere2", "deepseek_v3", "falcon", "gemma2", "gemma3_text", "glm4", "gpt2", "gpt_neox", "gpt_oss",
    "granitemoehybrid", "lfm2", "llama", "mamba", "mixtral", "olmo2", "phi3", "qwen2", "qwen2_moe", "starcoder2",
)  # fmt: skip
CHANGING = ("bert", "doge", "minimax", "deepseek_v4")

# A type of the table whose tiny model's layers Lamina cannot repeat.
NOT_MADE = {"jamba"}
WANTED = sorted(ADDING & set(causal_types()) - NOT_MADE) if os.environ.get("IDENTITY_TYPES") == "all" else SAMPLE


@pytest.fixture(autouse=True)
def sums_in_one_order() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def grown(model_type: str, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of a tiny model, and of the same with two new layers."""
    model = tiny_model(model_type)
    model.save_pretrained(folder / "own")
    lamina.upscale(folder / "own", folder / "grown", method="llama-pro", add=2, workers=1)
    prompt = tokens()
    own, more = (load(folder / name, type(model)) for name in ("own", "grown"))
    assert sum(p.numel() for p in more.parameters()) > sum(p.numel() for p in own.parameters())
    return logits(own, prompt), logits(more, prompt)


@pytest.mark.parametrize("model_type", WANTED)
def test_new_layers_keep_every_logit(model_type: str, tmp_path: Path) -> None:
    own, more = grown(model_type, tmp_path)
    assert torch.equal(own, more)


@pytest.mark.parametrize("model_type", CHANGING)
def test_what_is_refused_would_change_the_logits(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match="no-identity"):
        grown(model_type, tmp_path)
    monkeypatch.setattr(upscale, "why_no_identity", lambda _config: None)
    own, more = grown(model_type, tmp_path)
    assert not torch.equal(own, more)


def test_zeros_are_what_keeps_the_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one output left as it is, the very test above sees it."""
    monkeypatch.setattr(upscale, "outputs_of", lambda suffixes: tuple(s for s in outputs_of(suffixes) if "o_proj" in s))
    own, more = grown("llama", tmp_path)
    assert not torch.equal(own, more)


def test_no_type_is_in_both_tables() -> None:
    assert not ADDING & set(NOT_ADDING)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "llama"}, None),
        ({"model_type": "llava", "text_config": {"model_type": "llama"}}, None),
        ({"model_type": "bert"}, "in bert the sum of stream and block goes through a norm"),
        ({"model_type": "opt", "do_layer_norm_before": True}, None),
        ({"model_type": "opt", "do_layer_norm_before": False}, "with `do_layer_norm_before: false` the sum"),
        ({"model_type": "glm_moe_dsa", "indexer_types": ["full", "shared"]}, "selected (`indexer_types`)"),
        ({"model_type": "glm_moe_dsa", "indexer_types": ["full", "full"]}, None),
        ({"model_type": "mine"}, "it was never measured whether layers of mine only add to the stream"),
        ({}, "layers of this model"),
    ],
)
def test_the_reason_is_the_configs_or_the_types(config: dict[str, Any], told: str | None) -> None:
    reason = why_no_identity(config)
    assert (reason is None) if told is None else (reason is not None and told in reason)


def test_a_norm_behind_the_block_is_told_from_one_before_the_next() -> None:
    assert not is_normed_behind(["post_attention_layernorm.weight"])  # Llama's, before the MLP
    assert is_normed_behind(["post_attention_layernorm.weight", "post_feedforward_layernorm.weight"])  # Gemma 2
