"""One line that moves while tensors are worked on. Called from the workers' threads."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class MovingLine:
    """Share done, bytes, speed, time left, and the tensor at hand. Silent unless `enabled`."""

    def __init__(self, verb: str = "merging", *, enabled: bool) -> None:
        self._verb, self._enabled = verb, enabled
        self._lock = Lock()
        self._done = self._total = 0
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    @property
    def share(self) -> float:
        """How much of the work is done, 0 to 1."""
        return self._done / self._total if self._total else 0.0

    def start(self, total: int) -> None:
        """Begin; `total` is the number of bytes to come."""
        self._total = total
        if self._enabled:
            from rich import progress  # costs a quarter of a second, so only where it is seen

            self._progress = progress.Progress(
                progress.TextColumn(self._verb),
                progress.BarColumn(bar_width=28),
                progress.TaskProgressColumn(),
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(compact=True),
                progress.TextColumn("{task.fields[tensor]}"),
                transient=True,
            )
            self._task = self._progress.add_task(self._verb, total=total, tensor="")
            self._progress.start()

    def resume(self, done: int) -> None:
        """`done` bytes are there from before: the line goes on from them, and the speed does not count them."""
        with self._lock:
            self._done += done
        if self._progress is not None and self._task is not None:
            self._progress.reset(self._task, completed=self._done)

    def advance(self, tensor: str, nbytes: int) -> None:
        """`nbytes` more are done, the last of them of `tensor`."""
        with self._lock:
            self._done += nbytes
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=nbytes, tensor=tensor.removesuffix(".weight")[-24:])

    def stop(self) -> None:
        """Take the line away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
