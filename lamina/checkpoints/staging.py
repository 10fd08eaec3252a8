"""The folder in which an output grows, and the step that makes it the output.

It is `.NAME.lamina/` beside the output, which one rename then publishes. Where nothing can be put beside the
output, or the output itself has to stay (a mount point, the working directory), it is `.lamina/` inside: the
files are then moved out one by one, `config.json` last, without which nothing takes a folder for a model.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamina.checkpoints.files import (
    FolderLock,
    bytes_in,
    can_hold,
    entries_of,
    exists,
    make_folder,
    move,
    read_all,
    remove_file,
    remove_folder,
    sync_folder,
    write_file,
)
from lamina.checkpoints.journal import read_journal
from lamina.errors import OutputError

INSIDE = ".lamina"
LAST = "config.json"


@dataclass(frozen=True)
class Staging:
    """Where one output grows. `out` is absolute; `inside` when the folder lies in it."""

    out: Path
    folder: Path
    inside: bool

    @property
    def content(self) -> Path:
        """What becomes the output."""
        return self.folder / "content"

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def lock(self) -> Path:
        """The file that the one who writes holds locked."""
        return self.folder / "lock"

    @property
    def _replaced(self) -> Path:
        """What stood at the output before."""
        return self.folder / "replaced"

    @property
    def _moving(self) -> Path:
        """Names the files that are being moved out of `content`, one by one."""
        return self.folder / "moving"

    def publish(self) -> None:
        """Make the content the output. What stood there is moved aside first: at no moment do the two mix."""
        if self.inside:
            names = entries_of(self.content)
            write_file(self._moving, json.dumps(names).encode())
            sync_folder(self.folder)
            old = occupants(self.out)
            if old:
                make_folder(self._replaced)
                self._move(reversed(_config_last(old)), self.out, self._replaced)
            self._move(_config_last(names), self.content, self.out)
        else:
            if occupants(self.out):
                move(self.out, self._replaced)
            move(self.content, self.out)
        sync_folder(self.out.parent)

    def undo(self) -> None:
        """Put back what a publishing that was cut off has moved. One that came to its end is left as it is."""
        if not self.inside:
            if self._replaced.exists() and not self.out.exists():
                move(self._replaced, self.out)
        elif exists(self._moving) and entries_of(self.content):
            self._move(reversed(_config_last(self._moved())), self.out, self.content)
            self._move(_config_last(entries_of(self._replaced)), self._replaced, self.out)
        remove_file(self._moving)
        if self._replaced.exists():  # what it held is back, or something has its place
            remove_folder(self._replaced)

    def bytes_staged(self) -> int:
        """Bytes of disk that it takes."""
        return bytes_in(self.folder)

    def finished(self) -> int:
        """The number of tensors that the journal names."""
        past = read_journal(self.journal)
        return len(past.finished) if past is not None and entries_of(self.content) else 0

    def _moved(self) -> Sequence[str]:
        """The names that had been moved to the output."""
        try:
            names = json.loads(read_all(self._moving))
        except ValueError:  # torn: then no move had begun
            return ()
        here = set(entries_of(self.content))
        return [name for name in occupants(self.out) if name in names and name not in here]

    def _move(self, names: Iterable[str], source: Path, target: Path) -> None:
        """Rename each, those before it being on the disk before `config.json` appears or goes."""
        for name in names:
            if name == LAST:
                sync_folder(source)
                sync_folder(target)
            move(source / name, target / name)
            if name == LAST:
                sync_folder(source)
                sync_folder(target)


def staging_of(out: Path) -> Staging:
    """Where an output grows. Raises OutputError where that can be neither beside nor inside."""
    place = out.resolve()
    parent = place.parent
    while not parent.exists():
        parent = parent.parent
    if place.is_dir() and (place.is_mount() or place == Path.cwd() or not can_hold(parent)):
        return Staging(place, place / INSIDE, inside=True)
    if not can_hold(parent):
        raise OutputError(f"{out} cannot be made: {parent} is not writable. Name an output elsewhere.")
    return Staging(place, place.parent / f".{place.name}.lamina", inside=False)


def occupants(out: Path) -> Sequence[str]:
    """What is in an output's folder, but for what grows there."""
    return [name for name in entries_of(out) if name != INSIDE]


def stagings_in(folder: Path) -> list[Staging]:
    """What runs that died or still go have staged in a folder, or in a folder right below it."""
    place = folder.resolve()
    beside = [
        Staging(place / name[1 : -len(".lamina")], place / name, inside=False)
        for name in entries_of(place)
        if name.startswith(".") and name.endswith(".lamina") and len(name) > len("..lamina")
    ]
    outs = [place, *(place / name for name in entries_of(place))]
    inside = [Staging(out, out / INSIDE, inside=True) for out in outs]
    return [each for each in [*beside, *inside] if exists(each.lock)]


def restore(out: Path) -> None:
    """Undo what a publishing that was cut off has left, unless a process is at it."""
    staging = staging_of(out)
    if exists(staging.lock):
        with contextlib.suppress(OutputError):
            lock = FolderLock(staging.lock, str(out))
            try:
                staging.undo()
            finally:
                lock.release()


def clear(staging: Staging) -> bool:
    """Remove a staging folder, unless a process is using it; say whether it is gone.

    An output that had been moved aside is put back first.
    """
    try:
        lock = FolderLock(staging.lock, str(staging.out))
    except OutputError:
        return False
    try:
        staging.undo()
    except BaseException:
        lock.release()
        raise
    lock.remove_folder()
    return True


def _config_last(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name == LAST, name))
