"""Embedding, final norm and head: of tied and untied parents, one above the other, blended, or named by the recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import lamina
from lamina.errors import RecipeError

ROWS, WIDTH = 5, 4

# How a parent keeps its head: as its embedding; the same, with a copy of it in the file; as a tensor of its own.
TIED, COPY, OWN = "tied", "tied with a copy", "untied"
KINDS = (TIED, COPY, OWN)

# What every element of each end is. A tied model's head is its embedding, whatever a copy in the file holds.
EMBED, NORM, HEAD = {"a": 1.0, "b": 2.0}, {"a": 16.0, "b": 32.0}, {"a": 4.0, "b": 8.0}


def write_model(folder: Path, name: str, kind: str, config: Mapping[str, Any] | None = None, *more: str) -> None:
    """A Llama of two layers with one tensor each, and a tensor of every name in `more`."""
    tensors = {
        "model.embed_tokens.weight": np.full((ROWS, WIDTH), EMBED[name], np.float32),
        "model.norm.weight": np.full(WIDTH, NORM[name], np.float32),
    }
    tensors |= {f"model.layers.{i}.mlp.up_proj.weight": np.zeros((WIDTH, WIDTH), np.float32) for i in range(2)}
    if kind != TIED:
        tensors["lm_head.weight"] = np.full((ROWS, WIDTH), HEAD[name], np.float32)
    tensors |= {each: np.zeros(WIDTH, np.float32) for each in more}
    (folder / name).mkdir()
    save_file(tensors, folder / name / "model.safetensors")
    said = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": WIDTH, "vocab_size": ROWS}
    said |= {"tie_word_embeddings": kind != OWN} | dict(config or {})
    (folder / name / "config.json").write_text(json.dumps({key: value for key, value in said.items() if value != ...}))


def ends(folder: Path, recipe: str) -> tuple[float, float, float | None, bool | None]:
    """Embedding, norm and head (None: not written) of a merge, and what its config says of tying."""
    (folder / "recipe.yml").write_text(recipe)
    out = folder / "out"
    lamina.merge(folder / "recipe.yml", out)
    with lamina.tensors(folder / "recipe.yml") as merged:
        embed, norm = (float(merged[f"model.{name}.weight"].flat[0]) for name in ("embed_tokens", "norm"))
        head = float(merged["lm_head.weight"].flat[0]) if "lm_head.weight" in merged else None
    return embed, norm, head, json.loads((out / "config.json").read_text()).get("tie_word_embeddings")


# For each recipe: which parents give embedding, norm and head, in halves.
RECIPES = {
    "a below b": ("stack: [{model: a, layers: 0}, {model: b, layers: 1}]", "a", "b", "b"),
    "averaged": ("merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 0.5}}\n"
                 "- {model: b, parameters: {weight: 0.5}}", "ab", "ab", "ab"),
    "head of b": ("stack: [{model: a, layers: 0-1}]\nhead: b", "a", "a", "b"),
    "embed of b": ("stack: [{model: a, layers: 0-1}]\nembed: b", "b", "a", "a"),
    "norm of b": ("stack: [{model: a, layers: 0-1}]\nnorm: b", "a", "b", "a"),
    "both ends of b": ("stack: [{model: a, layers: 0-1}]\nembed: b\nhead: b", "b", "a", "b"),
}  # fmt: skip


@pytest.mark.parametrize(("a", "b", "name"), list(product(KINDS, KINDS, RECIPES)))
def test_every_end_is_what_its_parents_have_there_and_the_flag_is_true_to_it(
    tmp_path: Path, a: str, b: str, name: str
) -> None:
    kinds = {"a": a, "b": b}
    for parent, kind in kinds.items():
        write_model(tmp_path, parent, kind)
    recipe, embed_of, norm_of, head_of = RECIPES[name]
    heads = {parent: HEAD[parent] if kind == OWN else EMBED[parent] for parent, kind in kinds.items()}
    embed, norm, head = (
        sum(values[parent] for parent in of) / len(of)
        for values, of in ((EMBED, embed_of), (NORM, norm_of), (heads, head_of))
    )
    stays_tied = embed_of == head_of and all(kinds[parent] != OWN for parent in head_of)
    assert ends(tmp_path, recipe) == (embed, norm, None if stays_tied else head, stays_tied)


# The flag where config.json leaves it unsaid: its class has a default


@pytest.mark.parametrize(
    ("model_type", "kind", "head_in_file", "flag"),
    [
        ("gemma", TIED, None, ...),  # tied by default: nothing to say
        ("gemma", OWN, None, ...),  # a copy in the file counts for nothing
        ("llama", OWN, HEAD["a"], ...),  # untied by default: nothing to say
        ("llama", TIED, None, True),  # nothing but the embedding can be the head: it is said
        ("no such type", OWN, HEAD["a"], ...),
        ("no such type", TIED, None, True),
    ],
)
def test_a_flag_that_is_left_unsaid_is_read_as_the_class_does(
    tmp_path: Path, model_type: str, kind: str, head_in_file: float | None, flag: Any
) -> None:
    write_model(tmp_path, "a", kind, {"model_type": model_type, "tie_word_embeddings": ...})
    _, _, head, said = ends(tmp_path, "stack: [{model: a, layers: 0-1}]")
    assert (head, ... if said is None else said) == (head_in_file, flag)


def test_untying_is_said_where_the_class_ties_by_default(tmp_path: Path) -> None:
    for name, kind in (("a", TIED), ("b", OWN)):
        tied = {"tie_word_embeddings": ...} if kind == TIED else {}
        write_model(tmp_path, name, kind, {"model_type": "gemma", **tied})
    assert ends(tmp_path, RECIPES["head of b"][0]) == (EMBED["a"], NORM["a"], HEAD["b"], False)


def test_a_nested_config_says_it_in_both_parts(tmp_path: Path) -> None:
    nested = {"num_hidden_layers": ..., "tie_word_embeddings": ..., "hidden_size": ..., "vocab_size": ...}
    text = {"text_config": {"num_hidden_layers": 2, "hidden_size": WIDTH, "vocab_size": ROWS}}
    write_model(tmp_path, "a", TIED, {"model_type": "gemma3", **nested, **text})
    write_model(tmp_path, "b", TIED, {"model_type": "gemma3", **nested, **text})
    ends(tmp_path, RECIPES["head of b"][0])
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (written["tie_word_embeddings"], written["text_config"]["tie_word_embeddings"]) == (False, False)


def test_a_class_that_never_ties_keeps_its_head_whatever_the_flag_says(tmp_path: Path) -> None:
    write_model(tmp_path, "a", OWN, {"model_type": "nemotron_h", "tie_word_embeddings": True})
    assert ends(tmp_path, "stack: [{model: a, layers: 0-1}]") == (EMBED["a"], NORM["a"], HEAD["a"], True)


# Layers that predict further tokens


FURTHER = "model.layers.2.eh_proj.weight"


PREDICTS = {"model_type": "deepseek_v3", "num_nextn_predict_layers": 1, "first_k_dense_replace": 0}


def next_token(folder: Path, recipe: str) -> tuple[list[str], list[str], int, list[str]]:
    """The tensors of a merge that predict further tokens and those that are dropped, how many such layers its config
    announces, and what is said of them."""
    (folder / "recipe.yml").write_text(recipe)
    plan = lamina.plan(folder / "recipe.yml")
    config = next(json.loads(file.content) for file in plan.files if file.name == "config.json")
    kept = [name for name in plan.specs if "eh_proj" in name or "mtp" in name]
    dropped = [each.name for each in plan.dropped if "predicts further tokens" in each.reason]
    told = [notice.message for notice in plan.notices if notice.code == "next-token"]
    return kept, dropped, config["num_nextn_predict_layers"], told


def test_layers_that_predict_further_tokens_stay_where_no_layer_moves(tmp_path: Path) -> None:
    write_model(tmp_path, "a", OWN, PREDICTS, FURTHER)
    assert next_token(tmp_path, "stack: [{model: a, layers: 0-1}]") == ([FURTHER], [], 1, [])


def test_they_are_numbered_on_from_the_last_layer_of_a_deeper_stack(tmp_path: Path) -> None:
    write_model(tmp_path, "a", OWN, PREDICTS, FURTHER, "mtp.norm.weight")
    kept, dropped, count, (told,) = next_token(tmp_path, "stack: [{model: a, layers: 0-1}, {model: a, layers: 1}]")
    assert (kept, dropped, count) == (["model.layers.3.eh_proj.weight", "mtp.norm.weight"], [], 1)
    assert "from model.layers.2.* to model.layers.3.*" in told
    with lamina.tensors(tmp_path / "recipe.yml") as merged:
        assert merged["model.layers.3.eh_proj.weight"].shape == (WIDTH,)


def test_and_are_dropped_with_the_reason_where_it_ends_in_another_layer(tmp_path: Path) -> None:
    write_model(tmp_path, "a", OWN, PREDICTS, FURTHER)
    kept, dropped, count, (told,) = next_token(tmp_path, "stack: [{model: a, layers: [0-1, 0]}]")
    assert (kept, dropped, count) == ([], [FURTHER], 0)
    assert "`a` predicts further tokens from what its layer 1 gives." in told


@pytest.mark.parametrize("layers", ["{model: a, layers: 0}, {model: b, layers: 1}",
                                    "{model: b, layers: 0}, {model: a, layers: 1}"])  # fmt: skip
def test_and_where_only_one_of_the_models_has_them(tmp_path: Path, layers: str) -> None:
    write_model(tmp_path, "a", OWN, PREDICTS, FURTHER)
    write_model(tmp_path, "b", OWN, {**PREDICTS, "num_nextn_predict_layers": 0})
    kept, dropped, count, told = next_token(tmp_path, f"stack: [{layers}]")
    assert (kept, dropped, count, len(told)) == ([], [FURTHER], 0, 1)


def test_they_come_from_the_model_that_gives_the_last_layer_whatever_its_depth(tmp_path: Path) -> None:
    write_model(tmp_path, "a", OWN, PREDICTS, FURTHER)
    deeper = ("model.layers.2.mlp.up_proj.weight", "model.layers.3.eh_proj.weight")
    write_model(tmp_path, "b", OWN, {**PREDICTS, "num_hidden_layers": 3}, *deeper)
    tensors = load_file(tmp_path / "b" / "model.safetensors")
    save_file({**tensors, deeper[1]: np.full(WIDTH, 7, np.float32)}, tmp_path / "b" / "model.safetensors")
    (tmp_path / "recipe.yml").write_text("stack: [{model: a, layers: 0-1}, {model: b, layers: 1-2}]")
    with lamina.tensors(tmp_path / "recipe.yml") as merged:
        assert [name for name in merged if "eh_proj" in name] == ["model.layers.4.eh_proj.weight"]
        assert merged["model.layers.4.eh_proj.weight"].tolist() == [7] * WIDTH


def test_they_are_merged_as_the_last_layer_is_but_for_its_scale(tmp_path: Path) -> None:
    write_model(tmp_path, "a", OWN, PREDICTS)
    write_model(tmp_path, "b", OWN, PREDICTS)
    for name, value in (("a", 1.0), ("b", 3.0)):
        tensors = load_file(tmp_path / name / "model.safetensors")
        save_file({**tensors, FURTHER: np.full(WIDTH, value, np.float32)}, tmp_path / name / "model.safetensors")
    (tmp_path / "recipe.yml").write_text(
        "stack:\n- {model: a, layers: 0}\n- {model: a, layers: 0-1, at: 1, weight: 1}\n"
        "- {model: b, layers: 0-1, at: 1, weight: 3, parameters: {scale: 0}}\n"
    )
    with lamina.tensors(tmp_path / "recipe.yml") as merged:
        assert merged["model.layers.3.eh_proj.weight"].tolist() == [2.5] * WIDTH


def test_an_unknown_list_is_carried_by_the_flag_that_the_letter_names(tmp_path: Path) -> None:
    write_model(tmp_path, "a", OWN, {"mystery": [1, 2]})
    (tmp_path / "recipe.yml").write_text("stack: [{model: a, layers: 0-1}, {model: a, layers: 1}]")
    with pytest.raises(RecipeError, match="--assume-per-layer mystery"):
        lamina.plan(tmp_path / "recipe.yml")
    plan = lamina.plan(tmp_path / "recipe.yml", assume_per_layer=["mystery"])
    config = next(json.loads(file.content) for file in plan.files if file.name == "config.json")
    assert config["mystery"] == [1, 2, 2]
