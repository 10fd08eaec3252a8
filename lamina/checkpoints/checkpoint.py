"""An input model: its tensors by name, opened by headers, read at offsets.

A checkpoint knows tensors; the files they lie in are a `ModelFiles`: a folder here, or one on the Hub
(`hub.py`), and what lies in a file is known by its format (`formats.py`). Files are looked for in MergeKit's
order: safetensors before pickles, an index before a single file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import xxhash

from lamina.checkpoints.entries import Entry
from lamina.checkpoints.files import InputFile, exists, names_in, read_all, state_of
from lamina.checkpoints.formats import PICKLES, open_tensors
from lamina.checkpoints.journal import FileState
from lamina.checkpoints.layout import INDEX_NAME
from lamina.errors import CheckpointError, InputChanged
from lamina.json_mapping import json_mapping
from lamina.tensor_spec import TensorSpec
from lamina.wording import listed

# Where a model's tensors are, the first that is there; an index names the files that hold them.
INDEXES = (INDEX_NAME, "pytorch_model.bin.index.json")
WEIGHTS = (INDEX_NAME, "model.safetensors", INDEXES[1], "pytorch_model.bin", "pytorch_model.pt", "model.pt")
SAMPLE_BYTES = 4096  # read of each sampled tensor, to tell one fine-tune from another
MAX_SAMPLES = 1024

FetchProgress = Callable[[str, int], None]  # called with a file's name and the bytes just arrived, from any thread


class ModelFiles(Protocol):
    """The files of one model. Every fault is a CheckpointError, in `fetch` a FetchFailed."""

    @property
    def folder(self) -> Path:
        """Where the files lie, those to be fetched once they are."""
        ...

    @property
    def label(self) -> str:
        """What a letter calls the model."""
        ...

    @property
    def commit(self) -> str | None:
        """The commit that all files are of; None for a folder."""
        ...

    @property
    def note(self) -> str:
        """What a user should know of where the files come from; usually nothing."""
        ...

    def names(self) -> Sequence[str]:
        """The names of all files at the top, sorted, whether they are here or not."""
        ...

    def read(self, name: str) -> bytes:
        """A whole small file."""
        ...

    def digest(self, name: str) -> str:
        """A digest of a file's content, where one is known without reading it; else empty."""
        ...

    def headers(self, names: Sequence[str]) -> dict[str, dict[str, Entry]]:
        """The tensors of each named tensor file, from its header alone."""
        ...

    def bytes_to_fetch(self, names: Iterable[str]) -> int:
        """How many bytes of the named files are not here yet."""
        ...

    def fetch(self, names: Iterable[str], progress: FetchProgress) -> None:
        """Bring the named files here, going on where an earlier attempt was cut off."""
        ...


