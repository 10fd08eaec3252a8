"""What takes an executor's blocks. A published folder is one sink (`checkpoints.writer.CheckpointWriter`)."""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from lamina.checkpoints.journal import Finished


class Sink(Protocol):
    """Takes the bytes of tensors in any order, from any thread; each byte once."""

    def done(self) -> Set[str]:
        """The tensors that it has from before, and that need not be made."""
        ...

    def put(self, name: str, first_byte: int, block: memoryview, /) -> None:
        """Some bytes of a tensor, from its byte `first_byte` on. The memory is used again afterwards."""
        ...

    def finish(self, made: Finished, /) -> None:
        """All bytes of a tensor have been put; called once for each."""
        ...
