"""The files of a model on the Hub: planned from listing and headers, its shards fetched when the plan is whole.

A revision becomes a commit once, and every file is of that commit. What other programs have in the cache is
used, and they use what is fetched here. The listing and the headers of a commit are kept too, so that it is
planned again without a network. How the Hub is asked, and where the cache has what: `hub_client.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from lamina.checkpoints.checkpoint import INDEXES, FetchProgress, ModelFiles, each_header, weights_among
from lamina.checkpoints.entries import Entry
from lamina.checkpoints.files import (
    PartFile,
    exists,
    free_bytes,
    link_or_move,
    names_in,
    read_all,
    replace_file,
    share_file,
    size_of,
)
from lamina.checkpoints.formats import open_tensors, read_tensors
from lamina.checkpoints.hub_client import PAUSE, Blob, HubClient, HubOptions
from lamina.errors import CheckpointError, FetchFailed
from lamina.wording import in_bytes

DOWNLOAD_ATTEMPTS = 5  # of a download that gets nowhere: then the user is told
GETS_SOMEWHERE = 8_000_000  # bytes; an attempt that brings fewer counts as a failed one
HEADERS_AT_ONCE, SHARDS_AT_ONCE = 16, 4  # requests in flight: latency, and a single stream's speed, are the limits


@dataclass
class Listing:
    """What is known of one commit: its files, and the parts of them that their headers took, by first byte."""

    commit: str
    files: Mapping[str, Blob]
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    note: str = ""


def open_hub_files(repo: str, revision: str | None, options: HubOptions) -> ModelFiles:
    """The files of a model on the Hub at one commit. Raises CheckpointError where it cannot be had."""
    return _HubFiles(HubClient(repo, revision, options))


class _HubFiles:
    """`ModelFiles` of a commit: from the cache what is there, the rest by requests."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self.label = hub.label
        self._listing = _resolved(hub)
        self.commit: str | None = self._listing.commit
        self.note = self._listing.note
        self.folder = hub.snapshot(self._listing.commit)

    def names(self) -> Sequence[str]:
        return sorted(name for name in self._listing.files if Path(name).name == name)

    def read(self, name: str) -> bytes:
        with self._hub.letters(CheckpointError, name):
            if name in self._listing.files:
                self._bring(name, lambda _file, _nbytes: None, Event())
        if name not in self._listing.files:
            raise CheckpointError(f"{self.label} has no file {name}.")
        return read_all(self.folder / name)

    def digest(self, name: str) -> str:
        return self._listing.files[name].digest if name in self._listing.files else ""

    def headers(self, names: Sequence[str]) -> dict[str, dict[str, Entry]]:
        if not names:
            return {}
        known = self._count_parts()
        with self._hub.letters(CheckpointError, names[0]), ThreadPoolExecutor(HEADERS_AT_ONCE) as pool:
            asked = {name: pool.submit(self._header, name) for name in names}
            found = each_header(names, lambda name: asked[name].result())
        if self._count_parts() > known:
            _remember(self._hub, self._listing)
        return found

    def _count_parts(self) -> int:
        return sum(map(len, self._listing.parts.values()))

    def bytes_to_fetch(self, names: Iterable[str]) -> int:
        missing = [self._listing.files[name] for name in names if not self._is_here(name)]
        return sum(blob.size - self._hub.arrived(blob) for blob in missing)

    def fetch(self, names: Iterable[str], progress: FetchProgress) -> None:
        missing = [name for name in names if not self._is_here(name)]
        if not missing:
            return
        needed, free = self.bytes_to_fetch(missing), free_bytes(self._hub.cache)
        if needed > free:
            raise FetchFailed(
                f"{self.label}: {in_bytes(needed)} are to be fetched, and {in_bytes(free)} are free in the cache "
                f"{self._hub.cache}; free some space, or name a cache on another disk."
            )
        stop = Event()
        with self._hub.letters(FetchFailed, missing[0]), ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
            futures = [pool.submit(self._bring, name, progress, stop) for name in missing]
            try:
                for future in as_completed(futures):
                    future.result()
            finally:  # on the first failure, and on Ctrl-C, the others stop at their next chunk
                stop.set()
                pool.shutdown(cancel_futures=True)

    def _is_here(self, name: str) -> bool:
        return exists(self.folder / name)

    def _header(self, name: str) -> dict[str, Entry]:
        """A file's tensors: from the cache, or by requests for the parts that its format reads, and no tensor."""
        if self._is_here(name):
            return open_tensors(self.folder / name)
        parts = self._listing.parts.setdefault(name, {})

        def read(offset: int, length: int) -> bytes:
            if len(parts.get(offset, b"")) < length:
                parts[offset] = self._hub.part(self.commit, name, offset, length)
            return parts.get(offset, b"")[:length]

        return read_tensors(name, f"{self.label}/{name}", read, self._listing.files[name].size, here=False)

    def _bring(self, name: str, progress: FetchProgress, stop: Event) -> None:
        """Have a file in the snapshot."""
        if self._is_here(name):
            return
        blob = self._listing.files[name]
        stored = self._hub.blob(blob)
        with self._hub.lock(blob, stop):  # another process may be fetching the same
            twin = self._hub.twin(blob)  # fine-tunes share their base's tokenizer
            if not exists(stored) and not (twin and share_file(twin, stored)):
                self._hub.go_online(name)
                self._download(name, blob, stored, progress, stop)
            link_or_move(stored, self.folder / name)

    def _download(self, name: str, blob: Blob, stored: Path, progress: FetchProgress, stop: Event) -> None:
        part = PartFile(self._hub.part_of(blob))
        try:
            if part.size > blob.size:
                part.restart()
            self._fill(part, name, blob, progress, stop)
            if stop.is_set() and part.size < blob.size:
                raise FetchFailed(f"{self.label}/{name}: stopped.")
            if not _is_whole(part, blob):
                part.restart()
                raise FetchFailed(
                    f"{self.label}/{name} did not arrive as the Hub lists it ({in_bytes(blob.size)}, digest "
                    f"{blob.digest[:12]}...). It is thrown away; the same command fetches it again."
                )
            part.publish(stored)
        finally:
            part.close()

    def _fill(self, part: PartFile, name: str, blob: Blob, progress: FetchProgress, stop: Event) -> None:
        """Append what is missing, in as few requests as the network allows."""
        failures = 0
        while part.size < blob.size and not stop.is_set():
            before = part.size
            failure: Exception | None = None
            try:
                for chunk in self._hub.stream(self.commit, name, part, blob.size):
                    part.append(chunk)
                    progress(name, len(chunk))
                    if stop.is_set():
                        return
            except self._hub.http_errors as error:
                if not self._hub.is_passing(error):
                    raise
                failure = error
            if part.size >= blob.size:
                return
            failures = 0 if part.size - before >= GETS_SOMEWHERE else failures + 1
            if failures == DOWNLOAD_ATTEMPTS:
                raise FetchFailed(
                    f"{self.label}/{name}: the download failed {failures} times in a row, last at "
                    f"{in_bytes(part.size)} of {in_bytes(blob.size)}"
                    f"{f' ({failure})' if failure else ''}. What has arrived is kept; the same command goes on."
                )
            stop.wait(PAUSE * 2**failures)


