"""What a measure is: a fold over the tiles of a tensor's inputs, given the results of the measures before it.

A measure is written as a generator. It yields a fold for each pass over the tensor, which the engine carries
out, and returns its result:

    def largest(facts, values):
        highest = [0.0]
        def fold(tile):
            highest[0] = max(highest[0], float(tile.inputs[0].max()))
        yield fold
        return highest[0]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lamina.kernels.tiles import Fold


@dataclass(frozen=True)
class Facts:
    """What is known of a tensor before its elements are seen. `draw_keys` has a 64-bit key for each model."""

    shape: tuple[int, ...]
    models: int
    wide: bool = False
    draw_keys: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def row(self) -> int:
        """Length of the last dimension."""
        return self.shape[-1] if self.shape else 1


Values = Mapping[str, Any]  # a method's parameters, and the results of the measures before
Measuring = Generator[Fold, None, Any]


@dataclass(frozen=True)
class Measure:
    """How a measured argument of a method comes about. `state` is the most bytes that it holds.

    `bound` names the arguments that it depends on, parameters and measures before it; `run` is then given these alone.
    Merges that differ elsewhere share its result, which nobody may change, and which holds `held` bytes in arrays.
    Without `bound` it may depend on all of them, and nothing is shared.
    """

    run: Callable[[Facts, Values], Measuring]
    state: Callable[[Facts, Values], int] = lambda _facts, _values: 0
    draws: bool = False  # its result depends on the draw keys
    bound: tuple[str, ...] | None = None
    held: Callable[[Facts, Values], int] = lambda _facts, _values: 0


class Known(Protocol):
    """What was measured of the same tensors before, by what it depends on."""

    def get(self, key: Hashable, /) -> Any:
        """What was found; None where that is not known."""
        ...

    def keep(self, key: Hashable, found: object, nbytes: int, /) -> None:
        """Keep what was found, if it is of use; its arrays hold `nbytes`."""
        ...


class Nothing:
    """Knows of no measure."""

    def get(self, _key: Hashable, /) -> None:
        return None

    def keep(self, _key: Hashable, _found: object, _nbytes: int, /) -> None:
        """Nothing is kept."""


def draw_keys() -> Measure:
    """For each model a 64-bit number to seed a generator with: of the seed, the model's place, the tensor's name."""

    def run(facts: Facts, _values: Values) -> Measuring:
        yield from ()
        return facts.draw_keys

    return Measure(run, draws=True, bound=())
