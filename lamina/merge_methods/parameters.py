"""What a method may be told: each parameter's meaning, range and scope, as annotations.

A method's signature uses these names; validation, help and documentation are read off it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from keyword import iskeyword
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

Value = float | bool | int | str


@dataclass(frozen=True)
class Meaning:
    """What a parameter does, in words, and its range.

    Text has `choices`: what a recipe may write, and the value that it stands for. `valid` says what is taken where
    the range does not say it all. `type` and `per_model` (each model of a slice has its own value) follow from the
    annotation that the meaning stands in: `Annotated[Sequence[float], Meaning(...)]` is a number for each model.
    What is not `effective` is read and checked, and the result is as by its default.
    """

    effect: str
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: Mapping[str, str] = field(default_factory=dict)
    valid: str = ""
    type: type[Value] = float
    per_model: bool = False
    effective: bool = True


@dataclass(frozen=True)
class Parameter:
    """One parameter of one method. `default` is None where a recipe must give a value."""

    name: str
    meaning: Meaning
    default: Value | None

    @property
    def stand_in(self) -> Value:
        """A valid value, where what a recipe gives is none and the rest is to be looked at."""
        if self.default is not None:
            return self.default
        if self.meaning.choices:
            return next(iter(self.meaning.choices))
        return min(max(1.0, self.meaning.minimum), self.meaning.maximum)

    def coerce(self, value: object) -> Value:
        """The value as this parameter's type, as lax as YAML demands (`1e-5` is text there, 1 is true).

        Raises ValueError with what is valid.
        """
        meaning = self.meaning
        result: Value | None = _READERS[meaning.type](value, meaning)
        if result is None or (not isinstance(result, str) and not meaning.minimum <= result <= meaning.maximum):
            raise ValueError(f"`{self.name}` takes {meaning.valid}, not `{value}`.")
        return result


def _share(effect: str) -> Meaning:
    return Meaning(effect, minimum=0, maximum=1)


def _positive(effect: str) -> Meaning:
    return Meaning(effect, minimum=0)


_L1 = {"false": "false", "true": "l1", "l1": "l1"}

Weight = Annotated[
    Sequence[float],
    Meaning("how much this model counts; negative takes away"),
]
Scale = Annotated[
    Sequence[float],
    Meaning("multiplies this model's tensor before anything else"),
]
Normalize = Annotated[bool, Meaning("divide by the sum of the weights")]
NormalizeSigned = Annotated[bool, Meaning("divide, at each element, by the sum of the weights that agree")]
NormalizeWeights = Annotated[bool, Meaning("divide the weights by their sum")]
Lambda = Annotated[float, Meaning("multiplies the merged task vector before it is added to the base")]
Density = Annotated[Sequence[float], _share("the share of this model's delta that is kept")]
Gamma = Annotated[Sequence[float], _share("the share of this model's delta, its largest elements, that is dropped")]
Epsilon = Annotated[
    Sequence[float],
    _share("how far the probability to keep rises above `density` for the largest element of a row, and falls below"),
]
Rescale = Annotated[
    str,
    Meaning(
        "multiply what is kept until its magnitudes sum to what they were",
        valid="true (or l1) or false", choices=_L1,
    ),
]  # fmt: skip
RescaleDrawn = Annotated[
    str,
    Meaning(
        "true or l1: multiply what is kept until its magnitudes sum to what they were; inverse: divide it by the "
        "probability with which it was kept, as in the paper",
        valid="true, false, l1 or inverse", choices={**_L1, "inverse": "inverse"},
    ),
]  # fmt: skip
Int8Mask = Annotated[
    bool, Meaning("no effect: MergeKit's way to save memory, and none is needed here", effective=False)
]
Blend = Annotated[float, Meaning("0 gives the base, 1 the other model")]
Threshold = Annotated[float, Meaning("elements that differ from the base by less take the other model's value")]
RowWise = Annotated[
    bool,
    Meaning(
        "with `nuslerp_flatten: false`: true interpolates each column (all that one input feeds), false each row "
        "(all that feeds one output); MergeKit's names say the opposite"
    ),
]
Flatten = Annotated[bool, Meaning("interpolate the tensor as one vector; false: each row, or column, on its own")]
Eps = Annotated[float, _positive("added to norms before they divide")]
Iterations = Annotated[int, _positive("the most steps towards the mean")]
Tolerance = Annotated[float, _positive("steps and norms below it count as none")]
TopK = Annotated[float, _share("the share of positions that is kept: those where the models differ most")]
FilterWise = Annotated[bool, Meaning("a ratio for each row of its own, instead of one for the tensor")]
Active = Annotated[float, _positive("deltas up to this magnitude count as unchanged")]
Reward = Annotated[float, Meaning("how fast the reward for unique changes grows with what a model shares")]
RewardLimit = Annotated[float, _positive("the most of the ratio of shared to unique that is rewarded")]


def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters of a method function, by the name that a recipe uses (`lambda_` is `lambda`).

    What is annotated with a measure is none. Raises TypeError where an annotation or a default means nothing.
    """
    hints = get_type_hints(function, include_extras=True)
    found = {}
    for argument in inspect.signature(function).parameters.values():
        hint = hints.get(argument.name)
        extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        meaning = next((extra for extra in extras if isinstance(extra, Meaning)), None)
        if argument.kind is argument.KEYWORD_ONLY and (meaning is not None or not extras):
            name = recipe_name(argument.name)
            meant = _completed(name, meaning or Meaning(""), get_args(hint)[0] if extras else hint)
            found[name] = Parameter(name, meant, _default(name, meant, argument.default))
    return found


