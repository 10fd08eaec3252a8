"""What takes an executor's blocks. A published folder is one sink (`checkpoints.writer.CheckpointWriter`)."""

from __future__ import annotations

from typing import Protocol


class Sink(Protocol):
    """Takes the bytes of tensors in any order, from any thread; each byte once."""

    def put(self, name: str, first_byte: int, block: memoryview, /) -> None:
        """Some bytes of a tensor, from its byte `first_byte` on. The memory is used again afterwards."""
        ...
