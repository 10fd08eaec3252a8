"""What a method may be told: each parameter's meaning, type, range and scope, as annotations.

A method's signature uses these names; validation, help and documentation are read off it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

Value = float | bool


@dataclass(frozen=True)
class Meaning:
    """What a parameter does, in words; `per_model` when each model of a slice has its own value."""

    effect: str
    type: type[Value]
    per_model: bool = False
    valid: str = "any number"
    minimum: float = -math.inf
    maximum: float = math.inf


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
        result = _as_bool(value) if meaning.type is bool else _as_float(value)
        if result is None or not meaning.minimum <= result <= meaning.maximum:
            raise ValueError(f"`{self.name}` takes {meaning.valid}, not `{value}`.")
        return result


Weight = Annotated[
    Sequence[float],
    Meaning("how much this model counts; negative takes away", float, per_model=True),
]
Scale = Annotated[
    Sequence[float],
    Meaning("multiplies this model's tensor before anything else", float, per_model=True),
]
Normalize = Annotated[bool, Meaning("divide by the sum of the weights", bool, valid="true or false")]
Lambda = Annotated[float, Meaning("multiplies the merged task vector before it is added to the base", float)]


# Every parameter of the standard methods. One that a recipe gives to a method without it has no effect there,
# which deserves a notice; any other name is an error.
STANDARD_PARAMETERS = (
    "weight", "scale", "normalize", "lambda", "density", "gamma", "epsilon", "rescale", "int8_mask", "t", "eps",
    "nuslerp_row_wise", "nuslerp_flatten", "normalize_weights", "max_iter", "tol", "select_topk",
    "filter_wise", "r", "alpha",
)  # fmt: skip


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


def _as_float(value: object) -> float | None:
    if isinstance(value, bool | int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    return None


_TRUTH: dict[object, bool] = {
    "true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


def _as_bool(value: object) -> bool | None:
    return _TRUTH.get(str(int(value)) if isinstance(value, float) and value in (0, 1) else str(value).lower())
