"""Write a folder so that it appears whole or not at all, and so that a run that died goes on.

Everything grows in a staging folder, locked against a second process: `content/`, and a journal that names the
tensors which are on the disk for good. When all are, `content/` becomes the output. The next run of the same
command takes up what the journal names; what the journal does not name is made again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import xxhash

from lamina.checkpoints.files import (
    FolderLock,
    LogFile,
    OutputFile,
    free_bytes,
    has_size,
    holds_files,
    make_folder,
    on_one_disk,
    remove_file,
    remove_folder,
    sync_folder,
    write_file,
)
from lamina.checkpoints.journal import FileState, Finished, Past, Undertaking, lines_of, open_journal, read_journal
from lamina.checkpoints.layout import INDEX_NAME, Layout
from lamina.checkpoints.staging import Staging, staging_of
from lamina.errors import InputChanged, LaminaError, NonFiniteResult, OutputError, UnmergeableTensor, WriteFailed
from lamina.wording import in_bytes, listed

MADE_BY = "lamina.json"  # written by every merge; tells what a folder was made of
BATCH_BYTES, BATCH_SECONDS = 1_000_000_000, 5.0  # as much may be lost, and made again, when the machine goes down
LAST_BATCH_SECONDS = 0.5  # as long may a run that is stopped take to name what it has finished

# What the same command would meet again: nothing is gained by keeping what was made before.
_HOPELESS = (UnmergeableTensor, NonFiniteResult)


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
    be made, or when fewer than `needed` bytes are free, with what else will be written `beside` it: bytes
    to be fetched into other folders, which count where they are on the same disk.
    """
    for path in precious:
        if out.resolve() in (path.resolve(), *path.resolve().parents):
            raise OutputError(f"{out} holds {path}, of which the merge is made; name another output.")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out} exists and is not a folder; name another output.")
    staging = staging_of(out)
    if not holds_files(staging.folder):
        raise OutputError(f"{out} cannot be made: what is mounted there holds no files. Name an output elsewhere.")
    free = free_bytes(staging.folder) + staging.bytes_staged()
    fetched = sum(count for folder, count in beside if on_one_disk(folder, staging.folder))
    if needed + fetched > free:
        and_fetched = f", and {in_bytes(fetched)} are fetched to the same disk," if fetched else ""
        raise OutputError(
            f"{out} needs {in_bytes(needed)}{and_fetched} and {in_bytes(free)} are free there; "
            "free some space, or name an output on another disk."
        )


def bytes_staged(out: Path, layout: Layout, *, plan: str, inputs: Mapping[str, FileState], anew: bool = False) -> int:
    """Bytes of the tensors that an earlier run for this very folder has left whole, and with which a run goes on.

    Raises InputChanged where CheckpointWriter would.
    """
    staging = staging_of(out)
    past = read_journal(staging.journal)
    if past is None or not _goes_on(past, Undertaking(plan, _digest(layout), inputs), staging, layout, anew):
        return 0
    return _bytes_of(past, layout)


