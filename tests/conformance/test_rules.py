"""The rules themselves: they pass what is equal, and nothing else."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance import ours
from conformance.compare import compare
from conformance.distribution import compare_draws
from conformance.models import Checkpoint, write_models
from conformance.peer import Outcome
from conformance.recipes import draw_recipe
from conformance.reference import expected
from conformance.rows import TWISTS, rows_of
from conformance.shrink import shrunk
from conformance.study import met, read_models

TIES = {
    "merge_method": "ties",
    "models": [{"model": "bf16/near_a", "parameters": {"weight": 1.0}}],
    "base_model": "bf16/base",
    "parameters": {"density": 0.5},
    "dtype": "float32",
}
DARE = {
    "merge_method": "dare_linear",
    "models": [{"model": "f32/near_a", "parameters": {"weight": 1.0, "density": 0.5}}],
    "base_model": "f32/base",
    "dtype": "float32",
}
NAME = "model.layers.2.mlp.up_proj.weight"
GIVEN = {"model.layers.N.mlp.up_proj.weight"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_models(folder)
    return folder


def changed(outcome: Outcome, place: Any, value: float) -> Outcome:
    assert outcome.checkpoint is not None
    tensor = outcome.checkpoint.tensors[NAME].copy()
    tensor[place] = value
    return Outcome(replace(outcome.checkpoint, tensors={**outcome.checkpoint.tensors, NAME: tensor}))


def tensor_of(outcome: Outcome) -> np.ndarray[Any, Any]:
    assert outcome.checkpoint is not None
    return outcome.checkpoint.tensors[NAME]


def test_a_result_equals_itself(world: Path) -> None:
    made = ours.merge(TIES, world)
    assert compare(TIES, read_models(world), made, made).equal


def test_one_element_that_is_off_is_a_difference(world: Path) -> None:
    made, models = ours.merge(TIES, world), read_models(world)
    delta = np.abs(tensor_of(made) - models["bf16/base"].tensors[NAME])
    largest = np.unravel_index(int(np.argmax(delta)), delta.shape)  # far from the cut-off
    other = changed(made, largest, float(tensor_of(made)[largest]) + 1e-4)
    verdict = compare(TIES, models, made, other)
    assert len(verdict.problems) >= 1
    assert NAME in verdict.problems[0]


def test_which_of_several_equals_is_kept_is_no_difference_but_how_many_is_one(world: Path) -> None:
    made, models = ours.merge(TIES, world), read_models(world)
    base, near = (models[name].tensors[NAME] for name in ("bf16/base", "bf16/near_a"))
    choice = expected("ties", [near], base, {"density": [0.5], "weight": [1.0], "normalize": True, "rescale": False,
                                              "lambda": 1.0}).choice  # fmt: skip
    kept = np.argwhere(choice & (tensor_of(made) != base))
    dropped = np.argwhere(choice & (tensor_of(made) == base))
    one, other = tuple(kept[0]), tuple(dropped[0])
    fewer = changed(made, one, float(base[one]))
    assert not compare(TIES, models, made, fewer).equal
    swapped = changed(fewer, other, float(near[other]))
    assert compare(TIES, models, made, swapped).equal


def test_a_missing_tensor_another_dtype_and_another_config_are_differences(world: Path) -> None:
    made, models = ours.merge(TIES, world), read_models(world)
    assert made.checkpoint is not None
    less = {name: tensor for name, tensor in made.checkpoint.tensors.items() if name != NAME}
    for other in (
        replace(made.checkpoint, tensors=less),
        replace(made.checkpoint, dtypes={**made.checkpoint.dtypes, NAME: "BF16"}),
        replace(made.checkpoint, config={**made.checkpoint.config, "num_hidden_layers": 3}),
    ):
        assert not compare(TIES, models, made, Outcome(other)).equal
    assert not compare(TIES, models, made, Outcome(None, "ValueError: no")).equal


def test_a_draw_is_among_draws_and_what_was_not_rescaled_is_not(world: Path) -> None:
    models = read_models(world)
    drawn = ours.merge(DARE, world, seed=99)
    assert compare_draws(DARE, models, lambda seed: ours.merge(DARE, world, seed=seed), drawn).equal
    plain = ours.merge({**DARE, "parameters": {"rescale": False}}, world, seed=99)
    assert not compare_draws(DARE, models, lambda seed: ours.merge(DARE, world, seed=seed), plain).equal
    denser = ours.merge({**DARE, "models": [{"model": "f32/near_a", "parameters": {"weight": 1.0, "density": 0.55}}]},
                        world, seed=99)  # fmt: skip
    assert not compare_draws(DARE, models, lambda seed: ours.merge(DARE, world, seed=seed), denser).equal


@pytest.mark.parametrize("number", range(len(TWISTS)))
def test_a_twisted_recipe_touches_its_row(number: int) -> None:
    for seed in range(5):
        assert number + 1 in rows_of(TWISTS[number](random.Random(seed)))


def test_four_recipes_in_five_touch_no_row() -> None:
    plain = sum(not draw_recipe(12345, number).rows for number in range(500))
    assert plain >= 400


def test_a_recipe_is_the_same_whenever_it_is_drawn() -> None:
    assert draw_recipe(1, 17) == draw_recipe(1, 17)
    assert draw_recipe(1, 17) != draw_recipe(2, 17)


def test_what_mergekit_made_of_a_row_is_told(world: Path) -> None:
    made = ours.merge(TIES, world)
    assert made.checkpoint is not None
    assert met(made, made, GIVEN) == ("the same", "merges")
    assert met(Outcome(None, "ValueError: no"), made, GIVEN) == ("refuses, or breaks off", "merges")
    assert met(changed(made, (0, 0), np.nan), made, GIVEN) == ("writes NaN or infinity", "merges")
    assert met(made, made, {"model.layers.N.more"}) == ("leaves out tensors of its models", "merges")
    tied: Checkpoint = replace(made.checkpoint, config={**made.checkpoint.config, "tie_word_embeddings": True})
    assert met(Outcome(tied), made, GIVEN) == ("config.json says tied, and there is a head", "merges")


def test_a_failing_recipe_shrinks_to_what_makes_it_fail() -> None:
    recipe = {
        "merge_method": "linear",
        "slices": [
            {
                "sources": [
                    {"model": "a", "layer_range": [0, 4], "parameters": {"weight": [0.5, 1.0]}},
                    {"model": "b", "layer_range": [0, 4], "parameters": {"weight": [{"filter": "mlp", "value": 2.0}]}},
                ]
            },
            {"sources": [{"model": "a", "layer_range": [0, 2]}]},
        ],
        "parameters": {"weight": 1.0, "normalize": False},
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }
    smallest = shrunk(recipe, lambda candidate: "'b'" in str(candidate) and "normalize" in str(candidate))
    assert smallest == {
        "merge_method": "linear",
        "slices": [{"sources": [{"model": "b", "layer_range": [0, 1]}]}],
        "parameters": {"normalize": False},
        "dtype": "float32",
    }
