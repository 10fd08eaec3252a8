"""A disk of which, when the power goes, only what was synced is left.

Bytes of a file are safe from the moment the file was synced, names in a folder from the moment the folder was.
What was not synced may be there or not: a coin decides, for each file and each folder.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .world import interfering

Node = tuple[int, int]  # device and inode; what is open or was seen keeps its inode from being used again


@dataclass
class Disk:
    """What of the files below `root` would survive now. `luck` is the chance that something unsynced does."""

    root: Path
    luck: float
    rng: random.Random
    content: dict[Node, bytes] = field(default_factory=dict)  # of files that were synced, when they last were
    names: dict[Node, dict[str, Node]] = field(default_factory=dict)  # of folders, likewise
    held: dict[Node, int] = field(default_factory=dict)  # a descriptor of everything, so that nothing is forgotten

    def __post_init__(self) -> None:
        for folder, _, files in os.walk(self.root):
            for path in (Path(folder), *(Path(folder) / name for name in files)):
                self._synced(os.open(path, os.O_RDONLY))

    def step(self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Take a step, and note what is safe because of it."""
        result = call(*arguments)
        if name == "open":
            self._hold(result)
        elif name == "mkdir":
            self._hold(os.open(arguments[0], os.O_RDONLY))
        elif name in ("fsync", "fdatasync"):
            self._synced(arguments[0])
        return result

    def power_cut(self) -> None:
        """Leave on the disk what survives, and die."""
        root = _node(self.root.stat())
        tree = self._surviving(root)
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        _write(self.root, tree)
        os.kill(os.getpid(), signal.SIGKILL)

    def _hold(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        self.held.setdefault(_node(os.fstat(descriptor)), os.open(path, os.O_RDONLY))

    def _synced(self, descriptor: int) -> None:
        self._hold(descriptor)
        node = _node(os.fstat(descriptor))
        if os.path.isdir(f"/proc/self/fd/{self.held[node]}"):  # noqa: PTH112 (a link, of which pathlib makes a path)
            self.names[node] = self._names_now(node)
        else:
            self.content[node] = self._content_now(node)

    def _names_now(self, node: Node) -> dict[str, Node]:
        found = {}
        for entry in os.scandir(f"/proc/self/fd/{self.held[node]}"):
            found[entry.name] = _node(entry.stat(follow_symlinks=False))
        return found

    def _content_now(self, node: Node) -> bytes:
        descriptor = self.held[node]
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def _surviving(self, node: Node) -> dict[str, Any] | bytes:
        lucky = self.rng.random() < self.luck
        if node in self.held and os.path.isdir(f"/proc/self/fd/{self.held[node]}"):  # noqa: PTH112
            names = self._names_now(node) if lucky and _is_linked(self.held[node]) else self.names.get(node, {})
            return {name: self._surviving(child) for name, child in names.items()}
        if lucky:
            return self._content_now(node)
        return self.content.get(node, b"\0" * self.rng.choice([0, 7, 4096]))


def _is_linked(descriptor: int) -> bool:
    return os.fstat(descriptor).st_nlink > 0


def _node(status: os.stat_result) -> Node:
    return status.st_dev, status.st_ino


def _write(folder: Path, tree: Any) -> None:
    for name, content in tree.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).mkdir()
            _write(folder / name, content)


def power_cut_before(number: int, root: Path, luck: float, action: Callable[[], object]) -> Callable[[], None]:
    """The action, on a machine whose power goes before step `number`, counted from 1."""
    taken = 0

    def act() -> None:
        disk = Disk(root, luck, random.Random(number))

        def count(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            nonlocal taken
            taken += 1
            if taken == number:
                disk.power_cut()
            return disk.step(name, call, arguments)

        with interfering(count):
            action()

    return act