def _resolved(hub: HubClient) -> Listing:
    """The commit that a revision means, and its files: of the Hub, or of the cache where that is asked or enough."""
    if hub.is_commit and (known := _remembered(hub, hub.revision)) is not None:
        return known
    if hub.is_commit and _is_complete(hub.snapshot(hub.revision)):
        return _of_snapshot(hub, hub.revision)
    unreachable: Exception | None = None
    if not hub.offline:
        try:
            with hub.letters(CheckpointError, ""):
                return _asked(hub)
        except CheckpointError as error:
            if not isinstance(error.__cause__, hub.http_errors) or not hub.is_passing(error.__cause__):
                raise
            unreachable = error
    commit = hub.revision if hub.is_commit else hub.ref()
    if commit and exists(hub.snapshot(commit) / "config.json"):
        found = _remembered(hub, commit) or _of_snapshot(hub, commit)
        if unreachable and not hub.is_commit:
            found.note = f"the Hub does not answer: {hub.label} is the commit {commit[:12]} that the cache has."
        return found
    if unreachable:
        raise unreachable
    raise CheckpointError(
        f"there is no folder `{hub.repo}`, and {hub.label} is not in the cache {hub.cache}. Offline, nothing is "
        f"fetched: go online, or have it fetched by `hf download {hub.repo}`."
    )


