"""`pytorch_model.bin` and `.pt`: a zip archive of one pickle, which describes the tensors, and their storages.

The pickle is read as data (`pickle_machine.py`): no name in it is imported, nothing of it is run. The archive's
records are not compressed (`stored_zip.py`), so that a tensor is a run of the file's bytes, or a view with strides.
What is returned can be read without another check. This is the format that `torch.save` writes since version 1.6;
older ones, TorchScript and compressed archives are refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lamina.checkpoints.entries import Entry, ReadAt, strides_of
from lamina.checkpoints.pickle_machine import Known, read_pickle
from lamina.checkpoints.stored_zip import READ_AHEAD, StoredZip, Window, shown
from lamina.tensor_spec import DTYPES, DType, TensorSpec
from lamina.wording import listed

MAX_PICKLE = 64_000_000  # bytes; a tensor takes about 150
MAX_SIZE = 1 << 62
OLD_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the pickled number that torch.save once began with
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # where training scripts put a state dict

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
    file = Window(read, size)
    _check_kind(file)
    archive = StoredZip(file)
    folder = _folder_of(archive)
    entries = {}
    for name, tensor in _state_dict(_pickled(archive, folder)).items():
        record, width = f"{folder}data/{tensor.storage.key}", tensor.spec.dtype.bits // 8
        try:
            _check_place(tensor, archive.sizes.get(record), size)
            offset = archive.start(record) + tensor.first * width if here else None
        except ValueError as error:
            raise ValueError(f"tensor {shown(name)}: {error}") from error
        entries[name] = Entry(tensor.spec, offset, () if _is_contiguous(tensor) else tensor.strides)
    return entries


def _check_kind(file: Window) -> None:
    """Raise ValueError for what is no archive."""
    first = file.at(0, min(file.size, 512), ahead=READ_AHEAD)
    if first.startswith(OLD_MAGIC) or first[257:262] == b"ustar":
        raise ValueError(
            "it is of the format that torch wrote before version 1.6. Load it with torch and save its state dict "
            "again: `torch.save(torch.load(path), path)`, or as safetensors"
        )
    if not first.startswith(b"PK"):
        raise ValueError(
            f"its {file.size} bytes do not begin as a file of torch.save does. It is cut off, a bare pickle, or a Git "
            "LFS pointer."
        )


def _folder_of(archive: StoredZip) -> str:
    """The one folder that torch.save puts everything into."""
    pickles = [name for name in archive.sizes if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"it is a zip archive with {len(pickles)} files `data.pkl`; torch.save writes one")
    folder = pickles[0].removesuffix("data.pkl")
    if any(name.startswith(folder + "code/") for name in archive.sizes):
        raise ValueError("it is a TorchScript program; load it with `torch.jit.load` and save its state dict")
    return folder


def _pickled(archive: StoredZip, folder: str) -> object:
    """What the archive's pickle describes."""
    raw = archive.content(folder + "data.pkl", MAX_PICKLE)
    if folder + "byteorder" in archive.sizes and archive.content(folder + "byteorder", 100) != b"little":
        raise ValueError("its numbers are big-endian; save it on a machine of the usual byte order")
    return read_pickle(raw, _KNOWN, _storage)


def _check_place(tensor: _Tensor, record_size: int | None, file_size: int) -> None:
    """Raise ValueError where the tensor does not lie within its storage, or that not within the archive."""
    spec, storage = tensor.spec, tensor.storage
    if record_size is None:
        raise ValueError(f"the archive does not hold its storage {shown(storage.key)}")
    width = (storage.dtype or spec.dtype).bits // 8
    held = storage.count if storage.dtype else storage.count // width
    if held * width > record_size:
        raise ValueError(f"its storage has {held * width} bytes, of which the file holds {record_size}")
    if not spec.count:
        return
    last = tensor.first + sum((n - 1) * step for n, step in zip(spec.shape, tensor.strides, strict=True))
    if last >= held:
        raise ValueError(f"{spec} reaches element {last} of a storage of {held}")
    if spec.nbytes > file_size:
        raise ValueError(f"{spec} repeats few bytes to be larger than its file; save its `contiguous()`")


def _is_contiguous(tensor: _Tensor) -> bool:
    """True where the elements lie in the order of the shape; strides of axes with one element say nothing."""
    shape = tensor.spec.shape
    steps = zip(shape, tensor.strides, strides_of(shape), strict=True)
    return not tensor.spec.count or all(found == usual for length, found, usual in steps if length > 1)


# What the pickle may name


def _state_dict(content: object) -> dict[str, _Tensor]:
    """The tensors by name, out of the wrapping that training scripts give them."""
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__.strip('_').lower()} where a state dict belongs")
    wrapped = [content[key] for key in WRAPPERS if isinstance(content.get(key), dict)]
    state = next((each for each in wrapped if _has_tensors(each)), content)
    if not _has_tensors(state):
        keys = [shown(str(key)) for key in state]
        raise ValueError(f"it holds no tensors by name; at its top are {listed(keys) or 'no keys'}")
    nested = [shown(str(key)) for key, value in state.items() if isinstance(value, dict) and _has_tensors(value)]
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
