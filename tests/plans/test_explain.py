"""A plan in words: tables and maps of plans small enough to be read off by eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import SPEC, Recipe, job, merged, plan_of, read

from lamina.expressions.nodes import Cast, Merge, Read
from lamina.plans.explain import SHADES, end_rows, layer_map, layer_rows, tracks
from lamina.plans.plan import Job, Plan
from lamina.tensor_spec import F32, TensorSpec

# Rows


def test_layers_that_are_copied_in_order_are_one_row() -> None:
    assert table([[("base", i, 1.0)] for i in range(4)]) == ["0-3 | base 0-3 | copied"]


def test_a_jump_in_the_source_starts_a_row() -> None:
    assert table([[("base", i, 1.0)] for i in (0, 1, 2, 1, 2, 3)]) == [
        "0-2 | base 0-2 | copied",
        "3-5 | base 1-3 | copied",
    ]


def test_a_single_layer_is_a_single_number() -> None:
    assert table([[("base", 7, 1.0)]]) == ["0 | base 7 | copied"]


def test_another_model_starts_a_row() -> None:
    assert table([[("a", 0, 1.0)], [("b", 1, 1.0)]]) == ["0 | a 0 | copied", "1 | b 1 | copied"]


def test_a_constant_blend_says_how_much_of_each() -> None:
    layers = [[("a", i, 0.25), ("b", i, 0.75)] for i in range(3)]
    assert table(layers) == ["0-2 | a 0-2  +  b 0-2 | 0.25  +  0.75"]


def test_a_gradient_says_from_where_to_where() -> None:
    layers = [[("a", i, 1 - i / 8), ("b", i, i / 8)] for i in range(1, 8)]
    assert table(layers) == ["0-6 | a 1-7  +  b 1-7 | 0.875 -> 0.125  +  0.125 -> 0.875"]


def test_a_bend_in_a_gradient_starts_a_row() -> None:
    layers = [[("a", i, weight), ("b", i, 1.0)] for i, weight in enumerate((0.1, 0.2, 0.3, 0.7, 1.1))]
    assert table(layers) == [
        "0-2 | a 0-2  +  b 0-2 | 0.1 -> 0.3  +  1",
        "3-4 | a 3-4  +  b 3-4 | 0.7 -> 1.1  +  1",
    ]


def test_a_ramp_includes_the_copies_at_its_ends() -> None:
    """Layers 0-5 at 0 and again at 2: on output layers 2 to 5 the later counts 0, 1/3, 2/3, 1."""
    layers: list[Recipe] = [
        [("x", 0, 1.0)],
        [("x", 1, 1.0)],
        [("x", 2, 1.0)],
        [("x", 3, 2 / 3), ("x", 1, 1 / 3)],
        [("x", 4, 1 / 3), ("x", 2, 2 / 3)],
        [("x", 3, 1.0)],
        [("x", 4, 1.0)],
        [("x", 5, 1.0)],
    ]
    assert table(layers) == [
        "0-1 | x 0-1 | copied",
        "2-5 | x 2-5  +  x 0-3 | 1 -> 0  +  0 -> 1",
        "6-7 | x 4-5 | copied",
    ]


def test_no_row_speaks_of_a_layer_before_the_first() -> None:
    """Weights that would reach 0 one layer before layer 0 are no ramp that begins there."""
    layers: list[Recipe] = [
        [("x", 2, 1.0)],
        [("x", 3, 2 / 3), ("x", 0, 1 / 3)],
        [("x", 4, 1 / 3), ("x", 1, 2 / 3)],
        [("x", 2, 1.0)],
    ]
    assert table(layers)[:2] == ["0 | x 2 | copied", "1-3 | x 3-5  +  x 0-2 | 0.667 -> 0  +  0.333 -> 1"]


def test_a_blend_of_a_model_with_itself_counts_both_layers() -> None:
    assert table([[("x", 0, 0.5), ("x", 4, 0.5)]]) == ["0 | x 0  +  x 4 | 0.5  +  0.5"]


def test_the_same_source_twice_is_added_up() -> None:
    assert table([[("x", 0, 0.5), ("x", 0, 0.25)]]) == ["0 | x 0 | 0.75"]


def test_factors_that_differ_between_tensors_are_a_span() -> None:
    jobs = [job("model.layers.0.attn.w", merged([("a", 0, 0.2)])), job("model.layers.0.mlp.w", merged([("a", 0, 0.5)]))]
    assert rows(plan_of(jobs)) == ["0 | a 0 | 0.2..0.5"]


def test_a_source_counts_for_nothing_in_a_tensor_that_is_made_without_it() -> None:
    jobs = [
        job("model.layers.0.attn.w", merged([("a", 0, 1.0)])),
        job("model.layers.0.mlp.w", merged([("a", 0, 0.5), ("b", 0, 0.5)])),
    ]
    assert rows(plan_of(jobs)) == ["0 | a 0  +  b 0 | 0.5..1  +  0..0.5"]


def test_factors_of_deltas_are_marked() -> None:
    expr = Merge("task_arithmetic", (read("tuned", 0),), (0.7,), read("base", 0), SPEC)
    assert rows(plan_of([job("model.layers.0.w", expr)])) == ["0 | base 0  +  tuned 0 | 1  +  0.7 Δ"]


def test_what_is_only_converted_is_cast() -> None:
    expr = Cast(read("a", 0), TensorSpec((2, 2), F32))
    assert rows(plan_of([job("model.layers.0.w", expr)])) == ["0 | a 0 | cast"]


# The ends


def test_the_ends_say_what_they_are_made_of() -> None:
    embed = Read("a", "model.embed_tokens.weight", SPEC)
    both = Merge("linear", (embed, Read("b", "model.embed_tokens.weight", SPEC)), (0.3, 0.7), None, SPEC)
    wide = Cast(embed, TensorSpec((2, 2), F32))
    plan = plan_of(
        [
            Job("model.embed_tokens.weight", embed, None),
            Job("model.norm.weight", both, None),
            Job("lm_head.weight", wide, None),
        ]
    )
    assert end_rows(plan) == [
        ("embed_tokens", "a", "copied"),
        ("norm", "0.3 a  +  0.7 b", ""),
        ("lm_head", "a", "cast"),
    ]


# Names


def test_models_go_by_their_own_names() -> None:
    assert table([[("models/deep/base", 0, 1.0)]]) == ["0 | base 0 | copied"]


def test_models_of_one_name_keep_their_folders() -> None:
    layers = [[("old/base", 0, 1.0)], [("new/base", 0, 1.0)]]
    assert table(layers) == ["0 | old/base 0 | copied", "1 | new/base 0 | copied"]


# The map


def test_the_map_draws_each_model_at_each_offset() -> None:
    layers = [[("base", i, 1.0)] for i in (0, 1, 2, 1, 2, 3)]
    assert layer_map(plan_of(layers)) == [
        "  depth  0    5",
        "  base   ███     0-2 at 0",
        "  base      ███  1-3 at 3",
    ]


def test_the_map_is_darker_where_more_counts() -> None:
    layers = [[("a", i, i / 4)] for i in range(5)]
    assert [character for character in layer_map(plan_of(layers))[1] if character in SHADES] == list("░▒▓█")


def test_a_deep_model_fits_a_line_of_eighty() -> None:
    lines = layer_map(plan_of([[("a-model-of-a-long-name", i, 1.0)] for i in range(400)]))
    assert max(map(len, lines)) <= 80
    assert "399" in lines[0]


def test_a_model_that_is_taken_away_in_one_layer_of_many_is_drawn() -> None:
    layers: list[Recipe] = [[("a", i, 1.0)] for i in range(100)]
    layers[50] = [("a", 50, 1.0), ("b", 50, -1.0)]
    drawn = layer_map(plan_of(layers))
    assert SHADES[-1] in drawn[2]


def test_a_model_that_counts_for_nothing_anywhere_is_in_no_track() -> None:
    plan = plan_of([[("a", i, 0.0)] for i in range(3)])
    assert tracks(plan) == []
    layer_map(plan)
    layer_rows(plan)


def test_a_plan_without_layers_has_an_empty_map() -> None:
    plan = plan_of([Job("model.norm.weight", read("a", 0), None)])
    layer_map(plan)
    assert layer_rows(plan) == []


# Laws

factor = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])
layers_of_any_kind = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), factor), min_size=1, max_size=3),
    min_size=1,
    max_size=12,
)


@given(layers_of_any_kind)
def test_rows_cover_every_output_layer_once(layers: list[Any]) -> None:
    found = layer_rows(plan_of(layers))
    assert [output for row in found for output in range(row.first, row.last + 1)] == list(range(len(layers)))
    assert all(row.sources and row.blend for row in found)


@given(layers_of_any_kind)
def test_tracks_hold_every_factor_that_is_not_zero(layers: list[Any]) -> None:
    """Output and source layer decide the track; a layer has one tensor here, so that its factor is the track's."""
    plan = plan_of(layers)
    found = {(track.model, track.offset): track.factors for track in tracks(plan)}
    for output, layer in enumerate(layers):
        for model in "abc":
            for source in range(6):
                expected = sum(f for m, s, f in layer if (m, s) == (model, source))
                assert found.get((model, output - source), [0.0] * len(layers))[output] == pytest.approx(expected)


@given(layers_of_any_kind)
def test_a_map_is_as_many_lines_as_tracks_and_a_ruler(layers: list[Any]) -> None:
    plan = plan_of(layers)
    assert len(layer_map(plan)) == len(tracks(plan)) + 1


# Helpers


def rows(plan: Plan) -> list[str]:
    found = []
    for row in layer_rows(plan):
        layers = str(row.first) if row.first == row.last else f"{row.first}-{row.last}"
        found.append(f"{layers} | {row.sources} | {row.blend}")
    return found


def table(layers: Sequence[Recipe]) -> list[str]:
    return rows(plan_of(layers))
