"""Every call to the file system, in one place: what differs between platforms differs here."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lamina.errors import CheckpointError, InputChanged, OutputError, WriteFailed


def exists(path: Path) -> bool:
    """True for a file that is there; false also for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """True for a folder that is there; false also for a name that no folder can have."""
    try:
        return path.is_dir()
    except OSError:
        return False


def size_of(path: Path) -> int:
    """Size in bytes. Raises CheckpointError where the file is missing or cannot be read."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: {_reason(error)}") from error


def read_at(path: Path, offset: int, length: int) -> bytes:
    """`length` bytes of a file; fewer where it ends before."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(length) or b""
    except OSError as error:
        raise CheckpointError(f"{path}: {_reason(error)}") from error


def read_all(path: Path) -> bytes:
    """A whole small file. Raises CheckpointError where it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {_reason(error)}") from error


def names_in(folder: Path) -> list[str]:
    """Names of the files in a folder, links included, sorted. Raises CheckpointError where it cannot be listed."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise CheckpointError(f"{folder}: {_reason(error)}") from error


class InputFile:
    """A file open for reading at any offset, by any number of threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise InputChanged(f"{path} was there when the merge was planned, and now: {_reason(error)}") from error

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from `offset` on. Raises InputChanged where the file ends before."""
        filled = 0
        while filled < len(buffer):
            try:
                count = os.preadv(self._descriptor, [buffer[filled:]], offset + filled)
            except OSError as error:
                raise InputChanged(f"{self.path}: reading byte {offset + filled} failed: {_reason(error)}") from error
            if count == 0:
                raise InputChanged(f"{self.path} ends at byte {offset + filled}: it became shorter while it was read.")
            filled += count

    def close(self) -> None:
        os.close(self._descriptor)


class OutputFile:
    """A file of known size, written at any offset by any number of threads."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        with writing(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
            self._descriptor: int | None = os.open(path, flags, 0o666)
            try:
                _reserve(self._descriptor, size)
            except OSError:
                self.abandon()
                raise

    def write_at(self, data: memoryview, offset: int) -> None:
        written = 0
        assert self._descriptor is not None, "the file is closed"
        with writing(self.path):
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], offset + written)

    def close(self) -> None:
        """Make the bytes durable, and let go of the file, whether or not that succeeds."""
        assert self._descriptor is not None, "the file is closed"
        try:
            with writing(self.path):
                os.fsync(self._descriptor)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is. Once is enough; twice does no harm."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class PartFile:
    """A download that goes on where the last attempt was left; it gets its name when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)  # what has arrived outlives the process
        self.size = self._file.seek(0, os.SEEK_END)

    def append(self, data: bytes) -> None:
        while data:
            written = self._file.write(data)
            self.size += written
            data = data[written:]

    def restart(self) -> None:
        """Forget what is there."""
        self._file.truncate(0)
        self.size = 0

    def content(self) -> Iterator[bytes]:
        """All that is there, in pieces."""
        with self.path.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece

    def publish(self, path: Path) -> None:
        os.fsync(self._file.fileno())
        self.close()
        self.path.replace(path)

    def close(self) -> None:
        self._file.close()


def replace_file(path: Path, content: bytes) -> None:
    """A small file of a cache, old or new at every moment. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)


def share_file(source: Path, target: Path) -> bool:
    """Give a file a second name, without a second copy of its bytes; false where the disk cannot."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(source.resolve())
    except OSError:
        return False
    return True


def link_or_move(source: Path, link: Path) -> None:
    """A relative link at `link` to `source`; where the platform has no links, the file itself. Raises OSError."""
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(os.path.relpath(source, link.parent))
    except FileExistsError:
        link.unlink()  # a link to a file that is gone
        link_or_move(source, link)
    except OSError:
        source.replace(link)


def write_file(path: Path, content: bytes) -> None:
    """A whole small file, durable."""
    file = OutputFile(path, len(content))
    try:
        file.write_at(memoryview(content), 0)
        file.close()
    finally:
        file.abandon()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    with writing(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """A folder, and its parents. Raises OutputError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {_reason(error)}") from error


def move(source: Path, target: Path) -> None:
    """Rename: the one step in which an output becomes visible."""
    with writing(target):
        source.rename(target)


def remove_folder(folder: Path) -> None:
    """Delete a folder and all in it."""
    with writing(folder):
        shutil.rmtree(folder)


class FolderLock:
    """Held by the one process that may write into a staging folder; released by the system if it dies."""

    def __init__(self, path: Path, what_for: str) -> None:
        import fcntl

        with writing(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise OutputError(f"another process is writing {what_for} right now; wait for it or stop it.") from error

    def release(self) -> None:
        os.close(self._descriptor)


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def on_one_disk(one: Path, other: Path) -> bool:
    """True when what is written into these folders, which need not exist yet, goes to one disk."""
    while not one.exists():
        one = one.parent
    while not other.exists():
        other = other.parent
    return one.stat().st_dev == other.stat().st_dev


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk says into a letter."""
    try:
        yield
    except OSError as error:
        advice = " Nothing is visible at the output; free some space and run the same command."
        raise WriteFailed(f"{path}: {_reason(error)}.{advice if error.errno == errno.ENOSPC else ''}") from error


def _reserve(descriptor: int, size: int) -> None:
    """Take the space now, so that a full disk shows before the work."""
    if hasattr(os, "posix_fallocate") and size:
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    os.ftruncate(descriptor, size)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
