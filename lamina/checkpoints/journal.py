"""The journal of a folder that is being written: what it is made for, and the tensors that are on the disk.

One line a fact: a checksum, a space, JSON. The first line says what is made of what; every other names a
tensor whose bytes were made durable before the line was written. A line that does not match its checksum was
torn when the machine went down: it and all that follows count for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from lamina.checkpoints.files import LogFile, exists, read_all

FORMAT = 1


@dataclass(frozen=True)
class Finished:
    """A tensor of which every byte has been put, and what is recorded of it.

    `inputs` are the tensors that it was made of, each (model, tensor, digest); `coefficients` what each of its
    merges was found to have by measuring, in the order in which they were measured.
    """

    name: str
    digest: str
    inputs: tuple[tuple[str, str, str], ...] = ()
    coefficients: tuple[tuple[float, ...], ...] = ()
    finite: bool = True


# What tells an input file from the same file changed: size, mtime in ns, inode, digest of the header.
FileState = tuple[int, int, int, str]


@dataclass(frozen=True)
class Undertaking:
    """What a folder is made for. `inputs` has the state of every file that is read, by the name it is told by."""

    plan: str
    layout: str
    inputs: Mapping[str, FileState]

    def changed(self, now: Mapping[str, FileState]) -> list[str]:
        """The files that are not what they were."""
        return [name for name, state in self.inputs.items() if now.get(name) != state]


@dataclass(frozen=True)
class Past:
    """What a journal tells of earlier runs. `size` is the number of its bytes that count."""

    undertaking: Undertaking
    finished: Mapping[str, Finished]
    size: int


def read_journal(path: Path) -> Past | None:
    """What a journal tells; None where there is none, or one that tells nothing."""
    lines = _lines(read_all(path)) if exists(path) else []
    if not lines:
        return None
    (content, size), *rest = lines
    undertaking = _undertaking(content)
    if undertaking is None:
        return None
    finished: dict[str, Finished] = {}
    for told, end in rest:
        made = _finished(told)
        if made is None:
            break
        finished[made.name] = made
        size = end
    return Past(undertaking, finished, size)


def open_journal(path: Path, past: Past | None, undertaking: Undertaking) -> LogFile:
    """The journal of a run that goes on from `past`, or that begins."""
    log = LogFile(path, 0 if past is None else past.size)
    if past is None:
        log.append(_line({"journal": FORMAT, **vars(undertaking)}))
    return log


def lines_of(finished: Iterable[Finished]) -> bytes:
    """The lines that name these tensors."""
    return b"".join(_line(vars(made)) for made in finished)


def _line(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return xxhash.xxh3_64_hexdigest(text).encode() + b" " + text + b"\n"


def _lines(raw: bytes) -> list[tuple[dict[str, Any], int]]:
    """What each line holds, and where it ends, up to the first that is torn."""
    found: list[tuple[dict[str, Any], int]] = []
    end = 0
    for line in raw.splitlines(keepends=True):
        checksum, _, text = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or xxhash.xxh3_64_hexdigest(text).encode() != checksum:
            break
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not isinstance(content, dict):
            break
        end += len(line)
        found.append((content, end))
    return found


def _undertaking(content: Mapping[str, Any]) -> Undertaking | None:
    match content:
        case {"journal": 1, "plan": str(plan), "layout": str(layout), "inputs": dict(inputs)}:
            states = {name: tuple(state) for name, state in inputs.items() if isinstance(state, list)}
            return Undertaking(plan, layout, states)
    return None


def _finished(content: Mapping[str, Any]) -> Finished | None:
    match content:
        case {
            "name": str(name),
            "digest": str(digest),
            "inputs": list(inputs),
            "coefficients": list(coefficients),
            "finite": bool(finite),
        }:
            try:
                reads = tuple((str(model), str(tensor), str(known)) for model, tensor, known in inputs)
                return Finished(name, digest, reads, tuple(tuple(map(float, each)) for each in coefficients), finite)
            except (TypeError, ValueError, OverflowError):
                return None
    return None
