"""`pytorch_model.bin`: read as torch reads it, and every way in which an archive or a tensor may lie."""

from __future__ import annotations

import io
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from lamina.checkpoints.checkpoint import open_checkpoint
from lamina.checkpoints.entries import Entry
from lamina.checkpoints.formats import open_tensors
from lamina.checkpoints.stored_zip import MAX_DIRECTORY
from lamina.checkpoints.torch_pickle import MAX_PICKLE, read_torch_pickle
from lamina.errors import CheckpointError
from lamina.tensor_spec import F32, TensorSpec

from .test_formats import bytes_of, content

MATRIX = torch.arange(12.0).reshape(3, 4)


def saved(what: object, **options: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(what, file, **options)
    return file.getvalue()


def read(raw: bytes) -> dict[str, Entry]:
    return read_torch_pickle(lambda offset, length: raw[offset : offset + length], len(raw), True)


def assert_same(path: Path, expected: Mapping[str, torch.Tensor]) -> None:
    found = open_tensors(path)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].spec.shape == tuple(tensor.shape), name
        assert content(path, found[name]) == bytes_of(tensor), name


# As torch has it

VIEWS: dict[str, torch.Tensor] = {
    "whole": MATRIX,
    "transposed": MATRIX.t(),
    "rows": MATRIX[1:],
    "columns": MATRIX[:, 1:3],
    "every second": MATRIX[:, ::2],
    "one row": MATRIX[1],
    "one column": MATRIX[:, 1],
    "one element": MATRIX[1, 1],
    "none of it": MATRIX[3:],
    "permuted": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
    "expanded": torch.arange(3.0).expand(4, 3),
    "one expanded": torch.tensor(7.0).expand(2, 2),
    "channels last": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "of odd strides": torch.arange(30.0).as_strided((3, 2), (7, 5), 2),
    "that overlap": torch.arange(10.0).as_strided((4, 3), (1, 1), 3),
    "of halves": MATRIX.bfloat16().t(),
    "of bytes": (MATRIX > 4).t(),
    "a parameter": torch.nn.Parameter(MATRIX.t()),
}


def test_views_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    torch.save(VIEWS, tmp_path / "model.pt")
    assert_same(tmp_path / "model.pt", VIEWS)


def test_tied_tensors_share_their_bytes(tmp_path: Path) -> None:
    torch.save({"embed": MATRIX, "head": MATRIX, "part": MATRIX[2:]}, tmp_path / "model.pt")
    found = open_tensors(tmp_path / "model.pt")
    assert found["embed"] == found["head"]
    assert found["part"].offset == (found["embed"].offset or 0) + 32


def test_the_state_dict_of_a_module_with_metadata_is_read(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    torch.save(module.state_dict(), tmp_path / "model.pt")
    assert_same(tmp_path / "model.pt", module.state_dict())


def test_parameters_with_attributes_of_their_own_are_read(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(MATRIX)
    parameter.tensor_model_parallel = True  # type: ignore[attr-defined]
    torch.save({"a": parameter}, tmp_path / "model.pt")
    assert_same(tmp_path / "model.pt", {"a": MATRIX})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_protocol_is_read(protocol: int, tmp_path: Path) -> None:
    torch.save(VIEWS, tmp_path / "model.pt", pickle_protocol=protocol)
    assert_same(tmp_path / "model.pt", VIEWS)


def test_a_thousand_tensors_are_read_in_their_order(tmp_path: Path) -> None:
    tensors = {f"layer.{number}": torch.full((3,), float(number)) for number in reversed(range(1000))}
    torch.save(tensors, tmp_path / "model.pt")
    assert_same(tmp_path / "model.pt", tensors)


def test_a_file_beyond_four_gigabytes_is_read(tmp_path: Path) -> None:
    """Offsets and sizes of more than 32 bits (zip64). The file is sparse: it takes next to no disk."""
    path = tmp_path / "model.pt"
    write_archive(path, {"first": 5_000_000_000, "second": 12, "third": 4_500_000_000})
    found = open_tensors(path)
    assert [entry.spec.nbytes for entry in found.values()] == [5_000_000_000, 12, 4_500_000_000]
    with path.open("r+b") as file:
        for name, place in (("first", 4_999_999_996), ("second", 8), ("third", 0)):
            file.seek((found[name].offset or 0) + place)
            file.write(name[:4].encode())
    checkpoint = open_checkpoint(tmp_path)
    for name, place in (("first", 4_999_999_996), ("second", 8), ("third", 0)):
        buffer = bytearray(4)
        checkpoint.read_into(name, place, memoryview(buffer))
        assert buffer == name[:4].encode()
    checkpoint.close()


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "module"])
def test_the_wrapping_of_training_scripts_is_taken_off(wrapper: str, tmp_path: Path) -> None:
    more = {"step": torch.tensor(9), "epoch": 3, "rate": 1e-4, "device": torch.device("cpu"), "shape": torch.Size([2])}
    optimizer = {"state": {0: {"exp_avg": MATRIX, "step": 5}}, "param_groups": [{"params": [0], "betas": (0.9, 0.99)}]}
    torch.save({**more, "optimizer": optimizer, wrapper: OrderedDict(a=MATRIX.t())}, tmp_path / "model.pt")
    assert_same(tmp_path / "model.pt", {"a": MATRIX.t()})


