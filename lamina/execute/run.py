"""Carry out a plan: worker threads take stretches of tensors, compute them block by block, hand them on.

Every block depends on its own inputs alone, and on measures that one worker takes of the whole tensor, so
neither the number of workers nor their order is seen in the bytes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from lamina.checkpoints.digests import PieceDigests, digest_of_pieces
from lamina.checkpoints.journal import Finished
from lamina.errors import failing_at
from lamina.execute.memory import workers_that_fit
from lamina.execute.sinks import Sink
from lamina.expressions.compute import Measured, Worker, Workspace, compute, measure
from lamina.expressions.inspect import block_bytes, blocks, merges
from lamina.expressions.nodes import Read
from lamina.expressions.shared import Shared
from lamina.kernels.numpy_kernels import NumpyKernels
from lamina.plans.plan import Job, Plan

STRETCH_BLOCKS = 16  # blocks of one tensor that a worker takes at once: whole pieces of 4 MiB in every dtype

Progress = Callable[[str, int], None]


class Source(Protocol):
    """An open input model."""

    def read_into(self, name: str, first_byte: int, buffer: memoryview, /) -> None:
        """Fill the buffer with a tensor's bytes from `first_byte` on."""
        ...


@dataclass
class Report:
    """What a run saw: tensors that are not finite because an input is not."""

    non_finite: set[str] = field(default_factory=set)


def run(
    plan: Plan,
    sources: Mapping[str, Source],
    sink: Sink,
    *,
    workers: int | None,
    memory: int,
    progress: Progress = lambda _name, _nbytes: None,
    shared: Shared | None = None,
) -> Report:
    """Compute every job of `plan` and put its bytes into `sink`.

    `memory` bounds the whole process, in bytes, and with `workers` (default: the machine's cores) decides
    how many blocks are in flight. `progress` is called with a tensor's name and the bytes just put.
    `shared` has what was measured for other plans. Raises what goes wrong first, and KeyboardInterrupt, when every
    worker has stopped.
    """
    stretches: queue.SimpleQueue[_Stretch] = queue.SimpleQueue()
    for stretch in _stretches(plan, sink.done()):
        stretches.put(stretch)
    report, failures, stop = Report(), [], threading.Event()
    most = max((block_bytes(job.expr) for job in plan.jobs), default=0)

    def work() -> None:
        workspace, kernels = Workspace(most), NumpyKernels()
        while not stop.is_set():
            try:
                making, blocks = stretches.get_nowait()
            except queue.Empty:
                return
            job, digests = making.job, _Digests()

            def read(tensor: Read, first_byte: int, buffer: memoryview, digests: _Digests = digests) -> None:
                if stop.is_set():
                    raise _Stopped
                sources[tensor.model].read_into(tensor.name, first_byte, buffer)
                digests.take_read(tensor, first_byte, buffer)

            worker = Worker(read, kernels, workspace, shared)
            with failing_at(job.name):
                measured = measure(job.expr, worker)
                for start, end in blocks:
                    workspace.clear()
                    block, finite = compute(job.expr, start, end, measured, worker)
                    if not finite:
                        report.non_finite.add(job.name)
                        making.finite = False
                    first_byte = start * job.expr.spec.dtype.bits // 8
                    digests.take(first_byte, block.raw)
                    sink.put(job.name, first_byte, block.raw)
                    progress(job.name, block.data.nbytes)
                if making.is_done_with(digests):
                    sink.finish(making.finished(measured))

    def guarded_work() -> None:
        try:
            work()
        except _Stopped:
            pass
        except BaseException as failure:  # carried to the caller's thread, which raises it
            failures.append(failure)
            stop.set()

    threads = [
        threading.Thread(target=guarded_work, name=f"worker-{number}", daemon=True)
        for number in range(workers_that_fit(plan, workers, memory))
    ]
    started: list[threading.Thread] = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        for thread in threads:
            while thread.is_alive():
                thread.join(timeout=0.1)  # short, so that Ctrl-C is seen at once
    finally:
        stop.set()
        for thread in started:
            thread.join()
    if failures:
        raise failures[0]
    return report


_Known = tuple[str, str]  # a tensor of an input: model and name. A Read is slow to look up by.


class _Digests:
    """The pieces that one stretch has seen, of its result and of its inputs."""

    def __init__(self) -> None:
        self.made: tuple[int, PieceDigests] | None = None
        self.read: dict[_Known, tuple[int, PieceDigests, int]] = {}  # first byte, pieces, bytes of the whole tensor

    def take(self, first_byte: int, data: memoryview) -> None:
        """Bytes of the result."""
        if self.made is None:
            self.made = first_byte, PieceDigests(first_byte)
        self.made[1].take(first_byte, data)

    def take_read(self, tensor: Read, first_byte: int, data: memoryview) -> None:
        """Bytes of an input, in order when they are read for the first time."""
        known = tensor.model, tensor.name
        if known not in self.read:
            self.read[known] = first_byte, PieceDigests(first_byte), tensor.spec.nbytes
        self.read[known][1].take(first_byte, data)


class _Making:
    """A tensor that workers make: what of it is still to come, and what is known of it so far."""

    def __init__(self, job: Job, stretches: int) -> None:
        self.job, self.finite = job, True
        self._left, self._changing = stretches, threading.Lock()
        self._made: dict[int, bytes] = {}
        self._read: dict[_Known, dict[int, bytes]] = {}
        self._missing: dict[_Known, int] = {}  # bytes of an input that nobody has seen in order

    def is_done_with(self, digests: _Digests) -> bool:
        """Take what a stretch has seen; true when it was the last."""
        with self._changing:
            if digests.made is not None:
                self._made[digests.made[0]] = digests.made[1].ended()
            for known, (first_byte, pieces, nbytes) in digests.read.items():
                self._read.setdefault(known, {})[first_byte] = pieces.ended()
                self._missing[known] = self._missing.get(known, nbytes) - (pieces.reached - first_byte)
            self._left -= 1
            return self._left == 0

    def finished(self, measured: Measured) -> Finished:
        """What is recorded of the tensor. An input has a digest where all of it was read."""
        inputs = tuple(
            (*known, digest_of_pieces(runs)) for known, runs in self._read.items() if not self._missing[known]
        )
        coefficients = tuple(found for found in measured.values() if isinstance(found, tuple))
        return Finished(self.job.name, digest_of_pieces(self._made), inputs, coefficients, self.finite)


_Stretch = tuple[_Making, Sequence[tuple[int, int]]]


def _stretches(plan: Plan, done: Set[str]) -> Iterator[_Stretch]:
    """What a worker takes at once: a tensor that is measured as a whole, of others some blocks.

    The whole ones come first, the largest before the others, so that none is begun when all else is done.
    """
    jobs = [job for job in plan.jobs if job.name not in done]
    whole = [job for job in jobs if any(merges(job.expr))]
    for job in sorted(whole, key=lambda job: -job.expr.spec.count):
        yield _Making(job, 1), blocks(job.expr)
    for job in jobs:
        if not any(merges(job.expr)):
            found = blocks(job.expr)
            firsts = range(0, max(1, len(found)), STRETCH_BLOCKS)  # a tensor without elements is made too
            making = _Making(job, len(firsts))
            for first in firsts:
                yield making, found[first : first + STRETCH_BLOCKS]


class _Stopped(Exception):
    """Another worker failed, or the user has had enough."""
