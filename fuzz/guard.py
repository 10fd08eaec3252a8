"""What hostile input must not bring about, seen through the events that Python reports of itself."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NEVER = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen",
    "pty.spawn", "pickle.find_class", "socket.connect", "socket.bind", "socket.getaddrinfo",
    "ctypes.dlopen", "webbrowser.open",
)  # fmt: skip
CHANGING = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate",
    "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile",
)  # fmt: skip


class Escape(BaseException):
    """Hostile input reached beyond the files it stands for. No `except Exception` hides it."""


class _Watch:
    """The one hook of this process; it watches while there are folders to keep within."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.readable: tuple[str, ...] | None = None
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is None:
            return
        if event in NEVER:
            raise Escape(f"{event} {arguments!r:.200}")
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and bool(flags & WRITING)
            if isinstance(path, str | bytes | os.PathLike) and not self._may_open(os.fspath(path), writes):
                raise Escape(f"opened {path!r}{' for writing' if writes else ''}")
        elif event in CHANGING and not all(self._is_in((self.folder,), path) for path in _changed(event, arguments)):
            raise Escape(f"{event} {arguments!r:.200}")

    def _may_open(self, path: str | bytes, writes: bool) -> bool:
        assert self.folder is not None
        if writes:
            return self._is_in((self.folder, os.devnull), path)
        return self.readable is None or self._is_in((self.folder, *self.readable), path)

    def _is_in(self, folders: Sequence[str], path: object) -> bool:
        if not isinstance(path, str | bytes):
            return True  # a descriptor, opened where it was watched
        absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (no link is followed)
        return any(absolute == folder or absolute.startswith(folder + os.sep) for folder in folders)


def _changed(event: str, arguments: tuple[object, ...]) -> Sequence[object]:
    """The paths that are changed. `shutil.rmtree` names one by an open folder that it is in, the last argument."""
    path, folder = arguments[0], arguments[-1]
    if event in ("os.rename", "os.link", "os.symlink", "shutil.move", "shutil.copyfile"):
        return arguments[:2] if event in ("os.rename", "shutil.move") else arguments[1:2]
    if event not in ("os.remove", "os.rmdir", "os.mkdir") or not isinstance(folder, int) or folder < 0:
        return [path]
    assert isinstance(path, str | bytes)
    return [os.path.join(_path_of_folder(folder), os.fsdecode(path))]  # noqa: PTH118 (as in _is_in)


def _path_of_folder(descriptor: int) -> str:
    if os.path.exists("/proc/self/fd"):  # noqa: PTH110
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    fcntl = importlib.import_module("fcntl")
    return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))  # macOS


_watch: _Watch | None = None


@contextmanager
def guarded(folder: Path, *, reads_elsewhere: bool = False) -> Iterator[None]:
    """Raise Escape where what is run meanwhile starts a process, connects, unpickles, or leaves `folder`.

    Python's own files may be read, and others where the input itself is a path that its user wrote.
    """
    global _watch  # a hook cannot be taken out: there is one, and it is idle between inputs
    _watch = _watch or _Watch()
    ours = str(Path(__file__).resolve().parents[1])
    system = (
        sys.prefix,
        sys.base_prefix,
        "/usr/lib",
        "/usr/share/zoneinfo",
        "/etc/mime.types",
        "/proc",
        "/sys/fs/cgroup",
    )
    site_packages = tuple(path for path in sys.path if path.endswith("site-packages"))
    _watch.readable = None if reads_elsewhere else (ours, *system, *site_packages)
    _watch.folder = str(folder)
    try:
        yield
    finally:
        _watch.folder = None


def new_folder() -> Path:
    """A folder for the files of this process, in memory where the system has that; gone when the process ends."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="lamina-fuzz-", dir=shared if os.access(shared, os.W_OK) else None)).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
