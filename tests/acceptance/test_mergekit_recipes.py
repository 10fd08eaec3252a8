"""MergeKit's recipes, `models` and `slices`, with linear, task_arithmetic and passthrough."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import lamina

from .checkpoints import (
    Checkpoint,
    all_bits,
    depth_map,
    llama_config,
    read_checkpoint,
    same_bits,
    same_layer,
    write_checkpoint,
    write_llama,
)
from .conftest import Bench
from .reference import assert_rounded_once, expected_output, linear


def as_expected(bench: Bench, recipe: Mapping[str, Any]) -> Checkpoint:
    """Merges, and asserts that every tensor is what the float64 reference makes of the same recipe."""
    merged = bench.merge(recipe)
    expected = expected_output(recipe, bench.checkpoints)
    assert set(merged.tensors) == set(expected)
    for name, tensor in merged.tensors.items():
        assert_rounded_once(tensor, expected[name], name)
    return merged


def source(model: str, weight: Any = None, **parameters: Any) -> dict[str, Any]:
    given = parameters if weight is None else {"weight": weight, **parameters}
    return {"model": model, "parameters": given} if given else {"model": model}


def ranged(model: str, start: int, end: int, weight: Any = None, **parameters: Any) -> dict[str, Any]:
    return {**source(model, weight, **parameters), "layer_range": [start, end]}


def models(*entries: dict[str, Any], method: str = "linear", **keys: Any) -> dict[str, Any]:
    return {"models": list(entries), "merge_method": method, **keys}


def slices(*parts: list[dict[str, Any]], method: str = "linear", **keys: Any) -> dict[str, Any]:
    return {"slices": [{"sources": sources} for sources in parts], "merge_method": method, **keys}


# linear


def test_linear_of_three_models_is_their_weighted_mean(bench: Bench) -> None:
    as_expected(bench, models(source("a", 0.2), source("b", 0.3), source("c", 0.9)))


def test_linear_without_normalize_is_the_weighted_sum(bench: Bench) -> None:
    as_expected(bench, models(source("a", 0.2), source("b", 0.3), parameters={"normalize": False}))


def test_linear_takes_negative_weights(bench: Bench) -> None:
    as_expected(bench, models(source("a", 1.5), source("b", -0.5)))


def test_linear_alone_is_a_copy_whatever_its_weight(bench: Bench) -> None:
    assert all_bits(bench.merge(models(source("a", 1)))) == all_bits(bench["a"])
    assert all_bits(bench.merge(models(source("a", 0.3)))) == all_bits(bench["a"])


def test_linear_alone_without_normalize_is_scaled(bench: Bench) -> None:
    as_expected(bench, models(source("a", 0.3), parameters={"normalize": False}))


def test_one_model_may_be_a_source_twice_in_a_slice(bench: Bench) -> None:
    as_expected(bench, slices([ranged("a", 0, 2, 0.25), ranged("a", 2, 4, 0.75)]))


def test_one_model_may_be_listed_twice(bench: Bench) -> None:
    twice = bench.merge(models(source("a", 0.5), source("b", 0.25), source("a", 0.25)))
    expected = expected_output(models(source("a", 0.75), source("b", 0.25)), bench.checkpoints)
    for name, tensor in twice.tensors.items():
        assert_rounded_once(tensor, expected[name], name)


def test_exact_halves_are_rounded_to_even_as_torch_does(tmp_path: Path) -> None:
    # 1 and its bf16 neighbour 1 + 2^-7 meet exactly half-way: down to 1; the next pair meets up at 1 + 2^-6.
    pairs = {"left": [1.0, 1 + 2**-7], "right": [1 + 2**-7, 1 + 2**-6]}
    norm = "model.norm.weight"
    for name, values in pairs.items():
        checkpoint = write_llama(tmp_path / name, 1)
        tensors = {**checkpoint.tensors, norm: torch.tensor(values * 4).bfloat16()}
        write_checkpoint(tmp_path / name / "even", tensors, checkpoint.config)
    (tmp_path / "recipe.yml").write_text("""
models:
  - {model: left/even, parameters: {weight: 1}}
  - {model: right/even, parameters: {weight: 1}}
