"""Layers run in another order compute what the written model computes; where they cannot, that is told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import transformers

import lamina
from lamina.check.layer_order import LayerOrder
from lamina.check.running import RunningModel, Tokens
from lamina.errors import CheckpointError
from lamina.planners.upscale import Cut

from .family import MODELS

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from shrink import tiny_model

ROWS: Tokens = np.random.default_rng(0).integers(3, 90, (3, 40))  # longer than the tiny models' windows
DEPTH = 6

# Layers that give tuples, a list, or take turns in kind: their masks, rotations and experts travel with them.
TYPES = ("llama", "gpt2", "gemma2", "gemma3_text", "cohere2", "mamba", "opt", "gpt_neox", "qwen2_moe", "openai-gpt")


def _saved(model_type: str, folder: Path) -> Path:
    transformers.logging.disable_progress_bar()
    tiny_model(model_type).save_pretrained(folder)
    return folder


def _running(folder: Path, depth: int) -> RunningModel:
    return RunningModel(folder, depth, 1000, has_tokenizer=False)


@pytest.mark.parametrize("model_type", TYPES)
def test_a_cut_in_memory_has_the_losses_of_the_written_model(model_type: str, tmp_path: Path) -> None:
    """To the bit: the same operations on the same numbers."""
    folder = _saved(model_type, tmp_path / "m")
    read = next(LayerOrder(_running(folder, DEPTH)).read(ROWS))
    for cut in (Cut(4, 0), Cut(5, 1), Cut(6, 2)):
        lamina.upscale(folder, tmp_path / "out", to=10, first=cut.first, force=True)
        written = _running(tmp_path / "out", 10).observe(ROWS).losses
        np.testing.assert_array_equal(read.losses_of(cut.order(DEPTH)), written, err_msg=str(cut))


def test_any_order_is_that_of_the_stack() -> None:
    read = next(LayerOrder(RunningModel(MODELS / "base", 4, 563_040)).read(ROWS % 40))
    for layers, order in (("[0, 2-3]", [0, 2, 3]), ("[3, 1, 1, 0]", [3, 1, 1, 0]), ("0-2", [0, 1, 2])):
        model = lamina.load_model(f"stack: [{{model: {MODELS}/base, layers: {layers}}}]\ndtype: float32\n")
        logits = model(read.part, use_cache=False).logits[:, :-1].log_softmax(-1)
        wanted = -logits.gather(2, read.part[:, 1:, None])[..., 0].detach().numpy()
        np.testing.assert_allclose(read.losses_of(order), wanted, atol=1e-5, err_msg=layers)


def test_the_model_is_as_it_was_afterwards() -> None:
    running = RunningModel(MODELS / "base", 4, 563_040)
    rows = ROWS % 40
    before = running.observe(rows).losses
    read = next(LayerOrder(running).read(rows))
    assert not np.array_equal(read.losses_of([0, 0, 1, 2, 3]), before)
    np.testing.assert_array_equal(read.losses, before)
    np.testing.assert_array_equal(running.observe(rows).losses, before)
    assert all("forward" not in vars(layer) for layer in running.layers)


def test_a_model_that_is_streamed_gives_the_same(tmp_path: Path) -> None:
    folder = _saved("llama", tmp_path / "m")
    whole = next(LayerOrder(_running(folder, DEPTH)).read(ROWS)).losses_of(Cut(5, 1).order(DEPTH))
    streamed = RunningModel(folder, DEPTH, 1_000_000, has_tokenizer=False, memory=1_000_000)
    assert streamed.is_streamed
    read = next(LayerOrder(streamed).read(ROWS))
    np.testing.assert_allclose(read.losses_of(Cut(5, 1).order(DEPTH)), whole, atol=1e-5)
    np.testing.assert_array_equal(streamed.observe(ROWS).losses, read.losses)


# Router states, indices of keys and two streams that go from layer to layer; a sum of earlier layers; own numbers.
@pytest.mark.parametrize(
    ("model_type", "why"),
    [
        ("zaya", "more than the hidden state"),
        ("hy_v4", "more than the hidden state"),
        ("reformer", "more than the hidden state"),
        ("inkling2_text", "more than the hidden state"),
        ("xlm", "more than the hidden state"),
        ("beam", "`attn_residual_add_idx`"),
    ],
)
def test_layers_that_need_more_are_refused(model_type: str, why: str, tmp_path: Path) -> None:
    running = _running(_saved(model_type, tmp_path / "m"), DEPTH)
    with pytest.raises(CheckpointError, match="cannot be run with its layers in another order") as caught:
        LayerOrder(running)
    assert why in str(caught.value)


def test_a_model_whose_layers_are_not_found_is_refused() -> None:
    with pytest.raises(CheckpointError, match="in no one list"):
        LayerOrder(RunningModel(MODELS / "base", 5, 563_040))
