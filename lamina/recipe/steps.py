"""What to do about a fault, as steps. `mending` makes of them lines of the user's own text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lamina.recipe.ways import Way

END = -1  # in a way: the place after the last entry of a list


@dataclass(frozen=True)
class Put:
    """Give a value: in place of the one there, or as a new key, or as the next entry of a list."""

    way: Way
    value: Any


@dataclass(frozen=True)
class Rename:
    """Give a key another name."""

    way: Way
    name: str


@dataclass(frozen=True)
class Move:
    """Take a key with its value elsewhere."""

    way: Way
    to: Way


@dataclass(frozen=True)
class Rewrite:
    """Put another key with another value in the place of a key and its value."""

    way: Way
    name: str
    value: Any


@dataclass(frozen=True)
class Remove:
    """Leave out a key with its value, or an entry of a list. Of a key that is there twice, the last or the first."""

    way: Way
    first: bool = False


Step = Put | Rename | Move | Rewrite | Remove


class Misformed(ValueError):
    """A value without the form that it needs, and the steps that mend it, their ways from that value on."""

    def __init__(self, message: str, *steps: Step) -> None:
        super().__init__(message)
        self.steps = steps


def within(way: Way, steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps whose ways go on from `way`."""
    return tuple(with_ways(step, lambda rest: way + rest) for step in steps)


def with_ways(step: Step, to_written: Callable[[Way], Way]) -> Step:
    """The same step with every way as the text has it."""
    if isinstance(step, Move):
        return Move(to_written(step.way), to_written(step.to))
    return replace(step, way=to_written(step.way))
