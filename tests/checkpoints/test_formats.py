"""What every format of tensor files promises. A new format inherits the contract."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lamina.checkpoints.entries import Entry
from lamina.checkpoints.files import InputFile, read_at
from lamina.checkpoints.formats import Format, format_of, open_tensors
from lamina.errors import CheckpointError
from lamina.tensor_spec import DTYPES, TensorSpec

DTYPE_NAMES = {
    torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float64: "F64", torch.bool: "BOOL",
    torch.uint8: "U8", torch.int8: "I8", torch.uint16: "U16", torch.int16: "I16", torch.uint32: "U32",
    torch.int32: "I32", torch.uint64: "U64", torch.int64: "I64", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.float8_e8m0fnu: "F8_E8M0",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ", torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}  # fmt: skip
ANY_BYTES = settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))


def numbered(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """A tensor whose bytes all differ from those beside them."""
    count = int(torch.tensor(shape).prod()) * torch.empty((), dtype=dtype).element_size()
    raw = torch.arange(count, dtype=torch.int64).remainder(2 if dtype is torch.bool else 251).to(torch.uint8)
    return raw.view(dtype).reshape(shape)


TENSORS = {
    **{str(dtype): numbered(dtype, 3, 5) for dtype in DTYPE_NAMES},
    "scalar": torch.tensor(2.5),
    "nothing": torch.zeros(0, 7, dtype=torch.int32),
    "ein Gewicht ✓": torch.ones(1),
    "large": numbered(torch.float32, 300, 1000),
}


class FormatContract:
    """Tests of a format, from files that its own package writes."""

    name: str

    def save(self, tensors: dict[str, torch.Tensor], path: Path) -> None:
        raise NotImplementedError

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        (tmp_path / "whole").mkdir()
        self.save(TENSORS, tmp_path / "whole" / self.name)
        return tmp_path / "whole" / self.name

    @property
    def format(self) -> Format:
        return format_of(self.name)

    def test_names_shapes_and_dtypes_are_those_of_the_tensors(self, path: Path) -> None:
        expected = {
            name: TensorSpec(tuple(tensor.shape), DTYPES[DTYPE_NAMES[tensor.dtype]]) for name, tensor in TENSORS.items()
        }
        assert {name: entry.spec for name, entry in open_tensors(path).items()} == expected

    def test_every_tensor_has_its_bytes(self, path: Path) -> None:
        for name, entry in open_tensors(path).items():
            assert content(path, entry) == bytes_of(TENSORS[name]), name

    def test_a_header_is_known_from_a_small_part_of_a_large_file(self, path: Path) -> None:
        asked = []

        def read(offset: int, length: int) -> bytes:
            asked.append(length)
            return read_at(path, offset, length)

        self.format(read, path.stat().st_size, False)
        assert sum(asked) < path.stat().st_size // 3
        assert len(asked) <= 3

    def test_entries_are_the_same_whether_the_file_is_here_or_not_but_for_their_place(self, path: Path) -> None:
        read, size = partial(read_at, path), path.stat().st_size
        here, away = self.format(read, size, True), self.format(read, size, False)
        assert all(entry.offset is not None for entry in here.values())
        assert {name: (e.spec, e.strides) for name, e in here.items()} == {
            name: (e.spec, e.strides) for name, e in away.items()
        }

    def test_a_file_without_tensors_has_none_or_is_refused(self, tmp_path: Path) -> None:
        self.save({}, tmp_path / self.name)
        try:
            assert open_tensors(tmp_path / self.name) == {}
        except CheckpointError as error:
            assert "no tensors" in str(error)  # noqa: PT017 (either is right)

    @pytest.mark.parametrize("part", [0, 1, 7, 8, 40, 0.5, 0.9, -1, -2, -22, -200])
    def test_a_file_that_is_cut_off_anywhere_is_refused_by_name(self, part: float, path: Path, tmp_path: Path) -> None:
        whole = path.read_bytes()
        (tmp_path / self.name).write_bytes(whole[: int(part * len(whole)) if 0 < part < 1 else int(part)])
        with pytest.raises(CheckpointError, match=self.name):
            open_tensors(tmp_path / self.name)

    def test_a_pointer_of_git_lfs_is_recognised(self, tmp_path: Path) -> None:
        (tmp_path / self.name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
        with pytest.raises(CheckpointError, match="Git LFS"):
            open_tensors(tmp_path / self.name)

    @given(raw=st.binary(max_size=300))
    @ANY_BYTES
    def test_random_bytes_are_refused(self, raw: bytes) -> None:
        with pytest.raises(ValueError, match=r"\w"):
            self.read(raw)

    @given(data=st.data())
    @ANY_BYTES
    def test_a_file_with_some_bytes_changed_is_refused_or_keeps_within_itself(self, data: st.DataObject) -> None:
        raw = bytearray(small_file(type(self)))
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(raw) - 1))
            change = data.draw(st.binary(min_size=1, max_size=4))
            raw[place : place + len(change)] = change
        try:
            found = self.read(bytes(raw))
        except ValueError:
            return
        for entry in found.values():
            assert len(entry.spec.shape) == 0 or min(entry.spec.shape) >= 0
            assert entry.spec.nbytes <= len(raw)
            if entry.spec.count:
                read_all(bytes(raw), entry)

    def read(self, raw: bytes) -> dict[str, Entry]:
        return self.format(lambda offset, length: raw[offset : offset + length], len(raw), True)


class TestSafetensors(FormatContract):
    name = "model.safetensors"

    def save(self, tensors: dict[str, torch.Tensor], path: Path) -> None:
        save_file(tensors, path)


class TestTorchPickle(FormatContract):
    name = "pytorch_model.bin"

    def save(self, tensors: dict[str, torch.Tensor], path: Path) -> None:
        torch.save(tensors, path)


class TestTorchPickleOfAnotherName(TestTorchPickle):
    name = "model.pt"


# Helpers


@cache
def small_file(contract: type[FormatContract]) -> bytes:
    """A small file of the format."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / contract.name
        contract().save({"a": torch.ones(2, 3), "b": torch.arange(4).bool(), "c": torch.ones(())}, path)
        return path.read_bytes()


def read_all(raw: bytes, entry: Entry) -> bytes:
    """A tensor of a file in memory; a place outside of it is a fault."""

    def fill(buffer: memoryview, offset: int) -> None:
        assert offset >= 0
        assert offset + len(buffer) <= len(raw)
        buffer[:] = raw[offset : offset + len(buffer)]

    found = bytearray(entry.spec.nbytes)
    entry.read_into(fill, 0, memoryview(found))
    return bytes(found)


def content(path: Path, entry: Entry) -> bytes:
    """A tensor of a file."""
    file = InputFile(path)
    try:
        found = bytearray(entry.spec.nbytes)
        entry.read_into(file.read_into, 0, memoryview(found))
        return bytes(found)
    finally:
        file.close()


def bytes_of(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""
