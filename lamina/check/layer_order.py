"""A running model with its layers in another order, any of them any number of times: no weight is copied.

The model runs as it always does, with other functions in the place of its layers: each notes what it is called with
and hands on what it was given, and the last one runs the real layers in the order that is wanted. So embeddings,
masks, rotations, the last norm and the head are the model's own, and every layer gets what belongs to it (its mask,
its rotations) with another hidden state. That is what the written model computes, as its config.json says of each
layer what was said of the layer that it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamina.check.running import Floats, RunningModel, Tokens
from lamina.errors import CheckpointError

TRIED_TOKENS = 16
SAME = 1e-3  # nats a token: on a device whose sums have no fixed order the same layers do not give the same bits

Forward = Callable[..., Any]


class LayerOrder:
    """The layers of a running model, to be run in any order. The model is as it was after every call."""

    def __init__(self, running: RunningModel) -> None:
        """Raises CheckpointError where the layers are not found, or hand on more than a hidden state."""
        if not running.layers:
            raise _refused(running, "its layers are in no one list")
        self._running = running
        self._forwards: list[Forward] = [layer.forward for layer in running.layers]
        trial = next(self.read(np.arange(TRIED_TOKENS, dtype=np.int64)[None]))
        if not np.allclose(trial.losses, trial.losses_of(range(len(self._forwards)), shared=0), rtol=0, atol=SAME):
            raise _refused(running, "its layers take from one another more than the hidden state")

    def read(self, rows: Tokens) -> Iterator[Passed]:
        """Rows as the model is asked them, as many at once as there is memory for."""
        for part in self._running.parts(rows):
            yield self._passed(part)

    def _passed(self, part: Any) -> Passed:
        calls: list[tuple[Any, Any]] = []

        def noting(index: int) -> Forward:
            def forward(*arguments: Any, **named: Any) -> Any:
                given = _hidden(arguments, named)
                calls.append((given, self._forwards[index](*arguments, **named)))
                return calls[-1][1]

            return forward

        with self._replaced(noting):
            losses = self._running.losses(part)
        if len(calls) != len(self._forwards):
            raise _refused(self._running, "it does not run each of its layers once")
        return Passed(losses, part, tuple(calls), self)

    def rearranged(self, passed: Passed, state: Any, order: Sequence[int]) -> Floats:
        """The losses of rows when a state goes through these layers, and then through the last norm and the head."""
        asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def handing_on(index: int) -> Forward:
            def forward(*arguments: Any, **named: Any) -> Any:
                asked.append((arguments, named))
                if index < len(self._forwards) - 1:
                    answer = passed.calls[index][1]
                    hidden = _hidden(arguments, named)
                    return (hidden, *answer[1:]) if isinstance(answer, tuple) else hidden
                hidden, answer = state, None
                for layer in order:
                    answer = _answered(self._forwards[layer], *asked[layer], hidden)
                    hidden = _state(answer)
                return answer

            return forward

        with self._replaced(handing_on):
            return self._running.losses(passed.part)

    @contextmanager
    def _replaced(self, function: Callable[[int], Forward]) -> Iterator[None]:
        """While it runs, `function(i)` is what layer i does."""
        layers = self._running.layers
        own = ["forward" in vars(layer) for layer in layers]  # a streamed model lays its own over the class's
        for index, layer in enumerate(layers):
            layer.forward = function(index)
        try:
            yield
        finally:
            for layer, forward, is_own in zip(layers, self._forwards, own, strict=True):
                if is_own:
                    layer.forward = forward
                else:
                    del layer.forward


@dataclass(frozen=True)
class Passed:
    """Rows that went through a model as it is: its losses, as `RunningModel.losses` has them, and its layers' states.

    `calls[i]` is the hidden state that layer i received, and all that it gave back.
    """

    losses: Floats
    part: Any
    calls: tuple[tuple[Any, Any], ...]
    layers: LayerOrder

    def state(self, index: int) -> Any:
        """What layer `index` receives; for the number of layers, what the last one gives: [rows, length, hidden]."""
        return self.calls[index][0] if index < len(self.calls) else _state(self.calls[-1][1])

    def losses_of(self, order: Sequence[int], shared: int | None = None) -> Floats:
        """The losses with the layers in another order. What it begins with of the model's own is not run again.

        `shared` says how many layers that are, where not all of them are to count.
        """
        if shared is None:
            shared = next((place for place, layer in enumerate(order) if place != layer), len(order))
        shared = min(shared, len(order) - 1)
        return self.layers.rearranged(self, self.state(shared), order[shared:])


def _hidden(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return arguments[0] if arguments else named["hidden_states"]


def _answered(forward: Forward, arguments: tuple[Any, ...], named: dict[str, Any], hidden: Any) -> Any:
    """What a layer gives for another hidden state."""
    return forward(hidden, *arguments[1:], **named) if arguments else forward(**{**named, "hidden_states": hidden})


def _state(answer: Any) -> Any:
    """The hidden state of what a layer gives."""
    return answer[0] if isinstance(answer, tuple) else answer


def _refused(running: RunningModel, why: str) -> CheckpointError:
    name = type(running.model).__name__
    return CheckpointError(
        f"{name} cannot be run with its layers in another order: {why}. `lamina upscale` writes the deeper model all "
        "the same, and `lamina check` measures it."
    )
