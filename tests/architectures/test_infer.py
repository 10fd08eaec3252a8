"""Architectures from names and config: where layers are, what the ends are, when there is no answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.architectures.infer import infer_architecture, text_config

LLAMA = ["model.embed_tokens.weight", *(f"model.layers.{i}.mlp.weight" for i in range(3)), "model.norm.weight"]


def test_a_llama() -> None:
    found = infer_architecture([*LLAMA, "lm_head.weight"], {"num_hidden_layers": 3, "tie_word_embeddings": False})
    assert (found.prefix, found.depth) == ("model.layers", 3)
    assert found.layers == (("mlp.weight",),) * 3
    assert found.before == ("model.embed_tokens.weight",)
    assert found.after == ("model.norm.weight", "lm_head.weight")
    assert (found.embedding, found.head, found.tied) == ("model.embed_tokens.weight", "lm_head.weight", False)
    assert found.layer_name(2, "mlp.weight") == "model.layers.2.mlp.weight"


def test_a_model_without_a_head_is_tied_and_would_call_it_lm_head() -> None:
    found = infer_architecture(LLAMA, {"num_hidden_layers": 3})
    assert (found.head, found.tied) == ("lm_head.weight", True)


def test_a_tied_model_may_hold_a_copy_of_its_head() -> None:
    assert infer_architecture([*LLAMA, "lm_head.weight"], {"num_hidden_layers": 3, "tie_word_embeddings": True}).tied


@pytest.mark.parametrize(
    ("names", "config", "prefix", "embedding", "head", "before"),
    [
        (
            ["wte.weight", "wpe.weight", "h.0.attn.weight", "h.1.attn.weight", "ln_f.weight"],
            {"n_layer": 2, "model_type": "gpt2"},
            "h",
            "wte.weight",
            "lm_head.weight",
            ("wte.weight", "wpe.weight"),
        ),
        (
            ["gpt_neox.embed_in.weight", "gpt_neox.layers.0.x", "gpt_neox.final_layer_norm.bias", "embed_out.weight"],
            {"num_hidden_layers": 1, "model_type": "gpt_neox"},
            "gpt_neox.layers",
            "gpt_neox.embed_in.weight",
            "embed_out.weight",
            ("gpt_neox.embed_in.weight",),
        ),
        (
            ["transformer.word_embeddings.weight", "transformer.h.0.mlp.x", "transformer.ln_f.weight"],
            {"num_hidden_layers": 1},
            "transformer.h",
            "transformer.word_embeddings.weight",
            "lm_head.weight",
            ("transformer.word_embeddings.weight",),
        ),
        (
            [
                "language_model.model.embed_tokens.weight",
                "language_model.model.layers.0.x",
                "language_model.lm_head.weight",
            ],
            {"text_config": {"num_hidden_layers": 1}},
            "language_model.model.layers",
            "language_model.model.embed_tokens.weight",
            "language_model.lm_head.weight",
            ("language_model.model.embed_tokens.weight",),
        ),
    ],
    ids=["gpt2", "gpt_neox", "falcon", "multimodal"],
)
def test_other_families(
    names: list[str], config: dict[str, Any], prefix: str, embedding: str, head: str, before: tuple[str, ...]
) -> None:
    found = infer_architecture(names, config)
    assert (found.prefix, found.embedding, found.head, found.before) == (prefix, embedding, head, before)


def test_a_tied_gpt_neox_calls_its_head_as_it_would_write_it() -> None:
    names = ["gpt_neox.embed_in.weight", "gpt_neox.layers.0.x"]
    assert infer_architecture(names, {"num_hidden_layers": 1, "model_type": "gpt_neox"}).head == "embed_out.weight"


def test_the_decoder_is_told_from_an_encoder_of_its_length() -> None:
    names = [*(f"model.{part}.layers.{i}.x" for part in ("encoder", "decoder") for i in range(2)), "shared.weight"]
    assert infer_architecture(names, {"encoder_layers": 2, "decoder_layers": 2}).prefix == "model.decoder.layers"


def test_a_vision_tower_of_the_same_depth_is_no_decoder() -> None:
    names = [*LLAMA, *(f"vision_tower.layers.{i}.x" for i in range(3))]
    assert infer_architecture(names, {"text_config": {"num_hidden_layers": 3}}).prefix == "model.layers"


def test_lists_side_by_side_hold_parts_of_each_layer() -> None:
    parts = ("attentions", "layer_norm1", "ffns", "layer_norm2")
    names = [f"transformer.{part}.{index}.weight" for part in parts for index in range(2)]
    names += ["transformer.embeddings.weight", "transformer.layer_norm_emb.weight"]
    found = infer_architecture(names, {"model_type": "xlm", "n_layers": 2})
    assert found.layers == (("attentions.weight", "layer_norm1.weight", "ffns.weight", "layer_norm2.weight"),) * 2
    assert found.layer_name(1, "ffns.weight") == "transformer.ffns.1.weight"
    assert found.before == tuple(names[-2:])
    assert found.after == ()


def test_an_embedding_and_a_head_for_each_codebook_are_ends() -> None:
    names = [f"model.decoder.embed_tokens.{i}.weight" for i in range(4)] + [f"lm_heads.{i}.weight" for i in range(4)]
    names += ["model.decoder.layers.0.x", "model.decoder.layer_norm.weight"]
    found = infer_architecture(names, {"num_hidden_layers": 1, "tie_word_embeddings": False})
    assert (found.embedding, found.head) == ("model.decoder.embed_tokens.0.weight", "lm_heads.0.weight")
    assert found.before == tuple(names[:4])
    assert found.norms == ("model.decoder.layer_norm.weight",)
    assert found.head_companions == tuple(names[5:8])


def test_layers_that_predict_further_tokens_are_no_layers_of_the_stack() -> None:
    names = [*LLAMA, "model.layers.3.eh_proj.weight", "mtp.layers.0.x"]
    found = infer_architecture(names, {"num_hidden_layers": 3, "num_nextn_predict_layers": 1})
    assert found.depth == 3
    assert found.next_token == ("model.layers.3.eh_proj.weight", "mtp.layers.0.x")
    assert found.after == ("model.norm.weight",)


def test_a_layer_too_many_that_the_config_does_not_know_is_a_fault() -> None:
    with pytest.raises(ValueError, match=r"`model\.layers` with 3"):
        infer_architecture(LLAMA, {"num_hidden_layers": 2})


def test_a_head_of_several_tensors_is_known_by_its_matrix() -> None:
    names = ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.x", "cls.predictions.bias"]
    names += ["cls.predictions.transform.dense.weight", "bert.embeddings.LayerNorm.weight"]
    found = infer_architecture(names, {"num_hidden_layers": 1, "model_type": "bert"})
    assert (found.head, found.tied) == ("cls.predictions.decoder.weight", True)
    assert found.head_companions == ("cls.predictions.bias", "cls.predictions.transform.dense.weight")
    assert found.norms == ()


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"model_type": "gemma2"}, True),
        ({"model_type": "gemma2", "tie_word_embeddings": False}, False),
        ({"model_type": "llama"}, False),
        ({"model_type": "llama", "tie_word_embeddings": True}, True),
        ({"model_type": "no such type"}, False),
        ({"model_type": "gemma3", "text_config": {"tie_word_embeddings": False}}, False),
        ({"model_type": "bigbird_pegasus", "tie_word_embeddings": True}, False),  # its class ties nothing
    ],
    ids=str,
)
def test_a_model_with_a_head_is_tied_as_its_config_or_else_its_class_says(config: dict[str, Any], tied: bool) -> None:
    depth = {"num_hidden_layers": 3, **(config.pop("text_config", {}))}
    config = config | ({"text_config": depth} if config["model_type"] == "gemma3" else depth)
    assert infer_architecture([*LLAMA, "lm_head.weight"], config).tied is tied


def test_experts_are_numbered_inside_a_layer_and_no_stack_of_their_own() -> None:
    names = ["embed_tokens.weight", *(f"layers.{i}.experts.{j}.w" for i in range(2) for j in range(8))]
    found = infer_architecture(names, {"num_hidden_layers": 2})
    assert found.prefix == "layers"
    assert found.layers[1] == tuple(f"experts.{j}.w" for j in range(8))


def test_layers_are_in_the_order_of_their_numbers_whatever_the_file_says() -> None:
    names = ["embed_tokens.weight", *(f"layers.{i}.only_in_{i}" for i in (10, 2, 0, 1, 9, 3, 8, 4, 7, 5, 6))]
    assert infer_architecture(names, {"num_hidden_layers": 11}).layers[10] == ("only_in_10",)


def test_a_vision_tower_of_another_depth_is_passed_over() -> None:
    names = [*LLAMA, *(f"vision.blocks.{i}.x" for i in range(2))]
    found = infer_architecture(names, {"text_config": {"num_hidden_layers": 3}})
    assert (found.prefix, found.depth_key) == ("model.layers", ("text_config", "num_hidden_layers"))
    assert "vision.blocks.0.x" in found.before  # it feeds the embeddings


@pytest.mark.parametrize(
    ("names", "config", "words"),
    [
        (LLAMA, {}, "gives no number of layers under any of .*num_hidden_layers"),
        (LLAMA, {"num_hidden_layers": "3"}, "gives no number of layers"),
        (LLAMA, {"num_hidden_layers": True}, "gives no number of layers"),
        (LLAMA, {"num_hidden_layers": 0}, "gives no number of layers"),
        (LLAMA, {"num_hidden_layers": 4}, "announces 4 layers .*: `model.layers` with 3"),
        (["embed_tokens.weight"], {"num_hidden_layers": 1}, "found are: none"),
        ([name for name in LLAMA if ".1." not in name], {"num_hidden_layers": 2}, "`model.layers` with 2"),
        ([*LLAMA, *(f"other.block.{i}.x" for i in range(3))], {"num_hidden_layers": 3}, "exactly one stack"),
        (LLAMA[1:], {"num_hidden_layers": 3}, "no token embedding was found among model.norm.weight"),
        ([], {"num_hidden_layers": 1}, "found are: none"),
    ],
)
def test_what_is_no_single_decoder_is_said_in_a_sentence(names: list[str], config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        infer_architecture(names, config)


@given(
    st.permutations([*LLAMA, "lm_head.weight", "model.embed_tokens.bias", "rotary.inv_freq"]),
)
def test_every_tensor_is_in_a_layer_or_at_one_end(names: list[str]) -> None:
    found = infer_architecture(names, {"num_hidden_layers": 3})
    layers = [found.layer_name(i, suffix) for i, layer in enumerate(found.layers) for suffix in layer]
    assert sorted([*layers, *found.before, *found.after]) == sorted(names)


@given(
    st.lists(st.text(alphabet="a.01emb_wt", max_size=12), max_size=6),
    st.dictionaries(st.sampled_from(["num_hidden_layers", "n_layer", "text_config"]), st.none() | st.integers(-1, 2)),
)
def test_any_names_and_any_config_give_an_architecture_or_a_value_error(
    names: list[str], config: dict[str, Any]
) -> None:
    try:
        found = infer_architecture(names, config)
    except ValueError as error:
        assert str(error)  # noqa: PT017 (either outcome is right)
    else:
        assert found.depth == config.get("num_hidden_layers") or config.get("n_layer")


def test_the_text_part_of_a_config_is_the_nested_one_where_there_is_one() -> None:
    assert text_config({"a": 1}) == {"a": 1}
    assert text_config({"text_config": {"b": 2}, "a": 1}) == {"b": 2}
    assert text_config({"text_config": None, "a": 1}) == {"text_config": None, "a": 1}
