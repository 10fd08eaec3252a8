"""A reference to a model: "org/name@revision+adapter@revision" as a value, and back. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class AdapterRef:
    """A LoRA laid over a model."""

    path: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.path if self.revision is None else f"{self.path}@{self.revision}"


@dataclass(frozen=True)
class ModelRef:
    """A folder or Hub id, a revision, and the adapters laid over it in order."""

    path: str
    revision: str | None = None
    adapters: tuple[AdapterRef, ...] = ()

    @property
    def is_hub_id(self) -> bool:
        """True for `org/name`, which is how a model is called on the Hub."""
        return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", self.path, re.ASCII) is not None

    def __str__(self) -> str:
        head = AdapterRef(self.path, self.revision)
        return "+".join(map(str, (head, *self.adapters)))


def parse_model_ref(text: str) -> ModelRef:
    """Read `path[@revision][+adapter[@revision]]`.

    Raises ValueError, with a sentence, for an empty part or more than one `@` in a part.
    """
    head, *adapters = (_part(part, text) for part in text.split("+"))
    return ModelRef(head.path, head.revision, tuple(adapters))


def _part(part: str, whole: str) -> AdapterRef:
    path, *revisions = part.split("@")
    if not path or len(revisions) > 1 or revisions == [""]:
        raise ValueError(f"`{whole}` is not a model reference; the form is `path[@revision][+adapter[@revision]]`")
    return AdapterRef(path, revisions[0] if revisions else None)
