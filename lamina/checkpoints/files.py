"""Every call to the file system, in one place: what differs between platforms differs here."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

from lamina.errors import CheckpointError, InputChanged, OutputError, WriteFailed

# Where the system cannot read and write at an offset (Windows), a file is read or written by one thread at a time.
_AT_OFFSETS = hasattr(os, "preadv") and hasattr(os, "pwrite")


def exists(path: Path) -> bool:
    """True for a file that is there; false also for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def size_of(path: Path) -> int:
    """Size in bytes. Raises CheckpointError where the file is missing or cannot be read."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: {_reason(error)}") from error


def has_size(path: Path, size: int) -> bool:
    """True for a file of `size` bytes."""
    return exists(path) and size_of(path) == size


def is_folder(path: Path) -> bool:
    """True for a folder that is there; false also for a name that no folder can have."""
    try:
        return path.is_dir()
    except OSError:
        return False


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


def state_of(path: Path) -> tuple[int, int, int]:
    """What tells a file from the same file changed: size in bytes, mtime in ns, inode. Raises InputChanged."""
    try:
        found = path.stat()
    except OSError as error:
        raise InputChanged(f"{path} was there when the merge was planned, and now: {_reason(error)}") from error
    return found.st_size, found.st_mtime_ns, found.st_ino


class InputFile:
    """A file open for reading at any offset, by any number of threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = Lock()
        try:
            self._file = _open(path, "rb")
        except OSError as error:
            raise InputChanged(f"{path} was there when the merge was planned, and now: {_reason(error)}") from error

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from `offset` on. Raises InputChanged where the file ends before."""
        filled = 0
        while filled < len(buffer):
            try:
                count = self._read(buffer[filled:], offset + filled)
            except OSError as error:
                raise InputChanged(f"{self.path}: reading byte {offset + filled} failed: {_reason(error)}") from error
            if count == 0:
                raise InputChanged(f"{self.path} ends at byte {offset + filled}: it became shorter while it was read.")
            filled += count

    def _read(self, buffer: memoryview, offset: int) -> int:
        if _AT_OFFSETS:
            return os.preadv(self._file.fileno(), [buffer], offset)
        with self._turn:
            self._file.seek(offset)
            return self._file.readinto(buffer) or 0

    def close(self) -> None:
        self._file.close()


class OutputFile:
    """A file of known size, written at any offset by any number of threads; new, or `kept` as it is."""

    def __init__(self, path: Path, size: int, *, kept: bool = False) -> None:
        self.path = path
        self._turn = Lock()
        with writing(path):
            self._file = _open(path, "rb+" if kept else "wb")
            try:
                if not kept:
                    _reserve(self._file.fileno(), size)
            except OSError:
                self.abandon()
                raise

    def write_at(self, data: memoryview, offset: int) -> None:
        written = 0
        with writing(self.path):
            while written < len(data):
                written += self._write(data[written:], offset + written)

    def _write(self, data: memoryview, offset: int) -> int:
        if _AT_OFFSETS:
            return os.pwrite(self._file.fileno(), data, offset)
        with self._turn:
            self._file.seek(offset)
            return self._file.write(data) or 0

    def sync(self) -> None:
        """Make all that is written so far durable."""
        with writing(self.path):
            _sync(self._file.fileno())

    def close(self) -> None:
        """Make the bytes durable, and let go of the file, whether or not that succeeds."""
        try:
            self.sync()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is. Once is enough; twice does no harm."""
        self._file.close()


class LogFile:
    """A file that only grows, line by line; what was appended is on the disk when `append` returns."""

    def __init__(self, path: Path, size: int) -> None:
        """Open, or make, a file and forget what lies beyond its first `size` bytes."""
        self.path = path
        with writing(path):
            self._file = _open(path, "ab")
            try:
                os.ftruncate(self._file.fileno(), size)
                _sync(self._file.fileno())
            except OSError:
                self.close()
                raise

    def append(self, data: bytes) -> None:
        with writing(self.path):
            while data:
                data = data[os.write(self._file.fileno(), data) :]
            _sync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


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
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


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
    """Make the names in a folder durable. On Windows a rename is, and a folder cannot be opened."""
    if os.name == "nt":
        return
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