def test_what_is_no_tensor_in_a_state_dict_is_passed_over(tmp_path: Path) -> None:
    torch.save({"a": MATRIX, "_extra_state": None, "version": 3, "words": ["x"], "more": {}}, tmp_path / "model.pt")
    assert_same(tmp_path / "model.pt", {"a": MATRIX})


# What is refused

REFUSED: dict[str, tuple[object, str]] = {
    "tensors in several mappings": ({"a": MATRIX, "encoder": {"b": MATRIX}}, "tensors in `encoder`, beside others"),
    "a wrapping that nobody uses": ({"weights": {"a": MATRIX}}, "at its top are `weights`"),
    "no tensors": ({"epoch": 3}, "at its top are `epoch`"),
    "an empty mapping": ({}, "at its top are no keys"),
    "a tensor alone": (MATRIX, "it holds a tensor where a state dict belongs"),
    "a list": ([MATRIX], "it holds a list where"),
    "numbers for names": ({0: MATRIX}, "tensors under numbers"),
    "a whole module": (torch.nn.Linear(2, 2), r"names 'torch\.nn\.modules\.linear\.Linear'"),
    "complex numbers of 128 bits": ({"a": MATRIX.to(torch.complex128)}, r"names 'torch\.ComplexDoubleStorage'"),
    "a sparse tensor": ({"a": torch.eye(3).to_sparse()}, r"names 'torch\._utils\._rebuild_sparse_tensor'"),
    "a tensor without values": ({"a": torch.ones(3, device="meta")}, "names 'torch._utils._rebuild_meta_tensor"),
    "a conjugated view": ({"a": torch.ones(2, dtype=torch.complex64).conj()}, "conjugated or negated"),
    "a storage": ({"a": MATRIX.untyped_storage()}, "no tensors by name"),
    "a class of Python": ({"a": MATRIX, "config": Path("x")}, r"names 'pathlib\.PosixPath'"),
    "a thing of numpy": ({"a": MATRIX, "score": MATRIX.numpy()[0, 0]}, "names 'numpy"),
}


@pytest.mark.filterwarnings("ignore:Converting a tensor", "ignore:.*Sparse")
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_plain_state_dict_is_refused_with_its_reason(what: str, tmp_path: Path) -> None:
    torch.save(REFUSED[what][0], tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=REFUSED[what][1]) as caught:
        open_tensors(tmp_path / "pytorch_model.bin")
    assert str(caught.value).startswith(str(tmp_path / "pytorch_model.bin"))


def test_the_format_before_torch_1_6_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"wrote before version 1\.6\. Load it with torch and save"):
        read(saved({"a": MATRIX}, _use_new_zipfile_serialization=False))


def test_a_program_of_torchscript_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="TorchScript"):
        read(archive({"code/x.py": b"", "constants.pkl": b""}))


