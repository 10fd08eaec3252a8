"""A plan's tensors in memory, each computed when it is asked for."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from lamina.checkpoints.journal import Finished
from lamina.execute.run import Source, run
from lamina.expressions.shared import Shared
from lamina.kernels.interface import STORAGE
from lamina.plans.plan import Job, Plan
from lamina.tensor_spec import BF16, TensorSpec

# numpy's types for what is copied as it is; what is packed for other machines comes as bytes.
_COPIED: dict[str, type[Any]] = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "U32": np.uint32,
    "I32": np.int32, "U64": np.uint64, "I64": np.int64, "C64": np.complex64,
}  # fmt: skip


class Model(Source, Protocol):
    """An open input model, which can be let go of."""

    @property
    def folder(self) -> Path:
        """Where its files lie, those of the Hub once they are fetched."""
        ...

    def sample(self, names: Iterable[str], /) -> str:
        """A digest of a few KB of each of these tensors, which are here."""
        ...

    def fetch(self, names: Iterable[str], /) -> None:
        """See to it that the files which hold these tensors are here."""
        ...

    def close(self) -> None: ...


class Tensors(Mapping[str, NDArray[Any]]):
    """The output tensors of a plan by name. Nothing is kept, asking twice computes twice; but for what is `shared`.

    bfloat16, which numpy does not know, comes as float32 with the same values; float8 and the like as their
    bytes. The inputs stay open until `close`, the end of a `with`, or the end of the object.
    """

    def __init__(
        self,
        plan: Plan,
        sources: Mapping[str, Model],
        *,
        workers: int | None,
        memory: int,
        shared: Shared | None = None,
    ) -> None:
        self.plan = plan
        self._sources, self._workers, self._memory, self._shared = sources, workers, memory, shared
        self._jobs = {job.name: job for job in plan.jobs}
        self.close = weakref.finalize(self, _close, tuple(sources.values()))

    @property
    def folders(self) -> dict[str, Path]:
        """Where each model that goes in lies, by its name in the recipe."""
        return {name: source.folder for name, source in self._sources.items()}

    def fingerprint(self) -> str:
        """A digest of what the tensors and files are made of: the plan's, and a few KB of each tensor that goes in.

        Fetches what the plan reads. Computes nothing.
        """
        digest = xxhash.xxh3_128(self.plan.digest.encode())
        for name, source in self._sources.items():
            source.fetch(self.plan.reads_of(name))
            digest.update(source.sample(self.plan.reads_of(name)).encode())
        return digest.hexdigest()

    def spec(self, name: str) -> TensorSpec:
        """Shape and stored dtype of a tensor, from headers alone."""
        return self._job(name).expr.spec

    def stored(self, name: str) -> bytearray:
        """A tensor's bytes, as a merge writes them."""
        job = self._job(name)
        if not self.close.alive:
            raise ValueError("the models of these tensors are closed")
        if self._shared is not None and (kept := self._shared.tensor(job.expr)) is not None:
            return kept[:]
        content = bytearray(job.expr.spec.nbytes)
        alone = replace(self.plan, jobs=(job,), files=())
        for model, source in self._sources.items():
            source.fetch(alone.reads_of(model))
        run(
            alone,
            self._sources,
            _Memory(content),
            workers=self._workers,
            memory=self._memory,
            shared=self._shared,
        )
        if self._shared is not None and self._shared.keep_tensor(job.expr, content):
            return content[:]  # the caller may do with it what it likes
        return content

    def __getitem__(self, name: str) -> NDArray[Any]:
        spec = self.spec(name)
        raw = np.frombuffer(self.stored(name), np.uint8)
        if spec.dtype is BF16:  # the upper half of a float32
            return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(spec.shape)
        known = STORAGE.get(spec.dtype) or _COPIED.get(spec.dtype.name)
        if known is None and spec.dtype.bits != 8:
            return raw
        return raw.view(known or np.uint8).reshape(spec.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, name: object) -> bool:
        return name in self._jobs  # the mapping's own would compute the tensor

    def __repr__(self) -> str:
        return f"<{len(self)} tensors of {self.plan.title}, computed when asked for>"

    def __enter__(self) -> Tensors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _job(self, name: str) -> Job:
        if name not in self._jobs:
            near = ", ".join(self.plan.names_like(name))
            raise KeyError(f"there is no tensor `{name}`.{f' Near: {near}.' if near else ''}")
        return self._jobs[name]


class _Memory:
    """Takes the blocks of one tensor."""

    def __init__(self, content: bytearray) -> None:
        self._content = memoryview(content)

    def done(self) -> Set[str]:
        return frozenset()

    def put(self, _name: str, first_byte: int, block: memoryview) -> None:
        self._content[first_byte : first_byte + len(block)] = block

    def finish(self, _made: Finished) -> None:
        """There is one tensor only."""


def _close(sources: Iterable[Model]) -> None:
    for source in sources:
        source.close()
