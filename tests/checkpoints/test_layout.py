"""The layout: every tensor has its bytes, and the folder is what transformers expects."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from lamina.checkpoints.formats import open_tensors
from lamina.checkpoints.layout import Layout, lay_out
from lamina.tensor_spec import BF16, DTYPES, F32, F64, TensorSpec

U8 = DTYPES["U8"]
specs_of_any_kind = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "__metadata__"),
    st.builds(
        TensorSpec,
        st.lists(st.integers(0, 5), max_size=3).map(tuple),
        st.sampled_from([dtype for dtype in DTYPES.values() if dtype.bits >= 8]),
    ),
    max_size=10,
)
shard_sizes = st.integers(1, 2000)


def test_tensors_fill_shards_in_the_order_given() -> None:
    layout = lay_out({name: TensorSpec((4,), F32) for name in ("d", "c", "b", "a", "e")}, shard_size=32)
    assert [layout.places[name].shard for name in ("d", "c", "b", "a", "e")] == [0, 0, 1, 1, 2]
    assert [shard.file_name for shard in layout.shards] == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    ]


def test_one_shard_is_a_single_file_without_an_index() -> None:
    layout = lay_out({"a": TensorSpec((4,), F32)}, shard_size=16)
    assert [shard.file_name for shard in layout.shards] == ["model.safetensors"]
    assert layout.index_json == b""


def test_a_tensor_larger_than_a_shard_stands_alone() -> None:
    layout = lay_out({"a": TensorSpec((1,), F32), "b": TensorSpec((99,), F32), "c": TensorSpec((1,), F32)}, 32)
    assert [place.shard for place in layout.places.values()] == [0, 1, 2]


def test_a_model_without_tensors_is_an_empty_file() -> None:
    layout = lay_out({}, shard_size=16)
    assert [(shard.file_name, shard.size) for shard in layout.shards] == [
        ("model.safetensors", len(layout.shards[0].header))
    ]


def test_wide_elements_come_first_within_a_shard() -> None:
    layout = lay_out({"a": TensorSpec((3,), U8), "b": TensorSpec((1,), BF16), "c": TensorSpec((1,), F64)}, 100)
    assert sorted(layout.places, key=lambda name: layout.places[name].offset) == ["c", "b", "a"]


def test_the_index_says_where_each_tensor_is_and_how_large_all_are() -> None:
    layout = lay_out({"b": TensorSpec((4,), F32), "a": TensorSpec((8,), BF16), "c": TensorSpec((), U8)}, 16)
    assert json.loads(layout.index_json) == {
        "metadata": {"total_size": 33},
        "weight_map": {
            "a": "model-00002-of-00003.safetensors",
            "b": "model-00001-of-00003.safetensors",
            "c": "model-00003-of-00003.safetensors",
        },
    }


def test_files_and_index_are_those_of_huggingface_hub() -> None:
    """`split_torch_state_dict_into_shards` names the files that `save_pretrained` writes."""
    tensors = {f"model.layers.{number}.weight": torch.zeros(4, 5) for number in range(12)}
    theirs = split_torch_state_dict_into_shards(tensors, max_shard_size=200)
    layout = lay_out({name: TensorSpec((4, 5), F32) for name in tensors}, shard_size=200)
    index = json.loads(layout.index_json)
    assert index["weight_map"] == theirs.tensor_to_filename
    assert index["metadata"]["total_size"] == theirs.metadata["total_size"]


@given(specs_of_any_kind, shard_sizes)
def test_every_byte_behind_a_header_belongs_to_one_tensor(specs: dict[str, TensorSpec], shard_size: int) -> None:
    layout = lay_out(specs, shard_size)
    assert set(layout.places) == set(specs)
    for number, shard in enumerate(layout.shards):
        own = sorted((p.offset, p.offset + p.nbytes) for p in layout.places.values() if p.shard == number)
        borders = [(0, len(shard.header)), *own, (shard.size, shard.size)]
        assert all(end == start for (_, end), (start, _) in pairwise(borders))
    assert layout.size == sum(len(shard.header) for shard in layout.shards) + sum(s.nbytes for s in specs.values())


@given(specs_of_any_kind, shard_sizes)
def test_every_tensor_starts_at_a_multiple_of_its_element(specs: dict[str, TensorSpec], shard_size: int) -> None:
    layout = lay_out(specs, shard_size)
    assert all(layout.places[name].offset % (spec.dtype.bits // 8) == 0 for name, spec in specs.items())


@given(specs_of_any_kind, shard_sizes)
def test_shards_keep_order_and_limit_and_none_could_take_the_next_tensor(
    specs: dict[str, TensorSpec], shard_size: int
) -> None:
    layout = lay_out(specs, shard_size)
    in_order = [layout.places[name].shard for name in specs]
    assert in_order == sorted(in_order)
    if specs:
        assert set(in_order) == set(range(len(layout.shards)))
    contents = [
        [spec.nbytes for name, spec in specs.items() if layout.places[name].shard == number]
        for number in range(len(layout.shards))
    ]
    for group, following in pairwise([*contents, []]):
        assert sum(group) <= shard_size or len([nbytes for nbytes in group if nbytes]) == 1
        assert not following or sum(group) + following[0] > shard_size


@given(specs_of_any_kind, shard_sizes)
def test_the_index_names_every_tensor_and_every_file(specs: dict[str, TensorSpec], shard_size: int) -> None:
    layout = lay_out(specs, shard_size)
    files = [shard.file_name for shard in layout.shards]
    assert len(set(files)) == len(files)
    if len(files) == 1:
        assert files == ["model.safetensors"]
        return
    index = json.loads(layout.index_json)
    assert index["weight_map"] == {name: files[layout.places[name].shard] for name in specs}
    assert index["metadata"]["total_size"] == sum(spec.nbytes for spec in specs.values())
    assert all(re.fullmatch(rf"model-\d{{5}}-of-{len(files):05d}\.safetensors", name) for name in files)


@given(specs=specs_of_any_kind)
def test_a_layout_is_a_function_of_its_specs(specs: dict[str, TensorSpec]) -> None:
    assert lay_out(specs, 300) == lay_out(dict(specs), 300)


def test_files_of_a_layout_open_with_the_package_and_hold_each_tensor_in_its_place(tmp_path: Path) -> None:
    specs = {
        "scalar": TensorSpec((), F32),
        "empty": TensorSpec((0, 3), BF16),
        "bytes": TensorSpec((5,), U8),
        "matrix": TensorSpec((2, 3), BF16),
        "ümlaut": TensorSpec((2,), F64),
    }
    layout = lay_out(specs, shard_size=20)
    values = write_counting(layout, specs, tmp_path)
    for shard in layout.shards:
        own = {name: spec for name, spec in specs.items() if layout.shards[layout.places[name].shard] is shard}
        assert {name: entry.spec for name, entry in open_tensors(tmp_path / shard.file_name).items()} == own
        with safe_open(tmp_path / shard.file_name, framework="pt") as file:
            assert set(file.keys()) == set(own)
            for name in own:
                found = file.get_tensor(name)
                assert tuple(found.shape) == specs[name].shape
                assert found.reshape(-1).view(torch.uint8).tolist() == [values[name]] * own[name].nbytes


def write_counting(layout: Layout, specs: dict[str, TensorSpec], folder: Path) -> dict[str, int]:
    """The files of a layout, the bytes of each tensor all equal to its number."""
    contents = [bytearray(shard.header.ljust(shard.size, b"\xee")) for shard in layout.shards]
    values = {name: number for number, name in enumerate(specs)}
    for name, place in layout.places.items():
        contents[place.shard][place.offset : place.offset + place.nbytes] = bytes([values[name]]) * place.nbytes
    for shard, content in zip(layout.shards, contents, strict=True):
        (folder / shard.file_name).write_bytes(content)
    return values
