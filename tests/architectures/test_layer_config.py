"""config.json of a restacked model: what is said of single layers goes with them, or is refused."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lamina.architectures.infer import infer_architecture, text_config
from lamina.architectures.layer_config import Decoder, Origin, has_layer_kinds, restacked_config

KINDS = ["full", "slide", "slide", "full"]
DOUBLED = [0, 1, 2, 1, 2, 3]


def decoder(config: dict[str, Any], depth: int = 4, odd: dict[int, str] | None = None) -> Decoder:
    """A model of one tensor a layer; the layers `odd` have one more."""
    names = ["embed_tokens.weight", *(f"layers.{i}.w" for i in range(depth))]
    names += [f"layers.{i}.{name}" for i, name in (odd or {}).items()]
    part = text_config(config)
    config = config if part is not config or "layers_block_type" in config else {"num_hidden_layers": depth} | config
    return Decoder("it", config, infer_architecture(names, config))


def restacked(config: dict[str, Any], layers: Sequence[int], depth: int = 4, **more: Any) -> dict[str, Any]:
    """`config` for output layers that are each one layer of the model itself; nothing stands in the way."""
    model = decoder(config, depth)
    result, problems = restacked_config(model, [[Origin(model, layer)] for layer in layers], **more)
    assert problems == []
    return result


def problems(config: dict[str, Any], layers: Sequence[int] = DOUBLED, depth: int = 4) -> list[str]:
    model = decoder(config, depth)
    return restacked_config(model, [[Origin(model, layer)] for layer in layers])[1]


def test_the_depth_is_that_of_the_result() -> None:
    assert restacked({"hidden_size": 8}, DOUBLED) == {"num_hidden_layers": 6, "hidden_size": 8}


def test_the_depth_is_written_where_it_was_read() -> None:
    result = restacked({"text_config": {"n_layer": 2}, "n_layer": 99}, [0, 0, 0], depth=2)
    assert result == {"text_config": {"n_layer": 3}, "n_layer": 99}


def test_a_depth_that_is_said_twice_is_written_twice() -> None:
    result = restacked({"num_blocks": 4, "num_hidden_layers": 4}, DOUBLED)
    assert result == {"num_blocks": 6, "num_hidden_layers": 6}


def test_the_cache_of_a_decoder_without_its_encoder_is_as_long_as_it() -> None:
    assert restacked({"decoder_layers": 4, "encoder_layers": 5}, DOUBLED)["encoder_layers"] == 6
    assert restacked({"decoder_layers": 4, "encoder_layers": 9}, DOUBLED)["encoder_layers"] == 9


# What has one value a layer


@pytest.mark.parametrize(
    "key", ["layer_types", "mlp_layer_types", "no_rope_layers", "layer_rope_theta", "attn_type_list"]
)
def test_a_list_with_one_value_a_layer_goes_with_the_layers(key: str) -> None:
    assert restacked({key: KINDS}, DOUBLED)[key] == ["full", "slide", "slide", "slide", "slide", "full"]


def test_a_list_may_define_the_depth() -> None:
    result = restacked({"layers_block_type": KINDS}, DOUBLED)
    assert result == {"layers_block_type": ["full", "slide", "slide", "slide", "slide", "full"]}


def test_layers_by_number_are_numbered_anew() -> None:
    assert restacked({"full_attn_idxs": [0, 2]}, DOUBLED)["full_attn_idxs"] == [0, 2, 4]


def test_a_mapping_by_number_is_keyed_anew() -> None:
    result = restacked({"per_layer_config": {"1": {"skip": ["mlp"]}, "3": {"heads": 2}}}, DOUBLED)
    assert result["per_layer_config"] == {"1": {"skip": ["mlp"]}, "3": {"skip": ["mlp"]}, "5": {"heads": 2}}


def test_references_to_layers_follow_them() -> None:
    assert restacked({"kv_source_layers": [0, 0, 2, 2]}, DOUBLED)["kv_source_layers"] == [0, 0, 2, 0, 4, 4]


def test_a_reference_to_a_layer_that_is_gone_stands_in_the_way() -> None:
    assert "names layers that come no more" in problems({"kv_source_layers": [0, 0, 2, 2]}, [1, 2, 3])[0]


def test_lists_go_with_the_layers_of_other_models() -> None:
    a, b = decoder({"layer_types": KINDS}), decoder({"layer_types": ["slide", "linear"]}, depth=2)
    result, _ = restacked_config(a, [[Origin(a, 0)], [Origin(b, 1)], [Origin(a, 1)]])
    assert result["layer_types"] == ["full", "linear", "slide"]


def test_a_model_that_says_nothing_has_what_all_layers_of_the_donor_have() -> None:
    silent, uniform, mixed = decoder({}), decoder({"layer_types": ["full"] * 4}), decoder({"layer_types": KINDS})
    assert restacked_config(uniform, [[Origin(silent, 1)]])[0]["layer_types"] == ["full"]
    assert "not in every config.json" in restacked_config(mixed, [[Origin(silent, 1)]])[1][0]


def test_layers_of_one_kind_may_be_blended_under_whichever_name() -> None:
    a, b = decoder({"layer_types": ["mamba"] * 4}), decoder({"layer_types": ["linear_attention"] * 4})
    assert restacked_config(a, [[Origin(a, 0), Origin(b, 3)]] * 2)[1] == []


def test_layers_of_unlike_kinds_may_not_and_both_are_named() -> None:
    model = decoder({"layer_types": KINDS})
    found = restacked_config(model, [[Origin(model, 0)], [Origin(model, 0), Origin(model, 1)]])[1]
    assert found == ["output layer 1 blends layers of unlike `layer_types`: full, slide."]


# What decides kinds by a number


def test_a_pattern_that_is_said_out_goes() -> None:
    result = restacked({"layer_types": KINDS, "sliding_window_pattern": 2}, [0, 0, 1, 2, 3])
    assert "sliding_window_pattern" not in result


def test_kinds_that_a_model_type_leaves_unsaid_are_written_where_they_no_longer_follow_its_rule() -> None:
    result = restacked({"model_type": "gemma2"}, [0, 0, 1, 2, 3])
    s, f = "sliding_attention", "full_attention"
    assert result["layer_types"] == [s, s, f, s, f]


def test_and_are_left_unsaid_where_they_do() -> None:
    assert restacked({"model_type": "gemma2"}, [0, 1, 2, 3, 2, 3]) == {"model_type": "gemma2", "num_hidden_layers": 6}


def test_a_rule_reads_its_number_from_the_config() -> None:
    result = restacked({"model_type": "cohere2", "sliding_window_pattern": 2}, [0, 1, 1, 2])
    assert [kind[0] for kind in result["layer_types"]] == ["s", "f", "f", "s"]


def test_kinds_by_a_rule_that_is_not_known_stand_in_the_way_of_moved_layers_alone() -> None:
    assert "layers of flint differ in it by a rule" in problems({"model_type": "flint"})[0]
    assert problems({"model_type": "flint"}, [0, 1, 2, 3]) == []


def test_a_last_layer_that_the_class_takes_for_one_kind_is_of_that_kind() -> None:
    s, f = "sliding_attention", "full_attention"
    config = {"model_type": "gemma4_text", "layer_types": [s, f, s, f]}
    assert restacked(config, [0, 1, 2, 2, 3])["layer_types"] == [s, f, s, s, f]
    assert "takes its last layer for full_attention" in problems(config, [0, 1, 2, 3, 0])[0]


def test_dense_layers_that_still_come_first_are_counted_again() -> None:
    assert restacked({"first_k_dense_replace": 1}, [0, 1, 2, 3, 2, 3])["first_k_dense_replace"] == 1
    assert restacked({"first_k_dense_replace": 2}, [0, 1, 0, 1, 2, 3])["first_k_dense_replace"] == 4
    assert restacked({"first_k_dense_replace": 2}, [2, 3])["first_k_dense_replace"] == 0
    (problem,) = problems({"first_k_dense_replace": 2})
    assert "dense layers come first" in problem


def test_experts_at_every_second_layer_become_a_list_of_those_without() -> None:
    result = restacked({"decoder_sparse_step": 2, "mlp_only_layers": [3]}, DOUBLED)
    assert (result["decoder_sparse_step"], result["mlp_only_layers"]) == (1, [0, 2, 4, 5])


def test_llama_4_lists_its_expert_layers() -> None:
    config = {"model_type": "llama4_text", "interleave_moe_layer_step": 2, "no_rope_layers": [1, 1, 1, 0]}
    assert restacked(config, [0, 0, 1, 2, 3])["moe_layers"] == [2, 4]


def test_ernie_s_range_of_expert_layers_is_found_again_or_refused() -> None:
    config = {"moe_layer_start_index": 1, "moe_layer_end_index": 3, "moe_layer_interval": 1}
    result = restacked(config, [0, 1, 2, 3, 2, 3])
    assert (result["moe_layer_start_index"], result["moe_layer_end_index"]) == (1, 5)
    assert "cannot say which layers have experts" in problems(config, [0, 1, 0, 1, 1])[0]


def test_jamba_s_periods_are_found_again_or_refused() -> None:
    config = {"attn_layer_period": 4, "attn_layer_offset": 2}
    result = restacked(config, [1, 2, 3])
    assert [index % result["attn_layer_period"] == result["attn_layer_offset"] for index in range(3)] == [0, 1, 0]
    assert "regular distances" in problems(config, [0, 2, 2, 3, 1])[0]


def test_a_tail_of_shared_keys_and_values_stays_a_tail_or_is_refused() -> None:
    config = {"layer_types": ["full", "slide", "full", "slide"], "num_kv_shared_layers": 2}
    assert restacked(config, [0, 1, 2, 3, 3])["num_kv_shared_layers"] == 3
    assert "keys and values" in problems(config)[0]


def test_a_layer_that_takes_what_another_selected_stays_behind_one_that_selects() -> None:
    config = {"indexer_types": ["full", "full", "shared", "shared"]}
    assert restacked(config, [1, 2, 3, 0, 2])["indexer_types"] == ["full", "shared", "shared", "full", "shared"]
    assert "output layer 0 would take what a layer before it selects" in problems(config, [2, 0, 1])[0]


def test_a_cycle_of_kinds_becomes_as_long_as_the_stack() -> None:
    assert restacked({"block_types": ["r", "r", "a"]}, [0, 2, 2, 3])["block_types"] == ["r", "a", "a", "r"]


def test_runs_of_kinds_are_written_one_by_one() -> None:
    result = restacked({"attention_types": [[["g", "l"], 2]], "attention_layers": ["g", "l", "g", "l"]}, [0, 0, 1])
    assert result["attention_types"] == [[["g"], 1], [["g"], 1], [["l"], 1]]
    assert result["attention_layers"] == ["g", "g", "l"]


def test_a_word_with_a_letter_a_layer_is_spelled_again() -> None:
    assert restacked({"hybrid_override_pattern": "M*-M"}, [0, 2, 1])["hybrid_override_pattern"] == "M-*"


def test_layers_numbered_from_one_are_numbered_anew() -> None:
    config = {"linear_attn_config": {"kda_layers": [1, 2, 3], "full_attn_layers": [4], "head_dim": 8}}
    result = restacked(config, [0, 3, 3])["linear_attn_config"]
    assert result == {"kda_layers": [1], "full_attn_layers": [2, 3], "head_dim": 8}


def test_residuals_that_are_scaled_by_the_depth_stay_as_large() -> None:
    assert restacked({"scale_depth": 1.5}, [0, 1, 2, 3] * 4)["scale_depth"] == 3.0


def test_layers_that_predict_further_tokens_are_counted_as_long_as_they_are_kept() -> None:
    config = {"num_nextn_predict_layers": 1}
    assert restacked(config, DOUBLED)["num_nextn_predict_layers"] == 1
    assert restacked(config, DOUBLED, keeps_next_token=False)["num_nextn_predict_layers"] == 0


def test_what_a_list_says_of_them_comes_after_the_layers_and_goes_with_them() -> None:
    config = {"num_nextn_predict_layers": 2, "layer_types": ["full", "full", "slide", "slide", "mtp", "mtp"]}
    assert restacked(config, [0, 2, 3])["layer_types"] == ["full", "slide", "slide", "mtp", "mtp"]
    assert restacked(config, [0, 2, 3], keeps_next_token=False)["layer_types"] == ["full", "slide", "slide"]
    assert restacked(config, [0, 1, 2, 3]) == {**config, "num_hidden_layers": 4}


# What cannot travel


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "divides by its own number"),
        ({"n_layers_per_attn_res_block": 2}, "goes by its number"),
        ({"model_type": "beam"}, "weigh what they add against the stream by their own number"),
        ({"model_type": "diffllama"}, "compute with their own number"),
        ({"model_type": "zamba2"}, "share blocks"),
    ],
    ids=str,
)
def test_what_goes_by_a_layer_s_own_number_stands_in_the_way_of_moved_layers(
    config: dict[str, Any], words: str
) -> None:
    assert words in problems(config)[0]
    assert problems(config, [0, 1, 2, 3]) == []


def test_layers_of_two_such_models_are_blended_where_they_are_and_nowhere_else() -> None:
    a, b = decoder({"model_type": "beam"}), decoder({"model_type": "beam"})
    assert restacked_config(a, [[Origin(a, i), Origin(b, i)] for i in range(4)])[1] == []
    (problem,) = restacked_config(a, [[Origin(a, 0), Origin(b, 2)], [Origin(a, 1)]])[1]
    assert problem.startswith("output layer 0 blends layers 0, 2: layers of beam weigh")
    assert problem.endswith("Leave each where it is.")


def test_a_first_layer_unlike_the_others_stays_the_first() -> None:
    model = decoder({}, odd={0: "pre_norm"})
    for layers, right in (([0, 1, 2, 2, 3], True), ([0, 0, 1], False), ([1, 2, 3], False)):
        found = restacked_config(model, [[Origin(model, layer)] for layer in layers])[1]
        assert (found == []) is right, layers
    assert "layer 0 and the others differ in pre_norm" in found[0]


def test_a_layer_that_is_unlike_the_others_where_config_json_says_why_may_move() -> None:
    model = decoder({"mlp_layer_types": KINDS}, odd={0: "gate", 3: "gate"})
    assert restacked_config(model, [[Origin(model, layer)] for layer in (3, 3, 1)])[1] == []


def test_a_layer_in_the_middle_that_is_unlike_the_others_may_not_move() -> None:
    model = decoder({}, odd={1: "extra"})
    assert "layer 1 and the others differ in extra" in restacked_config(model, [[Origin(model, 1)]])[1][0]


def test_an_unknown_list_as_long_as_the_model_stands_in_the_way_and_the_letter_names_the_flag() -> None:
    (problem,) = problems({"mystery": [1, 2, 3, 4]})
    assert "`--assume-per-layer mystery`" in problem
    assert problems({"mystery": [1, 2, 3]}) == []
    assert problems({"eos_token_id": [1, 2, 3, 4]}) == []


def test_unless_it_is_said_to_go_with_the_layers() -> None:
    result = restacked({"mystery": [1, 2, 3, 4]}, DOUBLED, assume_per_layer=["mystery"])
    assert result["mystery"] == [1, 2, 3, 2, 3, 4]


def test_every_reason_is_given_at_once() -> None:
    config = {"first_k_dense_replace": 2, "mystery": [1, 2, 3, 4], "model_type": "diffllama"}
    assert len(problems(config)) == 3


# Laws

configs = st.fixed_dictionaries(
    {},
    optional={
        "layer_types": st.permutations(KINDS),
        "mlp_layer_types": st.permutations(KINDS),
        "mystery": st.just([1, 2, 3, 4]),
        "first_k_dense_replace": st.integers(0, 4),
        "decoder_sparse_step": st.integers(1, 4),
        "mlp_only_layers": st.lists(st.integers(0, 3), max_size=3),
        "full_attn_idxs": st.lists(st.integers(0, 3), max_size=3, unique=True).map(sorted),
        "num_kv_shared_layers": st.integers(0, 3),
        "per_layer_config": st.dictionaries(st.sampled_from("0123"), st.just({"skip": []}), max_size=2),
        "model_type": st.sampled_from(["gemma2", "llama", "flint", "zamba", "qwen3_moe", "jamba", "exaone_moe"]),
        "sliding_window_pattern": st.integers(1, 3),
    },
).map(lambda config: {"num_hidden_layers": 4} | config)
stacks = st.lists(st.integers(0, 3), min_size=1, max_size=9)


@given(configs)
@example({"num_hidden_layers": 4, "layer_types": KINDS, "sliding_window_pattern": 2})
def test_layers_that_stay_where_they_were_change_nothing(config: dict[str, Any]) -> None:
    assert restacked(config, [0, 1, 2, 3]) == config


@given(configs, stacks)
def test_the_config_that_was_given_stays_as_it_was(config: dict[str, Any], layers: list[int]) -> None:
    before = copy.deepcopy(config)
    model = decoder(config)
    result, _ = restacked_config(model, [[Origin(model, layer)] for layer in layers])
    assert config == before
    assert result["num_hidden_layers"] == len(layers)


@given(configs, stacks, st.data())
def test_restacking_twice_is_restacking_once(config: dict[str, Any], layers: list[int], data: st.DataObject) -> None:
    """What the result says of its layers is enough to restack it again."""
    again = data.draw(st.lists(st.integers(0, len(layers) - 1), min_size=1, max_size=6))
    once = decoder(config)
    result, faults = restacked_config(once, [[Origin(once, layer)] for layer in layers])
    direct, direct_faults = restacked_config(once, [[Origin(once, layers[j])] for j in again])
    if faults or direct_faults or "num_kv_shared_layers" in config:
        return
    twice = decoder(result, depth=len(layers))
    found, _ = restacked_config(twice, [[Origin(twice, layer)] for layer in again])
    for key in ("layer_types", "mlp_layer_types", "mlp_only_layers", "full_attn_idxs", "per_layer_config"):
        assert _spoken(found, key) == _spoken(direct, key)


def _spoken(config: dict[str, Any], key: str) -> object:
    """What a decoder with this config reads under a key."""
    from lamina.architectures.layer_facts import FACTS

    fact = next((fact for fact in FACTS if fact.name == key), None)
    return config.get(key) if fact is None else fact.read(config, config["num_hidden_layers"])


@pytest.mark.parametrize(
    ("config", "several"),
    [
        ({}, False),
        ({"layer_types": KINDS}, True),
        ({"layer_types": ["full"] * 4}, False),
        ({"decoder_sparse_step": 1, "mlp_only_layers": [1]}, True),
        ({"decoder_sparse_step": 1, "mlp_only_layers": []}, False),
        ({"first_k_dense_replace": 1}, True),
        ({"first_k_dense_replace": 0}, False),
        ({"model_type": "gemma2"}, True),
        ({"text_config": {"num_hidden_layers": 4, "layer_types": KINDS}}, True),
    ],
    ids=str,
)
def test_whether_a_config_speaks_of_several_kinds(config: dict[str, Any], several: bool) -> None:
    assert has_layer_kinds(decoder(config)) is several
