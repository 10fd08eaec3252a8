"""Every output byte gets its place before any tensor is computed. Knows names and specs, and no plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from lamina.checkpoints.safetensors import format_header
from lamina.tensor_spec import TensorSpec

INDEX_NAME = "model.safetensors.index.json"
DEFAULT_SHARD_SIZE = 5_000_000_000


@dataclass(frozen=True)
class Shard:
    """One output file: its name, its first bytes, its whole size in bytes."""

    file_name: str
    header: bytes
    size: int


@dataclass(frozen=True)
class Place:
    """Where a tensor goes: the number of its shard, and the byte at which it starts in that file."""

    shard: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Layout:
    """The files of a checkpoint. `index_json` is empty where a single file needs no index."""

    shards: tuple[Shard, ...]
    places: Mapping[str, Place]
    index_json: bytes

    @property
    def size(self) -> int:
        """Bytes of all tensor files together."""
        return sum(shard.size for shard in self.shards)


def lay_out(specs: Mapping[str, TensorSpec], shard_size: int = DEFAULT_SHARD_SIZE) -> Layout:
    """Fill shards of at most `shard_size` bytes of tensors in the order given; a larger tensor stands alone."""
    groups = _groups(specs, shard_size)
    shards, places = [], {}
    for number, group in enumerate(groups):
        header = format_header(group)
        reached = len(header)
        for name, spec in group.items():
            places[name] = Place(number, reached, spec.nbytes)
            reached += spec.nbytes
        shards.append(Shard(_file_name(number, len(groups)), header, reached))
    return Layout(tuple(shards), places, _index(specs, shards, places) if len(shards) > 1 else b"")


def _groups(specs: Mapping[str, TensorSpec], shard_size: int) -> list[dict[str, TensorSpec]]:
    groups: list[dict[str, TensorSpec]] = [{}]
    filled = 0
    for name, spec in specs.items():
        if groups[-1] and filled + spec.nbytes > shard_size:
            groups.append({})
            filled = 0
        groups[-1][name] = spec
        filled += spec.nbytes
    # Wide elements first: every tensor then starts at a multiple of its element's size.
    return [dict(sorted(group.items(), key=lambda item: -item[1].dtype.bits)) for group in groups]


def _file_name(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number + 1:05d}-of-{count:05d}.safetensors"


def _index(specs: Mapping[str, TensorSpec], shards: list[Shard], places: Mapping[str, Place]) -> bytes:
    total = sum(spec.nbytes for spec in specs.values())
    weight_map = {name: shards[places[name].shard].file_name for name in sorted(specs)}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2).encode() + b"\n"
