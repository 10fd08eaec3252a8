"""Nodes as they are built: what changes nothing is left out, and every node knows its shape and dtype."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.expressions.inspect import Share, described, is_copy, parts, reads, shares
from lamina.expressions.nodes import Cast, Concat, Expr, Merge, Read, Slice, cast, concat, merge, slice_of
from lamina.merge_methods import UndefinedMerge
from lamina.tensor_spec import BF16, DTYPES, F16, F32, F64, DType, TensorSpec

FLOATS = [BF16, F16, F32, F64]
ONCE = {"scale": (1.0, 1.0), "normalize": False}


def tensor(model: str, dtype: DType = BF16, shape: tuple[int, ...] = (2, 3)) -> Read:
    return Read(model, "w", TensorSpec(shape, dtype))


A, B, BASE = tensor("a"), tensor("b"), tensor("base")


def linear(*weights: float, inputs: tuple[Expr, ...] = (A, B), dtype: DType | None = None) -> Expr:
    values = {"weight": weights, "scale": (1.0,) * len(weights), "normalize": False}
    return merge("linear", inputs, values, dtype=dtype)


# slice and concat


def test_a_slice_of_everything_is_the_tensor() -> None:
    assert slice_of(A, -1, 0, 3) is A
    assert slice_of(A, 0, 1, 2) == Slice(A, 0, 1, 2)
    assert slice_of(A, 0, 1, 2).spec == TensorSpec((1, 3), BF16)


def test_neighbours_in_one_tensor_are_one_stretch() -> None:
    assert concat([slice_of(A, -1, i, i + 1) for i in range(3)], -1) is A
    apart = concat([slice_of(A, -1, i, i + 1) for i in (0, 1, 1, 2)], -1)
    assert apart == Concat((Slice(A, -1, 0, 2), Slice(A, -1, 1, 3)), -1)
    assert apart.spec == TensorSpec((2, 4), BF16)


def test_tensors_side_by_side_have_one_dtype() -> None:
    wide = tensor("b", F32)
    assert concat([A, wide], 0) == Concat((Cast(A, wide.spec), wide), 0)


def test_what_does_not_fit_side_by_side_is_said() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\], \[2, 4\] do not fit"):
        concat([A, tensor("b", shape=(2, 4))], 0)
    with pytest.raises(ValueError, match="is no float"):
        slice_of(tensor("a", DTYPES["I64"]), 0, 0, 1)


def test_all_that_is_side_by_side_is_read_and_tells_its_share() -> None:
    expr = concat([slice_of(A, 0, 0, 1), linear(0.5, 0.25)], 0)
    assert [read.model for read in reads(expr)] == ["a", "a", "b"]
    assert [share.factor for share in shares(expr)] == [1.0, 0.5, 0.25]
    assert described(expr, {"a": "x", "b": "y"}) != described(concat([A, linear(0.5, 0.25)], 0), {"a": "x", "b": "y"})


# merge


def test_a_merge_has_the_methods_coefficients() -> None:
    assert linear(0.25, 0.5) == Merge("linear", (A, B), (0.25, 0.5), None, TensorSpec((2, 3), BF16))


def test_a_source_that_counts_for_zero_is_not_read() -> None:
    assert linear(0.0, 0.5) == Merge("linear", (B,), (0.5,), None, B.spec)


def test_a_source_alone_with_weight_one_is_read_as_it_is() -> None:
    assert linear(0.0, 1.0) is B


def test_a_source_alone_with_weight_one_is_only_converted() -> None:
    assert linear(0.0, 1.0, dtype=F32) == Cast(B, TensorSpec((2, 3), F32))


def test_zeros_everywhere_are_a_tensor_of_zeros() -> None:
    assert linear(0.0, 0.0) == Merge("linear", (A, B), (0.0, 0.0), None, A.spec)


def test_deltas_that_count_for_zero_leave_the_base() -> None:
    values = {"weight": (0.0, 0.0), "normalize": False, "lambda": 1.0}
    assert merge("task_arithmetic", [A, B], values, base=BASE) is BASE


def test_a_base_without_deltas_is_the_base() -> None:
    assert merge("task_arithmetic", [], {"weight": (), "normalize": False, "lambda": 1.0}, base=BASE) is BASE


def test_one_whole_delta_is_its_model() -> None:
    values = {"weight": (1.0, 0.0), "normalize": False, "lambda": 1.0}
    assert merge("task_arithmetic", [A, B], values, base=BASE) is A


def test_the_same_model_twice_counts_twice() -> None:
    assert linear(0.5, 0.25, inputs=(A, A)) == Merge("linear", (A, A), (0.5, 0.25), None, A.spec)


def test_weights_that_sum_to_zero_have_no_mean() -> None:
    values = {"weight": (1.0, -1.0), "scale": (1.0, 1.0), "normalize": True}
    with pytest.raises(UndefinedMerge, match="sum to zero"):
        merge("linear", [A, B], values)


@pytest.mark.parametrize(
    ("dtypes", "stored"),
    [((BF16, BF16), BF16), ((BF16, F16), F32), ((F16, F32), F32), ((BF16, F64), F64), ((F16, F16), F16)],
    ids=str,
)
def test_a_merge_is_stored_in_the_smallest_dtype_that_holds_all_inputs(
    dtypes: tuple[DType, DType], stored: DType
) -> None:
    inputs = (tensor("a", dtypes[0]), tensor("b", dtypes[1]))
    assert linear(0.5, 0.5, inputs=inputs).spec.dtype is stored


def test_a_dtype_that_is_asked_for_is_the_one_stored() -> None:
    assert linear(0.5, 0.5, dtype=F16).spec == TensorSpec((2, 3), F16)


# What is no float


@pytest.mark.parametrize("name", ["I64", "BOOL", "U8", "F8_E4M3"])
def test_what_is_no_float_has_no_coefficients_and_keeps_its_dtype(name: str) -> None:
    inputs = (tensor("a", DTYPES[name]), tensor("b", DTYPES[name]), tensor("a", DTYPES[name]))
    assert merge("linear", inputs, ONCE, dtype=F32) == Merge("linear", inputs[:2], (), None, inputs[0].spec)


def test_integers_of_one_tensor_are_a_copy() -> None:
    steps = tensor("a", DTYPES["I64"])
    assert merge("linear", [steps, steps], ONCE) is steps


# cast


def test_a_cast_to_its_own_dtype_is_nothing() -> None:
    assert cast(A, BF16) is A


def test_what_was_only_widened_comes_back_as_it_was() -> None:
    assert cast(cast(A, F32), BF16) is A
    assert cast(cast(A, F64), F32) == Cast(A, TensorSpec((2, 3), F32))


def test_what_was_narrowed_stays_rounded() -> None:
    wide = tensor("a", F32)
    assert cast(cast(wide, BF16), F32) == Cast(Cast(wide, A.spec), wide.spec)
    assert cast(cast(A, F16), BF16) == Cast(Cast(A, TensorSpec((2, 3), F16)), A.spec)


@given(st.sampled_from(FLOATS), st.lists(st.sampled_from(FLOATS), max_size=5))
def test_a_chain_of_casts_ends_in_the_last_dtype(stored: DType, chain: list[DType]) -> None:
    expr: Expr = tensor("a", stored)
    for dtype in chain:
        expr = cast(expr, dtype)
    assert expr.spec == TensorSpec((2, 3), [stored, *chain][-1])
    assert list(reads(expr)) == [tensor("a", stored)]


# Questions


NESTED = Merge("linear", (linear(0.5, 0.25), cast(tensor("c", F32), BF16)), (2.0, 3.0), BASE, A.spec)


def test_reads_come_in_order_the_base_first() -> None:
    assert [read.model for read in reads(NESTED)] == ["base", "a", "b", "c"]
    assert parts(NESTED) == (BASE, *NESTED.inputs)


def test_shares_multiply_through_and_a_base_enters_whole() -> None:
    c = tensor("c", F32)
    assert list(shares(NESTED)) == [
        Share(BASE, 1.0),
        Share(A, 1.0, of_delta=True),  # 2 x 0.5
        Share(B, 0.5, of_delta=True),
        Share(c, 3.0, of_delta=True),
    ]


def test_only_a_tensor_as_it_was_read_is_a_copy() -> None:
    assert is_copy(A)
    assert not any(map(is_copy, (cast(A, F32), linear(0.5, 0.5))))


def test_the_description_calls_models_by_the_names_given() -> None:
    names = {"a": "0:f00d", "b": "1:cafe"}
    assert described(linear(0.5, 0.25), names) == [
        "merge",
        "linear",
        [["read", "0:f00d", "w", ["BF16", [2, 3]]], ["read", "1:cafe", "w", ["BF16", [2, 3]]]],
        [0.5, 0.25],
        None,
        ["BF16", [2, 3]],
    ]


def test_expressions_are_plain_data_that_can_be_sent() -> None:
    assert pickle.loads(pickle.dumps(NESTED)) == NESTED


def test_an_expression_that_was_sent_is_built_upon_as_before() -> None:
    sent = pickle.loads(pickle.dumps(A))
    assert cast(sent, BF16) is sent
    assert linear(0.5, 0.5, inputs=(sent, B), dtype=BF16) == linear(0.5, 0.5, dtype=BF16)
