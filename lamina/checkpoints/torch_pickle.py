"""`pytorch_model.bin` and `.pt`: a zip archive of one pickle, which describes the tensors, and their storages.

The pickle is read as data (`pickle_machine.py`): no name in it is imported, nothing of it is run. The archive is
read by its directory: its records are stored, not compressed, so that a tensor is a run of the file's bytes,
or a view with strides. What is returned can be read without another check. This is the format that `torch.save`
writes since version 1.6; older ones, TorchScript and compressed archives are refused by name.
"""

from __future__ import annotations

import math
import struct
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lamina.checkpoints.entries import Entry, ReadAt, strides_of
from lamina.checkpoints.pickle_machine import Known, read_pickle
from lamina.tensor_spec import DTYPES, DType, TensorSpec
from lamina.wording import listed

MAX_DIRECTORY = 32_000_000  # bytes of the archive's directory; a tensor takes about 100
MAX_PICKLE = 64_000_000  # bytes; a tensor takes about 150
READ_AHEAD = 1 << 17  # bytes: directory and pickle of most files are there in a read each
MAX_SIZE = 1 << 62
LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of what follows it
OLD_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the pickled number that torch.save once began with
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # where training scripts put a state dict
REWRITE = "load it with torch and save its state dict again: `torch.save(torch.load(path), path)`, or as safetensors"

_NAMED_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL", "complex64": "C64",
    "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32", "uint64": "U64",
    "int64": "I64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "BoolStorage": "BOOL", "ByteStorage": "U8", "CharStorage": "I8", "ShortStorage": "I16", "IntStorage": "I32",
    "LongStorage": "I64", "ComplexFloatStorage": "C64",
}  # fmt: skip
_UNTYPED = "torch.storage.UntypedStorage"


