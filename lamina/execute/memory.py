"""How much memory a run takes, and how many workers fit into what it may take."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from lamina.errors import MemoryBudgetError
from lamina.expressions.inspect import parts
from lamina.expressions.nodes import Expr, Merge
from lamina.merge_methods import method_called
from lamina.plans.plan import Plan
from lamina.wording import in_bytes

# What the process holds before the first block: interpreter, numpy, the command line. Measured.
RESIDENT_BYTES = 56_000_000
TENSOR_BYTES = 5_000  # the plan's and the headers' part in it, for each output tensor. Measured with 20,000.
HUB_BYTES = 25_000_000  # more, where the Hub is asked: huggingface_hub and TLS. Measured.
TORCH_BYTES = 240_000_000  # more, where a method works on tensors of torch: the library, and its first SVD. Measured.
THREAD_BYTES = 500_000  # of each worker: its stack, and what the allocator keeps for it
MOST_WORKERS = 8  # beyond that the disk is the limit, and memory is not free

DEFAULT_MEMORY = 200_000_000  # where nothing else is said; and with torch
DEFAULT_MEMORY_WITH_TORCH = 600_000_000


def memory_bound(plan: Plan, given: int | None) -> int:
    """Bytes that the process may take: what was given, else the default for such a plan."""
    return given or (DEFAULT_MEMORY_WITH_TORCH if _needs_torch(plan) else DEFAULT_MEMORY)


def predicted_memory(plan: Plan, workers: int | None, memory: int) -> int:
    """Peak resident bytes of the process that carries out `plan` within `memory`."""
    return _resident(plan) + workers_that_fit(plan, workers, memory) * _per_worker(plan)


def workers_that_fit(plan: Plan, workers: int | None, memory: int) -> int:
    """How many workers run within `memory` bytes. Raises MemoryBudgetError when not even one does."""
    wanted = workers or min(os.cpu_count() or 1, MOST_WORKERS)
    resident = _resident(plan)
    room = memory - resident
    if room < _per_worker(plan):
        needed = resident + _per_worker(plan)
        raise MemoryBudgetError(
            f"this plan needs {in_bytes(needed)} with one worker, and --memory allows {in_bytes(memory)}."
        )
    return min(wanted, room // _per_worker(plan))


def _per_worker(plan: Plan) -> int:
    return plan.bytes_per_worker + THREAD_BYTES


def _resident(plan: Plan) -> int:
    hub = HUB_BYTES if any(source.commit for source in plan.inputs) else 0
    files = sum(len(file.content) for file in plan.files)
    torch = TORCH_BYTES if _needs_torch(plan) else 0
    return RESIDENT_BYTES + hub + torch + TENSOR_BYTES * len(plan.jobs) + files


def _needs_torch(plan: Plan) -> bool:
    methods = {name for job in plan.jobs for name in _methods(job.expr)}
    return any(method_called(name).needs_torch for name in methods)


def _methods(expr: Expr) -> Iterator[str]:
    if isinstance(expr, Merge):
        yield expr.method
    for part in parts(expr):
        yield from _methods(part)


def peak_memory() -> int:
    """The largest resident memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # the system's own figure there would count what a parent process held before the start
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    if sys.platform == "win32":
        return _peak_on_windows()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Counters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS, as psapi.h has it."""

    _fields_ = (
        ("cb", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        ("peak_working_set", ctypes.c_size_t),
        *((f"other_{number}", ctypes.c_size_t) for number in range(7)),
    )


def _peak_on_windows() -> int:
    windows = getattr(ctypes, "windll")  # noqa: B009 (it is there on Windows alone)
    counters = _Counters(cb=ctypes.sizeof(_Counters))
    windows.kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(windows.kernel32.GetCurrentProcess())
    windows.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb)
    return int(counters.peak_working_set)
