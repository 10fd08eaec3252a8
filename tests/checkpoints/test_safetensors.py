"""The safetensors format: both ways against the `safetensors` package, and every rule broken one at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.torch import save

from lamina.checkpoints.entries import Entry
from lamina.checkpoints.formats import open_tensors
from lamina.checkpoints.safetensors import MAX_HEADER, format_header, parse_header
from lamina.errors import CheckpointError
from lamina.tensor_spec import DTYPES, TensorSpec

TORCH_DTYPES = {
    "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64,
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
    "I64": torch.int64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip

names = st.text(max_size=12).filter(lambda name: name != "__metadata__")
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


# Both ways against the package


@given(st.dictionaries(names, st.tuples(st.sampled_from(sorted(TORCH_DTYPES)), shapes), max_size=6))
def test_what_the_package_writes_is_read(kinds: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    tensors = {
        name: torch.full(shape, number + 1, dtype=torch.uint8).to(TORCH_DTYPES[dtype])
        for number, (name, (dtype, shape)) in enumerate(kinds.items())
    }
    content = save(tensors, {"format": "pt"})
    found = parsed(content)
    assert {name: (e.spec.dtype.name, e.spec.shape) for name, e in found.items()} == kinds
    for name, tensor in tensors.items():
        own = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert content[found[name].offset :][: found[name].spec.nbytes] == own


@given(
    st.dictionaries(
        names, st.builds(TensorSpec, shapes, st.sampled_from([d for d in DTYPES.values() if d.bits >= 8])), max_size=6
    )
)
@example({"quantised": TensorSpec((3, 4), DTYPES["F4"]), "six": TensorSpec((4,), DTYPES["F6_E2M3"])})
def test_what_we_write_is_read_by_the_package(specs: dict[str, TensorSpec]) -> None:
    data = {name: bytes([number + 1]) * spec.nbytes for number, (name, spec) in enumerate(specs.items())}
    content = format_header(specs) + b"".join(data.values())
    found = {
        name: (tensor["dtype"], tuple(tensor["shape"]), bytes(tensor["data"])) for name, tensor in deserialize(content)
    }
    assert found == {name: (spec.dtype.name, spec.shape, data[name]) for name, spec in specs.items()}


@given(
    st.dictionaries(names, st.builds(TensorSpec, shapes, st.sampled_from([DTYPES["U8"], DTYPES["F32"]])), max_size=6)
)
def test_what_we_write_we_read(specs: dict[str, TensorSpec]) -> None:
    header = format_header(specs)
    found = parse_header(header[8:], sum(spec.nbytes for spec in specs.values()))
    reached = len(header)
    for name, spec in specs.items():
        assert found[name] == Entry(spec, reached)
        reached += spec.nbytes


def test_the_header_is_padded_so_that_tensors_start_at_a_multiple_of_eight() -> None:
    for length in range(1, 10):
        header = format_header({"n" * length: TensorSpec((1,), DTYPES["U8"])})
        assert len(header) % 8 == 0
        assert int.from_bytes(header[:8], "little") == len(header) - 8


def test_transformers_is_told_that_it_is_a_torch_file() -> None:
    assert json.loads(format_header({})[8:]) == {"__metadata__": {"format": "pt"}}


# Small and empty ones


def test_a_scalar_has_one_element_and_no_dimension() -> None:
    entry = parse_header(header_of(step={"dtype": "F32", "shape": [], "data_offsets": [0, 4]}), 4)["step"]
    assert (entry.spec.count, entry.spec.nbytes, entry.spec.shape) == (1, 4, ())


def test_tensors_without_elements_may_stand_anywhere() -> None:
    raw = header_of(
        behind={"dtype": "U8", "shape": [0, 7], "data_offsets": [2, 2]},
        full={"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
        before={"dtype": "F64", "shape": [0], "data_offsets": [0, 0]},
    )
    assert {name: entry.spec.nbytes for name, entry in parse_header(raw, 2).items()} == {
        "before": 0,
        "full": 2,
        "behind": 0,
    }


def test_tensors_come_in_the_order_of_their_bytes() -> None:
    raw = header_of(
        second={"dtype": "U8", "shape": [1], "data_offsets": [1, 2]},
        first={"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
    )
    assert list(parse_header(raw, 2)) == ["first", "second"]


def test_a_file_without_tensors_is_valid() -> None:
    assert parse_header(b"{}", 0) == {}


def test_keys_that_later_versions_may_add_to_a_tensor_are_passed_over() -> None:
    assert "a" in parse_header(header_of(a=tensor(note="new")), 4)


# Every rule broken, one at a time


def tensor(**changed: Any) -> dict[str, Any]:
    """The entry of two bfloat16 elements, with some of it changed."""
    return {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]} | changed


BROKEN: dict[str, bytes] = {
    "no header": b"",
    "not an object": b'["a"]',
    "a space before it": b' {"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}',
    "cut off": b'{"a":{"dtype":"BF16"',
    "something behind it": b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}}',
    "not UTF-8": b'{"\xff":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}',
    "UTF-16": '{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'.encode("utf-16-le"),
    "half a surrogate pair": b'{"\\ud800":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}',
    "nested without end": b'{"a":' + b"[" * 100_000,
    "a number without end": b'{"a":{"dtype":"BF16","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}',
    "NaN": b'{"a":{"dtype":"BF16","shape":[NaN],"data_offsets":[0,4]}}',
    "a name twice": b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
    b'"a":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}}',
    "a key twice": b'{"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
    "metadata of numbers": b'{"__metadata__":{"step":3},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
    "metadata as a list": b'{"__metadata__":[],"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
} | {
    label: json.dumps({"a": entry}).encode()
    for label, entry in {
        "an entry that is a list": ["BF16", [2], [0, 4]],
        "an entry that is null": None,
        "no dtype": {"shape": [2], "data_offsets": [0, 4]},
        "no shape": {"dtype": "BF16", "data_offsets": [0, 4]},
        "no offsets": {"dtype": "BF16", "shape": [2]},
        "an unknown dtype": tensor(dtype="BF17"),
        "a dtype in torch's words": tensor(dtype="bfloat16"),
        "a dtype that is a number": tensor(dtype=16),
        "a dtype that is a list": tensor(dtype=["BF16"]),
        "a shape that is a number": tensor(shape=2),
        "a shape of text": tensor(shape=["2"]),
        "a negative size": tensor(shape=[-2]),
        "two negative sizes": tensor(shape=[-2, -1]),
        "a fractional size": tensor(shape=[2.0]),
        "a size that is a truth value": tensor(shape=[2, True]),
        "a shape beyond the offsets": tensor(shape=[3]),
        "a shape that is huge": tensor(shape=[2**61, 2**61]),
        "a shape beyond every float": tensor(shape=[2**61] * 20),
        "a shape that overflows to the right size": tensor(shape=[2**32, 2**32, 2]),
        "one offset": tensor(data_offsets=[0]),
        "three offsets": tensor(data_offsets=[0, 4, 4]),
        "offsets of text": tensor(data_offsets=["0", "4"]),
        "a negative offset": tensor(data_offsets=[-4, 0]),
        "offsets backwards": tensor(data_offsets=[4, 0]),
        "offsets backwards, of nothing": tensor(shape=[0], data_offsets=[4, 0]),
        "a hole before the first": tensor(data_offsets=[4, 8]),
        "half a byte": tensor(dtype="F4", shape=[7]),
    }.items()
} | {
    label: json.dumps({"a": first, "b": second}).encode()
    for label, (first, second) in {
        "a hole between two": (
            tensor(shape=[1], data_offsets=[0, 2]),
            tensor(dtype="U8", shape=[1], data_offsets=[3, 4]),
        ),
        "two that overlap": (tensor(), tensor(shape=[1], data_offsets=[2, 4])),
        "two in the same place": (tensor(), tensor()),
        "nothing in the middle of another": (tensor(), tensor(shape=[0], data_offsets=[2, 2])),
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_rule_is_said_in_a_letter_that_names_the_file(raw: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the sentences are the parser's own)
        parse_header(raw, 4)
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(4))
    with pytest.raises(CheckpointError, match=r"model\.safetensors") as caught:
        open_tensors(path)
    assert len(str(caught.value)) < 2000, "a letter is to be read"


def test_the_same_header_unbroken_is_read() -> None:
    assert parse_header(header_of(a=tensor()), 4)["a"].spec == TensorSpec((2,), DTYPES["BF16"])


@pytest.mark.parametrize("there", [0, 3, 5, 8])
def test_more_or_fewer_bytes_than_the_header_describes_are_a_fault(there: int) -> None:
    with pytest.raises(ValueError, match=f"describes 4 bytes of tensors and {there} are there"):
        parse_header(header_of(a=tensor()), there)


@pytest.mark.parametrize("length", [0, 7, 8, 12, 60, 99])
def test_a_file_that_is_cut_off_anywhere_is_a_letter(length: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"a": torch.zeros(9)})[:length])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        open_tensors(path)


@pytest.mark.parametrize("announced", [9, MAX_HEADER + 1, 1 << 63, (1 << 64) - 1])
def test_a_header_longer_than_the_file_is_not_read(announced: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(announced.to_bytes(8, "little") + b"{}      ")
    with pytest.raises(CheckpointError, match=f"announce a header of {announced} bytes in a file of 16"):
        open_tensors(path)


def test_a_pointer_of_git_lfs_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(CheckpointError, match="Git LFS"):
        open_tensors(path)


@pytest.mark.parametrize("is_folder", [False, True], ids=["missing", "a folder"])
def test_what_is_no_file_is_a_letter(is_folder: bool, tmp_path: Path) -> None:
    if is_folder:
        (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        open_tensors(tmp_path / "model.safetensors")


# Whatever the bytes


@given(st.binary(max_size=200), st.integers(0, 100))
@settings(max_examples=300)
def test_random_bytes_are_tensors_or_a_value_error(raw: bytes, data_size: int) -> None:
    parsed_or_refused(raw, data_size)
    parsed_or_refused(b"{" + raw, data_size)


small = st.integers(-1, 9) | st.sampled_from([2**31, 2**61, 2**62, 2**63, 2**64])
anything = st.recursive(
    st.none() | st.booleans() | small | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
sizes = st.lists(small, max_size=3) | anything
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(sorted(DTYPES)) | anything,
        "shape": sizes,
        "data_offsets": st.lists(st.integers(0, 9), min_size=2, max_size=2) | sizes,
    },
)


@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), entries | anything, max_size=3), st.integers(0, 9))
@settings(max_examples=300)
def test_a_random_header_is_refused_or_read_as_the_package_reads_it(header: dict[str, Any], data_size: int) -> None:
    raw = json.dumps(header).encode()
    found = parsed_or_refused(raw, data_size)
    if found is not None:
        package = deserialize(len(raw).to_bytes(8, "little") + raw + bytes(data_size))
        assert {name: (t["dtype"], tuple(t["shape"]), len(t["data"])) for name, t in package} == {
            name: (entry.spec.dtype.name, entry.spec.shape, entry.spec.nbytes) for name, entry in found.items()
        }


@given(st.integers(0, 63), st.binary(min_size=1, max_size=4))
@settings(max_examples=300)
def test_a_valid_header_with_some_bytes_changed_is_refused_or_read_as_the_package_reads_it(
    place: int, change: bytes
) -> None:
    valid = header_of(a=tensor(), b=tensor(shape=[], data_offsets=[4, 6]))
    raw = valid[:place] + change + valid[place + len(change) :]
    if parsed_or_refused(raw, 6) is not None:
        try:
            deserialize(len(raw).to_bytes(8, "little") + raw + bytes(6))
        except SafetensorError as error:
            pytest.fail(f"the package refuses {raw!r}: {error}")


# Helpers


def header_of(**tensors: Mapping[str, Any]) -> bytes:
    return json.dumps(tensors).encode()


def parsed(content: bytes) -> dict[str, Entry]:
    length = int.from_bytes(content[:8], "little")
    return parse_header(content[8 : 8 + length], len(content) - 8 - length)


def parsed_or_refused(raw: bytes, data_size: int) -> dict[str, Entry] | None:
    try:
        return parse_header(raw, data_size)
    except ValueError:
        return None
