"""Carry out a plan: worker threads take stretches of tensors, compute them block by block, hand them on.

Every block depends on its own inputs alone, so neither the number of workers nor their order is seen in
the bytes.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lamina.errors import MemoryBudgetError, failing_at
from lamina.execute.sinks import Sink
from lamina.expressions.compute import Workspace, compute
from lamina.expressions.nodes import Read
from lamina.kernels.numpy_kernels import NumpyKernels
from lamina.plan.plan import Job, Plan
from lamina.tensor_spec import block_rows

# What the process holds before the first block: interpreter, numpy, the command line, the plan. Measured.
RESIDENT_BYTES = 100_000_000
STRETCH_BLOCKS = 16  # blocks of one tensor that a worker takes at once
MOST_WORKERS = 8  # beyond that the disk is the limit, and memory is not free

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
    for job in plan.jobs:
        blocks = block_rows(job.expr.spec.shape)
        for first in range(0, len(blocks), STRETCH_BLOCKS):
            stretches.put((job, blocks[first : first + STRETCH_BLOCKS]))
    report, failures, stop = Report(), [], threading.Event()

    def read(tensor: Read, first_byte: int, buffer: memoryview) -> None:
        sources[tensor.model].read_into(tensor.name, first_byte, buffer)

    def work() -> None:
        kernels, workspace = NumpyKernels(), Workspace(plan.bytes_per_worker)
        while not stop.is_set():
            try:
                job, blocks = stretches.get_nowait()
            except queue.Empty:
                return
            itemsize = job.expr.spec.dtype.bits / 8
            with failing_at(job.name):
                for start, end in blocks:
                    if stop.is_set():
                        return
                    workspace.clear()
                    block, finite = compute(job.expr, start, end, read, kernels, workspace)
                    if not finite:
                        report.non_finite.add(job.name)
                    sink.put(job.name, int(start * itemsize), block.raw)
                    progress(job.name, block.data.nbytes)

    def guarded_work() -> None:
        try:
            work()
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


def predicted_memory(plan: Plan, workers: int | None, memory: int) -> int:
    """Peak resident bytes of the process that carries out `plan` within `memory`."""
    return _resident(plan) + workers_that_fit(plan, workers, memory) * plan.bytes_per_worker


def workers_that_fit(plan: Plan, workers: int | None, memory: int) -> int:
    """How many workers run within `memory` bytes. Raises MemoryBudgetError when not even one does."""
    wanted = workers or min(os.cpu_count() or 1, MOST_WORKERS)
    resident = _resident(plan)
    room = memory - resident
    if room < plan.bytes_per_worker:
        needed = resident + plan.bytes_per_worker
        raise MemoryBudgetError(
            f"this plan needs {needed / 1e6:.0f} MB with one worker, and --memory allows {memory / 1e6:.0f} MB."
        )
    return min(wanted, room // plan.bytes_per_worker)


def _resident(plan: Plan) -> int:
    return RESIDENT_BYTES + sum(len(file.content) for file in plan.files)
