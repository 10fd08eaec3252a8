"""Where the depth has a seam, and which source layers meet there."""

from __future__ import annotations

from collections.abc import Sequence

from plans import Recipe, delta, job, merged, plan_of

from lamina.plans.seams import Seam, seams
from lamina.plans.weights import effective_weights


def of(layers: Sequence[Recipe]) -> list[Seam]:
    return seams(effective_weights(plan_of(layers)))


def copies(*numbers: int) -> list[Recipe]:
    return [[("base", number, 1.0)] for number in numbers]


def test_a_model_as_it_is_has_none() -> None:
    assert of(copies(0, 1, 2, 3)) == []


def test_a_repeated_stretch_has_one_where_it_begins() -> None:
    """SOLAR: the layer behind layer 2 was trained behind layer 0."""
    assert of(copies(0, 1, 2, 1, 2, 3)) == [Seam(3, 0.0, True, (2,), (1,))]


def test_a_layer_that_is_left_out_is_a_seam() -> None:
    assert of(copies(0, 1, 3)) == [Seam(2, 0.0, True, (1,), (3,))]


def test_the_next_layer_of_another_model_is_one_of_another_kind() -> None:
    assert of([[("a", 0, 1.0)], [("b", 1, 1.0)]]) == [Seam(1, 0.0, False, (0,), (1,))]


def test_a_blend_that_begins_at_half_is_half_a_seam() -> None:
    assert of([[("x", 3, 1.0)], [("x", 4, 0.5), ("x", 0, 0.5)]]) == [Seam(1, 0.5, True, (3,), (4, 0))]


def test_a_long_ramp_has_none() -> None:
    layers = [[("x", 10 + i, 1 - i / 8), ("x", i, i / 8)] for i in range(9)]
    assert of(layers) == []


def test_models_that_change_slowly_at_one_depth_have_none() -> None:
    assert of([[("a", i, 1 - i / 8), ("b", i, i / 8)] for i in range(9)]) == []


def test_deltas_move_nothing_beside_a_base_that_goes_on() -> None:
    plan = plan_of([job(f"model.layers.{i}.w", delta("base", "tuned", i, float(i))) for i in range(4)])
    assert seams(effective_weights(plan)) == []


def test_a_layer_that_adds_nothing_is_passed_over() -> None:
    """As in LLaMA Pro: layer 1 again, silent, and then layer 2, which gets what layer 1 gave."""
    name = "mlp.down_proj.weight"
    sources = ((0, 1.0), (1, 1.0), (1, 0.0), (2, 1.0))
    jobs = [
        job(f"model.layers.{output}.{name}", merged([("x", layer, factor)], name))
        for output, (layer, factor) in enumerate(sources)
    ]
    assert seams(effective_weights(plan_of(jobs))) == []
