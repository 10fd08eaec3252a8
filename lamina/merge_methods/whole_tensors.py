"""Whole tensors for methods that need all of a tensor at once, as torch has them. The one place here with torch.

A tensor of every model is gathered block by block, handed to the method, and its result given out tile by tile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamina.errors import MissingExtra
from lamina.kernels.tiles import Tile
from lamina.merge_methods.measures import Facts, Measuring

if TYPE_CHECKING:
    import torch

# One call at a time, with torch's own threads: what several at once would gain, it has already, and the bytes do
# not follow the number of workers.
_TURN = threading.Lock()


@dataclass(frozen=True)
class Tensors:
    """One tensor in every model, whole, on the CPU: float32, or float64 where the merge computes in that.

    The tensors are the engine's; a method makes new ones and leaves them as they are.
    """

    inputs: tuple[torch.Tensor, ...]
    base: torch.Tensor | None

    @cached_property
    def deltas(self) -> tuple[torch.Tensor, ...]:
        """The inputs less the base; the inputs themselves where there is no base."""
        if self.base is None:
            return self.inputs
        return tuple(each - self.base for each in self.inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.inputs[0].shape)


class WrongResult(ValueError):
    """A method gave what it may not give; the message says what."""


def made_of_whole_tensors(function: Callable[[Tensors], Any], facts: Facts) -> Measuring:
    """Gathers the tensors in one pass, and returns the mix: pieces of what the function makes of them."""
    gathered: list[NDArray[Any]] = []

    def fold(tile: Tile) -> None:
        parts = tile.inputs if tile.base is None else (*tile.inputs, tile.base)
        if not gathered:
            gathered.extend(np.empty(facts.count, part.dtype) for part in parts)
        for whole, part in zip(gathered, parts, strict=True):
            whole[tile.start : tile.stop] = part

    yield fold
    with _TURN:
        made = _called(function, gathered, facts)
    gathered.clear()
    return lambda tile: made[tile.start : tile.stop]


def _called(function: Callable[[Tensors], Any], gathered: list[NDArray[Any]], facts: Facts) -> NDArray[Any]:
    """What the function returns, flat. Raises WrongResult."""
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", "torch") from None
    whole = [torch.from_numpy(each).reshape(facts.shape) for each in gathered]
    versions = [each._version for each in whole]
    models = facts.models
    with torch.no_grad():
        made = function(Tensors(tuple(whole[:models]), whole[models] if len(whole) > models else None))
    if [each._version for each in whole] != versions:
        raise WrongResult("changes the tensors that it was given; make new ones (`a + b`, not `a += b`)")
    if not isinstance(made, torch.Tensor):
        raise WrongResult(f"returns {type(made).__name__}, and a merge method returns a tensor")
    if tuple(made.shape) != facts.shape or made.dtype != whole[0].dtype:
        raise WrongResult(
            f"returns {_named(made.dtype)} {list(made.shape)} where the tensors are {_named(whole[0].dtype)} "
            f"{list(facts.shape)}"
        )
    if not torch.isfinite(made).all() and all(bool(torch.isfinite(each).all()) for each in whole):
        raise WrongResult("gives NaN or infinity, although every input is finite")
    # A copy of its own: the inputs, which it may be a view of, are let go of.
    return made.detach().cpu().contiguous().reshape(-1).numpy().copy()


def _named(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