merge_method: linear
""")
    lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    assert read_checkpoint(tmp_path / "out").norm.tolist() == [1.0, 1 + 2**-6] * 4


@pytest.mark.parametrize("nan", [float("nan"), float("inf")])
def test_nothing_leaks_from_a_source_of_weight_zero(bench: Bench, tmp_path: Path, nan: float) -> None:
    poisoned = {name: torch.full_like(tensor, nan) for name, tensor in bench["a"].tensors.items()}
    write_checkpoint(tmp_path / "poisoned", poisoned, bench["a"].config)
    recipe = models(source(str(bench["a"].folder), 1), source(str(tmp_path / "poisoned"), 0))
    assert all_bits(bench.merge(recipe)) == all_bits(bench["a"])


def test_a_gradient_takes_nothing_from_a_source_where_its_weight_is_zero(bench: Bench, tmp_path: Path) -> None:
    poisoned = {name: torch.full_like(tensor, float("nan")) for name, tensor in bench["a"].tensors.items()}
    write_checkpoint(tmp_path / "poisoned", poisoned, bench["a"].config)
    merged = bench.merge(
        slices(
            [ranged("b", 0, 2, 1)],
            [ranged("a", 0, 2, [1, 0.5]), ranged(str(tmp_path / "poisoned"), 0, 2, [0, 0.5])],
            [ranged("b", 2, 4, 1)],
        )
    )
    assert same_layer(merged.layer(2), bench["a"].layer(0))
    assert all(torch.isnan(tensor).all() for tensor in merged.layer(3).values())  # an input explains it


@pytest.mark.parametrize(
    "recipe",
    [
        models(source("a", 1), source("b", -1)),
        models(source("a", 0), source("b", 0)),
        models(source("a", 0)),
        slices([ranged("a", 0, 4, [1, 0])]),
        slices([ranged("a", 0, 4, [0, 1]), ranged("b", 0, 4, [0, -1])]),
        models(source("a", [{"filter": "mlp", "value": 0}, {"value": 1}])),
    ],
    ids=["opposite", "all zero", "alone", "gradient alone", "gradients", "by filter"],
)
def test_weights_that_sum_to_zero_are_refused(bench: Bench, recipe: dict[str, Any]) -> None:
    refusal = bench.refused(recipe)
    assert "weight" in refusal.text
    assert "0" in refusal.text or "zero" in refusal.text


def test_weights_that_sum_to_zero_are_fine_without_normalize(bench: Bench) -> None:
    as_expected(bench, models(source("a", 1), source("b", -1), parameters={"normalize": False}))


def test_numbers_written_as_text_are_numbers(bench: Bench) -> None:
    # YAML 1.1 reads 1e-5 and 5e-1 as text.
    merged = bench.merge("""
        models:
          - {model: a, parameters: {weight: 5e-1}}
          - {model: b, parameters: {weight: "0.5"}}
          - {model: c, parameters: {weight: [1e-5, 2e-5]}}
        merge_method: linear
        """)
    expected = expected_output(models(source("a", 0.5), source("b", 0.5), source("c", [1e-5, 2e-5])), bench.checkpoints)
    for name, tensor in merged.tensors.items():
        assert_rounded_once(tensor, expected[name], name)


def test_a_weight_that_is_no_number_is_refused(bench: Bench) -> None:
    assert "weight" in bench.refused(models(source("a", "half"), source("b", 0.5))).text


# task_arithmetic


def test_task_arithmetic_adds_weighted_deltas_to_the_base(bench: Bench) -> None:
    as_expected(
        bench, models(source("a"), source("b", 0.7), source("c", -0.4), method="task_arithmetic", base_model="a")
    )


def test_task_arithmetic_appends_the_base_where_it_is_not_listed(bench: Bench) -> None:
    listed = models(source("a"), source("b", 0.7), source("c", 0.4), method="task_arithmetic", base_model="a")
    unlisted = models(source("b", 0.7), source("c", 0.4), method="task_arithmetic", base_model="a")
    assert all_bits(as_expected(bench, unlisted)) == all_bits(as_expected(bench, listed))


def test_task_arithmetic_with_normalize_divides_by_the_sum_of_weights(bench: Bench) -> None:
    as_expected(
        bench,
        models(
            source("b", 0.7),
            source("c", 0.9),
            method="task_arithmetic",
            base_model="a",
            parameters={"normalize": True},
        ),
    )


def test_task_arithmetic_with_normalize_forgives_weights_that_cancel(bench: Bench) -> None:
    as_expected(
        bench,
        models(
            source("b", 1), source("c", -1), method="task_arithmetic", base_model="a", parameters={"normalize": True}
        ),
    )


def test_task_arithmetic_multiplies_the_sum_by_lambda(bench: Bench) -> None:
    recipe = models(source("b", 0.7), source("c", 0.4), method="task_arithmetic", base_model="a")
    as_expected(bench, {**recipe, "parameters": {"lambda": 0.35}})
    as_expected(bench, {**recipe, "parameters": {"lambda": [0.5, 2], "normalize": True}})


def test_task_arithmetic_of_weight_zero_is_the_base(bench: Bench) -> None:
    merged = bench.merge(models(source("b", 0), method="task_arithmetic", base_model="a"))
    assert all_bits(merged) == all_bits(bench["a"])


def test_task_arithmetic_of_the_base_alone_is_the_base(bench: Bench) -> None:
    merged = bench.merge(models(source("a"), method="task_arithmetic", base_model="a"))
    assert all_bits(merged) == all_bits(bench["a"])


def test_task_arithmetic_without_a_base_is_refused(bench: Bench) -> None:
    assert "base_model" in bench.refused(models(source("b", 1), method="task_arithmetic")).text


def test_task_arithmetic_in_slices_with_the_base_at_another_depth(bench: Bench) -> None:
    as_expected(
        bench,
        slices(
            [ranged("eight", 0, 2), ranged("a", 0, 2, 0.5)],
            [ranged("eight", 6, 8), ranged("a", 2, 4, [0.5, 1]), ranged("b", 1, 3, 0.25)],
            method="task_arithmetic",
            base_model="eight",
        ),
    )


def test_parameters_of_the_ties_family_change_nothing_in_task_arithmetic(bench: Bench) -> None:
    plain = models(source("b", 0.7), method="task_arithmetic", base_model="a")
    decorated = models(
        source("b", 0.7, density=0.5),
        method="task_arithmetic",
        base_model="a",
        parameters={"int8_mask": True, "rescale": False},
    )
    assert all_bits(bench.merge(decorated)) == all_bits(bench.merge(plain))


# passthrough


def test_passthrough_stacks_slices_bit_for_bit(bench: Bench) -> None:
    merged = bench.merge(slices([ranged("a", 0, 3)], [ranged("b", 1, 4)], [ranged("a", 3, 4)], method="passthrough"))
    expected = ["a:0", "a:1", "a:2", "b:1", "b:2", "b:3", "a:3"]
    assert depth_map(merged, [bench["a"], bench["b"]]) == expected
    assert merged.config["num_hidden_layers"] == 7


def test_passthrough_of_one_model_copies_it(bench: Bench) -> None:
    assert all_bits(bench.merge(models(source("a"), method="passthrough"))) == all_bits(bench["a"])


def test_passthrough_of_two_models_at_once_is_refused(bench: Bench) -> None:
    bench.refused(models(source("a"), source("b"), method="passthrough"))


def test_passthrough_scales(bench: Bench) -> None:
    as_expected(bench, models(source("a", scale=0.3), method="passthrough"))


def test_passthrough_scales_by_filter_and_copies_the_rest(bench: Bench) -> None:
    rules = [{"filter": "o_proj", "value": 0.0}, {"filter": "down_proj", "value": [0.5, 2]}]
    merged = as_expected(
        bench,
        slices([ranged("a", 0, 4)], [ranged("a", 1, 4, scale=rules)], method="passthrough"),
    )
    for i in range(3):
        assert same_bits(merged.layer(4 + i)["mlp.up_proj.weight"], bench["a"].layer(1 + i)["mlp.up_proj.weight"])


def test_a_copied_tensor_keeps_every_bit_of_it_nan_payloads_too(bench: Bench, tmp_path: Path) -> None:
    patterns = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    own = {f"model.layers.{layer}.mlp.all_patterns": patterns.clone() for layer in range(bench["a"].depth)}
    tensors = {**bench["a"].tensors, **own}
    copy = write_checkpoint(tmp_path / "patterns", tensors, bench["a"].config)
    for recipe in (
        slices([ranged(str(copy.folder), 2, 3)], method="passthrough", dtype="bfloat16"),
        slices([ranged(str(copy.folder), 2, 3, 0.7)]),
    ):
        merged = bench.merge(recipe)
        assert same_bits(merged.tensors["model.layers.0.mlp.all_patterns"], patterns)


def test_an_empty_slice_is_a_slip_and_gets_a_letter(bench: Bench) -> None:
    # MergeKit lets it contribute nothing; nobody writes it on purpose.
    recipe = slices([ranged("a", 0, 2)], [ranged("a", 2, 2)], [ranged("b", 2, 4)], method="passthrough")
    assert "[2, 2] is empty" in bench.refused(recipe).text


# Gradients


def test_a_gradient_runs_from_its_first_to_its_last_value_over_the_layers(bench: Bench) -> None:
    merged = as_expected(bench, models(source("a", [0, 1]), source("b", [1, 0])))
    assert same_layer(merged.layer(0), bench["b"].layer(0))
    assert same_layer(merged.layer(3), bench["a"].layer(3))


def test_a_gradient_of_three_values_bends_in_the_middle(bench: Bench) -> None:
    as_expected(bench, models(source("a", [0, 1, 0.25]), source("b", 0.5)))
    as_expected(bench, slices([ranged("eight", 0, 7, [1, 0.2, 3]), ranged("eight", 1, 8, [0.5, 1, 0, 2])]))


def test_a_gradient_over_one_layer_is_its_last_value(bench: Bench) -> None:
    merged = bench.merge(slices([ranged("a", 0, 3, 1)], [ranged("a", 3, 4, [5, 1]), ranged("b", 3, 4, [1, 3])]))
    for suffix, tensor in merged.layer(3).items():
        pair = [bench["a"].layer(3)[suffix], bench["b"].layer(3)[suffix]]
        assert_rounded_once(tensor, linear(pair, [1, 3]), suffix)


def test_a_gradient_starts_again_in_every_slice(bench: Bench) -> None:
    recipe = slices(
        [ranged("a", 0, 2), ranged("b", 0, 2, 1)],
        [ranged("a", 2, 4), ranged("b", 2, 4, 1)],
        parameters={"weight": [1, 3]},
    )
    merged = as_expected(bench, recipe)
    for i, weight in enumerate([1, 3, 1, 3]):
        pair = [model.layer(i)["mlp.up_proj.weight"] for model in (bench["a"], bench["b"])]
        assert_rounded_once(merged.layer(i)["mlp.up_proj.weight"], linear(pair, [weight, 1]))


def test_embeddings_norm_and_head_take_a_gradients_first_value(bench: Bench) -> None:
    merged = bench.merge(models(source("a", [1, 0]), source("b", [0, 1])))
    assert same_bits(merged.embed, bench["a"].embed)
    assert same_bits(merged.norm, bench["a"].norm)
    assert same_bits(merged.head, bench["a"].head)
    assert same_layer(merged.layer(3), bench["b"].layer(3))


def test_a_gradient_that_changes_norm_and_head_is_announced(bench: Bench) -> None:
    assert "head" in bench.notices(models(source("a", [1, 0]), source("b", [0, 1])))
    assert "head" not in bench.notices(models(source("a", 0.5), source("b", 0.5)))


def test_a_gradient_of_one_value_is_constant(bench: Bench) -> None:
    one = bench.merge(models(source("a", [0.4]), source("b", [0.6])))
    assert all_bits(one) == all_bits(bench.merge(models(source("a", 0.4), source("b", 0.6))))


def test_an_empty_gradient_says_nothing(bench: Bench) -> None:
    recipe = models(source("a", []), source("b", 2), parameters={"weight": 1})
    as_expected(bench, recipe)


def test_a_gradient_of_truth_values_picks_a_step(bench: Bench) -> None:
    as_expected(
        bench,
        slices([ranged("a", 0, 3, 0.5), ranged("b", 1, 4, 2)], parameters={"normalize": [True, False]}),
    )


# Filters


def test_a_filter_is_a_substring_and_the_first_that_matches_wins(bench: Bench) -> None:
    rules = [
        {"filter": "self_attn.q", "value": 0.9},
        {"filter": "self_attn", "value": 0.1},
        {"filter": "mlp", "value": [0.2, 0.8]},
        {"value": 0.5},
    ]
    as_expected(bench, models(source("a", rules), source("b", 0.3)))


def test_a_star_matches_everything(bench: Bench) -> None:
    rules = [{"filter": "norm", "value": 0.9}, {"filter": "*", "value": 0.1}, {"filter": "mlp", "value": 7}]
    as_expected(bench, models(source("a", rules), source("b", 0.3)))


def test_a_filter_is_no_pattern(bench: Bench) -> None:
    recipe = models(
        source("a", [{"filter": "mlp.*_proj", "value": 3}, {"filter": "MLP", "value": 5}, {"value": 1}]),
        source("b", 1),
    )
    as_expected(bench, recipe)


def test_a_filter_with_a_layer_number_also_matches_longer_numbers(bench: Bench) -> None:
    merged = bench.merge(
        slices([ranged("deep", 0, 12, [{"filter": "layers.1", "value": 0}, {"value": 1}]), ranged("deep", 12, 24, 1)])
    )
    for i in range(12):
        copied = same_layer(merged.layer(i), bench["deep"].layer(12 + i))
        assert copied == (i in (1, 10, 11)), i


def test_a_filter_without_a_match_falls_through_to_the_next_level(bench: Bench) -> None:
    rules = [{"filter": "mlp", "value": 0.9}]
    as_expected(bench, models(source("a", rules), source("b", 0.5), parameters={"weight": 0.2}))


def test_a_filter_without_a_match_and_no_next_level_is_a_missing_weight(bench: Bench) -> None:
    refusal = bench.refused(models(source("a", [{"filter": "mlp", "value": 0.9}]), source("b", 0.5)))
    assert "weight" in refusal.text


def test_one_filter_need_not_be_in_a_list(bench: Bench) -> None:
    as_expected(
        bench,
        models(source("a", {"filter": "mlp", "value": 0.9}), source("b", 0.5), parameters={"weight": 0.25}),
    )


def test_filters_of_a_source_name_its_own_layers_and_shared_ones_name_output_layers(bench: Bench) -> None:
    recipe = slices(
        [ranged("a", 0, 2, 1), ranged("b", 0, 2, 1)],
        [
            ranged("a", 1, 3, [{"filter": "layers.2.", "value": 3}, {"value": 1}]),  # output layer 3
            ranged("b", 0, 2, 1),
        ],
        parameters={"normalize": [{"filter": "layers.2.", "value": False}, {"value": True}]},  # output layer 2
    )
    as_expected(bench, recipe)


def test_filters_reach_embeddings_norm_and_head(bench: Bench) -> None:
    rules = [
        {"filter": "lm_head", "value": 0},
        {"filter": "embed_tokens", "value": [2, 9]},
        {"filter": "model.norm", "value": 3},
        {"value": 1},
    ]
    merged = as_expected(bench, models(source("a", rules), source("b", 1)))
    assert same_bits(merged.head, bench["b"].head)


def test_a_filter_that_matches_nothing_is_announced(bench: Bench) -> None:
    recipe = models(source("a", [{"filter": "attention.qkv", "value": 3}, {"value": 1}]), source("b", 1))
    assert "attention.qkv" in bench.notices(recipe)


# Precedence


def test_a_source_outranks_its_slice_and_the_slice_outranks_the_top(bench: Bench) -> None:
    recipe = {
        "slices": [
            {"sources": [ranged("a", 0, 2, 0.1), ranged("b", 0, 2)], "parameters": {"weight": 0.6}},
            {"sources": [ranged("a", 2, 4, 0.1), ranged("b", 2, 4)]},
        ],
        "merge_method": "linear",
        "parameters": {"weight": 0.9},
    }
    as_expected(bench, recipe)


def test_shared_parameters_of_a_slice_outrank_the_top_and_the_default_is_last(bench: Bench) -> None:
    recipe = {
        "slices": [
            {"sources": [ranged("a", 0, 2, 0.1), ranged("b", 0, 2, 0.4)], "parameters": {"normalize": True}},
            {"sources": [ranged("a", 2, 4, 0.1), ranged("b", 2, 4, 0.4)]},
        ],
        "merge_method": "linear",
        "parameters": {"normalize": False},
    }
    as_expected(bench, recipe)
    as_expected(bench, {**recipe, "parameters": {}})


def test_a_top_level_weight_serves_every_model(bench: Bench) -> None:
    as_expected(bench, models(source("a"), source("b"), source("c", 3), parameters={"weight": 1}))


# base_model


def test_a_base_model_that_is_not_listed_joins_the_linear_mean_last(bench: Bench) -> None:
    recipe = models(source("b", 0.5), source("c", 0.25), base_model="a", parameters={"weight": 0.125})
    as_expected(bench, recipe)


def test_a_base_model_that_joins_without_a_weight_is_refused(bench: Bench) -> None:
    refusal = bench.refused(models(source("b", 0.5), source("c", 0.25), base_model="a"))
    assert "weight" in refusal.text


def test_a_listed_base_model_is_an_ordinary_input_of_linear(bench: Bench) -> None:
    as_expected(bench, models(source("a", 0.25), source("b", 0.5), base_model="a"))


def test_a_base_model_is_not_appended_to_slices(bench: Bench) -> None:
    recipe = slices([ranged("b", 0, 2, 0.5), ranged("c", 0, 2, 0.25)], base_model="a")
    merged = as_expected(bench, recipe)
    ours, donors = merged.folder / "tokenizer.json", bench["a"].folder / "tokenizer.json"
    assert ours.read_bytes() == donors.read_bytes()


def test_a_slice_may_have_a_base_model_of_its_own(bench: Bench) -> None:
    recipe = {
        "slices": [
            {"sources": [ranged("a", 0, 2), ranged("b", 0, 2, 0.5)]},
            {"sources": [ranged("a", 2, 4, 0.25), ranged("b", 2, 4)], "base_model": "b"},
        ],
        "merge_method": "task_arithmetic",
        "base_model": "a",
    }
    as_expected(bench, recipe)


# Where embeddings, norm and head come from


def test_norm_and_head_take_all_sources_of_the_last_slice(bench: Bench) -> None:
    # MergeKit counts the sources of the first slice here, and loses one.
    merged = as_expected(bench, slices([ranged("a", 0, 2, 1)], [ranged("a", 2, 4, 0.5), ranged("b", 2, 4, 0.5)]))
    assert same_bits(merged.embed, bench["a"].embed)
    assert_rounded_once(merged.head, linear([bench["a"].head, bench["b"].head], [1, 1]))


def test_embeddings_take_the_sources_of_the_first_slice_only(bench: Bench) -> None:
    merged = as_expected(bench, slices([ranged("a", 0, 2, 0.5), ranged("c", 0, 2, 0.5)], [ranged("b", 2, 4, 1)]))
    assert same_bits(merged.head, bench["b"].head)


def test_linear_slices_with_opposite_gradients_hold_no_nan(bench: Bench) -> None:
    merged = as_expected(
        bench,
        slices(
            [ranged("eight", 0, 3, 1)],
            [ranged("eight", 3, 8, [1, 0]), ranged("eight", 0, 5, [0, 1])],
            [ranged("eight", 5, 8, 1)],
        ),
    )
    assert merged.config["num_hidden_layers"] == 11


# dtype


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("key", ["dtype", "out_dtype"])
def test_the_result_is_stored_in_the_wanted_dtype(bench: Bench, key: str, dtype: str) -> None:
    merged = as_expected(bench, models(source("a", 0.3), source("b", 0.5), **{key: dtype}))
    assert {str(tensor.dtype) for tensor in merged.tensors.values()} == {f"torch.{dtype}"}
    assert merged.config["dtype"] == dtype


def test_out_dtype_outranks_dtype(bench: Bench) -> None:
    for dtype, out_dtype in (("float32", "bfloat16"), ("float64", "float16"), ("bfloat16", "float32")):
        merged = as_expected(
            bench, models(source("single", 0.3), source("single_b", 0.5), dtype=dtype, out_dtype=out_dtype)
        )
        assert merged.config["dtype"] == out_dtype


def test_dtype_float64_is_computed_in_float64(bench: Bench) -> None:
    as_expected(bench, models(source("a", 0.1), source("b", 0.7), dtype="float64"))


def test_float64_inputs_are_computed_in_float64(bench: Bench) -> None:
    as_expected(bench, models(source("double", 0.1), source("double_b", 0.7)))
    as_expected(bench, models(source("double", 0.1), source("a", 0.7)))
    as_expected(bench, models(source("double", 0.1), source("double_b", 0.7), out_dtype="float32"))


def test_a_float64_model_is_copied_bit_for_bit(bench: Bench) -> None:
    assert all_bits(bench.merge(models(source("double"), method="passthrough"))) == all_bits(bench["double"])


@pytest.mark.parametrize(
    ("first", "second", "dtype"),
    [("a", "half", "float32"), ("half", "a", "float32"), ("a", "single", "float32"), ("half", "double", "float64")],
)
def test_mixed_dtypes_are_promoted(bench: Bench, first: str, second: str, dtype: str) -> None:
    merged = as_expected(bench, models(source(first, 0.3), source(second, 0.5)))
    assert {str(tensor.dtype) for tensor in merged.tensors.values()} == {f"torch.{dtype}"}
    assert merged.config["dtype"] == dtype


@pytest.mark.parametrize(
    ("model", "dtype"), [("single", torch.bfloat16), ("a", torch.float32), ("half", torch.bfloat16)]
)
def test_a_copy_to_another_dtype_is_rounded_once(bench: Bench, model: str, dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    merged = bench.merge(models(source(model), method="passthrough", dtype=name))
    for tensor_name, tensor in merged.tensors.items():
        assert same_bits(tensor, bench[model].tensors[tensor_name].to(dtype)), tensor_name


def test_dtype_names_may_carry_the_torch_prefix(bench: Bench) -> None:
    merged = bench.merge(models(source("a", 0.3), source("b", 0.5), dtype="torch.float16"))
    assert merged.norm.dtype == torch.float16
    assert merged.config["dtype"] == "float16"


def test_an_unknown_dtype_is_refused_before_anything_is_read(bench: Bench) -> None:
    assert "bfloat16" in bench.refused(models(source("a", 0.3), source("b", 0.5), dtype="bf16")).text


def test_inputs_are_not_rounded_to_dtype_before_the_sum(bench: Bench) -> None:
    # One rounding, at the end: the float32 inputs enter the bf16 mean as they are.
    as_expected(bench, models(source("single", 0.3), source("single_b", 0.7), dtype="bfloat16"))


def test_subnormal_numbers_are_merged_like_others(tmp_path: Path) -> None:
    for dtype, tiny in ((torch.bfloat16, 2.0**-133), (torch.float16, 2.0**-24), (torch.float32, 2.0**-149)):
        folder = tmp_path / str(dtype)
        sources = []
        for name, factor in (("x", 3), ("y", 8)):
            checkpoint = write_llama(folder / name, 1, dtype=dtype)
            values = (torch.arange(-4, 4) * factor * tiny).to(dtype)
            tensors = {**checkpoint.tensors, "model.norm.weight": values}
            sources.append(write_checkpoint(folder / name / "tiny", tensors, checkpoint.config))
        recipe = models(source("x/tiny", 0.5), source("y/tiny", 0.25), parameters={"normalize": False})
        (folder / "recipe.yml").write_text(yaml.safe_dump(recipe))
        lamina.merge(folder / "recipe.yml", folder / "out")
        merged = read_checkpoint(folder / "out")
        expected = linear([s.norm for s in sources], [0.5, 0.25], normalize=False)
        assert_rounded_once(merged.norm, expected)
        assert (merged.norm != 0).any()


# Tensors that are not the usual matrices


def test_integer_tensors_are_copied_where_all_inputs_agree(tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.positions": torch.arange(5)}
    for name in ("x", "y"):
        write_llama(tmp_path / name, 1, extra=extra)
    (tmp_path / "recipe.yml").write_text(MEAN_OF_X_AND_Y)
    lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    merged = read_checkpoint(tmp_path / "out")
    assert same_bits(merged.tensors["model.layers.0.self_attn.positions"], torch.arange(5))


def test_integer_tensors_that_differ_are_an_error(tmp_path: Path) -> None:
    for name, values in (("x", torch.arange(5)), ("y", torch.arange(5) + 1)):
        write_llama(tmp_path / name, 1, extra={"model.layers.0.self_attn.positions": values})
    (tmp_path / "recipe.yml").write_text(MEAN_OF_X_AND_Y)
    with pytest.raises(lamina.errors.LaminaError, match=r"positions"):
        lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


MEAN_OF_X_AND_Y = """
models:
  - {model: x, parameters: {weight: 1}}
  - {model: y, parameters: {weight: 1}}
