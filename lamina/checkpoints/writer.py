"""Write a folder so that it appears whole or not at all.

Everything is written into `.NAME.lamina/` beside the output, locked against a second process; when all of
it is on the disk, one rename publishes it. What the lock leaves free is a leftover of a run that died.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lamina.checkpoints.files import (
    FolderLock,
    OutputFile,
    free_bytes,
    make_folder,
    move,
    on_one_disk,
    remove_folder,
    sync_folder,
    write_file,
)
from lamina.checkpoints.layout import INDEX_NAME, Layout
from lamina.errors import OutputError, WriteFailed
from lamina.wording import in_bytes

MADE_BY = "lamina.json"  # written by every merge; tells what plan a folder was made by


def staging_of(out: Path) -> Path:
    """The folder in which an output grows."""
    return out.parent / f".{out.name}.lamina"


def made_by(out: Path) -> Mapping[str, Any]:
    """What `lamina.json` in a folder says; empty where there is none or it is not ours."""
    try:
        content = json.loads((out / MADE_BY).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def damage(folder: Path) -> list[str]:
    """Files that `lamina.json` lists and that are missing from the folder or have another size."""
    sizes = made_by(folder).get("files")
    if not isinstance(sizes, dict):
        return [MADE_BY]
    there = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    return [name for name, size in sizes.items() if there.get(name) != size]


def check_output(out: Path, needed: int, precious: Sequence[Path], beside: Sequence[tuple[Path, int]] = ()) -> None:
    """Refuse, before anything is read, an output that can never be written.

    Raises OutputError when `out` holds one of the `precious` paths (inputs, recipe), is no folder or cannot
    be renamed, or when fewer than `needed` bytes are free, with what else will be written `beside` it: bytes
    to be fetched into other folders, which count where they are on the same disk.
    """
    for path in precious:
        if out.resolve() in (path.resolve(), *path.resolve().parents):
            raise OutputError(f"{out} holds {path}, of which the merge is made; name another output.")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out} exists and is not a folder; name another output.")
    if out.is_mount():
        raise OutputError(f"{out} is a mount point and cannot be published into by a rename; name a folder inside it.")
    free = free_bytes(out.absolute().parent)
    fetched = sum(count for folder, count in beside if on_one_disk(folder, out.absolute().parent))
    if needed + fetched > free:
        and_fetched = f", and {in_bytes(fetched)} are fetched to the same disk," if fetched else ""
        raise OutputError(
            f"{out} needs {in_bytes(needed)}{and_fetched} and {in_bytes(free)} are free there; "
            "free some space, or name an output on another disk."
        )


class CheckpointWriter:
    """A folder that is being written. Blocks go anywhere in any order, from any thread.

    A context manager: leaving it before `publish` removes what was staged.
    """

    def __init__(self, layout: Layout, out: Path) -> None:
        self._layout, self._out = layout, out
        self._staging = staging_of(out)
        self._content, self._replaced = self._staging / "content", self._staging / "replaced"
        self._files: list[OutputFile] = []
        make_folder(self._staging)
        try:
            self._lock = FolderLock(self._staging / "lock", str(out))
        except WriteFailed:
            remove_folder(self._staging)
            raise
        try:
            self._clear_up()
            make_folder(self._content)
            for shard in layout.shards:
                self._files.append(OutputFile(self._content / shard.file_name, shard.size))
                self._files[-1].write_at(memoryview(shard.header), 0)
        except BaseException:
            self._leave()
            raise

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
        self._leave()

    def _leave(self) -> None:
        for file in self._files:
            file.abandon()
        self._restore()
        remove_folder(self._staging)
        self._lock.release()

    def _restore(self) -> None:
        """Put back an old output whose place nothing has taken."""
        if self._replaced.exists() and not self._out.exists():
            move(self._replaced, self._out)

    def _clear_up(self) -> None:
        """Undo what a run that died has left: a half-made folder, or an old output not yet replaced."""
        self._restore()
        for leftover in (self._content, self._replaced):
            if leftover.exists():
                remove_folder(leftover)