def _asked(hub: HubClient) -> Listing:
    """What the Hub says of the revision, with the headers that were read before."""
    commit, files = hub.listing()
    if not _are_safe(commit, files):
        raise CheckpointError(f"{hub.label}: {hub.endpoint} lists names or digests that the Hub does not use.")
    if not hub.is_commit:
        hub.remember_ref(commit)
    known = _remembered(hub, commit)
    return Listing(commit, files, known.parts if known else {})


def _are_safe(commit: str, files: Mapping[str, Blob]) -> bool:
    """True when none of it, as a path, leads out of the cache."""
    hexadecimal = re.compile(r"[0-9a-f]{40,64}")
    return all(hexadecimal.fullmatch(text) for text in (commit, *(blob.digest for blob in files.values())))


def _is_complete(snapshot: Path) -> bool:
    """True when all that a merge may want of a commit is in the cache, as far as its own files tell."""
    if not exists(snapshot / "config.json"):
        return False
    names = names_in(snapshot)
    found = weights_among(names)
    if found is None or not any(name.startswith(("tokenizer.", "vocab.")) for name in names):
        return False
    if found not in INDEXES:
        return True
    try:
        return set(json.loads(read_all(snapshot / found))["weight_map"].values()) <= set(names)
    except (ValueError, KeyError, AttributeError, TypeError, CheckpointError):
        return False


def _of_snapshot(hub: HubClient, commit: str) -> Listing:
    """The commit as far as the cache has it."""
    folder = hub.snapshot(commit)
    files = {name: Blob(size_of(folder / name), "") for name in names_in(folder)}
    note = "" if _is_complete(folder) else f"{hub.label} is taken from the cache, which may lack some of its files."
    return Listing(commit, files, note=note)


def _remembered(hub: HubClient, commit: str) -> Listing | None:
    try:
        known = json.loads(hub.memory(commit).read_bytes())
        files = {name: Blob(size, digest) for name, (size, digest) in known["files"].items()}
        parts = {
            name: {int(first): part.encode("latin-1") for first, part in of_file.items()}
            for name, of_file in known["parts"].items()
            if name in files
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Listing(commit, files, parts) if _are_safe(commit, files) else None


def _remember(hub: HubClient, listing: Listing) -> None:
    files = {name: (blob.size, blob.digest) for name, blob in listing.files.items()}
    parts = {
        name: {first: part.decode("latin-1") for first, part in of_file.items()}  # a letter a byte: JSON has no bytes
        for name, of_file in listing.parts.items()
    }
    known = json.dumps({"files": files, "parts": parts}, ensure_ascii=False)
    with suppress(OSError):  # what cannot be kept is asked for again
        replace_file(hub.memory(listing.commit), known.encode())


def _is_whole(part: PartFile, blob: Blob) -> bool:
    if part.size != blob.size:
        return False
    digest = hashlib.sha256() if len(blob.digest) == 64 else hashlib.sha1(b"blob %d\0" % blob.size)
    for piece in part.content():
        digest.update(piece)
    return digest.hexdigest() == blob.digest
