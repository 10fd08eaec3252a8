"""The methods by name. A method is a pure function; its signature is its declaration.

A function that returns `Coefficients` is a linear combination: the engine multiplies and adds, in a fused
kernel, and a plan knows every coefficient before a tensor is read. Knows no files, tensors' names or recipes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from lamina.merge_methods.parameters import Parameter, Value, parameters_of

Coefficients = Sequence[float]
Law = Literal["symmetric", "idempotent", "zero weight is base"]


class UndefinedMerge(ValueError):
    """The formula has no value for these parameters; the message says why."""


@dataclass(frozen=True)
class MergeMethod:
    """One merge method. `space` says what is combined: the models' weights, or their deltas from a base.

    `inputs` bounds the number of models, the base not counted where `space` is "deltas".
    """

    name: str
    title: str
    reference: str
    function: Callable[..., Coefficients]
    space: Literal["weights", "deltas"]
    inputs: tuple[int, int | None]
    laws: tuple[Law, ...]

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """By the name that a recipe uses, in the order of the signature."""
        return parameters_of(self.function)

    @property
    def summary(self) -> str:
        """The first sentence of the function's docstring: the formula in words."""
        return (self.function.__doc__ or "").strip().splitlines()[0]

    def coefficients(self, values: Mapping[str, Value | tuple[Value, ...]]) -> tuple[float, ...]:
        """One factor a model. Raises UndefinedMerge where the formula divides by zero or runs out of numbers."""
        arguments = {_argument(name): value for name, value in values.items()}
        try:
            factors = tuple(self.function(**arguments))
        except OverflowError as error:
            raise UndefinedMerge("the weights are too large to be added up") from error
        if not all(map(math.isfinite, factors)):
            raise UndefinedMerge("the weights are too large, or their sum is too small to divide by")
        return factors


METHODS: dict[str, MergeMethod] = {}


def merge_method(
    name: str,
    *,
    title: str,
    reference: str,
    space: Literal["weights", "deltas"] = "weights",
    inputs: tuple[int, int | None] = (1, None),
    laws: Sequence[Law] = (),
) -> Callable[[Callable[..., Coefficients]], Callable[..., Coefficients]]:
    """Register a function as the merge method `name` of a recipe."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        METHODS[name] = MergeMethod(name, title, reference, function, space, inputs, tuple(laws))
        return function

    return register


def _argument(name: str) -> str:
    return "lambda_" if name == "lambda" else name
