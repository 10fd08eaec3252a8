"""What the layers of a live model know of their place, and what they compute wherever they stand.

A number that says which entry of a cache is a layer's own has to follow its place. A number that the layer computes
with belongs to the layer: with another one it is another function, although every weight is the same.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from answers import logits, tokens
from torch import nn

Where = tuple[str, str]  # a module's path inside its layer, and the attribute
Line = tuple[int, int]  # slope and start of a number over the layer's index
Stack = tuple[str, Mapping[Where, Line]]  # a list of layers, by path, and numbers in them


def renumber(moved: nn.Module, stacks: Sequence[Stack]) -> None:
    """Tell layers that have moved where they stand, as far as that changes no logit (without a cache).

    Where the model does not run with the numbers that its layers had, they name what layers look up: all are new.
    """
    every = [(path, where, line) for path, lines in stacks for where, line in lines.items()]
    own = _answer(moved)
    before = _set(moved, every)
    if own is None or _is_same(_answer(moved), own):
        return
    _restore(before)
    for each in every:
        before = _set(moved, [each])
        if not _is_same(_answer(moved), own):
            _restore(before)


def _set(moved: nn.Module, numbers: Sequence[tuple[str, Where, Line]]) -> list[tuple[nn.Module, str, int]]:
    """Give each layer these numbers of its place. Returns what they were."""
    before = []
    for stack, (path, attribute), (slope, start) in numbers:
        for index, layer in enumerate(_stack(moved, stack)):
            module = dict(layer.named_modules()).get(path)
            if module is not None and attribute in vars(module):
                before.append((module, attribute, vars(module)[attribute]))
                setattr(module, attribute, slope * index + start)
    return before


def _restore(before: Sequence[tuple[nn.Module, str, int]]) -> None:
    for module, attribute, value in before:
        setattr(module, attribute, value)


def _answer(moved: nn.Module) -> torch.Tensor | None:
    """The logits of a copy, as a first call may change what a model holds; None where it does not run."""
    try:
        return logits(copy.deepcopy(moved), tokens())
    except Exception:  # whatever a class raises that finds nothing, or something else, under a number
        return None


def _is_same(found: torch.Tensor | None, expected: torch.Tensor) -> bool:
    return found is not None and torch.equal(found, expected)


def _stack(model: nn.Module, path: str) -> Any:
    return model.get_submodule(path)


def numbers(stack: Any) -> dict[Where, Line]:
    """The integers in the layers' modules that are a line over the layer's index.

    A model that keeps two caches a layer counts 0, 2, 4, ...; a mixer that only some layers have counts with gaps.
    """
    seen: dict[Where, dict[int, int]] = {}
    for index, layer in enumerate(stack):
        for path, module in layer.named_modules():
            for attribute, value in vars(module).items():
                if type(value) is int:
                    seen.setdefault((path, attribute), {})[index] = value
    return {where: line for where, values in seen.items() if (line := _line(where[1], values)) is not None}


def _line(name: str, values: Mapping[int, int]) -> Line | None:
    (first, start), *others = values.items()
    if not others:  # one layer of its kind: any number may happen to be its index
        return (1, 0) if start == first and ("layer" in name or "idx" in name) else None
    index, value = others[0]
    slope, rest = divmod(value - start, index - first)
    line = (slope, start - slope * first)
    fits = rest == 0 and slope > 0 and all(number == line[0] * at + line[1] for at, number in values.items())
    return line if fits else None


def run_in_order(model: Any, path: str, order: Sequence[int], prompt: torch.Tensor) -> torch.Tensor | None:
    """The logits with the layers of this list run in another order in the model as it is, none of them moved.

    The last layer runs them all. Each is called as it is where it stands, but for the hidden state. None where they
    take something else from one another or from the tokens, or are not called once each.
    """
    stack = _stack(model, path)
    calls, others = (_calls(model, stack, text) for text in (prompt, tokens(1)))
    if calls is None or others is None or any(not _alike(*pair) for pair in zip(calls, others, strict=True)):
        return None
    forwards = [layer.forward for layer in stack]

    def all_of_them(*_arguments: Any, **_named: Any) -> Any:
        hidden, answer = calls[0][0], None
        for index in order:
            _, arguments, named, is_named = calls[index]
            if is_named:
                answer = forwards[index](*arguments, hidden_states=hidden, **named)
            else:
                answer = forwards[index](hidden, *arguments, **named)
            hidden = answer[0] if isinstance(answer, tuple | list) else answer
        return answer

    stack[-1].forward = all_of_them
    try:
        return logits(model, prompt)
    finally:
        del stack[-1].forward


_Call = tuple[torch.Tensor, tuple[Any, ...], dict[str, Any], bool]  # hidden state, other arguments, whether it is named


def _calls(model: Any, stack: Any, prompt: torch.Tensor) -> list[_Call] | None:
    """What each layer is called with; None where they are not called once each, in their order."""
    called: list[int] = []
    calls: list[_Call] = []

    def note(index: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        rest = {name: value for name, value in named.items() if name != "hidden_states"}
        hidden, more = (arguments[0], arguments[1:]) if arguments else (named["hidden_states"], ())
        called.append(index)
        calls.append((hidden.clone(), more, rest, not arguments))

    hooks = [
        layer.register_forward_pre_hook(
            lambda _layer, arguments, named, index=index: note(index, arguments, named), with_kwargs=True
        )
        for index, layer in enumerate(stack)
    ]
    try:
        logits(model, prompt)
    finally:
        for hook in hooks:
            hook.remove()
    return calls if called == list(range(len(stack))) else None


def _alike(one: _Call, other: _Call) -> bool:
    """True where two calls differ in nothing but the hidden state."""
    return _equal(one[1], other[1]) and _equal(one[2], other[2])


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    return one is other or (type(one) in (int, float, bool, str) and type(one) is type(other) and one == other)
