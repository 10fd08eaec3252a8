"""Work on many tensors at once: threads, each with buffers of its own."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

MOST_WORKERS = 4  # beyond that the disk is the limit

Item = TypeVar("Item")
Found = TypeVar("Found")


def each(
    items: Sequence[Item], make_worker: Callable[[], Callable[[Item], Found]], workers: int | None
) -> dict[Item, Found]:
    """What a worker finds in each item, in the order of the items, which are distinct.

    `make_worker` is called once in every thread. Raises what goes wrong first, and KeyboardInterrupt.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    found: dict[Item, Found] = {}
    failures: list[BaseException] = []

    def work() -> None:
        try:
            worker = make_worker()
            while not failures:
                item = waiting.get_nowait()
                found[item] = worker(item)
        except queue.Empty:
            return
        except BaseException as failure:  # carried to the caller's thread, which raises it
            failures.append(failure)

    count = min(workers or min(os.cpu_count() or 1, MOST_WORKERS), len(items))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(timeout=0.1)  # short, so that Ctrl-C is seen at once
    except KeyboardInterrupt as stop:
        failures.append(stop)
    if failures:
        raise failures[0]
    return {item: found[item] for item in items}
