"""What a method may be told: each parameter's meaning, type, range and scope, as annotations.

A method's signature uses these names; validation, help and documentation are read off it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_type_hints

Value = float | bool | int | str


@dataclass(frozen=True)
class Meaning:
    """What a parameter does, in words; `per_model` when each model of a slice has its own value.

    Text has `choices`: what a recipe may write, and the value that it stands for.
    """

    effect: str
    type: type[Value]
    per_model: bool = False
    valid: str = "any number"
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameter:
    """One parameter of one method. `default` is None where a recipe must give a value."""

    name: str
    meaning: Meaning
    default: Value | None

    def coerce(self, value: object) -> Value:
        """The value as this parameter's type, as lax as YAML demands (`1e-5` is text there, 1 is true).

        Raises ValueError with what is valid.
        """
        meaning = self.meaning
        result: Value | None = _READERS[meaning.type](value, meaning)
        if result is None or (not isinstance(result, str) and not meaning.minimum <= result <= meaning.maximum):
            raise ValueError(f"`{self.name}` takes {meaning.valid}, not `{value}`.")
        return result


def _share(effect: str, per_model: bool = True) -> Meaning:
    return Meaning(effect, float, per_model, valid="a number from 0 to 1", minimum=0, maximum=1)


def _flag(effect: str) -> Meaning:
    return Meaning(effect, bool, valid="true or false")


def _positive(effect: str, type_: type[Value] = float, valid: str = "a number from 0 on") -> Meaning:
    return Meaning(effect, type_, valid=valid, minimum=0)


_L1 = {"false": "false", "true": "l1", "l1": "l1"}

Weight = Annotated[
    Sequence[float],
    Meaning("how much this model counts; negative takes away", float, per_model=True),
]
Scale = Annotated[
    Sequence[float],
    Meaning("multiplies this model's tensor before anything else", float, per_model=True),
]
Normalize = Annotated[bool, _flag("divide by the sum of the weights")]
NormalizeSigned = Annotated[bool, _flag("divide, at each element, by the sum of the weights that agree")]
NormalizeWeights = Annotated[bool, _flag("divide the weights by their sum")]
Lambda = Annotated[float, Meaning("multiplies the merged task vector before it is added to the base", float)]
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
        str, valid="true (or l1) or false", choices=_L1,
    ),
]  # fmt: skip
RescaleDrawn = Annotated[
    str,
    Meaning(
        "true or l1: multiply what is kept until its magnitudes sum to what they were; inverse: divide it by the "
        "probability with which it was kept, as in the paper",
        str, valid="true, false, l1 or inverse", choices={**_L1, "inverse": "inverse"},
    ),
]  # fmt: skip
Int8Mask = Annotated[bool, _flag("no effect: MergeKit's way to save memory, and none is needed here")]
Blend = Annotated[float, Meaning("0 gives the base, 1 the other model", float)]
Threshold = Annotated[float, Meaning("elements that differ from the base by less take the other model's value", float)]
RowWise = Annotated[
    bool,
    _flag(
        "with `nuslerp_flatten: false`: true interpolates each column (all that one input feeds), false each row "
        "(all that feeds one output); MergeKit's names say the opposite"
    ),
]
Flatten = Annotated[bool, _flag("interpolate the tensor as one vector; false: each row, or column, on its own")]
Eps = Annotated[float, _positive("added to norms before they divide")]
Iterations = Annotated[int, _positive("the most steps towards the mean", int, "a whole number from 0 on")]
Tolerance = Annotated[float, _positive("steps and norms below it count as none")]
TopK = Annotated[float, _share("the share of positions that is kept: those where the models differ most", False)]
FilterWise = Annotated[bool, _flag("a ratio for each row of its own, instead of one for the tensor")]
Active = Annotated[float, _positive("deltas up to this magnitude count as unchanged")]
Reward = Annotated[float, Meaning("how fast the reward for unique changes grows with what a model shares", float)]
RewardLimit = Annotated[float, _positive("the most of the ratio of shared to unique that is rewarded")]


def parameters_of(function: Any) -> dict[str, Parameter]:
    """The parameters of a method function, by the name that a recipe uses (`lambda_` is `lambda`)."""
    hints = get_type_hints(function, include_extras=True)
    defaults = function.__kwdefaults__ or {}
    found = {}
    for argument, hint in hints.items():
        meanings = [extra for extra in get_args(hint)[1:] if isinstance(extra, Meaning)]
        if meanings:
            name = argument.rstrip("_")
            default = defaults.get(argument)
            if meanings[0].per_model and default is not None:
                (default,) = default  # `(1.0,)` in a signature: this value for each model
            found[name] = Parameter(name, meanings[0], default)
    return found


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