@dataclass(frozen=True)
class _Storage:
    """Bytes of the archive: `count` elements of a dtype, or where that is None, bytes."""

    key: str
    dtype: DType | None
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view into a storage: its first element, and the strides of its axes, in elements."""

    spec: TensorSpec
    storage: _Storage
    first: int
    strides: tuple[int, ...]


def read_torch_pickle(read: ReadAt, size: int, here: bool) -> dict[str, Entry]:
    """Every tensor of a file of `size` bytes, by name, in the order of the state dict. Reads no tensor.

    A wrapping mapping as training scripts write it (`{"state_dict": ..., "optimizer": ...}`) is taken off.
    Where the file is not `here`, the places of the tensors stay open: each would take a request of its own.
    Raises ValueError with a sentence for a file that cannot be read, or not without running what it holds.
    """
    archive = _Archive(read, size)
    tensors = _state_dict(archive.pickled())
    entries = {}
    for name, tensor in tensors.items():
        try:
            archive.check(tensor)
        except ValueError as error:
            raise ValueError(f"tensor {_quoted(name)} {error}") from error
        offset = archive.start(tensor) if here else None
        contiguous = _steps(tensor.spec.shape, tensor.strides) == _steps(
            tensor.spec.shape, strides_of(tensor.spec.shape)
        )
        entries[name] = Entry(tensor.spec, offset, () if contiguous or not tensor.spec.count else tensor.strides)
    return entries


def _steps(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """The strides that say where an element is: those of axes with more than one."""
    return [stride for length, stride in zip(shape, strides, strict=True) if length > 1]


# The archive


@dataclass(frozen=True)
class _Record:
    """One file in the archive; `header` is the byte at which its own header starts."""

    header: int
    size: int
    name: bytes
    is_stored: bool


class _Archive:
    """A zip archive as torch writes it, read by its directory."""

    def __init__(self, read: ReadAt, size: int) -> None:
        self._file = _Window(read, size)
        self._size = size
        self._records, directory = self._read_directory()
        self._bounds = sorted({record.header for record in self._records.values()} | {directory})
        self._starts: dict[str, int] = {}
        pickles = [name for name in self._records if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"it is a zip archive with {len(pickles)} files `data.pkl`; torch.save writes one")
        self._folder = pickles[0].removesuffix("data.pkl")
        if any(name.startswith(self._folder + "code/") for name in self._records):
            raise ValueError(
                "it is a TorchScript program, not a state dict; load it with torch.jit and save its state dict"
            )

    def pickled(self) -> object:
        """What the archive's pickle describes."""
        raw = self._content("data.pkl", MAX_PICKLE)
        if f"{self._folder}byteorder" in self._records and self._content("byteorder", 100) != b"little":
            raise ValueError("its numbers are big-endian; save it on a machine of the usual byte order")
        return read_pickle(raw, _KNOWN, _storage)

    def check(self, tensor: _Tensor) -> None:
        """Raise ValueError where the tensor does not lie within its storage, or that not within the archive."""
        record, spec, storage = self._record(tensor.storage), tensor.spec, tensor.storage
        width = (storage.dtype or spec.dtype).bits // 8
        held = storage.count if storage.dtype else storage.count // width
        if held * width > record.size:
            raise ValueError(f"has a storage of {held * width} bytes, of which the file holds {record.size}")
        if not spec.count:
            return
        last = tensor.first + sum((n - 1) * step for n, step in zip(spec.shape, tensor.strides, strict=True))
        if last >= held:
            raise ValueError(f"({spec}) reaches element {last} of a storage of {held}")
        if spec.nbytes > self._size:
            raise ValueError(f"({spec}) repeats few bytes to be larger than its file; save its `contiguous()`")

    def start(self, tensor: _Tensor) -> int:
        """The byte at which a tensor's first element lies."""
        key = tensor.storage.key
        if key not in self._starts:
            self._starts[key] = self._start(self._record(tensor.storage))
        return self._starts[key] + tensor.first * tensor.spec.dtype.bits // 8

    def _record(self, storage: _Storage) -> _Record:
        record = self._records.get(f"{self._folder}data/{storage.key}")
        if record is None:
            raise ValueError(f"has the storage {_quoted(storage.key)}, which the archive does not hold")
        return record

    def _content(self, name: str, limit: int) -> bytes:
        record = self._records[self._folder + name]
        if record.size > limit:
            raise ValueError(f"its {name} has {record.size} bytes, where at most {limit} are read")
        return self._file.at(self._start(record), record.size, ahead=4096)  # the byte order is right behind

    def _start(self, record: _Record) -> int:
        """Where a record's bytes begin: behind its own header, which must say what the directory says."""
        if not record.is_stored:
            raise ValueError(f"its archive compresses {_quoted(record.name.decode(errors='replace'))}; {REWRITE}")
        header = self._file.at(record.header, LOCAL_HEADER.size + len(record.name))
        signature, name_length, more = LOCAL_HEADER.unpack_from(header)
        start: int = record.header + LOCAL_HEADER.size + name_length + more
        if signature != b"PK\3\4" or header[LOCAL_HEADER.size :] != record.name or name_length != len(record.name):
            raise ValueError(f"its archive has no record at byte {record.header}, where its directory says that one is")
        if start + record.size > self._bounds[bisect_right(self._bounds, record.header)]:
            raise ValueError(f"the record at byte {record.header} of its archive reaches into the one behind it")
        return start

    def _read_directory(self) -> tuple[dict[str, _Record], int]:
        """The archive's records by name, and the byte at which the directory starts."""
        self._check_kind()
        try:
            with zipfile.ZipFile(self._file) as archive:
                found, directory = archive.infolist(), archive.start_dir
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise ValueError(f"it is not a zip archive that can be read ({error}): cut off, or damaged") from error
        records = {}
        for each in found:
            name = each.orig_filename.encode("utf-8" if each.flag_bits & 0x800 else "cp437")
            is_stored = each.compress_type == zipfile.ZIP_STORED and not each.flag_bits & 1
            records[each.orig_filename] = _Record(each.header_offset, each.file_size, name, is_stored)
        if len(records) < len(found):
            raise ValueError("its archive holds two records of one name")
        if any(not 0 <= record.header < directory for record in records.values()):
            raise ValueError("its archive's directory names a record outside the archive")
        return records, directory

    def _check_kind(self) -> None:
        first = self._file.at(0, min(self._size, 512), ahead=READ_AHEAD)
        if first.startswith(OLD_MAGIC) or first[257:262] == b"ustar":
            raise ValueError(f"it is of the format that torch wrote before version 1.6; {REWRITE}")
        if not first.startswith(b"PK"):
            raise ValueError(
                f"its {self._size} bytes do not begin as a file of torch.save does. It is cut off, a bare pickle, or "
                "a Git LFS pointer."
            )


class _Window:
    """A file as `zipfile` wants it, in few and bounded reads: what is read once is kept, with some bytes ahead."""

    def __init__(self, read: ReadAt, size: int) -> None:
        self._read, self._size = read, size
        self._place = 0
        self._pieces: list[tuple[int, bytes]] = []

    def at(self, offset: int, length: int, ahead: int = 0) -> bytes:
        """`length` bytes from `offset` on, read with more around them up to `ahead`.

        Raises ValueError where the file ends before.
        """
        if offset < 0 or length < 0 or offset + length > self._size:
            raise ValueError(f"bytes {offset} to {offset + length} are asked of a file of {self._size}")
        for start, piece in self._pieces:
            if start <= offset and offset + length <= start + len(piece):
                return piece[offset - start : offset - start + length]
        start = min(offset, max(0, self._size - ahead))
        piece = self._read(start, min(max(offset + length - start, ahead), self._size - start))
        if ahead:
            self._pieces.append((start, piece))
        found = piece[offset - start : offset - start + length]
        if len(found) < length:
            raise ValueError(f"it ends at byte {start + len(piece)}")
        return found

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        place = offset + [0, self._place, self._size][whence]
        if place < 0:
            raise OSError("a place before the first byte")  # as files do: zipfile tries such places
        self._place = place
        return place

    def tell(self) -> int:
        return self._place

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._place)
        count = left if count < 0 else min(count, left)
        if count > MAX_DIRECTORY:
            raise ValueError(f"a directory of {count} bytes, where at most {MAX_DIRECTORY} are read")
        found = self.at(self._place, count, ahead=READ_AHEAD)
        self._place += count
        return found


