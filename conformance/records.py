"""What a run leaves for the tests: a digest of each result of Lamina's, and some of MergeKit's values beside it."""

from __future__ import annotations

import csv
import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conformance.models import Checkpoint

SAMPLES = 8
FIELDS = ("seed", "number", "method", "recipe", "digest", "mergekit")


@dataclass(frozen=True)
class Sample:
    """One element: its tensor's place in the order of names, its flat index, its value as float32."""

    tensor: int
    index: int
    value: float


@dataclass(frozen=True)
class Record:
    """One recipe: the digest of its text, that of Lamina's result, and values of MergeKit's."""

    seed: int
    number: int
    method: str
    recipe: str
    digest: str
    mergekit: tuple[Sample, ...]


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


def samples_of(checkpoint: Checkpoint, settled: Mapping[str, Any], key: str) -> tuple[Sample, ...]:
    """Some elements of a result, chosen by `key` among those that `settled` marks: no formula leaves a choice there."""
    names = sorted(checkpoint.tensors)
    found = []
    for number in range(SAMPLES):
        tensor = zlib.crc32(f"{key}/{number}".encode()) % len(names)
        places = np.flatnonzero(settled[names[tensor]])
        if len(places):
            index = int(places[zlib.crc32(f"{number}/{key}".encode()) % len(places)])
            found.append(Sample(tensor, index, float(checkpoint.tensors[names[tensor]].reshape(-1)[index])))
    return tuple(found)


def write_records(path: Path, records: Iterable[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(FIELDS)
        for each in records:
            values = " ".join(f"{s.tensor}:{s.index}:{struct.pack('>f', s.value).hex()}" for s in each.mergekit)
            table.writerow((each.seed, each.number, each.method, each.recipe, each.digest, values))


def read_records(path: Path) -> list[Record]:
    with path.open(newline="") as file:
        return [
            Record(
                int(row["seed"]), int(row["number"]), row["method"], row["recipe"], row["digest"],
                tuple(map(_sample, row["mergekit"].split())),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def _sample(text: str) -> Sample:
    tensor, index, value = text.split(":")
    return Sample(int(tensor), int(index), float(struct.unpack(">f", bytes.fromhex(value))[0]))