class Checkpoint:
    """The tensors of one model. Any number of threads may read; nothing is mapped into memory.

    Headers are known from the start. Bytes can be read once `fetch` has brought the files that hold them,
    which of a local folder they are.
    """

    def __init__(self, files: ModelFiles, entries: Mapping[str, tuple[str, Entry]]) -> None:
        self.files = files
        self.specs: Mapping[str, TensorSpec] = {name: entry.spec for name, (_, entry) in entries.items()}
        self._entries = dict(entries)
        self._found = {file: state_of(files.folder / file) for file in self._files() if exists(files.folder / file)}
        self._opened: dict[str, InputFile] = {}
        self._opening = Lock()

    @property
    def folder(self) -> Path:
        return self.files.folder

    def bytes_to_fetch(self, names: Iterable[str]) -> int:
        """How many bytes `fetch` would bring for these tensors: whole files, as far as they are not here."""
        return self.files.bytes_to_fetch(self._homes(names))

    def fetch(self, names: Iterable[str], progress: FetchProgress = lambda _file, _nbytes: None) -> None:
        """Bring the files that hold these tensors here. Raises FetchFailed; the same call goes on."""
        homes = self._homes(names)
        self.files.fetch(homes, progress)
        self._find_places(homes)

    def read_into(self, name: str, first_byte: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes of a tensor from `first_byte` on."""
        file, entry = self._entries[name]
        entry.read_into(self._file(file).read_into, first_byte, buffer)

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

    def sample(self, names: Iterable[str] | None = None) -> str:
        """A digest of a few KB from the middle of each named tensor (at most 1,024 of them, evenly chosen).

        Tells in milliseconds whether this is the model that a merge was made from: training, however
        short, touches nearly every element of what it touches.
        """
        digest = xxhash.xxh3_128()
        chosen = sorted(set(self.specs if names is None else names))
        for name in chosen[:: max(1, -(-len(chosen) // MAX_SAMPLES))]:
            nbytes = self.specs[name].nbytes
            buffer = bytearray(min(nbytes, SAMPLE_BYTES))
            self.read_into(name, (nbytes - len(buffer)) // 2, memoryview(buffer))
            digest.update(buffer)
        return digest.hexdigest()

    def states(self, names: Iterable[str]) -> dict[str, FileState]:
        """What the files that hold these tensors are like now, to tell whether one has changed meanwhile.

        Raises InputChanged where one is not there, or not what it was when its header was read.
        """
        found = {home: state_of(self.folder / home) for home in self._homes(names)}
        for home, state in found.items():
            if self._found.get(home, state) != state:
                raise InputChanged(
                    f"{self.folder / home} changed after its header was read; run the same command again."
                )
        return {home: (*state, self._header_digests[home]) for home, state in found.items()}

    @cached_property
    def _header_digests(self) -> Mapping[str, str]:
        """Of each file, a digest of what its header places where."""
        digests: dict[str, xxhash.xxh3_128] = {}
        for name, (file, entry) in self._entries.items():
            known = f"{name} {entry.spec} {entry.offset} {entry.strides}\n"
            digests.setdefault(file, xxhash.xxh3_128()).update(known.encode())
        return {file: digest.hexdigest() for file, digest in digests.items()}

    def close(self) -> None:
        for file in self._opened.values():
            file.close()
        self._opened.clear()

    def _homes(self, names: Iterable[str]) -> list[str]:
        """The files that hold these tensors, each once."""
        return list(dict.fromkeys(self._entries[name][0] for name in names))

    def _find_places(self, homes: Sequence[str]) -> None:
        """Look up, in files that are here now, the places that their headers alone did not tell."""
        opened = {file for file, entry in self._entries.values() if entry.offset is None and file in homes}
        headers = self.files.headers(sorted(opened))
        for name, (file, entry) in self._entries.items():
            if file in opened:
                found = headers[file].get(name)
                if found is None or found.spec != entry.spec:
                    raise InputChanged(f"{self.files.label}/{file} holds other tensors than when it was planned with.")
                self._entries[name] = file, found

    def _files(self) -> Iterable[str]:
        """All files that hold tensors."""
        return dict.fromkeys(file for file, _ in self._entries.values())

    def _file(self, name: str) -> InputFile:
        with self._opening:
            if name not in self._opened:
                self._opened[name] = InputFile(self.folder / name)
            return self._opened[name]


class LocalFiles:
    """The files of a folder on this machine: all of them are here."""

    commit: str | None = None
    note: str = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.label = str(folder)

    def names(self) -> Sequence[str]:
        return names_in(self.folder)

    def read(self, name: str) -> bytes:
        return read_all(self.folder / name)

    def digest(self, name: str) -> str:  # noqa: ARG002
        return ""

    def headers(self, names: Sequence[str]) -> dict[str, dict[str, Entry]]:
        return each_header(names, lambda name: open_tensors(self.folder / name))

    def bytes_to_fetch(self, names: Iterable[str]) -> int:  # noqa: ARG002
        return 0

    def fetch(self, names: Iterable[str], progress: FetchProgress) -> None:
        """Nothing to do."""


def open_checkpoint(source: Path | ModelFiles) -> Checkpoint:
    """Open a model by its headers. Raises CheckpointError where it cannot be trusted."""
    if isinstance(source, Path) and not source.is_dir():
        raise CheckpointError(f"{source} holds no model: there is no such folder.")
    files = LocalFiles(source) if isinstance(source, Path) else source
    names = files.names()
    found = weights_among(names)
    if found is None:
        raise CheckpointError(
            f"{files.label} holds neither model.safetensors nor {INDEX_NAME}, and no pytorch_model.bin."
            f"{_what_is_there(names)}"
        )
    if found in INDEXES:
        return Checkpoint(files, _by_index(files, names, found))
    header = files.headers([found])[found]
    return Checkpoint(files, {name: (found, entry) for name, entry in header.items()})


def weights_among(names: Iterable[str]) -> str | None:
    """Of the names of a model's files, the one that holds the tensors, or is the index of those that do."""
    there = set(names)
    return next((name for name in WEIGHTS if name in there), None)


def same_file(one: ModelFiles, other: ModelFiles, name: str) -> bool:
    """True when both hold the same bytes under this name. Of models on the Hub, as a rule nothing is fetched."""
    digests = one.digest(name), other.digest(name)
    if all(digests) and len(digests[0]) == len(digests[1]):  # of one kind
        return digests[0] == digests[1]
    return one.read(name) == other.read(name)


def each_header(names: Iterable[str], header: Callable[[str], dict[str, Entry]]) -> dict[str, dict[str, Entry]]:
    """The header of every named file. Raises one CheckpointError for all that are at fault."""
    found, faults = {}, []
    for name in names:
        try:
            found[name] = header(name)
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError("\n".join(faults))
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping. Raises CheckpointError for anything else."""
    return parse_json(read_all(path), str(path))


def parse_json(raw: bytes, label: str) -> dict[str, Any]:
    """A mapping from JSON. Raises CheckpointError, naming `label`, for anything else."""
    try:
        return json_mapping(raw, label)
    except ValueError as error:
        raise CheckpointError(f"{error}.") from error


def _by_index(files: ModelFiles, names: Sequence[str], index_name: str) -> dict[str, tuple[str, Entry]]:
    index = f"{files.label}/{index_name}"
    weight_map = parse_json(files.read(index_name), index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise CheckpointError(f"{index} has no `weight_map` from tensor names to file names.")
    shard_names = list(dict.fromkeys(weight_map.values()))
    escaping = [name for name in shard_names if Path(name).name != name]
    if escaping:
        raise CheckpointError(f"{index} names files outside its folder: {listed(escaping)}.")
    missing = [name for name in shard_names if name not in names]
    if missing:
        raise CheckpointError(f"{files.label}: the index names files that are not there: {listed(missing)}.")
    headers = files.headers(shard_names)
    absent = [name for name, file in weight_map.items() if name not in headers[file]]
    if absent:
        raise CheckpointError(f"{index} places tensors in files that do not hold them: {listed(absent)}.")
    # A tensor that lies in a shard but not in the index is loaded by transformers all the same.
    entries = {name: (file, entry) for file, header in headers.items() for name, entry in header.items()}
    return entries | {name: (file, headers[file][name]) for name, file in weight_map.items()}


def _what_is_there(names: Sequence[str]) -> str:
    if pickles := [name for name in names if Path(name).suffix in (*PICKLES, ".ckpt")]:
        return (
            f" It holds {listed(pickles)}: if that is the model's state dict, saved by torch.save, name it "
            "pytorch_model.bin; several files need their pytorch_model.bin.index.json."
        )
    if others := [name for name in names if Path(name).suffix in (".safetensors", ".gguf", ".h5", ".msgpack")]:
        return f" It holds {listed(others)}, which is no model as transformers' `save_pretrained` writes it."
    return ""
