"""The Plan: one job an output tensor, the files beside them, and what the user should know.

Plain frozen data: it can be printed, hashed, pickled, sent, counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import xxhash

from lamina.expressions.inspect import described, peak_bytes, reads
from lamina.expressions.nodes import Expr
from lamina.kernels.numpy_kernels import SCRATCH_BYTES
from lamina.tensor_spec import TensorSpec


@dataclass(frozen=True)
class Input:
    """A model that is read. `name` is how the recipe calls it; `fingerprint` covers names, dtypes, shapes."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Job:
    """One output tensor. `layer` is its output layer, None for what lies outside the layers."""

    name: str
    expr: Expr
    layer: int | None


@dataclass(frozen=True)
class SideFile:
    """A file beside the tensors. `about_the_merge` where it tells of the recipe and is no part of the model.

    `note` says in a line how it differs from the file that it was made from.
    """

    name: str
    content: bytes
    about_the_merge: bool = False
    note: str = ""


@dataclass(frozen=True)
class Notice:
    """Something the user should know and did not ask for; `place` is where the recipe says it, if it does."""

    code: str
    message: str
    place: str = ""


@dataclass(frozen=True)
class Dropped:
    """An input tensor that is not in the output, and why."""

    model: str
    name: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """A whole merge."""

    title: str
    method: str
    jobs: tuple[Job, ...]
    files: tuple[SideFile, ...]
    inputs: tuple[Input, ...]
    notices: tuple[Notice, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    seed: int = 0

    @cached_property
    def digest(self) -> str:
        """The same for every plan that makes the same folder, wherever the models lie. 32 hex digits.

        Models count by their order and headers; the files that only tell of the merge do not count.
        """
        names = {source.name: f"{number}:{source.fingerprint}" for number, source in enumerate(self.inputs)}
        content = {
            "jobs": [[job.name, described(job.expr, names)] for job in self.jobs],
            "files": [
                [file.name, xxhash.xxh3_128_hexdigest(file.content)] for file in self.files if not file.about_the_merge
            ],
            "seed": self.seed,
        }
        return xxhash.xxh3_128_hexdigest(json.dumps(content).encode())

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """The output tensors, in their order."""
        return {job.name: job.expr.spec for job in self.jobs}

    @property
    def parameters(self) -> int:
        """Number of elements of the output."""
        return sum(job.expr.spec.count for job in self.jobs)

    @property
    def bytes_read(self) -> int:
        """Bytes of tensors that are read, each as often as it is used."""
        return sum(read.spec.nbytes for job in self.jobs for read in reads(job.expr))

    @property
    def bytes_written(self) -> int:
        """Bytes of tensors and side files that are written."""
        return sum(spec.nbytes for spec in self.specs.values()) + sum(len(file.content) for file in self.files)

    @property
    def bytes_per_worker(self) -> int:
        """Memory that each worker holds: its largest block with everything in it, and its scratch."""
        return max((peak_bytes(job.expr) for job in self.jobs), default=0) + SCRATCH_BYTES
