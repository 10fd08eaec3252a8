"""Carry out a plan: worker threads take stretches of tensors, compute them block by block, hand them on.

Every block depends on its own inputs alone, and on measures that one worker takes of the whole tensor, so
neither the number of workers nor their order is seen in the bytes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lamina.errors import failing_at
from lamina.execute.memory import workers_that_fit
from lamina.execute.sinks import Sink
from lamina.expressions.compute import Worker, Workspace, compute, measure
from lamina.expressions.inspect import block_bytes, blocks, merges
from lamina.expressions.nodes import Read
from lamina.kernels.numpy_kernels import NumpyKernels
from lamina.plans.plan import Job, Plan

STRETCH_BLOCKS = 16  # blocks of one tensor that a worker takes at once

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
) -> Report:
    """Compute every job of `plan` and put its bytes into `sink`.

    `memory` bounds the whole process, in bytes, and with `workers` (default: the machine's cores) decides
    how many blocks are in flight. `progress` is called with a tensor's name and the bytes just put.
    Raises what goes wrong first, and KeyboardInterrupt, when every worker has stopped.
    """
    stretches: queue.SimpleQueue[tuple[Job, Sequence[tuple[int, int]]]] = queue.SimpleQueue()
    for stretch in _stretches(plan):
        stretches.put(stretch)
    report, failures, stop = Report(), [], threading.Event()

    def read(tensor: Read, first_byte: int, buffer: memoryview) -> None:
        if stop.is_set():
            raise _Stopped
        sources[tensor.model].read_into(tensor.name, first_byte, buffer)

    def work() -> None:
        workspace = Workspace(max((block_bytes(job.expr) for job in plan.jobs), default=0))
        worker = Worker(read, NumpyKernels(), workspace)
        while not stop.is_set():
            try:
                job, blocks = stretches.get_nowait()
            except queue.Empty:
                return
            itemsize = job.expr.spec.dtype.bits / 8
            with failing_at(job.name):
                measured = measure(job.expr, worker)
                for start, end in blocks:
                    workspace.clear()
                    block, finite = compute(job.expr, start, end, measured, worker)
                    if not finite:
                        report.non_finite.add(job.name)
                    sink.put(job.name, int(start * itemsize), block.raw)
                    progress(job.name, block.data.nbytes)

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
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(timeout=0.1)  # short, so that Ctrl-C is seen at once
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return report


def _stretches(plan: Plan) -> Iterator[tuple[Job, Sequence[tuple[int, int]]]]:
    """What a worker takes at once: a tensor that is measured as a whole, of others some blocks.

    The whole ones come first, the largest before the others, so that none is begun when all else is done.
    """
    whole = [job for job in plan.jobs if any(merges(job.expr))]
    for job in sorted(whole, key=lambda job: -job.expr.spec.count):
        yield job, blocks(job.expr)
    for job in plan.jobs:
        if not any(merges(job.expr)):
            found = blocks(job.expr)
            for first in range(0, len(found), STRETCH_BLOCKS):
                yield job, found[first : first + STRETCH_BLOCKS]


class _Stopped(Exception):
    """Another worker failed, or the user has had enough."""