def test_the_other_byte_order_is_refused() -> None:
    with pytest.raises(ValueError, match="big-endian"):
        read(archive({"byteorder": b"big"}))


def test_a_compressed_archive_is_refused_by_the_name_of_its_record() -> None:
    with pytest.raises(ValueError, match="compresses `model/data/0`"):
        read(archive(compressed=("data/0",)))
    with pytest.raises(ValueError, match=r"compresses `model/data\.pkl`"):
        read(archive(compressed=("data.pkl",)))


# Tensors that lie


class Storage:
    """What a pickle refers to a storage by."""

    def __init__(self, kind: object, key: object, count: object) -> None:
        self.identity = ("storage", kind, key, "cpu", count)


class Call:
    """A call that a pickle makes."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.made


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> object:
        return obj.identity if isinstance(obj, Storage) else None


def pickled(content: object) -> bytes:
    file = io.BytesIO()
    Pickler(file, 2).dump(content)
    return file.getvalue()


def rebuilt(
    first: object = 0,
    shape: object = (2, 3),
    strides: object = (3, 1),
    count: object = 6,
    key: object = "0",
    **more: Any,
) -> Call:
    storage = Storage(more.get("kind", torch.FloatStorage), key, count)
    return Call(torch._utils._rebuild_tensor_v2, storage, first, shape, strides, False, OrderedDict())


def archive(
    more: Mapping[str, bytes] | None = None,
    content: object = None,
    compressed: tuple[str, ...] = (),
    storage: bytes = bytes(24),
) -> bytes:
    """An archive of one tensor of six elements, or of what is given."""
    file = io.BytesIO()
    records = {"data.pkl": pickled({"a": rebuilt()} if content is None else content), "data/0": storage, **(more or {})}
    with zipfile.ZipFile(file, "w") as written:
        for name, raw in records.items():
            kind = zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED
            written.writestr(f"model/{name}", raw, kind)
    return file.getvalue()


def test_an_archive_made_by_hand_is_read() -> None:
    assert read(archive())["a"].spec == TensorSpec((2, 3), F32)


LIES: dict[str, tuple[object, str]] = {
    "more than the storage has": (rebuilt(shape=(2, 4)), "reaches element 6 of a storage of 6"),
    "beyond it by its first element": (rebuilt(first=1), "reaches element 6 of a storage of 6"),
    "beyond it by its strides": (rebuilt(strides=(4, 1)), "reaches element 6"),
    "far beyond it": (rebuilt(strides=(1 << 61, 1)), "reaches element"),
    "a storage beyond its record": (rebuilt(count=7), "storage has 28 bytes, of which the file holds 24"),
    "a storage of 2^61": (rebuilt(count=1 << 61), "of which the file holds 24"),
    "a storage of 2^63": (rebuilt(count=1 << 63), "not a storage"),
    "a storage of negative size": (rebuilt(count=-6), "not a storage"),
    "a storage without a size": (rebuilt(count="6"), "not a storage"),
    "a storage that is not there": (rebuilt(key="1"), "does not hold its storage `1`"),
    "a storage in another folder": (rebuilt(key="../../../etc/passwd"), "does not hold its storage"),
    "a storage by a number": (rebuilt(key=0), "not a storage"),
    "a storage that is a dtype": (rebuilt(kind=torch.float32), "not a storage"),
    "an untyped storage": (rebuilt(kind=torch.UntypedStorage, count=24), "not a storage and a shape"),
    "a negative first element": (rebuilt(first=-1), "no sizes"),
    "a first element that is true": (rebuilt(first=True), "no sizes"),
    "a negative size": (rebuilt(shape=(-2, -3)), "no sizes"),
    "a negative stride": (rebuilt(first=5, strides=(-3, -1)), "no sizes"),
    "a size of 2^62": (rebuilt(shape=(1 << 62, 0)), "no sizes"),
    "sizes that multiply beyond": (rebuilt(shape=(1 << 40, 1 << 40), strides=(0, 0)), "impossible shape"),
    "sizes that multiply beyond every float": (rebuilt(shape=(1 << 60,) * 60, strides=(0,) * 60), "impossible shape"),
    "a shape that is a list": (rebuilt(shape=[2, 3]), "no sizes"),
    "a shape that is a number": (rebuilt(shape=6), "no sizes"),
    "a fractional shape": (rebuilt(shape=(2.0, 3.0)), "no sizes"),
    "a hundred axes": (rebuilt(shape=(1,) * 100, strides=(1,) * 100), "no sizes"),
    "fewer strides than axes": (rebuilt(strides=(1,)), "more axes than strides"),
    "one byte that is a terabyte": (rebuilt(shape=(1 << 38,), strides=(0,)), "repeats few bytes"),
    "no arguments": (Call(torch._utils._rebuild_tensor_v2), "not a storage and a shape"),
    "a tensor for a storage": (Call(torch._utils._rebuild_tensor_v2, rebuilt(), 0, (1,), (1,)), "not a storage and"),
    "a parameter of a number": (Call(torch._utils._rebuild_parameter, 3, False, OrderedDict()), "no tensor"),
    "a mapping of pairs": (Call(OrderedDict, [("a", 1)]), "something else than items"),
}


@pytest.mark.parametrize("what", LIES)
def test_a_tensor_that_lies_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match=LIES[what][1]) as caught:
        read(archive(content={"a": LIES[what][0]}))
    assert len(str(caught.value)) < 500, "a letter is to be read"


def test_a_tensor_of_a_dtype_given_apart_is_held_to_its_storage_in_bytes() -> None:
    def content(count: int, *shape: int) -> object:
        storage = Storage(torch.UntypedStorage, "0", count)
        arguments = (storage, 0, shape, tuple(1 for _ in shape), False, OrderedDict(), torch.uint16)
        return {"a": Call(torch._utils._rebuild_tensor_v3, *arguments)}

    assert read(archive(content=content(24, 12)))["a"].spec.nbytes == 24
    assert read(archive(content=content(23, 11)))["a"].spec.nbytes == 22
    for count, shape in ((23, 12), (24, 13), (26, 13)):
        with pytest.raises(ValueError, match=r"reaches element|of which the file holds"):
            read(archive(content=content(count, shape)))


# Archives that lie


def edited(find: bytes, replace: bytes, raw: bytes | None = None, last: bool = False) -> bytes:
    raw = archive() if raw is None else raw
    place = raw.rindex(find) if last else raw.index(find)
    return raw[:place] + replace + raw[place + len(find) :]


def central(name: bytes, offset: int, value: bytes) -> bytes:
    """The archive with some bytes of a record's entry in the directory changed."""
    raw = archive()
    place = raw.rindex(b"PK\1\2", 0, raw.rindex(name)) + offset
    return raw[:place] + value + raw[place + len(value) :]


