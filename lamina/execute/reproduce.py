"""Is a published folder what its `lamina.json` says, and does the merge make it again?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from lamina.checkpoints.checkpoint import Checkpoint, open_checkpoint
from lamina.checkpoints.digests import PieceDigests, digest_of_pieces
from lamina.checkpoints.files import has_size, read_all
from lamina.checkpoints.journal import Finished
from lamina.errors import CheckpointError

READ_BYTES = 1 << 20
COMMIT = re.compile(r"[0-9a-f]{40}")
# The options that a record may ask for, with what they may be. It is data, and may be anybody's.
OPTIONS: Mapping[str, Sequence[object]] = {
    "border": ("strict", "normal", "lenient"),
    "unlike_models": (False, True),
    "copy_tokenizer": (False, True),
}


@dataclass(frozen=True)
class Record:
    """The part of `lamina.json` that can be checked: a digest of each tensor, of each small file, and sizes.

    `options` are what plans the same merge again, as `lamina.plan` takes them.
    """

    tensors: Mapping[str, str]
    file_digests: Mapping[str, str]
    files: Mapping[str, int]
    options: Mapping[str, Any]


def checked_record(content: Mapping[str, Any], label: str) -> Record:
    """The record that `lamina.json` holds. Raises CheckpointError where it holds none."""
    match content:
        case {
            "tensors": dict(tensors),
            "file_digests": dict(digests),
            "files": dict(files),
            "seed": int(seed),
            "options": dict(options),
        } if (
            all(isinstance(digest, str) for digest in [*tensors.values(), *digests.values()])
            and all(isinstance(size, int) for size in files.values())
            and all(Path(name).name == name for name in [*digests, *files])
        ):
            asked = {name: value for name, value in options.items() if _may_be(name, value)}
            return Record(tensors, digests, files, {"seed": seed, "commits": _commits(content), **asked})
    raise CheckpointError(f"{label} does not say what each tensor is: it was not made by `lamina merge`.")


def _may_be(name: str, value: object) -> bool:
    if name == "assume_per_layer":
        return isinstance(value, list) and all(isinstance(key, str) for key in value)
    return value in OPTIONS.get(name, ())


def _commits(content: Mapping[str, Any]) -> dict[str, str]:
    commits = content.get("commits")
    known = commits.items() if isinstance(commits, dict) else ()
    return {name: commit for name, commit in known if isinstance(commit, str) and COMMIT.fullmatch(commit)}


def differing_in_place(folder: Path, record: Record, progress: Callable[[str, int], None]) -> list[str]:
    """Tensors and files of a folder that are not what the record says, in words. Reads all of it once."""
    sized = {name for name, size in record.files.items() if has_size(folder / name, size)}
    found = [f"{name}: its size is not {size}" for name, size in record.files.items() if name not in sized]
    found += [
        f"{name}: another content"
        for name, digest in record.file_digests.items()
        if name in sized and xxhash.xxh3_128_hexdigest(read_all(folder / name)) != digest
    ]
    try:
        checkpoint = open_checkpoint(folder)
    except CheckpointError as error:
        return [*found, str(error)]
    try:
        return found + differing_digests(_digests_of(checkpoint, progress), record)
    finally:
        checkpoint.close()


def _digests_of(checkpoint: Checkpoint, progress: Callable[[str, int], None]) -> dict[str, str]:
    """The digest of every tensor, read one after another as they lie on the disk."""
    buffer = memoryview(bytearray(READ_BYTES))
    made: dict[str, str] = {}
    for name, spec in checkpoint.specs.items():
        pieces = PieceDigests(0)
        for first in range(0, spec.nbytes, READ_BYTES):
            part = buffer[: min(READ_BYTES, spec.nbytes - first)]
            checkpoint.read_into(name, first, part)
            pieces.take(first, part)
            progress(name, len(part))
        made[name] = digest_of_pieces({0: pieces.ended()})
    return made


def differing_digests(made: Mapping[str, str], record: Record) -> list[str]:
    """Tensors by their digests, against the record."""
    missing = [f"{name}: it is not there" for name in record.tensors if name not in made]
    strange = [f"{name}: the record has no such tensor" for name in made if name not in record.tensors]
    return [*missing, *strange, *(_other(made, record.tensors))]


def _other(made: Mapping[str, str], recorded: Mapping[str, str]) -> Iterable[str]:
    return (f"{name}: other bytes" for name, digest in made.items() if recorded.get(name, digest) != digest)


class Digests:
    """A sink that keeps the digest of each tensor, and nothing else."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def done(self) -> Set[str]:
        return frozenset()

    def put(self, _name: str, _first_byte: int, _block: memoryview) -> None:
        """The run has digested it."""

    def finish(self, made: Finished) -> None:
        self.made[made.name] = made.digest
