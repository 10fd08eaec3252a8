"""Parents whose configs disagree, and weights that do something else than one would guess."""

from __future__ import annotations

from typing import Any

import pytest
from desk import Desk

from lamina.errors import RecipeError
from lamina.models.plain import open_model
from lamina.planners.merge import plan_merge
from lamina.recipe.load import load_recipe

BOTH = """
    models:
      - {model: a, parameters: {weight: 0.5}}
      - {model: b, parameters: {weight: 0.5}}
    merge_method: linear
"""
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


def two(desk: Desk, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Models `a` and `b`; a value of `...` takes the key out."""
    desk.model("a", config=first)
    desk.model("b", config=second)


def configs_told(desk: Desk, first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    two(desk, first, second)
    return desk.notices(BOTH, "unlike-configs")


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("rms_norm_eps", 1e-6, 1e-5),
        ("max_position_embeddings", 64, 128),
        ("sliding_window", 16, None),
        ("attn_logit_softcapping", 50.0, None),
        ("final_logit_softcapping", None, 30.0),
        ("residual_multiplier", 1.0, 0.22),
        ("embedding_multiplier", 12.0, 1.0),
        ("logits_scaling", 1.0, 8.0),
        ("attention_multiplier", 0.1, 0.2),
        ("query_pre_attn_scalar", 16, 32),
        ("model_type", "llama", "mistral"),
        ("partial_rotary_factor", 1.0, 0.5),
        ("num_experts_per_tok", 1, 2),
    ],
)
def test_a_value_that_changes_the_function_is_told_once_with_both(
    desk: Desk, key: str, first: object, second: object
) -> None:
    (told,) = configs_told(desk, {key: first}, {key: second})
    words = ["not set" if value is None else str(value) for value in (first, second)]
    assert f"{key} is {words[0]} in `a`, whose config.json the result has, and {words[1]} in `b`: " in told


def test_architectures_are_told_where_the_model_type_does_not_say_it_already(desk: Desk) -> None:
    (told,) = configs_told(desk, {}, {"architectures": ["LlamaForOther"]})
    assert "architectures is LlamaForCausalLM in `a`" in told
    desk.model("c", config={"model_type": "mistral", "architectures": ["MistralForCausalLM"]})
    (told,) = desk.notices(BOTH.replace("model: b", "model: c"), "unlike-configs")
    assert "model_type is llama in `a`" in told


def test_an_absent_value_is_its_neutral_one(desk: Desk) -> None:
    assert configs_told(desk, {"residual_multiplier": 1.0, "clip_qkv": None}, {"logits_scaling": 1.0}) == []


def test_a_window_that_is_switched_off_is_none(desk: Desk) -> None:
    assert configs_told(desk, {"use_sliding_window": False, "sliding_window": 16}, {}) == []


def test_three_models_are_told_in_one_notice(desk: Desk) -> None:
    two(desk, {}, {"rms_norm_eps": 1e-5})
    desk.model("c", config={"rms_norm_eps": 1e-4})
    recipe = BOTH.replace("    merge_method", "      - {model: c, parameters: {weight: 1}}\n    merge_method")
    assert "1e-05 in `b`, 0.0001 in `c`" in desk.notices(recipe, "unlike-configs")[0]


def test_a_model_whose_layers_are_not_used_is_not_compared(desk: Desk) -> None:
    two(desk, {}, {"rms_norm_eps": 1e-5})
    assert desk.notices("stack: [{model: a, layers: 0-1}]\nembed: b\n", "unlike-configs") == []


OLD = {"rope_parameters": ...}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"rope_theta": 10000.0}, {"rope_theta": 10000, "rope_type": "default"}),
        ({}, {"rope_theta": 10000.0, "rope_type": "default"}),
        ({"rope_theta": 5e5, "rope_scaling": None}, {"rope_theta": 5e5, "rope_type": "default"}),
        (
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
            {"rope_theta": 5e5, "rope_type": "llama3", **LLAMA3},
        ),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rope_theta": 1e4, "rope_type": "linear", "factor": 2}),
        ({"rope_scaling": {"type": "linear", "factor": 1.0}}, {"rope_theta": 1e4, "rope_type": "default"}),
        ({"partial_rotary_factor": 0.5}, {"rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        (
            {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        ),
    ],
)
def test_the_two_spellings_of_rope_are_compared_by_meaning(
    desk: Desk, old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert configs_told(desk, OLD | old, {"rope_parameters": new}) == []


def test_unlike_theta_is_told_across_spellings(desk: Desk) -> None:
    (told,) = configs_told(desk, OLD | {"rope_theta": 5e5}, {})
    assert "rope_theta is 500000.0 in `a`, whose config.json the result has, and 10000.0 in `b`" in told


def test_unlike_scaling_of_one_type_is_told(desk: Desk) -> None:
    ours = {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, **LLAMA3}}
    theirs = {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, **LLAMA3, "factor": 32.0}}
    (told,) = configs_told(desk, ours, theirs)
    assert "rope scaling is {factor: 8.0," in told
    assert "{factor: 32.0," in told


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ({}, {"hidden_act": "gelu"}, "activation gelu"),
        ({}, {"num_attention_heads": 1, "head_dim": 8}, "num_attention_heads 1"),
        ({}, {"num_key_value_heads": 2, "head_dim": 2}, "num_key_value_heads 2"),
        ({}, {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, **LLAMA3}}, "rope_type llama3"),
        (OLD | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, {}, "rope_type default"),
    ],
)
def test_unequal_heads_activation_and_rope_type_are_faults(
    desk: Desk, first: dict[str, Any], second: dict[str, Any], word: str
) -> None:
    two(desk, first, second)
    problem = desk.problem(BOTH)
    assert (problem.code, problem.line) == ("unlike-models", 4)
    assert f"`b` has {word}" in problem.message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"hidden_act": "silu"}, {"hidden_act": "swish"}),
        ({"hidden_act": "gelu_new"}, {"hidden_act": ..., "activation_function": "gelu_pytorch_tanh"}),
        ({"head_dim": None}, {}),
        ({"num_key_value_heads": 2}, {"num_key_value_heads": None}),
    ],
)
def test_what_means_the_same_is_no_fault(desk: Desk, first: dict[str, Any], second: dict[str, Any]) -> None:
    assert configs_told(desk, first, second) == []


def test_a_tied_and_an_untied_model_are_told(desk: Desk) -> None:
    desk.model("a", tied=True)
    desk.model("b")
    (told,) = desk.notices(BOTH, "unlike-configs")
    assert "the embedding is the head in `a`, and not in `b`; the result has a head of its own" in told


# Weights


@pytest.mark.parametrize(("weights", "total"), [((0.5, 0.3), "0.8"), ((1, 1), "2"), ((0.5, -0.5), "0")])
def test_weights_that_are_added_up_to_far_from_one_are_told_once(
    desk: Desk, weights: tuple[float, float], total: str
) -> None:
    two(desk, {}, {})
    (told,) = desk.notices(
        f"""
        models:
          - {{model: a, parameters: {{weight: {weights[0]}}}}}
          - {{model: b, parameters: {{weight: {weights[1]}}}}}
        merge_method: linear
        parameters: {{normalize: false}}
        """,
        "weight-sum",
    )
    assert f"on output layers 0-1 and the ends the weights add up to {total}, " in told


def test_only_the_layers_where_the_sum_is_far_from_one_are_named(desk: Desk) -> None:
    two(desk, {}, {})
    (told,) = desk.notices(
        """
        models:
          - {model: a, parameters: {weight: 0.5}}
          - {model: b, parameters: {weight: [0.5, 1]}}
        merge_method: linear
        parameters: {normalize: false}
        """,
        "weight-sum",
    )
    assert "on output layer 1 the weights add up to 1.5" in told


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.5, 0.49), (0.55, 0.55)])
def test_a_sum_of_about_one_is_usual(desk: Desk, weights: tuple[float, float]) -> None:
    two(desk, {}, {})
    recipe = BOTH.replace("0.5", str(weights[0]), 1) + "    parameters: {normalize: false}\n"
    recipe = recipe.replace("model: b, parameters: {weight: 0.5", f"model: b, parameters: {{weight: {weights[1]}")
    assert desk.notices(recipe) == []


def test_a_sum_that_is_divided_by_is_no_matter(desk: Desk) -> None:
    two(desk, {}, {})
    assert desk.notices(BOTH.replace("0.5", "3")) == []


SINGLE = """
    slices:
      - sources: [{{model: a, layer_range: [0, 2], parameters: {{weight: {weight}}}}}]
      - sources: [{{model: b, layer_range: [0, 2]{more}}}]
    merge_method: linear
    parameters: {{normalize: {normalize}}}
"""


@pytest.mark.parametrize("weight", ["0.5", "2", "-1", "[0.5, 1]", "[{filter: mlp, value: 0.3}, {value: 1}]"])
def test_a_weight_that_its_slice_divides_by_has_no_effect(desk: Desk, weight: str) -> None:
    two(desk, {}, {})
    one = ", parameters: {weight: 1}"
    (notice,) = desk.plan(SINGLE.format(weight=weight, normalize="true", more=one)).notices
    assert "`weight` of `a` has no effect: it is the only source here" in notice.message
    assert notice.place.endswith("recipe.yml:3:68")


def test_under_the_strict_border_a_weight_without_effect_is_a_fault(desk: Desk) -> None:
    two(desk, {}, {})
    recipe = desk.recipe(SINGLE.format(weight=0.5, normalize="true", more=", parameters: {weight: 1}"))
    with pytest.raises(RecipeError) as caught:
        plan_merge(load_recipe(recipe, border="strict"), lambda ref: open_model(str(ref), desk.folder / ref.path))
    assert [problem.code for problem in caught.value.problems] == ["no-effect"]


def test_a_weight_of_one_or_without_normalize_is_no_slip(desk: Desk) -> None:
    two(desk, {}, {})
    one = ", parameters: {weight: 1}"
    assert desk.notices(SINGLE.format(weight=1, normalize="true", more=one)) == []
    assert desk.notices(SINGLE.format(weight=0.5, normalize="false", more=one), "no-effect") == []


def test_a_weight_in_a_stack_counts_where_its_entry_crosses_another(desk: Desk) -> None:
    two(desk, {}, {})
    crossing = "stack: [{model: a, layers: 0-1, weight: 0.3}, {model: b, layers: 0-1, at: 1, weight: 0.7}]\n"
    assert desk.notices(crossing, "no-effect") == []
    alone = "stack: [{model: a, layers: 0-1, weight: 0.3}, {model: b, layers: 0-1}]\n"
    assert len(desk.notices(alone, "no-effect")) == 1
