"""The Plan: one job an output tensor, the files beside them, and what the user should know.

Plain frozen data: it can be printed, hashed, pickled, sent, counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import xxhash

from lamina.expressions.inspect import described, peak_bytes, reads, scratch_bytes
from lamina.expressions.nodes import Expr
from lamina.plans import show
from lamina.plans.explain import MadeOf, made_of
from lamina.tensor_spec import TensorSpec

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Input:
    """A model that is read. `name` is how the recipe calls it; `fingerprint` covers names, dtypes, shapes.

    Of a model on the Hub, `commit` is what its revision was when it was planned, and `bytes_to_fetch` what was
    not here yet of the files that the plan reads.
    """

    name: str
    fingerprint: str
    commit: str | None = None
    bytes_to_fetch: int = 0


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


def reads_by_model(jobs: Iterable[Job]) -> dict[str, list[str]]:
    """For each model the names of its tensors that the jobs read, each once, in one pass over them."""
    found: dict[str, dict[str, None]] = {}
    for job in jobs:
        for read in reads(job.expr):
            found.setdefault(read.model, {})[read.name] = None
    return {model: list(names) for model, names in found.items()}


@dataclass(frozen=True, repr=False)
class Plan:
    """A whole merge. Its `repr` is the table that `lamina plan` shows."""

    title: str
    method: str
    jobs: tuple[Job, ...]
    files: tuple[SideFile, ...]
    inputs: tuple[Input, ...]
    notices: tuple[Notice, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    seed: int = 0

    def __repr__(self) -> str:
        return show.text(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return show.html(self)

    def as_data(self) -> dict[str, Any]:
        """The plan for JSON: `plans.show.PLAN_FIELDS` says what each key holds."""
        return show.as_data(self)

    @cached_property
    def digest(self) -> str:
        """The same for every plan that makes the same folder, wherever the models lie. 32 hex digits.

        Models count by their headers and the order in which they are first read, which is the same however the
        recipe is spelled: fine-tunes of one model are not told apart. Files that only tell of the merge do not count.
        """
        headers = {source.name: source.fingerprint for source in self.inputs}
        first_read = dict.fromkeys(read.model for job in self.jobs for read in reads(job.expr))
        names = {name: f"{number}:{headers[name]}" for number, name in enumerate(first_read)}
        content = {
            "jobs": [[job.name, described(job.expr, names)] for job in self.jobs],
            "files": [
                [file.name, xxhash.xxh3_128_hexdigest(file.content)] for file in self.files if not file.about_the_merge
            ],
            "seed": self.seed,
        }
        return xxhash.xxh3_128_hexdigest(json.dumps(content).encode())

    @cached_property
    def specs(self) -> Mapping[str, TensorSpec]:
        """The output tensors, in their order."""
        return {job.name: job.expr.spec for job in self.jobs}

    def names_like(self, name: str) -> list[str]:
        """At most three output tensors that `name` may have meant: in other layers, or near in spelling."""
        kinds: dict[str, list[str]] = {}  # names that differ in numbers only
        for job in self.jobs:
            kinds.setdefault(_NUMBER.sub("N", job.name), []).append(job.name)
        wanted = _NUMBER.sub("N", name)
        near = [kind for kind in kinds if wanted in kind] or get_close_matches(wanted, kinds, n=3)
        numbers = _NUMBER.findall(name)
        return [next((x for x in kinds[kind] if _NUMBER.findall(x) == numbers), kinds[kind][0]) for kind in near[:3]]

    @cached_property
    def made_of(self) -> tuple[MadeOf, ...]:
        """For each job its sources and their factors."""
        return tuple(made_of(self.jobs))

    def with_files(self, files: Sequence[SideFile]) -> Plan:
        """The same merge with other files beside it."""
        other = replace(self, files=tuple(files))
        other.__dict__["made_of"] = self.made_of  # the jobs are the same
        return other

    @property
    def parameters(self) -> int:
        """Number of elements of the output."""
        return sum(job.expr.spec.count for job in self.jobs)

    def reads_of(self, model: str) -> list[str]:
        """Names of the model's tensors that are read, each once."""
        return list(self._reads.get(model, ()))

    @cached_property
    def _reads(self) -> Mapping[str, Sequence[str]]:
        return reads_by_model(self.jobs)

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes that a merge fetches from the Hub before it starts, as far as they were not here yet."""
        return sum(source.bytes_to_fetch for source in self.inputs)

    @property
    def bytes_read(self) -> int:
        """Bytes of tensors that are read, each as often as it is used."""
        return sum(read.spec.nbytes for job in self.jobs for read in reads(job.expr))

    @property
    def bytes_written(self) -> int:
        """Bytes of tensors and side files that are written."""
        return sum(spec.nbytes for spec in self.specs.values()) + sum(len(file.content) for file in self.files)

    @cached_property
    def bytes_per_worker(self) -> int:
        """Memory that each worker holds: its largest block with everything in it, and its scratch."""
        return max((peak_bytes(job.expr) + scratch_bytes(job.expr) for job in self.jobs), default=0)