def with_two_of_one_name() -> bytes:
    return archive({"data/1": bytes(24)}).replace(b"model/data/1", b"model/data/0")


STORAGE = b"model/data/0"
TORN: dict[str, tuple[bytes, str]] = {
    "a record elsewhere": (
        central(STORAGE, 42, struct.pack("<I", archive().index(STORAGE))),
        "no record at byte .*, where its directory says",
    ),
    "a record at another's place": (central(STORAGE, 42, struct.pack("<I", 0)), "no record at byte 0"),
    "a record in the directory": (central(STORAGE, 42, struct.pack("<I", len(archive()) - 60)), "outside the archive"),
    "a record beyond the file": (central(STORAGE, 42, struct.pack("<I", 1 << 31)), "outside the archive"),
    "a record larger than it is": (central(STORAGE, 24, struct.pack("<I", 200)), "reaches into the one behind it"),
    "a pickle that reaches into a tensor": (
        central(b"model/data.pkl", 24, struct.pack("<I", len(pickled({"a": rebuilt()})) + 1)),
        "reaches into the one behind it",
    ),
    "a record that is smaller than its storage": (central(STORAGE, 24, struct.pack("<I", 23)), "the file holds 23"),
    "an encrypted record": (central(STORAGE, 8, b"\1"), "compresses `model/data/0`"),
    "a record of another name": (edited(STORAGE, b"model/data/9"), "no record at byte"),
    "a directory that names another record": (edited(STORAGE, b"model/data/9", last=True), "does not hold"),
    "a name of another length": (
        edited(STORAGE, STORAGE, archive()).replace(struct.pack("<HH", 12, 0) + STORAGE, b"\x0b\0\0\0" + STORAGE, 1),
        "no record at byte",
    ),
    "two records of one name": (with_two_of_one_name(), "two records of one name"),
    "no directory": (archive()[: archive().index(b"PK\1\2")], "no zip archive that can be read"),
    "a directory that is cut off": (archive()[:-30], "no zip archive that can be read"),
    "an archive of nothing": (b"PK\5\6" + bytes(18), "0 files `data.pkl`"),
    "a directory before the file": (
        archive()[:-10] + struct.pack("<IIH", 0xFFFFFF, 0, 0),
        "no zip archive that can be read",
    ),
}


