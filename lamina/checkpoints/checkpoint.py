"""An input model's folder: its tensors by name, opened by headers, read at offsets.

Files are looked for in MergeKit's order: an index before a single file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import xxhash

from lamina.checkpoints.files import InputFile, exists, read_all
from lamina.checkpoints.layout import INDEX_NAME
from lamina.checkpoints.safetensors import Entry, open_safetensors
from lamina.errors import CheckpointError
from lamina.tensor_spec import TensorSpec

SAMPLE_BYTES = 4096  # read of each sampled tensor, to tell one fine-tune from another
MAX_SAMPLES = 1024


class Checkpoint:
    """The tensors of one folder. Any number of threads may read; nothing is mapped into memory."""

    def __init__(self, folder: Path, entries: Mapping[str, tuple[Path, Entry]]) -> None:
        self.folder = folder
        self.specs: Mapping[str, TensorSpec] = {name: entry.spec for name, (_, entry) in entries.items()}
        self._entries = entries
        self._files: dict[Path, InputFile] = {}
        self._opening = Lock()

    def read_into(self, name: str, first_byte: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes of a tensor from `first_byte` on."""
        path, entry = self._entries[name]
        self._file(path).read_into(buffer, entry.offset + first_byte)

    def read(self, name: str) -> bytes:
        """All bytes of a tensor."""
        content = bytearray(self.specs[name].nbytes)
        self.read_into(name, 0, memoryview(content))
        return bytes(content)

    @property
    def fingerprint(self) -> str:
        """A digest of names, dtypes and shapes: what a plan depends on."""
        known = [[name, spec.dtype.name, list(spec.shape)] for name, spec in sorted(self.specs.items())]
        return xxhash.xxh3_128_hexdigest(json.dumps(known).encode())

    def sample(self) -> str:
        """A digest of a few KB from the middle of each tensor (at most 1,024 of them, evenly chosen).

        Tells in milliseconds whether this is the model that a merge was made from: training, however
        short, touches nearly every element of what it touches.
        """
        digest = xxhash.xxh3_128()
        names = sorted(self.specs)
        for name in names[:: max(1, -(-len(names) // MAX_SAMPLES))]:
            nbytes = self.specs[name].nbytes
            buffer = bytearray(min(nbytes, SAMPLE_BYTES))
            self.read_into(name, (nbytes - len(buffer)) // 2, memoryview(buffer))
            digest.update(buffer)
        return digest.hexdigest()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _file(self, path: Path) -> InputFile:
        with self._opening:
            if path not in self._files:
                self._files[path] = InputFile(path)
            return self._files[path]


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a model's folder by its headers. Raises CheckpointError where it cannot be trusted."""
    index = folder / INDEX_NAME
    single = folder / "model.safetensors"
    if index.is_file():
        return Checkpoint(folder, _by_index(index))
    if single.is_file():
        return Checkpoint(folder, {name: (single, entry) for name, entry in open_safetensors(single).items()})
    raise CheckpointError(f"{folder} holds neither model.safetensors nor {INDEX_NAME}.{_what_is_there(folder)}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping. Raises CheckpointError for anything else."""
    try:
        content = json.loads(read_all(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__} where a mapping belongs.")
    return content


def _by_index(index: Path) -> dict[str, tuple[Path, Entry]]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise CheckpointError(f"{index} has no `weight_map` from tensor names to file names.")
    shard_names = list(dict.fromkeys(weight_map.values()))
    escaping = [name for name in shard_names if Path(name).name != name]
    if escaping:
        raise CheckpointError(f"{index} names files outside its folder: {_listed(escaping)}.")
    missing = [name for name in shard_names if not exists(index.parent / name)]
    if missing:
        raise CheckpointError(f"{index.parent}: the index names files that are not there: {_listed(missing)}.")
    headers = _headers(index.parent, shard_names)
    absent = [name for name, file in weight_map.items() if name not in headers[file]]
    if absent:
        raise CheckpointError(f"{index} places tensors in files that do not hold them: {_listed(absent)}.")
    # A tensor that lies in a shard but not in the index is loaded by transformers all the same.
    entries = {name: (index.parent / file, entry) for file, header in headers.items() for name, entry in header.items()}
    placed = {name: (index.parent / file, headers[file][name]) for name, file in weight_map.items()}
    return entries | placed


def _headers(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Entry]]:
    headers, faults = {}, []
    for name in names:
        try:
            headers[name] = open_safetensors(folder / name)
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError("\n".join(faults))
    return headers


def _what_is_there(folder: Path) -> str:
    if not folder.is_dir():
        return " There is no such folder."
    weights = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".gguf"))
    if weights:
        return (
            f" It holds {_listed(weights)}, which Lamina does not read yet; "
            "transformers' `save_pretrained` writes safetensors."
        )
    return ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
