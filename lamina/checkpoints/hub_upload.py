"""A folder sent to the Hub: what would be sent, and the sending, which is huggingface_hub's.

It sends no content twice: of files that the Hub has, from a run that was stopped or from any other model, it sends
the names. A branch that holds another model already is replaced only where that is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from lamina.checkpoints.checkpoint import WEIGHTS, open_checkpoint
from lamina.checkpoints.files import InputFile, is_folder, names_in, size_of
from lamina.checkpoints.hub_client import Blob, HubClient, HubOptions
from lamina.errors import CheckpointError, OutputError, PushFailed
from lamina.version import VERSION
from lamina.wording import listed

# Files of a branch that are removed where the model that is sent has none of the name: weights that would be loaded
# beside, or in place of, its own.
WEIGHTS_PATTERNS = ("model-*-of-*.safetensors", "pytorch_model-*-of-*.bin", *WEIGHTS)
_PIECE = 1 << 22


@dataclass(frozen=True)
class Upload:
    """What would be sent: the files of one folder, by name, with their bytes."""

    folder: Path
    repo: str
    branch: str
    files: Mapping[str, int]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def prepare_upload(folder: Path, repo: str, branch: str | None = None) -> Upload:
    """What sending `folder` as `repo` means; asks nothing of the Hub.

    Raises CheckpointError where the folder is no whole model, OutputError for what is no name on the Hub.
    """
    model = open_checkpoint(folder)  # every shard that its index names is there, as long as its header says
    names = names_in(folder)
    if not model.specs or "config.json" not in names:
        lacks = "tensor" if "config.json" in names else "config.json"
        raise CheckpointError(f"{folder} is no model to publish: it has no {lacks}.")
    receiver = _Receiver(repo, branch, HubOptions())
    receiver.check_name()
    sent = [name for name in names if not name.startswith(".") and not is_folder(folder / name)]
    return Upload(folder, repo, receiver.revision, {name: size_of(folder / name) for name in sent})


def send(upload: Upload, options: HubOptions, *, private: bool, replace: bool, show_progress: bool) -> str:
    """Send it; a model, and a branch, that are not there yet are made. Returns the address of what is there then.

    The same call goes on where an earlier one was stopped. Raises OutputError where the Hub does not allow it, or
    the branch holds another model's weights and `replace` is false, and PushFailed where sending fails.
    """
    receiver = _Receiver(upload.repo, upload.branch, options)
    if receiver.offline:
        raise OutputError("offline (HF_HUB_OFFLINE) nothing is sent; `--dry-run` shows what would be.")
    with receiver.letters(OutputError, ""):
        receiver.make_room(private=private)
        _, there = receiver.listing()
    others = _of_another_model(upload, there)
    if others and not replace:
        raise OutputError(
            f"{receiver.label} holds another model already: its {listed(others)} {'is' if len(others) == 1 else 'are'} "
            f"not what {upload.folder} has. `--force` replaces it; `--revision NAME` sends to a branch of its own."
        )
    with receiver.letters(PushFailed, ""):
        receiver.upload(upload, show_progress=show_progress)
    return receiver.address


class _Receiver(HubClient):
    """The model on the Hub that a folder is sent to."""

    def __init__(self, repo: str, branch: str | None, options: HubOptions) -> None:
        super().__init__(repo, branch, options)
        if self.revision == self._constants.DEFAULT_REVISION:
            self.label = repo

    @property
    def address(self) -> str:
        branch = "" if self.revision == self._constants.DEFAULT_REVISION else f"/tree/{self.revision}"
        return f"{self.endpoint}/{self.repo}{branch}"

    def check_name(self) -> None:
        """Raise OutputError for what is no `org/name`."""
        message = f"`{self.repo}` is no name of a model on the Hub: `org/name`, where org is you or an organization."
        if self.repo.count("/") != 1:
            raise OutputError(message)
        try:
            self._utils.validate_repo_id(self.repo)
        except self._errors.HFValidationError as error:
            raise OutputError(f"{message} ({error})") from error

    def make_room(self, *, private: bool) -> None:
        """Make the model, and the branch, where they are not there yet."""
        self.api.create_repo(self.repo, private=private or None, exist_ok=True)
        if self.revision != self._constants.DEFAULT_REVISION:
            self.api.create_branch(self.repo, branch=self.revision, exist_ok=True)

    def upload(self, upload: Upload, *, show_progress: bool) -> None:
        if not show_progress:
            self._utils.disable_progress_bars()
        try:
            self.api.upload_folder(
                repo_id=self.repo,
                folder_path=upload.folder,
                revision=self.revision,
                allow_patterns=[_literally(name) for name in upload.files],
                delete_patterns=list(WEIGHTS_PATTERNS),
                commit_message=f"Upload a model merged with Lamina {VERSION}",
            )
        except RuntimeError as error:  # how a failure among several files is told; the cause has its letter
            raise error.__cause__ or error from None
        except self.http_errors:
            raise
        except OSError as error:
            told = (error.strerror or str(error)).lower()
            raise PushFailed(f"{error.filename or upload.folder} cannot be read: {told}.") from error
        finally:
            if not show_progress:
                self._utils.enable_progress_bars()

    def _letter(self, error: Exception, name: str) -> str:  # noqa: ARG002
        status = getattr(getattr(error, "response", None), "status_code", 0)
        if status in (401, 403):
            return (
                f"{self.endpoint} does not let you write {self.label} ({status}). `hf auth login` stores a token; it "
                f"needs the right to write, and `{self.repo.partition('/')[0]}` has to be you or an organization of "
                "yours."
            )
        if isinstance(error, self._errors.RepositoryNotFoundError):
            return (
                f"{self.endpoint} has no `{self.repo}`, or the token may not see it: check its name, `hf auth whoami`."
            )
        if status in (0, 429) or status >= 500:
            told = f"answers with status {status}" if status else f"does not answer ({error})"
            return (
                f"{self.endpoint} {told}. What arrived is kept there; the same command goes on, and sends no content "
                "twice."
            )
        return f"{self.label}: {self.endpoint} refuses what was sent ({error})."


def _of_another_model(upload: Upload, there: Mapping[str, Blob]) -> list[str]:
    """The weights on the Hub that are not those of the folder."""
    weights = [name for name in there if any(fnmatch(name, pattern) for pattern in WEIGHTS_PATTERNS)]
    return sorted(name for name in weights if not _is_same(upload, name, there[name]))


def _is_same(upload: Upload, name: str, blob: Blob) -> bool:
    if upload.files.get(name) != blob.size:
        return False
    is_large = len(blob.digest) == 64
    digest = hashlib.sha256() if is_large else hashlib.sha1(b"blob %d\0" % blob.size, usedforsecurity=False)
    file = InputFile(upload.folder / name)
    try:
        piece = memoryview(bytearray(_PIECE))
        for start in range(0, blob.size, _PIECE):
            part = piece[: min(_PIECE, blob.size - start)]
            file.read_into(part, start)
            digest.update(part)
    finally:
        file.close()
    return digest.hexdigest() == blob.digest


def _literally(name: str) -> str:
    """A pattern that this name alone fits."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)
