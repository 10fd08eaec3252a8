"""Tied models stay tied while head and embedding are the same tensor, and are untied where they come to differ."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

import lamina

from .checkpoints import all_bits, llama_config, read_checkpoint, same_bits, write_llama
from .conftest import Bench
from .reference import assert_rounded_once, linear


def test_a_tied_model_stacked_on_itself_stays_tied(bench: Bench) -> None:
    merged = bench.merge("stack: [{model: tied, layers: 0-3}, {model: tied, layers: 1-3}]")
    assert "lm_head.weight" not in merged.tensors
    assert merged.config["tie_word_embeddings"] is True
    assert same_bits(merged.embed, bench["tied"].embed)


def test_a_ramp_of_a_tied_model_on_itself_stays_tied(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: tied, layers: 0-3, at: 0}
          - {model: tied, layers: 0-3, at: 1}
        overlap: ramp
        """)
    assert "lm_head.weight" not in merged.tensors
    assert merged.config["tie_word_embeddings"] is True


def test_the_linear_mean_of_two_tied_models_stays_tied(bench: Bench) -> None:
    merged = bench.merge("""
        models:
          - {model: tied, parameters: {weight: 0.5}}
          - {model: tied_b, parameters: {weight: 0.5}}
        merge_method: linear
        """)
    assert set(merged.tensors) == set(bench["tied"].tensors)
    assert merged.config["tie_word_embeddings"] is True
    assert_rounded_once(merged.embed, linear([bench["tied"].embed, bench["tied_b"].embed], [1, 1]))


def test_two_tied_models_one_after_the_other_are_untied(bench: Bench) -> None:
    recipe = "stack: [{model: tied, layers: 0-1}, {model: tied_b, layers: 2-3}]"
    merged = bench.merge(recipe)
    assert same_bits(merged.embed, bench["tied"].embed)
    assert same_bits(merged.tensors["lm_head.weight"], bench["tied_b"].embed)
    assert merged.config["tie_word_embeddings"] is False


def test_untying_is_announced_with_its_size(bench: Bench) -> None:
    notices = bench.notices("stack: [{model: tied, layers: 0-1}, {model: tied_b, layers: 2-3}]")
    assert "lm_head" in notices
    assert re.search(r"\d*[1-9]\d* ?(bytes|B|kB|KB|MB|GB)", notices)  # 384 bytes, and not 0.0 MB


def test_a_whole_model_ramp_of_two_tied_models_is_untied(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: tied, layers: 0-3, at: 0}
          - {model: tied_b, layers: 0-3, at: 0}
        overlap: ramp
        """)
    assert same_bits(merged.embed, bench["tied"].embed)
    assert same_bits(merged.tensors["lm_head.weight"], bench["tied_b"].embed)
    assert merged.config["tie_word_embeddings"] is False


def test_a_whole_model_average_of_two_tied_models_stays_tied(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: tied, layers: 0-3, at: 0}
          - {model: tied_b, layers: 0-3, at: 0}
        overlap: average
        """)
    assert "lm_head.weight" not in merged.tensors
    assert merged.config["tie_word_embeddings"] is True


def test_a_head_taken_from_elsewhere_unties(bench: Bench) -> None:
    merged = bench.merge("stack: [{model: tied, layers: 0-3}]\nhead: tied_b")
    assert same_bits(merged.tensors["lm_head.weight"], bench["tied_b"].embed)
    assert same_bits(merged.embed, bench["tied"].embed)
    assert merged.config["tie_word_embeddings"] is False


def test_a_tied_model_under_an_untied_one_takes_its_head(bench: Bench) -> None:
    merged = bench.merge("stack: [{model: tied, layers: 0-1}, {model: a, layers: 2-3}]")
    assert same_bits(merged.embed, bench["tied"].embed)
    assert same_bits(merged.tensors["lm_head.weight"], bench["a"].head)
    assert merged.config["tie_word_embeddings"] is False


def test_a_tied_model_over_an_untied_one_lends_its_embedding_as_head(bench: Bench) -> None:
    merged = bench.merge("stack: [{model: a, layers: 0-1}, {model: tied, layers: 2-3}]")
    assert same_bits(merged.embed, bench["a"].embed)
    assert same_bits(merged.tensors["lm_head.weight"], bench["tied"].embed)
    assert merged.config["tie_word_embeddings"] is False


def test_a_tied_and_an_untied_model_average_their_heads(bench: Bench) -> None:
    for first, second in (("tied", "a"), ("a", "tied")):
        merged = bench.merge(f"""
            models:
              - {{model: {first}, parameters: {{weight: 0.25}}}}
              - {{model: {second}, parameters: {{weight: 0.75}}}}
            merge_method: linear
            """)
        heads = [bench[first].head, bench[second].head]
        assert_rounded_once(merged.tensors["lm_head.weight"], linear(heads, [0.25, 0.75]))
        embeddings = [bench[first].embed, bench[second].embed]
        assert_rounded_once(merged.embed, linear(embeddings, [0.25, 0.75]))
        assert merged.config["tie_word_embeddings"] is False


def test_a_llama_that_does_not_say_whether_it_is_tied_is_not(tmp_path: Path) -> None:
    config = llama_config(2, torch.bfloat16, tied=False)
    del config["tie_word_embeddings"]
    source = write_llama(tmp_path / "silent", 2)
    (source.folder / "config.json").write_text(json.dumps(config))
    (tmp_path / "recipe.yml").write_text("stack: [{model: silent, layers: 0-1}]")
    lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    merged = read_checkpoint(tmp_path / "out")
    assert all_bits(merged) == all_bits(source)
    assert not merged.config.get("tie_word_embeddings", False)


def test_random_draws_leave_tied_models_tied(bench: Bench) -> None:
    merged = bench.merge("""
        models:
          - {model: tied_b, parameters: {weight: 1, density: 0.5}}
        merge_method: dare_ties
        base_model: tied
        """)
    assert "lm_head.weight" not in merged.tensors
    assert merged.config["tie_word_embeddings"] is True
    assert not same_bits(merged.embed, bench["tied"].embed)