# What the pickle may name


def _state_dict(content: object) -> dict[str, _Tensor]:
    """The tensors by name, out of the wrapping that training scripts give them."""
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__.strip('_').lower()} where a state dict belongs")
    wrapped = [content[key] for key in WRAPPERS if isinstance(content.get(key), dict)]
    state = next((each for each in wrapped if _has_tensors(each)), content)
    if not _has_tensors(state):
        keys = [_quoted(str(key)) for key in state]
        raise ValueError(f"it holds no tensors by name; at its top are {listed(keys) or 'no keys'}")
    nested = [_quoted(str(key)) for key, value in state.items() if isinstance(value, dict) and _has_tensors(value)]
    if nested:
        raise ValueError(f"it holds tensors in {listed(nested)}, beside others; save the state dict alone")
    tensors = {name: value for name, value in state.items() if isinstance(value, _Tensor)}
    if not all(isinstance(name, str) for name in tensors):
        raise ValueError("it has tensors under numbers, where a state dict has names")
    return tensors


def _has_tensors(content: Mapping[object, object]) -> bool:
    return any(isinstance(value, _Tensor) for value in content.values())


def _storage(identity: object) -> _Storage:
    """A storage, as torch's pickles refer to one."""
    match identity:
        case ("storage", Known(name=kind), str(key), str(), int(count)) if 0 <= count < MAX_SIZE:
            if kind == _UNTYPED:
                return _Storage(key, None, count)
            if (dtype := _STORAGES.get(kind.removeprefix("torch."))) is not None:
                return _Storage(key, DTYPES[dtype], count)
    raise ValueError("its pickle refers to something that is not a storage")


def _tensor(arguments: tuple[object, ...]) -> _Tensor:
    """torch._utils._rebuild_tensor(storage, first, shape, strides) and _v2(..., requires_grad, hooks[, flags])."""
    match arguments:
        case (_Storage(dtype=DType() as dtype) as storage, first, shape, strides, *more) if len(more) in (0, 2, 3):
            return _view(storage, dtype, first, shape, strides, more[2:])
    raise ValueError("its pickle rebuilds a tensor from what is not a storage and a shape")


def _tensor_of_dtype(arguments: tuple[object, ...]) -> _Tensor:
    """torch._utils._rebuild_tensor_v3(storage, first, shape, strides, requires_grad, hooks, dtype[, flags])."""
    match arguments:
        case (_Storage(dtype=None) as storage, first, shape, strides, _, _, Known(name=name), *more) if len(more) < 2:
            if (dtype := _NAMED_DTYPES.get(name.removeprefix("torch."))) is not None:
                return _view(storage, DTYPES[dtype], first, shape, strides, more)
    raise ValueError("its pickle rebuilds a tensor from what is not a storage, a shape and a dtype")


def _view(
    storage: _Storage, dtype: DType, first: object, shape: object, strides: object, flags: list[object]
) -> _Tensor:
    if any(flags):  # {"conj": True} or {"neg": True}
        raise ValueError(
            "its pickle has a tensor that is to be conjugated or negated when it is read; save its `clone()`"
        )
    if not (_are_sizes((first,)) and _are_sizes(shape) and _are_sizes(strides)):
        raise ValueError("its pickle has a tensor whose shape or strides are no sizes")
    assert isinstance(first, int)
    assert isinstance(shape, tuple)
    assert isinstance(strides, tuple)
    if len(shape) != len(strides):
        raise ValueError("its pickle has a tensor with more axes than strides, or fewer")
    if math.prod(shape) >= MAX_SIZE:
        raise ValueError(f"its pickle has a tensor of the impossible shape {list(shape)}"[:200])
    return _Tensor(TensorSpec(shape, dtype), storage, first, strides)


def _are_sizes(values: object) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) <= 64  # axes: torch's own limit
        and all(type(value) is int and 0 <= value < MAX_SIZE for value in values)
    )


def _parameter(arguments: tuple[object, ...]) -> object:
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks[, attributes])."""
    match arguments:
        case (_Tensor() as tensor, _, _, *more) if len(more) < 2:
            return tensor
    raise ValueError("its pickle makes a parameter of what is no tensor")


def _mapping(arguments: tuple[object, ...]) -> dict[object, object]:
    if arguments:
        raise ValueError("its pickle makes a mapping of something else than items")
    return {}


def _plain(arguments: tuple[object, ...]) -> tuple[object, ...]:
    """A value that no tensor needs: a device, a shape."""
    return arguments


def _quoted(name: str) -> str:
    """A name of the file's, as a letter can show it."""
    return f"`{name}`" if name.isprintable() and len(name) <= 200 else repr(name[:100])


def _known() -> dict[str, Known]:
    calls: dict[str, Callable[[tuple[object, ...]], object] | None] = {
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "collections.OrderedDict": _mapping,
        "torch.Size": _plain,
        "torch.device": _plain,
        _UNTYPED: None,
    }
    calls |= dict.fromkeys([f"torch.{name}" for name in (*_STORAGES, *_NAMED_DTYPES)])
    return {name: Known(name, call) for name, call in calls.items()}


_KNOWN = _known()
