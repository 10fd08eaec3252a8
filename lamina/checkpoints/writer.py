"""Write a folder so that it appears whole or not at all.

Everything is written into `.NAME.lamina/` beside the output, locked against a second process; when all of
it is on the disk, one rename publishes it. What the lock leaves free is a leftover of a run that died.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lamina.checkpoints.files import (
    FolderLock,
    OutputFile,
    free_bytes,
    make_folder,
    move,
    remove_folder,
    sync_folder,
    write_file,
)
from lamina.checkpoints.layout import INDEX_NAME, Layout
from lamina.errors import OutputError

MADE_BY = "lamina.json"  # written by every merge; tells what plan a folder was made by


def staging_of(out: Path) -> Path:
    """The folder in which an output grows."""
    return out.parent / f".{out.name}.lamina"


def made_by(out: Path) -> Mapping[str, object] | None:
    """What `lamina.json` in a folder says, None where there is none or it is not ours."""
    try:
        content = json.loads((out / MADE_BY).read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def is_complete(folder: Path, layout: Layout, side_files: Mapping[str, int]) -> bool:
    """True when every file of a layout, and every side file, is there in its full size (in bytes)."""
    sizes = {shard.file_name: shard.size for shard in layout.shards} | dict(side_files)
    if layout.index_json:
        sizes[INDEX_NAME] = len(layout.index_json)
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def check_output(out: Path, needed: int, precious: Sequence[Path], *, force: bool) -> None:
    """Refuse, before anything is read, an output that is in use or does not fit.

    Raises OutputError when `out` holds one of the `precious` paths (inputs, recipe), when it is not absent
    or an empty folder (unless `force`), or when fewer than `needed` bytes are free.
    """
    for path in precious:
        if out.resolve() in (path.resolve(), *path.resolve().parents):
            raise OutputError(f"{out} holds {path}, of which the merge is made; name another output.")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out} exists and is not a folder; name another output.")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise OutputError(f"{out} exists and was not made by this recipe; name another output, or replace it: --force")
    if out.is_mount():
        raise OutputError(f"{out} is a mount point and cannot be published into by a rename; name a folder inside it.")
    free = free_bytes(out.parent)
    if needed > free:
        raise OutputError(
            f"{out} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free there; "
            "free some space, or name an output on another disk."
        )


class CheckpointWriter:
    """A folder that is being written. Blocks go anywhere in any order, from any thread.

    A context manager: leaving it before `publish` removes what was staged.
    """

    def __init__(self, layout: Layout, out: Path) -> None:
        self._layout, self._out = layout, out
        self._staging = staging_of(out)
        make_folder(self._staging)
        self._lock = FolderLock(self._staging / "lock", str(out))
        self._content, self._replaced = self._staging / "content", self._staging / "replaced"
        self._clear_up()
        make_folder(self._content)
        self._files = [OutputFile(self._content / shard.file_name, shard.size) for shard in layout.shards]
        for file, shard in zip(self._files, layout.shards, strict=True):
            file.write_at(memoryview(shard.header), 0)

    def put(self, name: str, first_byte: int, block: memoryview) -> None:
        """Some bytes of a tensor, from its byte `first_byte` on."""
        place = self._layout.places[name]
        self._files[place.shard].write_at(block, place.offset + first_byte)

    def put_file(self, name: str, content: bytes) -> None:
        """A side file, whole."""
        write_file(self._content / name, content)

    def publish(self) -> None:
        """Make everything durable, then visible at the output in one step.

        What stood there is moved aside first and removed last, so that a complete folder exists at every
        moment: the old one, then the new one.
        """
        for file in self._files:
            file.close()
        self._files = []
        if self._layout.index_json:
            self.put_file(INDEX_NAME, self._layout.index_json)
        sync_folder(self._content)
        if self._out.exists():
            move(self._out, self._replaced)
        move(self._content, self._out)
        sync_folder(self._out.parent)

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.abandon()
        remove_folder(self._staging)
        self._lock.release()

    def _clear_up(self) -> None:
        """Undo what a run that died has left: a half-made folder, or an old output not yet replaced."""
        if self._replaced.exists() and not self._out.exists():
            move(self._replaced, self._out)
        for leftover in (self._content, self._replaced):
            if leftover.exists():
                remove_folder(leftover)
