"""A method that breaks a law is told so, with the case; and what cannot be tried is told too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import pytest

import lamina
from lamina.errors import LawBroken, RecipeError
from lamina.merge_methods import Block, Coefficients, Lambda, Tensors, Tile, Weight, draw_keys


def mean(tile: Tile) -> Block:
    """The mean of the models, or of their deltas."""
    return np.mean(tile.deltas, axis=0, dtype=tile.inputs[0].dtype)


def test_a_sound_method_keeps_all_laws() -> None:
    found = lamina.check_method(lamina.merge_method(laws=["symmetric", "idempotent"])(mean))
    assert found == ("shape", "repeatable", "blocks", "seed", "symmetric", "idempotent")


def too_short(tile: Tile) -> Block:
    """One element less."""
    return tile.inputs[0][1:]


def too_wide(tile: Tile) -> Block:
    """In float64."""
    return tile.inputs[0].astype(np.float128)


def not_a_number(tile: Tile) -> Block:
    """A division by zero."""
    return tile.inputs[0] / (tile.inputs[0] * 0)


def another_each_time(tile: Tile) -> Block:
    """Noise."""
    return tile.inputs[0] + np.random.default_rng().normal(size=len(tile.inputs[0])).astype(tile.inputs[0].dtype)


def by_place_in_its_tile(tile: Tile) -> Block:
    """The first element of a tile counts twice."""
    result = tile.inputs[0].copy()
    result[0] *= 2
    return result


def by_the_largest_of_its_tile(tile: Tile) -> Block:
    """What should have been measured is taken from the tile at hand."""
    return tile.inputs[0] / max(np.abs(tile.inputs[0]).max(), tile.inputs[0].dtype.type(1))


def writes_into_its_input(tile: Tile) -> Block:
    """In place."""
    result = tile.inputs[0]
    result *= 2
    return result


def raises(_tile: Tile) -> Block:
    """Not at all."""
    raise RuntimeError("this cannot be")


@pytest.mark.parametrize(
    ("function", "law", "said"),
    [
        (too_short, "shape", "returns float32 [0] where the tile's arrays are float32 [1]"),
        (too_wide, "shape", "returns float128 [1] where the tile's arrays are float32 [1]"),
        (not_a_number, "shape", "gives NaN or infinity, although every input is finite"),
        (another_each_time, "repeatable", "another result the second time"),
        (by_place_in_its_tile, "blocks", "in blocks of 64 rows its result is another"),
        (writes_into_its_input, "shape", "changes what it was given"),
        (raises, "shape", "raised RuntimeError: this cannot be"),
    ],
)
def test_a_universal_law_that_is_broken_is_told_with_its_case(
    function: Callable[..., Any], law: str, said: str
) -> None:
    with pytest.raises(LawBroken) as broken:
        lamina.check_method(lamina.merge_method(function))
    assert f"breaks the law `{law}`" in str(broken.value)
    assert said in str(broken.value)
    assert "Case " in str(broken.value)


def first_counts_most(*, weight: Weight = 1.0) -> Coefficients:
    """The first model, and a little of the others."""
    return [1.0, *(0.1 for _ in weight[1:])]


@pytest.mark.parametrize(
    ("law", "said"),
    [
        ("symmetric", "with its models in the order"),
        ("idempotent", "of equal models it makes"),
        ("zero weight is base", "with all weights zero it is not the base"),
    ],
)
def test_a_declared_law_that_is_broken_is_told(law: Any, said: str) -> None:
    method = lamina.merge_method(laws=[law], base="ordinary" if law == "idempotent" else "required")(first_counts_most)
    with pytest.raises(LawBroken, match=f"breaks the law `{law}`: {said}"):
        lamina.check_method(method)


def test_a_model_of_weight_zero_that_changes_the_others_breaks_the_law() -> None:
    @lamina.merge_method(laws=["zero weight is base"], base="required")
    def by_count(*, weight: Weight = 1.0) -> Coefficients:
        """The weighted mean over all models, whatever they weigh."""
        return [w / len(weight) for w in weight]

    with pytest.raises(LawBroken, match="a model of weight zero changes what the others give"):
        lamina.check_method(by_count)


def test_torch_tensors_that_are_changed_are_told() -> None:
    @lamina.merge_method
    def in_place(tensors: Tensors) -> Any:
        """The first, doubled where it lies."""
        return tensors.inputs[0].mul_(2)

    with pytest.raises(LawBroken, match="changes the tensors that it was given"):
        lamina.check_method(in_place)


def test_draws_that_are_declared_are_no_break() -> None:
    @lamina.merge_method
    def noisy(tile: Tile, *, keys: Annotated[Sequence[int], draw_keys()]) -> Block:
        """The first model, and a number of its own."""
        return tile.inputs[0] * tile.inputs[0].dtype.type(1 + keys[0] % 7)

    assert "seed" in lamina.check_method(noisy)


def test_what_cannot_be_tried_is_told() -> None:
    @lamina.merge_method
    def needs(*, t: float) -> Coefficients:
        """One minus t, and t."""
        return [1 - t, t]

    with pytest.raises(LawBroken, match=r"needs a value of `t` to be tried: check_method\(..., t=...\)"):
        lamina.check_method(needs)
    with pytest.raises(LawBroken, match="has no parameter u"):
        lamina.check_method(needs, t=0.5, u=1)
    with pytest.raises(LawBroken, match="returns 2 coefficients for 1 model"):
        lamina.check_method(needs, t=0.5)
    with pytest.raises(
        RecipeError, match="there is no law `pretty`; there are symmetric, idempotent, zero weight is base"
    ):
        lamina.check_method(lamina.merge_method(laws=["pretty"])(mean))  # type: ignore[list-item]
    with pytest.raises(RecipeError, match=r"is no merge method: put `@lamina.merge_method` above it"):
        lamina.check_method(lambda tile: tile)
    with pytest.raises(RecipeError, match="Did you mean `linear`"):
        lamina.check_method("liner")
    assert "blocks" in lamina.check_method("linear")


def test_a_method_of_two_models_is_tried_with_two() -> None:
    @lamina.merge_method(inputs=(2, 2))
    def between(*, t: Lambda = 0.25) -> Coefficients:
        """One minus t, and t."""
        return [1 - t, t]

    assert lamina.check_method(between)
