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
from itertools import pairwise
from typing import Any

import numpy as np

from lamina.check.running import Floats, RunningModel, Tokens
from lamina.errors import CheckpointError

TRIED_TOKENS = 16
SAME = 1e-3  # nats a token: on a device whose sums have no fixed order the same layers do not give the same bits

_PLAIN = (tuple, list)  # a layer gives a tensor, or such of it and of what is no hidden state

Forward = Callable[..., Any]

_MORE = "its layers take from one another more than the hidden state"
_CACHE_PLACES = ("layer_idx", "layer_id", "layer_number")  # what layers call their place in a cache


@dataclass(frozen=True)
class _Call:
    """What a layer is called with, and what it gives: a hidden state, [rows, length, hidden], or that and more."""

    arguments: tuple[Any, ...]
    named: dict[str, Any]
    answer: Any = None

    @property
    def given(self) -> Any:
        """The hidden state."""
        return self.arguments[0] if self.arguments else self.named["hidden_states"]

    @property
    def others(self) -> list[Any]:
        """All that is given beside it."""
        return [*self.arguments[1:], *(value for name, value in self.named.items() if name != "hidden_states")]

    @property
    def gives(self) -> Any:
        """The hidden state that comes out."""
        return self.answer[0] if type(self.answer) in _PLAIN else self.answer

    @property
    def gives_more(self) -> list[Any]:
        return [each for each in self.answer[1:] if each is not None] if type(self.answer) in _PLAIN else []

    def again(self, forward: Forward, hidden: Any) -> _Call:
        """The same call, with another hidden state."""
        if self.arguments:
            return _Call((hidden, *self.arguments[1:]), self.named, forward(hidden, *self.arguments[1:], **self.named))
        named = {**self.named, "hidden_states": hidden}
        return _Call((), named, forward(**named))


class LayerOrder:
    """The layers of a running model, to be run in any order. The model is as it was after every call."""

    def __init__(self, running: RunningModel) -> None:
        """Raises CheckpointError where the layers are not found, or hand on more than a hidden state."""
        if not running.layers:
            raise _refused(running, "its layers are in no one list")
        if key := _numbered(running.layers):
            raise _refused(running, f"its layers know their place, as `{key}`, and are other functions elsewhere")
        self._running = running
        self._forwards: list[Forward] = [layer.forward for layer in running.layers]
        trial = next(self.read(np.arange(TRIED_TOKENS, dtype=np.int64)[None]))
        if any(_takes_more(call, trial.calls[:place]) for place, call in enumerate(trial.calls) if place):
            raise _refused(running, _MORE)
        if not np.allclose(trial.losses, trial.losses_of(range(len(self._forwards)), shared=0), rtol=0, atol=SAME):
            raise _refused(running, _MORE)

    def read(self, rows: Tokens) -> Iterator[Passed]:
        """Rows as the model is asked them, as many at once as there is memory for."""
        for part in self._running.parts(rows):
            yield self._passed(part)

    def _passed(self, part: Any) -> Passed:
        calls: list[_Call] = []

        def noting(index: int) -> Forward:
            def forward(*arguments: Any, **named: Any) -> Any:
                calls.append(_Call(arguments, named, self._forwards[index](*arguments, **named)))
                return calls[-1].answer

            return forward

        with self._replaced(noting):
            losses = self._running.losses(part)
        if len(calls) != len(self._forwards):
            raise _refused(self._running, "it does not run each of its layers once")
        return Passed(losses, part, tuple(calls), self)

    def rearranged(self, passed: Passed, state: Any, order: Sequence[int]) -> Floats:
        """The losses of rows when a state goes through these layers, and then through the last norm and the head."""
        asked: list[_Call] = []

        def handing_on(index: int) -> Forward:
            def forward(*arguments: Any, **named: Any) -> Any:
                asked.append(_Call(arguments, named))
                if index < len(self._forwards) - 1:
                    answer, hidden = passed.calls[index].answer, asked[-1].given
                    return type(answer)([hidden, *answer[1:]]) if type(answer) in _PLAIN else hidden
                done = _Call((state,), {}, state)
                for layer in order:
                    done = asked[layer].again(self._forwards[layer], done.gives)
                return done.answer

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

    `calls` has a call for each layer.
    """

    losses: Floats
    part: Any
    calls: tuple[_Call, ...]
    layers: LayerOrder

    def state(self, index: int) -> Any:
        """What layer `index` receives; for the number of layers, what the last one gives: [rows, length, hidden]."""
        return self.calls[index].given if index < len(self.calls) else self.calls[-1].gives

    def losses_of(self, order: Sequence[int], shared: int | None = None) -> Floats:
        """The losses with the layers in another order. What it begins with of the model's own is not run again.

        `shared` says how many layers that are, where not all of them are to count.
        """
        if shared is None:
            shared = next((place for place, layer in enumerate(order) if place != layer), len(order))
        shared = min(shared, len(order) - 1)
        return self.layers.rearranged(self, self.state(shared), order[shared:])


def _takes_more(call: _Call, before: Sequence[_Call]) -> bool:
    """True where a layer's hidden state is not what the layer before gave, or it is given something else of those."""
    last = before[-1]
    if type(last.answer) not in _PLAIN and isinstance(last.answer, _PLAIN):
        return True  # a result of its own kind, whose parts have a meaning
    if call.given is not last.gives and not bool((call.given == last.gives).all()):
        return True
    more = {id(each) for earlier in before for each in earlier.gives_more}
    return any(id(each) in more for each in call.others)


def _numbered(layers: Sequence[Any]) -> str:
    """A whole number that every layer has, one larger in each than in the one before by the same step."""
    for key in map(str, vars(layers[0])):
        values = [value for layer in layers if type(value := vars(layer).get(key)) is int]
        steps = {after - before for before, after in pairwise(values)}
        if len(values) == len(layers) > 2 and len(steps) == 1 and 0 not in steps and key not in _CACHE_PLACES:
            return key
    return ""


def _refused(running: RunningModel, why: str) -> CheckpointError:
    name = type(running.model).__name__
    return CheckpointError(
        f"{name} cannot be run with its layers in another order: {why}. `lamina upscale` tells whether a deeper "
        "model can be written, and `lamina check` measures that."
    )
