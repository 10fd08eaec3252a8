"""The safetensors format: 8 bytes of header length, a JSON header, the tensors end to end.

`parse_header` is the list of the format's invariants: what it returns can be read without another check.
The format: https://github.com/huggingface/safetensors (format section).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from lamina.checkpoints.entries import Entry, ReadAt
from lamina.tensor_spec import DTYPES, TensorSpec

MAX_HEADER = 100_000_000  # the format's own limit, in bytes


def read_safetensors(read: ReadAt, size: int, _here: bool = True) -> dict[str, Entry]:
    """Every tensor of a file of `size` bytes, by name, in the order of the bytes. Reads the header only.

    Raises ValueError with the rule that is broken, for anything the format does not allow.
    """
    length = _header_length(read(0, min(8, size)), size)
    return parse_header(read(8, length), data_size=size - 8 - length)


def _header_length(first_bytes: bytes, size: int) -> int:
    """Bytes of the header that follows the first 8 of a file of `size` bytes."""
    if size < 8:
        raise ValueError(f"{size} bytes are too few for a safetensors file; is it a failed download?")
    length = int.from_bytes(first_bytes[:8], "little")
    if length > MAX_HEADER or length > size - 8:
        raise ValueError(
            f"its first bytes announce a header of {length} bytes in a file of {size}. "
            "It is cut off, or not a safetensors file (a Git LFS pointer?)."
        )
    return length


def parse_header(raw: bytes, data_size: int) -> dict[str, Entry]:
    """The header's tensors; `data_size` is the number of bytes that follow it.

    Raises ValueError with the rule that is broken.
    """
    if not raw.startswith(b"{"):
        raise ValueError("the header does not start with `{`")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"the header is not valid JSON ({error})") from error
    _check_metadata(header.pop("__metadata__", {}))
    data_start = 8 + len(raw)
    spans = [(*_span(name, entry), name) for name, entry in header.items()]
    entries: dict[str, Entry] = {}
    reached = 0
    try:
        "".join(header).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a tensor's name is not valid text (half of a surrogate pair)") from error
    for begin, end, spec, name in sorted(spans, key=lambda span: span[:2]):
        if begin != reached:
            found = "overlaps the tensor before it" if begin < reached else "leaves a hole before it"
            raise ValueError(f"tensor `{name}` at bytes {begin} to {end} {found}, which ends at {reached}")
        entries[name] = Entry(spec, data_start + begin)
        reached = end
    if reached != data_size:
        found = "cut off" if reached > data_size else "followed by other data"
        raise ValueError(f"the header describes {reached} bytes of tensors and {data_size} are there: {found}")
    return entries


def format_header(tensors: Mapping[str, TensorSpec]) -> bytes:
    """The first bytes of a file that holds `tensors` end to end in the given order.

    Padded with spaces to a multiple of 8, so that the tensors start aligned.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    reached = 0
    for name, spec in tensors.items():
        end = reached + spec.nbytes
        header[name] = {"dtype": spec.dtype.name, "shape": list(spec.shape), "data_offsets": [reached, end]}
        reached = end
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _span(name: str, entry: object) -> tuple[int, int, TensorSpec]:
    if not isinstance(entry, dict):
        raise ValueError(f"the entry of `{name}` is not a mapping")
    dtype_name, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype_name, str) or dtype_name not in DTYPES:
        raise ValueError(f"tensor `{name}` has the unknown dtype {dtype_name!r}")
    if not _are_sizes(shape):
        raise ValueError(f"tensor `{name}` has the shape {shape!r}, which is not a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"tensor `{name}` has the offsets {offsets!r}, which are not a start and an end")
    dtype = DTYPES[dtype_name]
    bits = math.prod(shape) * dtype.bits
    if bits != 8 * (offsets[1] - offsets[0]):
        raise ValueError(
            f"tensor `{name}` ({dtype_name} {shape}) takes {bits // 8} bytes, its offsets span "
            f"{offsets[1] - offsets[0]}"
        )
    return offsets[0], offsets[1], TensorSpec(tuple(shape), dtype)


def _are_sizes(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 62 for value in values)


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("`__metadata__` is not a mapping from text to text")


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the header names `{next(n for n in names if names.count(n) > 1)}` twice")
    return found