def can_hold(folder: Path) -> bool:
    """True where names can be made and removed in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def entries_of(folder: Path) -> Sequence[str]:
    """All names in a folder, sorted; none where there is no such folder."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise OutputError(f"{folder}: {_reason(error)}") from error


def move(source: Path, target: Path) -> None:
    """Rename: the one step in which an output becomes visible. An empty folder at `target` is replaced."""
    with writing(target):
        if os.name == "nt" and target.is_dir():
            target.rmdir()
        source.rename(target)


def remove_folder(folder: Path) -> None:
    """Delete a folder and all in it."""
    with writing(folder):
        shutil.rmtree(folder)


def remove_file(path: Path) -> None:
    """Delete a file, if it is there."""
    with writing(path):
        path.unlink(missing_ok=True)


def bytes_in(folder: Path) -> int:
    """Bytes of disk that the files in a folder and below it take."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found = (Path(path) / name).stat()
                total += found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size
    return total


class FolderLock:
    """Held by the one process that may write into a staging folder; released by the system if it dies."""

    def __init__(self, path: Path, what_for: str) -> None:
        """Make the folder, and lock the file `path` in it. Raises OutputError where another process holds it."""
        self._path = path
        while True:
            make_folder(path.parent)
            with writing(path), contextlib.suppress(FileNotFoundError):
                try:
                    self._file = _open(path, "ab")
                except OSError:
                    with contextlib.suppress(OSError):
                        path.parent.rmdir()  # made in vain
                    raise
                if not self._is_locked():
                    raise OutputError(f"{self._holder()} is writing {what_for} right now; wait for it or stop it.")
                if os.path.samestat(os.fstat(self._file.fileno()), path.stat()):
                    self._sign()
                    return
                self._file.close()  # who held it has removed the folder just now

    def _is_locked(self) -> bool:
        """True when the lock could be had; else the file is closed again."""
        try:
            locked = _locked(self._file.fileno())
        except BaseException:
            self._file.close()
            raise
        if not locked:
            self._file.close()
        return locked

    def _sign(self) -> None:
        """Say in the file who holds the lock. Not on Windows, where what is locked is a place in the file."""
        if os.name != "nt":
            with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
                self._file.truncate(0)
                self._file.write(str(os.getpid()).encode())
                self._file.flush()

    def _holder(self) -> str:
        with contextlib.suppress(OSError):
            number = self._path.read_bytes()[:20]
            if number.isdigit():
                return f"another process ({int(number)})"
        return "another process"

    def remove_folder(self) -> None:
        """Delete the folder that the lock is in, the lock last, and release it."""
        try:
            for path in self._path.parent.iterdir():
                if path != self._path:
                    remove_folder(path) if path.is_dir() else remove_file(path)
            if os.name == "nt":  # where an open file cannot be deleted
                self.release()
            remove_folder(self._path.parent)
        finally:
            self.release()

    def release(self) -> None:
        self._file.close()


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def holds_files(folder: Path) -> bool:
    """False where what is mounted is no disk (/proc, /sys): it has no bytes at all, used or free."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).total > 0


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


def _open(path: Path, mode: str) -> io.FileIO:
    return io.FileIO(path, mode, opener=lambda name, flags: os.open(name, flags, 0o666))


def _sync(descriptor: int) -> None:
    """Put a file's bytes, and its size, on the disk itself."""
    if sys.platform == "darwin":  # where fsync leaves them in the disk's own cache
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def _locked(descriptor: int) -> bool:
    """Lock an open file; false where another process has it."""
    try:
        import fcntl
    except ImportError:
        windows = importlib.import_module("msvcrt")
        try:
            windows.locking(descriptor, windows.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