def recipe_name(argument: str) -> str:
    """What a recipe calls an argument: `lambda_`, as Python has to have it, is `lambda` there."""
    return argument[:-1] if iskeyword(argument[:-1]) else argument


def argument_name(parameter: str) -> str:
    """The other way round."""
    return f"{parameter}_" if iskeyword(parameter) else parameter


def _completed(name: str, meaning: Meaning, hint: Any) -> Meaning:
    """The meaning with what its annotation says."""
    per_model = get_origin(hint) is Sequence
    kind = get_args(hint)[0] if per_model else hint
    choices = meaning.choices
    if get_origin(kind) is Literal:
        choices, kind = choices or {str(choice).lower(): choice for choice in get_args(kind)}, str
    if kind not in _READERS or (kind is str and not choices):
        raise TypeError(
            f'`{name}` needs a type: float, int, bool, Literal["one", "other"], or Sequence[float] for a value a model'
        )
    valid = meaning.valid or _valid(kind, meaning, choices)
    return replace(meaning, type=kind, per_model=per_model, choices=choices, valid=valid)


def _valid(kind: type[Value], meaning: Meaning, choices: Mapping[str, str]) -> str:
    if kind is bool:
        return "true or false"
    if kind is str:
        *others, last = choices
        return f"{', '.join(others)} or {last}" if others else last
    noun = "whole number" if kind is int else "number"
    low, high = meaning.minimum, meaning.maximum
    if math.isinf(low) and math.isinf(high):
        return f"any {noun}"
    start = "" if math.isinf(low) else f" from {low:g}"
    return f"a {noun}{start} on" if math.isinf(high) else f"a {noun}{start} {'to' if start else 'up to'} {high:g}"


def _default(name: str, meaning: Meaning, given: Any) -> Value | None:
    if given is inspect.Parameter.empty:
        return None
    if meaning.per_model and isinstance(given, Sequence) and not isinstance(given, str):
        if len(given) != 1:
            raise TypeError(f"the default of `{name}` is one value, as it holds for each model: `= (1.0,)`")
        (given,) = given  # `(1.0,)` in a signature: this value for each model
    value: Value = given
    return value


def _as_float(value: object, _meaning: Meaning) -> float | None:
    if isinstance(value, bool | int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    return None


def _as_int(value: object, meaning: Meaning) -> int | None:
    number = _as_float(value, meaning)
    return int(number) if number is not None and number == int(number) else None


_TRUTH: dict[object, bool] = {
    "true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


def _as_bool(value: object, _meaning: Meaning) -> bool | None:
    return _TRUTH.get(str(int(value)) if isinstance(value, float) and value in (0, 1) else str(value).lower())


def _as_choice(value: object, meaning: Meaning) -> str | None:
    truth = _as_bool(value, meaning)
    return meaning.choices.get(str(value).lower() if truth is None else str(truth).lower())


_READERS: dict[type[Value], Any] = {float: _as_float, int: _as_int, bool: _as_bool, str: _as_choice}
