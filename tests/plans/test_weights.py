"""Factors by kind of tensor, layer and source: examples that can be checked in the head."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from plans import delta, end, job, merged, plan_of, read

from lamina.architectures.roles import Role
from lamina.expressions.nodes import Merge
from lamina.plans.explain import tracks
from lamina.plans.weights import EndPart, EndWeights, Factors, effective_weights
from lamina.tensor_spec import DTYPES, TensorSpec

ONE = Factors(1.0, 1.0)


def test_a_row_is_a_model_at_an_offset_and_a_column_an_output_layer() -> None:
    weights = effective_weights(plan_of([[("base", i, 1.0)] for i in (0, 1, 1, 2)]))
    assert [(row.model, row.offset) for row in weights.rows] == [("base", 0), ("base", 1)]
    assert weights.rows[0].kinds == {"other": (ONE, ONE, None, None)}
    assert weights.rows[1].kinds == {"other": (None, None, ONE, ONE)}
    assert weights.copied == (True, True, True, True)


def test_kinds_of_tensors_have_their_own_factors() -> None:
    factors = {
        "self_attn.q_proj.weight": 0.2, "self_attn.o_proj.bias": 0.4, "mlp.up_proj.weight": 0.7,
        "input_layernorm.weight": 0.5, "linear_attn.in_proj.weight": 0.1, "something.else": 0.9,
    }  # fmt: skip
    jobs = [
        job(f"model.layers.0.{name}", merged([("a", 0, factor), ("b", 0, 1 - factor)], name))
        for name, factor in factors.items()
    ]
    [a, _] = effective_weights(plan_of(jobs)).rows
    assert a.kinds == {
        "attention": (Factors(0.2, 0.4),), "mixer": (Factors(0.1, 0.1),), "mlp": (Factors(0.7, 0.7),),
        "norm": (Factors(0.5, 0.5),), "other": (Factors(0.9, 0.9),),
    }  # fmt: skip


def test_a_source_that_some_tensors_of_a_kind_do_without_counts_zero_there() -> None:
    jobs = [
        job("model.layers.0.mlp.up_proj.weight", merged([("a", 0, 1.0)], "mlp.up_proj.weight")),
        job("model.layers.0.mlp.gate_proj.weight", merged([("a", 0, 0.5), ("b", 0, 0.5)], "mlp.gate_proj.weight")),
    ]
    a, b = effective_weights(plan_of(jobs)).rows
    assert (a.kinds["mlp"][0], b.kinds["mlp"][0]) == (Factors(0.5, 1.0), Factors(0.0, 0.5))


def test_over_all_kinds_a_source_that_is_in_one_kind_alone_counts_zero_in_the_others() -> None:
    jobs = [
        job("model.layers.0.mlp.up_proj.weight", merged([("a", 0, 1.0)], "mlp.up_proj.weight")),
        job("model.layers.0.self_attn.q_proj.weight", merged([("b", 0, 1.0)], "self_attn.q_proj.weight")),
    ]
    weights = effective_weights(plan_of(jobs))
    assert weights.overall == ((Factors(0.0, 1.0),), (Factors(0.0, 1.0),))


def test_a_delta_has_a_row_of_its_own_beside_the_base() -> None:
    weights = effective_weights(plan_of([job("model.layers.0.w", delta("base", "tuned", 0, -0.3))]))
    assert [(row.model, row.of_delta, row.kinds["other"]) for row in weights.rows] == [
        ("base", False, (ONE,)),
        ("tuned", True, (Factors(-0.3, -0.3),)),
    ]


def test_a_layer_whose_outputs_are_multiplied_by_zero_is_silent() -> None:
    names = {"self_attn.o_proj.weight": 0.0, "mlp.down_proj.weight": 0.0, "mlp.up_proj.weight": 1.0}
    pro = [job(f"model.layers.0.{name}", merged([("a", 0, factor)], name)) for name, factor in names.items()]
    half = [job(f"model.layers.1.{name}", merged([("a", 0, factor or 1)], name)) for name, factor in names.items()]
    half[0] = job(half[0].name, merged([("a", 0, 0.0)], "self_attn.o_proj.weight"))
    assert effective_weights(plan_of([*pro, *half])).silent == (True, False)


def test_a_bias_of_an_output_that_is_not_zero_is_added() -> None:
    names = {"mlp.down_proj.weight": 0.0, "mlp.down_proj.bias": 1.0}
    jobs = [job(f"model.layers.0.{name}", merged([("a", 0, factor)], name)) for name, factor in names.items()]
    assert effective_weights(plan_of(jobs)).silent == (False,)


def test_integers_that_have_to_agree_say_nothing_of_factors() -> None:
    both = Merge("linear", (read("a", 0), read("b", 0)), (), None, TensorSpec((1,), DTYPES["I64"]))
    jobs = [job("model.layers.0.w", merged([("a", 0, 0.5), ("b", 0, 0.5)])), job("model.layers.0.ids", both)]
    assert [row.kinds["other"] for row in effective_weights(plan_of(jobs)).rows] == [(Factors(0.5, 0.5),)] * 2


def test_ends_stand_on_both_sides_of_the_layers_with_their_roles() -> None:
    plan = plan_of(
        [
            end("model.embed_tokens.weight", ("a", 1.0)),
            job("model.layers.0.w", read("a", 0)),
            end("model.norm.weight", ("a", 0.3), ("b", 0.7)),
            end("lm_head.weight", ("b", 1.0)),
        ]
    )
    weights = effective_weights(plan)
    assert weights.before == (EndWeights("model.embed_tokens.weight", Role.EMBEDDING, (EndPart("a", 1.0, False),)),)
    assert [(each.tensor, each.role) for each in weights.after] == [
        ("model.norm.weight", Role.FINAL_NORM),
        ("lm_head.weight", Role.HEAD),
    ]
    assert weights.after[0].parts == (EndPart("a", 0.3, False), EndPart("b", 0.7, False))


def test_a_plan_without_layers_has_ends_alone() -> None:
    weights = effective_weights(plan_of([end("model.norm.weight", ("a", 1.0))]))
    assert (weights.rows, weights.depth, len(weights.before)) == ((), 0, 1)


layers_of_any_kind = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.sampled_from([-1.0, 0.0, 0.25, 1.0])),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=12,
)


@given(layers_of_any_kind)
def test_with_one_tensor_a_layer_the_rows_are_the_tracks_of_the_map(layers: list[Any]) -> None:
    plan = plan_of(layers)
    weights = effective_weights(plan)
    rows = {
        (row.model, row.offset): tuple(0.0 if cell is None else cell.high for cell in cells)
        for row, cells in zip(weights.rows, weights.overall, strict=True)
    }
    assert {source: factors for source, factors in rows.items() if any(factors)} == {
        (track.model, track.offset): track.factors for track in tracks(plan)
    }