class CheckpointWriter:
    """A folder that is being written. Blocks go anywhere in any order, from any thread.

    A context manager: what is finished when it is left before `publish` is kept for the same plan, layout and
    inputs (`inputs` gives their state when called). `discarded` is the number of bytes that an earlier run
    for something else had finished.
    """

    def __init__(
        self,
        layout: Layout,
        out: Path,
        *,
        plan: str = "",
        inputs: Callable[[], Mapping[str, FileState]] = dict,
        anew: bool = False,
    ) -> None:
        """Raises InputChanged where an earlier run read other inputs, unless it may be made `anew`."""
        self._layout, self._inputs = layout, inputs
        self._out, self._staging = out, staging_of(out)
        self._content = self._staging.content
        self._shards: list[OutputFile] = []
        self._journal: LogFile | None = None
        self._finished: dict[str, Finished] = {}
        self._digests: dict[tuple[str, str], str] = {}  # of input tensors
        self._batch = _Batch()
        self._failure: BaseException | None = None
        self._undertaking = Undertaking(plan, _digest(layout), inputs())
        self.discarded = 0
        self._lock = FolderLock(self._staging.lock, str(out))
        try:
            self._staging.undo()
            past = self._past(anew)
            self._open(past)
        except BaseException as error:
            self._leave(error)
            raise
        self._keeper = Thread(target=self._keep_journal, name="journal", daemon=True)
        self._keeper.start()

    def done(self) -> Set[str]:
        """The tensors that need not be put."""
        return self._finished.keys()

    @property
    def finished(self) -> Mapping[str, Finished]:
        """What is recorded of each tensor that is whole."""
        return self._finished

    @property
    def input_digests(self) -> Mapping[tuple[str, str], str]:
        """The digest of each tensor (model, name) that was read."""
        return self._digests

    def put(self, name: str, first_byte: int, block: memoryview) -> None:
        """Some bytes of a tensor, from its byte `first_byte` on."""
        place = self._layout.places[name]
        self._shards[place.shard].write_at(block, place.offset + first_byte)

    def finish(self, made: Finished) -> None:
        """All bytes of a tensor have been put. Raises InputChanged where another tensor found an input otherwise."""
        if self._failure is not None:
            raise self._failure
        place = self._layout.places[made.name]
        with self._batch.changed:
            self._remember(made)
            self._batch.finished.append(made)
            self._batch.shards.add(place.shard)
            self._batch.nbytes += place.nbytes
            if self._batch.nbytes >= BATCH_BYTES:
                self._batch.changed.notify()

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Add the files, make everything durable, then visible at the output in one step."""
        missing = self._layout.places.keys() - self._finished.keys()
        if missing:
            raise ValueError(f"not finished: {listed(sorted(missing))}")
        self._end_journal(timeout=None)
        if self._failure is not None:
            raise self._failure
        for shard in self._shards:
            shard.close()
        index = {INDEX_NAME: self._layout.index_json} if self._layout.index_json else {}
        for name, content in (index | dict(files)).items():
            write_file(self._content / name, content)
        sync_folder(self._content)
        self._staging.publish()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        self._end_journal(timeout=LAST_BATCH_SECONDS)
        self._leave(error)

    def _past(self, anew: bool) -> Past | None:
        """What earlier runs have left for this one. Raises InputChanged."""
        past = read_journal(self._staging.journal)
        if past is None or _goes_on(past, self._undertaking, self._staging, self._layout, anew):
            return past
        self.discarded = _bytes_of(past, self._layout)
        return None

    def _open(self, past: Past | None) -> None:
        if past is None:
            self._clear()
            make_folder(self._content)
        for shard in self._layout.shards:
            self._shards.append(OutputFile(self._content / shard.file_name, shard.size, kept=past is not None))
            self._shards[-1].write_at(memoryview(shard.header), 0)
        sync_folder(self._content)
        self._journal = open_journal(self._staging.journal, past, self._undertaking)
        sync_folder(self._staging.folder)
        sync_folder(self._staging.folder.parent)
        for made in () if past is None else past.finished.values():
            if made.name in self._layout.places:
                self._remember(made)

    def _clear(self) -> None:
        """Remove what an earlier run has left. First, and for good, the journal: it must not tell of what follows."""
        remove_file(self._staging.journal)
        sync_folder(self._staging.folder)
        if self._content.exists():
            remove_folder(self._content)

    def _remember(self, made: Finished) -> None:
        for model, tensor, digest in made.inputs:
            if self._digests.setdefault((model, tensor), digest) != digest:
                raise InputChanged(f"{tensor} of {model} changed while it was read.")
        self._finished[made.name] = made

    def _keep_journal(self) -> None:
        """Make what is finished durable and name it, batch by batch. A thread of its own, so that no worker waits."""
        batch = self._batch
        ended = False
        while not ended:
            with batch.changed:
                batch.changed.wait_for(lambda: batch.ended or batch.nbytes >= BATCH_BYTES, timeout=BATCH_SECONDS)
                finished, shards, ended = batch.taken()
            try:
                if finished:
                    self._name(finished, shards)
            except BaseException as error:  # raised again in the threads that finish and publish
                self._failure = error
                return

    def _name(self, finished: Iterable[Finished], shards: Iterable[int]) -> None:
        for shard in sorted(shards):
            self._shards[shard].sync()
        if changed := self._undertaking.changed(self._inputs()):
            raise InputChanged(f"{listed(changed)} changed while it was read; run the same command again.")
        with self._batch.changed:
            if self._journal is not None:
                self._journal.append(lines_of(finished))

    def _end_journal(self, timeout: float | None) -> None:
        """Name the last batch, and wait for it at most `timeout` seconds."""
        with self._batch.changed:
            self._batch.ended = True
            self._batch.changed.notify()
        self._keeper.join(timeout)

    def _leave(self, error: BaseException | None) -> None:
        """Let go of everything; keep what is worth keeping."""
        with self._batch.changed:  # from here on nothing is named any more
            journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()
        for shard in self._shards:
            shard.abandon()
        if error is None:
            self._clear_up()
            return
        with contextlib.suppress(LaminaError):  # the error that there is says more
            self._staging.undo()
            if isinstance(error, _HOPELESS) or not self._staging.finished():
                self._lock.remove_folder()
        self._lock.release()

    def _clear_up(self) -> None:
        try:
            self._lock.remove_folder()
        except WriteFailed as error:
            raise WriteFailed(f"{self._out} is complete, but what it grew in could not be removed: {error}") from error
        finally:
            self._lock.release()


@dataclass
class _Batch:
    """What is finished and not yet named, and the shards that it lies in. Guarded by `changed`."""

    finished: list[Finished] = field(default_factory=list)
    shards: set[int] = field(default_factory=set)
    nbytes: int = 0
    ended: bool = False
    changed: Condition = field(default_factory=Condition)

    def taken(self) -> tuple[Sequence[Finished], Set[int], bool]:
        """All of it, to be named now; and whether it is the last."""
        taken = self.finished, self.shards, self.ended
        self.finished, self.shards, self.nbytes = [], set(), 0
        return taken


def _goes_on(past: Past, ours: Undertaking, staging: Staging, layout: Layout, anew: bool) -> bool:
    """True where what is staged was begun for the same plan and layout. Raises InputChanged, unless made `anew`."""
    if (past.undertaking.plan, past.undertaking.layout) != (ours.plan, ours.layout):
        return False
    if not all(has_size(staging.content / each.file_name, each.size) for each in layout.shards):
        return False
    changed = past.undertaking.changed(ours.inputs)
    if changed and not anew:
        raise InputChanged(
            f"{listed(changed)}: changed since this merge was begun, and what is made of the old state is in "
            f"{staging.folder}. Put the old state back, or begin again: `lamina clean {staging.folder.parent}`, or "
            "--force."
        )
    return not changed


def _bytes_of(past: Past, layout: Layout) -> int:
    """Bytes of the tensors that an earlier run had finished, as far as this one has tensors of these names."""
    return sum(layout.places[name].nbytes for name in past.finished if name in layout.places)


def _digest(layout: Layout) -> str:
    digest = xxhash.xxh3_128()
    for shard in layout.shards:
        digest.update(shard.file_name.encode() + shard.header)
    return digest.hexdigest()