merge_method: linear
"""


def test_tensors_of_odd_shapes_are_merged_like_others(tmp_path: Path) -> None:
    shapes = {"scalar": (), "cube": (3, 1, 5), "one": (1,), "row": (1, (1 << 20) + 5)}
    inputs = []
    for name, offset in (("x", 0.0), ("y", 1.0)):
        extra = {
            f"model.layers.0.self_attn.{kind}": (
                torch.arange(max(1, int(torch.tensor(shape).prod()))).reshape(shape).remainder(509) / 64 + offset
            ).bfloat16()
            for kind, shape in shapes.items()
        }
        inputs.append(write_llama(tmp_path / name, 1, extra=extra))
    (tmp_path / "recipe.yml").write_text(MEAN_OF_X_AND_Y)
    lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    merged = read_checkpoint(tmp_path / "out")
    for kind in shapes:
        name = f"model.layers.0.self_attn.{kind}"
        assert_rounded_once(merged.tensors[name], linear([c.tensors[name] for c in inputs], [1, 1]), name)


def test_layer_tensors_of_unfamiliar_names_travel_with_their_layer(tmp_path: Path) -> None:
    extra = {f"model.layers.{i}.mixer.state.bias": torch.full((3,), float(i)) for i in range(3)}
    write_llama(tmp_path / "x", 3, extra=extra)
    (tmp_path / "recipe.yml").write_text("stack: [{model: x, layers: [2, 0-1]}]")
    lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    merged = read_checkpoint(tmp_path / "out")
    assert [merged.layer(i)["mixer.state.bias"][0].item() for i in range(3)] == [2, 0, 1]


def test_no_tensor_outside_the_layers_is_lost_without_a_word(tmp_path: Path) -> None:
    write_llama(tmp_path / "x", 2, extra={"model.projector.weight": torch.ones(3)})
    (tmp_path / "recipe.yml").write_text("stack: [{model: x, layers: [0, 0-1]}]")
    plan = lamina.plan(tmp_path / "recipe.yml")
    told = " ".join(notice.message for notice in plan.notices)
    assert "model.projector.weight" in {job.name for job in plan.jobs} or "model.projector.weight" in told


# Things MergeKit accepts


def test_keys_without_effect_are_accepted_and_announced(bench: Bench) -> None:
    recipe = models(source("a", 0.3), source("b", 0.5), input_model_parameters={}, my_notes="hello")
    as_expected(bench, recipe)
    assert "my_notes" in bench.notices(recipe)


def test_keys_without_a_value_are_as_good_as_absent(bench: Bench) -> None:
    merged = bench.merge("""
        slices:
        models:
          - {model: a, parameters: {weight: 0.3}}
          - {model: b, parameters: {weight: 0.5}}
        merge_method: linear
        base_model:
        dtype: null
        out_dtype: ~
        parameters:
        """)
    assert all_bits(merged) == all_bits(bench.merge(models(source("a", 0.3), source("b", 0.5))))


def test_parents_whose_configs_disagree_are_announced(bench: Bench, tmp_path: Path) -> None:
    other = write_llama(tmp_path / "other", 4, config={"rms_norm_eps": 1e-5})
    assert "rms_norm_eps" in bench.notices(models(source("a", 0.3), source(str(other.folder), 0.5)))
    stack = {"stack": [{"model": "a", "layers": "0-1"}, {"model": str(other.folder), "layers": "2-3"}]}
    assert "rms_norm_eps" in bench.notices(stack)


def test_residual_weight_is_accepted(bench: Bench) -> None:
    recipe = slices([ranged("a", 0, 4)], method="passthrough")
    recipe["slices"][0]["residual_weight"] = 0.5
    assert all_bits(bench.merge(recipe)) == all_bits(bench["a"])


def test_a_layer_range_of_whole_floats_is_accepted(bench: Bench) -> None:
    merged = bench.merge("slices: [{sources: [{model: a, layer_range: [1.0, 3.0]}]}]\nmerge_method: passthrough")
    assert depth_map(merged, [bench["a"]]) == ["a:1", "a:2"]


def test_truth_values_may_be_numbers(bench: Bench) -> None:
    with_number = bench.merge(models(source("a", 0.3), source("b", 0.5), parameters={"normalize": 0}))
    with_bool = bench.merge(models(source("a", 0.3), source("b", 0.5), parameters={"normalize": False}))
    assert all_bits(with_number) == all_bits(with_bool)


def test_fewer_layers_are_written_to_the_config(bench: Bench) -> None:
    merged = bench.merge(slices([ranged("eight", 1, 3)], method="passthrough"))
    assert llama_config(2, torch.bfloat16, tied=False) == {
        key: merged.config[key] for key in llama_config(2, torch.bfloat16, tied=False)
    }