@pytest.mark.parametrize("what", TORN)
def test_an_archive_that_lies_is_refused(what: str) -> None:
    raw, words = TORN[what]
    with pytest.raises(ValueError, match=words):
        read(raw)


def test_an_archive_of_two_pickles_is_refused() -> None:
    file = io.BytesIO(archive())
    with zipfile.ZipFile(file, "a") as written:
        written.writestr("other/data.pkl", b"")
    with pytest.raises(ValueError, match=r"2 files `data\.pkl`"):
        read(file.getvalue())


def test_names_that_lead_elsewhere_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = read(archive({"../../../escaped": b"x", "/etc/passwd": b"x", "data/../../0": b"x"}))
    assert list(found) == ["a"]
    assert list(tmp_path.iterdir()) == []


# What may not cost much


def memory_of_refusing(path: Path) -> int:
    """The most bytes that are held at once."""
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=path.name):
        open_tensors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_directory_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path, size = tmp_path / "model.pt", 3_000_000_000
    with path.open("wb") as file:
        file.write(archive())
        file.seek(size)
        file.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 9, 9, size - len(archive()), len(archive()), 0))
    assert memory_of_refusing(path) < 2 * MAX_DIRECTORY


def test_a_pickle_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    write_archive(tmp_path / "model.pt", {"a": 4}, pickle_size=3_000_000_000)
    assert memory_of_refusing(tmp_path / "model.pt") < MAX_PICKLE


def test_a_pickle_that_only_makes_containers_is_given_up(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as written:
        written.writestr("m/data.pkl", b"\x80\x02(" + b"}" * 20_000_000 + b"t.")
    started = time.process_time()
    with pytest.raises(CheckpointError, match=r"more than \d+ steps"):
        open_tensors(tmp_path / "model.pt")
    assert time.process_time() - started < 30  # about 4, on a slow machine


# Helpers


def write_archive(path: Path, storages: Mapping[str, int], pickle_size: int | None = None) -> None:
    """A sparse archive of tensors of bytes, as large as they are said to be."""
    content = {
        name: Call(
            torch._utils._rebuild_tensor_v2,
            Storage(torch.ByteStorage, str(number), size), 0, (size,), (1,), False, OrderedDict(),
        )
        for number, (name, size) in enumerate(storages.items())
    }  # fmt: skip
    raw = pickled(content)
    records = {"model/data.pkl": (raw, pickle_size or len(raw))}
    records |= {f"model/data/{number}": (b"", size) for number, size in enumerate(storages.values())}
    with path.open("wb") as file:
        directory = b""
        for name, (head, size) in records.items():
            place = file.tell()
            file.write(struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 45, 0, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1, len(name), 20))
            file.write(name.encode() + struct.pack("<HHQQ", 1, 16, size, size) + head)
            file.seek(size - len(head), 1)
            extra = struct.pack("<HHQQQ", 1, 24, size, size, place)
            directory += struct.pack(
                "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 45, 45, 0, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1, len(name), len(extra), 0,
                0, 0, 0, 2**32 - 1,
            ) + name.encode() + extra  # fmt: skip
        start = file.tell()
        file.write(directory)
        end = file.tell()
        count = len(records)
        file.write(struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), start))
        file.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0))
