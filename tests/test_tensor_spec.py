"""Specs, dtypes and blocks: the table against the format, and blocks that cover a tensor exactly once."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lamina.tensor_spec import (
    BF16,
    BLOCK_ELEMENTS,
    DTYPES,
    F16,
    F32,
    F64,
    FLOAT_DTYPES,
    DType,
    Kind,
    TensorSpec,
    block_rows,
    blocks_of,
    promoted,
)

FLOATS = [BF16, F16, F32, F64]
TORCH = {BF16: torch.bfloat16, F16: torch.float16, F32: torch.float32, F64: torch.float64}


def test_a_spec_knows_its_size() -> None:
    assert (TensorSpec((2, 3), BF16).count, TensorSpec((2, 3), BF16).nbytes) == (6, 12)
    assert (TensorSpec((), F64).count, TensorSpec((), F64).nbytes) == (1, 8)
    assert (TensorSpec((3, 0), F32).count, TensorSpec((3, 0), F32).nbytes) == (0, 0)
    assert TensorSpec((2, 3), DTYPES["F4"]).nbytes == 3  # two to a byte


def test_a_spec_is_shown_in_the_words_of_a_recipe() -> None:
    assert str(TensorSpec((2, 3), BF16)) == "bfloat16 [2, 3]"
    assert str(TensorSpec((), DTYPES["I64"])) == "I64 []"


def test_recipes_may_ask_for_the_four_float_dtypes() -> None:
    assert list(FLOAT_DTYPES) == ["bfloat16", "float16", "float32", "float64"]
    assert {name: dtype for name, dtype in DTYPES.items() if dtype.kind is Kind.FLOAT} == {
        dtype.name: dtype for dtype in FLOATS
    }


@given(st.lists(st.sampled_from(FLOATS), min_size=1, max_size=5))
def test_promotion_is_torchs(dtypes: list[DType]) -> None:
    expected = TORCH[dtypes[0]]
    for dtype in dtypes:
        expected = torch.promote_types(expected, TORCH[dtype])
    assert TORCH[promoted(dtypes)] is expected


def test_a_dtype_that_was_sent_is_the_dtype_it_was() -> None:
    """The arithmetic asks `dtype is BF16`: a copy would be taken for something else."""
    assert [name for name, dtype in DTYPES.items() if pickle.loads(pickle.dumps(dtype)) is not dtype] == []


# Blocks


def test_a_small_tensor_is_one_block() -> None:
    assert block_rows((3, 5)) == [(0, 15)]
    assert block_rows(()) == [(0, 1)]


def test_a_tensor_without_elements_has_no_block() -> None:
    assert block_rows((0,)) == block_rows((5, 0)) == block_rows((0, 5)) == []


def test_blocks_are_whole_rows_of_about_a_million_elements() -> None:
    assert block_rows((300, 7000)) == [(0, 149 * 7000), (149 * 7000, 298 * 7000), (298 * 7000, 300 * 7000)]


def test_a_row_longer_than_a_block_is_split() -> None:
    assert block_rows((1, BLOCK_ELEMENTS + 1)) == [(0, BLOCK_ELEMENTS), (BLOCK_ELEMENTS, BLOCK_ELEMENTS + 1)]


tensor_shapes = st.lists(st.integers(0, 3000), max_size=3).map(tuple).filter(lambda shape: math.prod(shape) < 10**9)


@given(tensor_shapes)
@example((BLOCK_ELEMENTS,))
@example((2, BLOCK_ELEMENTS + 1))
@example((BLOCK_ELEMENTS + 1, 1))
def test_blocks_cover_every_element_once(shape: tuple[int, ...]) -> None:
    blocks = block_rows(shape)
    borders = [(0, 0), *blocks, (math.prod(shape), math.prod(shape))]
    assert all(before[1] == after[0] for before, after in pairwise(borders))
    assert all(0 < end - start <= BLOCK_ELEMENTS for start, end in blocks)
    row = shape[-1] if shape else 1
    assert row > BLOCK_ELEMENTS or all(start % row == 0 for start, _ in blocks)
    assert all(end - start > BLOCK_ELEMENTS // 2 for start, end in blocks[:-1])


@pytest.mark.parametrize("name", ["F4", "F6_E2M3"])
@pytest.mark.parametrize("shape", [(700_000, 4), (700_000, 3), (2_800_000, 1), (1_000_000, 10)], ids=str)
def test_a_block_of_a_packed_tensor_begins_at_a_whole_byte(name: str, shape: tuple[int, ...]) -> None:
    blocks = blocks_of(TensorSpec(shape, DTYPES[name]))
    assert all(start * DTYPES[name].bits % 8 == 0 for start, _ in blocks)
