"""config.json of a restacked model: what is said of single layers goes with them, or is refused."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lamina.architectures.layer_config import PER_LAYER_LISTS, Origin, has_layer_kinds, restacked_config
from lamina.architectures.quirks import (
    DERIVING_SCALARS,
    IMPLICIT_LAYER_KINDS,
    INDEX_IN_ARITHMETIC,
    INDEX_LISTS,
    INDEX_SCALARS,
)

KINDS = ["full", "slide", "slide", "full"]


def restacked(config: dict[str, Any], layers: Sequence[int], depth: int = 4) -> tuple[dict[str, Any], list[str]]:
    """`config` for output layers that are each one layer of the model itself."""
    return restacked_config(config, ("num_hidden_layers",), depth, [[Origin(config, layer)] for layer in layers])


def test_the_depth_is_that_of_the_result() -> None:
    config, problems = restacked({"num_hidden_layers": 4, "hidden_size": 8}, [0, 1, 2, 1, 2, 3])
    assert (config, problems) == ({"num_hidden_layers": 6, "hidden_size": 8}, [])


def test_the_depth_is_written_where_it_was_read() -> None:
    config = {"text_config": {"n_layer": 2}, "n_layer": 99}
    origins = [[Origin(config, 0)]] * 3
    assert restacked_config(config, ("text_config", "n_layer"), 2, origins)[0] == {
        "text_config": {"n_layer": 3},
        "n_layer": 99,
    }


@pytest.mark.parametrize("key", PER_LAYER_LISTS)
def test_a_list_with_one_value_a_layer_goes_with_the_layers(key: str) -> None:
    config, problems = restacked({"num_hidden_layers": 4, key: KINDS}, [0, 1, 2, 1, 2, 3])
    assert config[key] == ["full", "slide", "slide", "slide", "slide", "full"]
    assert problems == []


def test_lists_go_with_the_layers_of_other_models() -> None:
    a = {"num_hidden_layers": 2, "layer_types": ["full", "slide"]}
    b = {"num_hidden_layers": 3, "layer_types": ["slide", "slide", "linear"]}
    config, _ = restacked_config(a, ("num_hidden_layers",), 2, [[Origin(a, 0)], [Origin(b, 2)], [Origin(a, 1)]])
    assert config["layer_types"] == ["full", "linear", "slide"]


def test_a_model_of_one_layer_takes_its_list_along() -> None:
    config, problems = restacked({"num_hidden_layers": 1, "layer_types": ["full"]}, [0, 0], depth=1)
    assert (config["layer_types"], problems) == (["full", "full"], [])


def test_layers_of_one_kind_may_be_blended() -> None:
    config = {"num_hidden_layers": 4, "layer_types": KINDS}
    _, problems = restacked_config(config, ("num_hidden_layers",), 4, [[Origin(config, 0), Origin(config, 3)]] * 2)
    assert problems == []


def test_layers_of_unlike_kinds_may_not_and_both_are_named() -> None:
    config = {"num_hidden_layers": 4, "layer_types": KINDS}
    origins = [[Origin(config, 0)], [Origin(config, 0), Origin(config, 1)]]
    _, problems = restacked_config(config, ("num_hidden_layers",), 4, origins)
    assert problems == ["output layer 1 blends layers of unlike `layer_types`: full, slide."]


@pytest.mark.parametrize("scalar", DERIVING_SCALARS)
def test_a_pattern_that_spoke_of_the_old_layers_goes_where_the_list_says_it(scalar: str) -> None:
    config, problems = restacked({"num_hidden_layers": 4, "layer_types": KINDS, scalar: 2}, [0, 0, 1, 2, 3])
    assert scalar not in config
    assert problems == []


# What cannot travel


@pytest.mark.parametrize("key", INDEX_SCALARS)
def test_a_scalar_that_counts_layers_stands_in_the_way_unless_it_is_harmless(key: str) -> None:
    for harmless in INDEX_SCALARS[key]:
        assert restacked({"num_hidden_layers": 4, key: harmless}, [0, 0, 1, 2, 3])[1] == []
    (problem,) = restacked({"num_hidden_layers": 4, key: 3}, [0, 0, 1, 2, 3])[1]
    assert f"`{key}: 3`" in problem


@pytest.mark.parametrize("key", INDEX_LISTS)
def test_a_list_of_layer_numbers_stands_in_the_way_unless_it_is_empty(key: str) -> None:
    assert restacked({"num_hidden_layers": 4, key: []}, [0, 0, 1, 2, 3])[1] == []
    (problem,) = restacked({"num_hidden_layers": 4, key: [1]}, [0, 0, 1, 2, 3])[1]
    assert f"`{key}`" in problem


@pytest.mark.parametrize("scalar", DERIVING_SCALARS)
def test_a_pattern_without_its_list_stands_in_the_way(scalar: str) -> None:
    (problem,) = restacked({"num_hidden_layers": 4, scalar: 2}, [0, 0, 1, 2, 3])[1]
    assert f"`{scalar}: 2`" in problem


@pytest.mark.parametrize("model_type", IMPLICIT_LAYER_KINDS)
def test_kinds_that_a_config_leaves_unsaid_stand_in_the_way(model_type: str) -> None:
    (problem,) = restacked({"num_hidden_layers": 4, "model_type": model_type}, [0, 0, 1, 2, 3])[1]
    assert model_type in problem
    said = {"num_hidden_layers": 4, "model_type": model_type, "layer_types": KINDS}
    assert restacked(said, [0, 0, 1, 2, 3])[1] == []


@pytest.mark.parametrize("model_type", INDEX_IN_ARITHMETIC)
def test_layers_that_compute_with_their_number_stand_in_the_way(model_type: str) -> None:
    (problem,) = restacked({"num_hidden_layers": 4, "model_type": model_type}, [0, 0, 1, 2, 3])[1]
    assert "their own index" in problem


def test_an_unknown_list_as_long_as_the_model_stands_in_the_way() -> None:
    (problem,) = restacked({"num_hidden_layers": 4, "mystery": [1, 2, 3, 4]}, [0, 0, 1, 2, 3])[1]
    assert "`mystery`" in problem
    assert restacked({"num_hidden_layers": 4, "mystery": [1, 2, 3]}, [0, 0, 1, 2, 3])[1] == []
    assert restacked({"num_hidden_layers": 4, "eos_token_id": [1, 2, 3, 4]}, [0, 0, 1, 2, 3])[1] == []


def test_sliding_from_a_layer_on_stands_in_the_way() -> None:
    config = {"num_hidden_layers": 4, "max_window_layers": 2, "use_sliding_window": True}
    (problem,) = restacked(config, [0, 0, 1, 2, 3])[1]
    assert "`max_window_layers`" in problem
    assert restacked(config | {"use_sliding_window": False}, [0, 0, 1, 2, 3])[1] == []


def test_every_reason_is_given_at_once() -> None:
    config = {"num_hidden_layers": 4, "first_k_dense_replace": 1, "mlp_only_layers": [0], "model_type": "zamba"}
    assert len(restacked(config, [0, 0, 1, 2, 3])[1]) == 3


# Laws

configs = st.dictionaries(
    st.sampled_from([*PER_LAYER_LISTS, *INDEX_SCALARS, *INDEX_LISTS, *DERIVING_SCALARS, "model_type", "hidden_size"]),
    st.integers(0, 3) | st.just(KINDS) | st.none() | st.sampled_from(["gemma2", "llama"]) | st.just([1]),
    max_size=5,
).map(lambda config: {"num_hidden_layers": 4} | config)


@given(configs)
@example({"num_hidden_layers": 4, "layer_types": KINDS, "sliding_window_pattern": 2})
def test_layers_that_stay_where_they_were_change_nothing(config: dict[str, Any]) -> None:
    assert restacked(config, [0, 1, 2, 3]) == (config, [])


@given(configs, st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_the_config_that_was_given_stays_as_it_was(config: dict[str, Any], layers: list[int]) -> None:
    before = copy.deepcopy(config)
    result, _ = restacked(config, layers)
    assert config == before
    assert result["num_hidden_layers"] == len(layers)


@given(configs, st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_every_list_of_a_config_without_problems_is_as_long_as_the_result(
    config: dict[str, Any], layers: list[int]
) -> None:
    result, problems = restacked(config, layers)
    if not problems:
        for key in PER_LAYER_LISTS:
            if result.get(key) == KINDS or (isinstance(config.get(key), list) and len(config[key]) == 4):
                assert result[key] == [KINDS[layer] for layer in layers]


# Whether layers differ in kind


@pytest.mark.parametrize(
    ("config", "several"),
    [
        ({"num_hidden_layers": 4}, False),
        ({"layer_types": KINDS}, True),
        ({"mlp_only_layers": [1]}, True),
        ({"mlp_only_layers": []}, False),
        ({"first_k_dense_replace": 1}, True),
        ({"first_k_dense_replace": 0}, False),
        ({"model_type": "gemma2"}, True),
        ({"text_config": {"layer_types": KINDS}}, True),
    ],
    ids=str,
)
def test_whether_a_config_speaks_of_several_kinds(config: dict[str, Any], several: bool) -> None:
    assert has_layer_kinds(config) is several
