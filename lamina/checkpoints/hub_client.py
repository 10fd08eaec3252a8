"""One model of the Hub: requests about it, its place in the cache, and the letters about both.

The cache is huggingface_hub's, in its layout: `blobs/DIGEST`, linked from `snapshots/COMMIT/NAME`. That package
begins a download anew in every process, and reads 100 KB of a shard for its header. So requests are made here,
with its session, tokens, errors and locks. It is imported in this file alone, and only when a model is no folder.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from lamina.checkpoints.files import PartFile, exists, read_all, replace_file, size_of
from lamina.errors import CheckpointError, FetchFailed, LaminaError
from lamina.version import VERSION

ATTEMPTS = 3  # of a request
PAUSE = 0.5  # seconds before the second attempt, doubled before each further one
PASSING = (408, 429, 500, 502, 503, 504)  # statuses that another attempt may not meet

T = TypeVar("T")


@dataclass(frozen=True)
class HubOptions:
    """How the Hub is asked. None: as huggingface_hub is set up (HF_HUB_CACHE, `hf auth login`, HF_TOKEN)."""

    cache_dir: Path | None = None
    token: str | None = field(default=None, repr=False)
    offline: bool = False  # use the cache alone, as HF_HUB_OFFLINE=1 does
    revision: str | None = None  # of what is named without one; by default the main branch
    # By the name in a recipe: what a model was when it went into a merge, and is read as now, whatever the recipe says.
    commits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Blob:
    """A file's content. Its digest, sha256 or of a small file git's sha1, is its name in the cache."""

    size: int
    digest: str


class HubClient:
    """What is asked and kept of one model. Opening it asks nothing."""

    def __init__(self, repo: str, revision: str | None, options: HubOptions) -> None:
        from huggingface_hub import constants, errors, utils

        self._constants = constants
        self._errors: Any = errors
        self._utils: Any = utils
        self.http_errors: tuple[type[Exception], ...] = (self._errors.HTTPError,)
        self.repo, self.revision = repo, revision or constants.DEFAULT_REVISION
        if not re.fullmatch(r"\w[\w./+-]*", self.revision) or ".." in self.revision:  # it becomes a path in the cache
            raise CheckpointError(f"`{self.revision}` is no revision of {repo}: no name of a branch, tag or commit.")
        self.label = repo if revision is None else f"{repo}@{revision}"
        self.is_commit = re.fullmatch("[0-9a-f]{40}", self.revision) is not None
        self.cache = Path(options.cache_dir or constants.HF_HUB_CACHE).expanduser()
        self._storage = self.cache / f"models--{repo.replace('/', '--')}"
        self.endpoint, self._token = constants.ENDPOINT, options.token
        self.offline = options.offline or constants.HF_HUB_OFFLINE

    # the cache

    def snapshot(self, commit: str) -> Path:
        return self._storage / "snapshots" / commit

    def blob(self, blob: Blob) -> Path:
        return self._storage / "blobs" / blob.digest

    def part_of(self, blob: Blob) -> Path:
        return self._storage / "blobs" / f"{blob.digest}.incomplete"

    def memory(self, commit: str) -> Path:
        return self._storage / ".lamina" / f"{commit}.json"

    def arrived(self, blob: Blob) -> int:
        """Bytes of the blob that are here already."""
        if exists(self.blob(blob)) or self.twin(blob):
            return blob.size
        return min(size_of(self.part_of(blob)), blob.size) if exists(self.part_of(blob)) else 0

    def twin(self, blob: Blob) -> Path | None:
        """The same content in the cache of another model."""
        found = (folder / "blobs" / blob.digest for folder in self.cache.glob("models--*") if folder != self._storage)
        return next((path for path in found if exists(path)), None)

    def ref(self) -> str | None:
        """The commit that a branch or tag was when it was last asked for."""
        path = self._ref_path()
        commit = read_all(path).decode(errors="replace").strip() if exists(path) else ""
        return commit if re.fullmatch("[0-9a-f]{40}", commit) else None

    def remember_ref(self, commit: str) -> None:
        if self.ref() != commit:
            with suppress(OSError):  # of use offline only
                replace_file(self._ref_path(), commit.encode())

    def _ref_path(self) -> Path:
        return self._storage / "refs" / self.revision

    @contextmanager
    def lock(self, blob: Blob, stop: Event) -> Iterator[None]:
        """Held by the one process, of whatever program, that fetches this blob."""
        path = self.cache / ".locks" / self._storage.name / f"{blob.digest}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(self._utils.WeakFileLock(path, timeout=0.5))
                    break
                except TimeoutError:
                    if stop.is_set():
                        raise FetchFailed(f"{self.label}: stopped while another process was fetching.") from None
            yield

    # requests

    @cached_property
    def api(self) -> Any:
        """huggingface_hub's own client, for this endpoint and token."""
        from huggingface_hub import HfApi

        return HfApi(self.endpoint, token=self._token, library_name="lamina", library_version=VERSION)

    def listing(self) -> tuple[str, dict[str, Blob]]:
        """The commit that the revision is now, and its files."""
        timeout = self._constants.HF_HUB_ETAG_TIMEOUT
        info = self.patiently(
            lambda: self.api.model_info(self.repo, revision=self.revision, files_metadata=True, timeout=timeout)
        )
        commit, files = str(info.sha), {}
        for file in info.siblings or ():
            if file.lfs:
                files[file.rfilename] = Blob(file.lfs.size, file.lfs.sha256)
            elif file.size is not None and file.blob_id:
                files[file.rfilename] = Blob(file.size, file.blob_id)
            elif "/" not in file.rfilename:  # a mirror that lists names alone is asked for each
                files[file.rfilename] = self._stat(commit, file.rfilename)
        return commit, files

    def _stat(self, commit: str, name: str) -> Blob:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(self.repo, name, revision=commit, endpoint=self.endpoint)
        timeout = self._constants.HF_HUB_ETAG_TIMEOUT
        found = self.patiently(lambda: get_hf_file_metadata(url, token=self._token, timeout=timeout))
        if found.size is None or found.etag is None:
            raise ValueError(f"no size of {name}")
        return Blob(found.size, found.etag)

    def part(self, commit: str | None, name: str, first: int, length: int) -> bytes:
        """A part of a file. Raises ValueError where the file ends before."""

        def attempt() -> bytes:
            content = bytearray()
            with self._get(commit, name, f"bytes={first}-{first + length - 1}") as response:
                if response.status_code != 206:
                    raise ValueError(f"{self.endpoint} sends the whole file where a part is asked for")
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) >= length:
                        break
            if len(content) < length:
                raise ValueError(f"{len(content)} bytes came where {length} were asked for: cut off")
            return bytes(content[:length])

        return self.patiently(attempt) if length else b""

    def stream(self, commit: str | None, name: str, part: PartFile, size: int) -> Iterator[bytes]:
        """The bytes of a file that follow what `part` has."""
        reached = part.size
        with self._get(commit, name, f"bytes={reached}-{size - 1}" if reached else None) as response:
            if reached and response.status_code != 206:  # a server that knows no ranges begins at the beginning
                part.restart()
                reached = 0
            for chunk in response.iter_bytes():  # as they come: a chunk that is waited for is lost when it is cut off
                reached += len(chunk)
                if reached > size:
                    raise FetchFailed(f"{self.label}/{name}: more bytes come than the {size} that the Hub lists.")
                yield chunk

    def go_online(self, name: str) -> None:
        """Raise what stands for a letter where requests are not wanted."""
        if self.offline:
            raise self._errors.OfflineModeIsEnabled(name)

    def patiently(self, attempt: Callable[[], T]) -> T:
        """An attempt, and a few more where the network, and not the request, is at fault."""
        for number in range(ATTEMPTS - 1):
            try:
                return attempt()
            except self.http_errors as error:
                if not self.is_passing(error):
                    raise
            time.sleep(PAUSE * 2**number)
        return attempt()

    def is_passing(self, error: BaseException) -> bool:
        """True for what another attempt may not meet: no connection, a time-out, an overloaded server."""
        response = getattr(error, "response", None)
        return response is None or response.status_code in PASSING

    @contextmanager
    def _get(self, commit: str | None, name: str, byte_range: str | None) -> Iterator[Any]:
        from huggingface_hub import hf_hub_url

        self.go_online(name)
        headers = self._utils.build_hf_headers(token=self._token, library_name="lamina", library_version=VERSION)
        headers["Accept-Encoding"] = "identity"  # bytes as they are counted
        if byte_range:
            headers["Range"] = byte_range
        url = hf_hub_url(self.repo, name, revision=commit, endpoint=self.endpoint)
        timeout = self._constants.HF_HUB_DOWNLOAD_TIMEOUT
        with self._utils.get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            self._utils.hf_raise_for_status(response)
            yield response

    # letters

    @contextmanager
    def letters(self, kind: type[LaminaError], name: str) -> Iterator[None]:
        """Turn what the Hub, the network and the cache's disk say into a letter."""
        try:
            yield
        except LaminaError as error:
            raise error if isinstance(error, kind) else kind(str(error)) from error
        except self._errors.HFValidationError as error:
            raise kind(f"there is no folder `{self.repo}`, and it is no id of a model on the Hub: {error}") from error
        except self._errors.OfflineModeIsEnabled as error:
            raise kind(
                f"{self.label}: {name or 'its listing'} is not in the cache {self.cache}, and offline nothing is "
                f"fetched; go online, or have it fetched by `hf download {self.repo}`."
            ) from error
        except self.http_errors as error:
            raise kind(self._letter(error, name)) from error
        except OSError as error:
            told = (error.strerror or str(error)).lower()
            raise kind(f"the cache {self.cache} cannot be used: {told}; name another cache folder.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise kind(f"{self.label}: {self.endpoint} does not answer as the Hub does ({error}).") from error

    def _letter(self, error: Exception, name: str) -> str:
        page = f"{self.endpoint}/{self.repo}"
        status = getattr(getattr(error, "response", None), "status_code", 0)
        if isinstance(error, self._errors.GatedRepoError):
            return (
                f"{self.label} is gated: its licence must be accepted at {page}, and the Hub must know who asks: "
                "`hf auth login`, or HF_TOKEN. With both done, its owner may still have to grant access."
            )
        if isinstance(error, self._errors.RevisionNotFoundError):
            return f"{self.repo} has no revision `{self.revision}`; its branches and tags are at {page}/tree/main."
        if isinstance(error, self._errors.EntryNotFoundError):
            return f"{self.label} lists {name}, and {page} does not have it."
        if isinstance(error, self._errors.RepositoryNotFoundError):
            return (
                f"there is no folder `{self.repo}`, and no model `{self.repo}` at {self.endpoint} that may be read. "
                "Check its name; if it is private, `hf auth login`, or HF_TOKEN."
            )
        if status in (401, 403):
            return (
                f"{self.label}: {self.endpoint} refuses the token that was sent ({status}). `hf auth login` stores a "
                "valid one; a fine-grained token needs the right to read this model."
            )
        if status == 429:
            return f"{self.label}: {self.endpoint} has had too many requests from here; try again in some minutes."
        if status:
            return f"{self.label}: {self.endpoint} answers with status {status}; try again later."
        return (
            f"there is no folder `{self.repo}`, and {self.endpoint} does not answer ({error}). Is the network up? "
            "What is in the cache can be merged without it."
        )
