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
    parts = text.split("+")
    try:
        head, *adapters = map(_part, parts)
    except ValueError as error:
        named = [part.split("@") for part in parts if part.split("@")[0]]
        meant = "+".join("@".join(filter(None, part[:2])) for part in named)
        hint = f". Did you mean `{meant}`?" if meant else ""
        raise ValueError(f"`{text}` is not a model reference; {error}{hint}") from error
    return ModelRef(head.path, head.revision, tuple(adapters))


def _part(part: str) -> AdapterRef:
    path, *revisions = part.split("@")
    if not path or len(revisions) > 1 or revisions == [""]:
        raise ValueError("the form is `path[@revision][+adapter[@revision]]`")
    return AdapterRef(path, revisions[0] if revisions else None)
