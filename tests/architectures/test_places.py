"""What layers of live models know of their place: names, which follow it, and numbers that they compute with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from answers import logits, tokens
from places import numbers, run_in_order
from reassemble import reassembled, stacks_of
from shrink import tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")

ORDER = [0, 2, 1, 2, 5]


def _known(model: Any, attribute: str) -> list[int]:
    return [
        getattr(module, attribute)
        for layer in model.model.layers
        for module in layer.modules()
        if hasattr(module, attribute)
    ]


def test_what_layers_count_is_a_line_over_their_index() -> None:
    found = numbers(tiny_model("beam").model.layers)
    assert found == {
        ("", "attn_residual_add_idx"): (2, 2),
        ("", "mlp_residual_add_idx"): (2, 3),
        ("self_attn", "layer_idx"): (1, 0),
    }


def test_a_number_that_names_a_cache_follows_the_place_and_one_that_is_computed_with_does_not() -> None:
    moved = reassembled(tiny_model("beam"), ORDER)
    assert _known(moved, "layer_idx") == [0, 1, 2, 3, 4]
    assert _known(moved, "attn_residual_add_idx") == [2 + 2 * layer for layer in ORDER]
    assert _known(moved, "mlp_residual_add_idx") == [3 + 2 * layer for layer in ORDER]


def test_numbers_without_which_a_model_does_not_run_are_all_new() -> None:
    """XLM fills its cache whether it is asked to or not: two layers of one number would fill one entry of it."""
    moved = reassembled(tiny_model("xlm"), ORDER)
    assert [each.layer_id for each in moved.transformer.attentions] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("model_type", ["llama", "beam", "gpt2", "gemma2", "falcon", "mamba"])
def test_layers_that_run_where_they_stand_compute_what_moved_modules_compute(model_type: str) -> None:
    """Also where their numbers count: those that run in place have their own."""
    model = tiny_model(model_type)
    (path,) = stacks_of(model)
    found = run_in_order(model, path, ORDER, tokens())
    assert found is not None
    assert torch.equal(found, logits(reassembled(model, ORDER), tokens()))


def test_the_model_is_as_it_was_afterwards() -> None:
    model = tiny_model("llama")
    before = logits(model, tokens())
    assert not torch.equal(run_in_order(model, "model.layers", [1, 0], tokens()), before)
    assert torch.equal(logits(model, tokens()), before)


# Picked tokens of an earlier layer, an embedding of the tokens for each layer, layers that are not always called.
@pytest.mark.parametrize("model_type", ["hy_v4", "gemma4_text", "mllama"])
def test_layers_that_take_more_than_the_hidden_state_are_not_run_so(model_type: str) -> None:
    model = tiny_model(model_type)
    (path,) = stacks_of(model)
    assert run_in_order(model, path, ORDER, tokens()) is None
