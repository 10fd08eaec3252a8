"""A setting: a number, a gradient over layers, or either under a filter on tensor names.

The forms are MergeKit's: `0.5`, `[0, 1]`, `{filter: mlp, value: 0.5}`, or a list of such mappings of which
the first that matches counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lamina.errors import nearest

Scalar = bool | int | float | str
_FORM = "`{filter: mlp, value: 0.5}`"


@dataclass(frozen=True)
class Conditional:
    """Values for the tensors whose name contains `filter` (None: for all). One value, or a gradient."""

    filter: str | None
    values: tuple[Scalar, ...]

    def matches(self, tensor: str) -> bool:
        return self.filter is None or self.filter == "*" or self.filter in tensor


Setting = tuple[Conditional, ...]


@dataclass(frozen=True)
class Position:
    """Layer `index` of `count` in a slice: where on a gradient a layer stands. One layer stands at the end."""

    index: int
    count: int


START = Position(0, 2)


def parse_setting(raw: object) -> Setting:
    """Read any form of a setting. Raises ValueError with the forms that are valid."""
    if isinstance(raw, Mapping):
        return (_conditional(raw),)
    if isinstance(raw, Sequence) and not isinstance(raw, str) and raw and all(isinstance(x, Mapping) for x in raw):
        return tuple(map(_conditional, raw))
    if isinstance(raw, Sequence) and not isinstance(raw, str) and any(isinstance(part, Mapping) for part in raw):
        value = next(part for part in raw if not isinstance(part, Mapping))
        raise ValueError(f"a list holds either values or conditions. Did you mean `{{value: {value}}}`?")
    values = _values(raw)
    return (Conditional(None, values),) if values else ()  # an empty list sets nothing


def setting_at(setting: Setting, tensor: str, position: Position) -> Scalar | None:
    """The value for one tensor at one layer; None where nothing is set for it."""
    for conditional in setting:
        if conditional.values and conditional.matches(tensor):
            return on_gradient(conditional.values, position)
    return None


def on_gradient(values: Sequence[Scalar], position: Position) -> Scalar:
    """The value at `position` of a gradient whose values are spread evenly over the layers.

    Numbers are interpolated; with text or truth values among them the last one reached counts. The stretch
    is found in whole numbers, so that a gradient of one value a layer gives exactly these values.
    """
    if position.count == 1 or len(values) == 1:
        return values[-1]
    stretch, rest = divmod(position.index * (len(values) - 1), position.count - 1)
    here, after = values[stretch], values[min(stretch + 1, len(values) - 1)]
    if any(isinstance(value, bool | str) for value in values):
        return here
    fraction = rest / (position.count - 1)
    return (1 - fraction) * float(here) + fraction * float(after)


def mapped(setting: Setting, change: Callable[[Scalar], Scalar]) -> Setting:
    """The same setting with every value changed."""
    return tuple(Conditional(part.filter, tuple(map(change, part.values))) for part in setting)


def _conditional(raw: Mapping[str, object]) -> Conditional:
    unknown = [key for key in raw if key not in ("filter", "value")]
    if unknown and not {"filter", "value"} & set(raw) and not any(nearest(key, ("filter", "value")) for key in unknown):
        meant = ", ".join(f"{{filter: {key}, value: {value}}}" for key, value in raw.items())
        raise ValueError(f"tensors are told apart by conditions. Did you mean `[{meant}]`?")
    if unknown:
        near = nearest(unknown[0], ("filter", "value")) or ("value" if "value" not in raw else None)
        hint = f". Did you mean `{near}`?" if near else ""
        raise ValueError(f"a condition has the form {_FORM}, and `{unknown[0]}` is none of its keys{hint}")
    if "value" not in raw:
        raise ValueError(f"this condition has no `value`; its form is {_FORM}")
    name = raw.get("filter")
    if name is not None and not isinstance(name, str):
        raise ValueError(f"`filter` is a part of a tensor's name; for several names write several conditions: {_FORM}")
    return Conditional(name, _values(raw["value"]))


def _values(raw: object) -> tuple[Scalar, ...]:
    values = tuple(raw) if isinstance(raw, Sequence) and not isinstance(raw, str) else (raw,)
    if not all(isinstance(value, bool | int | float | str) for value in values):
        raise ValueError(f"a parameter is a value, a list of values (a gradient), or conditions: {_FORM}")
    return tuple(map(_number, values))


def _number(value: Scalar) -> Scalar:
    """`1e-3`, which YAML 1.1 takes for text, as the number that it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
