"""A setting: a number, a gradient over layers, or either under a filter on tensor names.

The forms are MergeKit's: `0.5`, `[0, 1]`, `{filter: mlp, value: 0.5}`, or a list of such mappings of which
the first that matches counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.errors import nearest
from lamina.recipe.steps import Misformed, Put, Remove, Rename
from lamina.recipe.yaml_text import flow

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
        return (_conditional(raw, None, [raw]),)
    if isinstance(raw, Sequence) and not isinstance(raw, str) and raw and all(isinstance(x, Mapping) for x in raw):
        return tuple(_conditional(part, number, raw) for number, part in enumerate(raw))
    if isinstance(raw, Sequence) and not isinstance(raw, str) and any(isinstance(part, Mapping) for part in raw):
        number, value = next((number, part) for number, part in enumerate(raw) if not isinstance(part, Mapping))
        message = f"a list holds either values or conditions. Did you mean `{{value: {flow(value)}}}`?"
        raise Misformed(message, Put((number,), {"value": value}))
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
    # Between two values in MergeKit's own steps of float64: a count of kept elements is cut off at what they give.
    fraction = position.index / (position.count - 1) * (len(values) - 1) - stretch if rest else 0.0
    return (1 - fraction) * float(here) + fraction * float(after)


def mapped(setting: Setting, change: Callable[[Scalar], Scalar]) -> Setting:
    """The same setting with every value changed."""
    return tuple(Conditional(part.filter, tuple(map(change, part.values))) for part in setting)


def as_data(setting: Setting) -> Any:
    """The setting as a recipe writes it."""
    written = [
        {"filter": part.filter, "value": _value_of(part.values)} if part.filter is not None else _value_of(part.values)
        for part in setting
    ]
    if len(written) == 1:
        return written[0]
    return [part if isinstance(part, dict) else {"value": part} for part in written]


def _value_of(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _conditional(raw: Mapping[str, object], number: int | None, beside: Sequence[object]) -> Conditional:
    """One condition; `number` is its place among those `beside` it, None where it stands alone."""
    way = () if number is None else (number,)
    unknown = [key for key in raw if key not in ("filter", "value")]
    if unknown and not {"filter", "value"} & set(raw) and not any(nearest(key, ("filter", "value")) for key in unknown):
        last = next(iter(raw.values()))  # what none of them matches needs a value too
        meant = ", ".join(f"{{filter: {flow(key)}, value: {flow(value)}}}" for key, value in raw.items())
        written = [*({"filter": key, "value": value} for key, value in raw.items()), {"value": last}]
        message = f"tensors are told apart by conditions. Did you mean `[{meant}, {{value: {flow(last)}}}]`?"
        raise Misformed(message, *([Put((), written)] if number is None else []))
    if unknown:
        near = nearest(unknown[0], ("filter", "value")) or ("value" if "value" not in raw else None)
        hint = f". Did you mean `{near}`?" if near else ""
        message = f"a condition has the form {_FORM}, and `{unknown[0]}` is none of its keys{hint}"
        step = Rename((*way, unknown[0]), near) if near and near not in raw else Remove((*way, unknown[0]))
        raise Misformed(message, step)
    if "value" not in raw:
        raise Misformed(f"this condition has no `value`; its form is {_FORM}", Put((*way, "value"), 0.5))
    name = raw.get("filter")
    if name is not None and not isinstance(name, str):
        message = f"`filter` is a part of a tensor's name; for several names write several conditions: {_FORM}"
        parts = name if isinstance(name, list) else [name]
        each = [{"filter": str(part), "value": raw["value"]} for part in parts]
        raise Misformed(message, Put((), [*beside[: number or 0], *each, *beside[(number or 0) + 1 :]]))
    return Conditional(name, _values(raw["value"]))


def _values(raw: object) -> tuple[Scalar, ...]:
    values = tuple(raw) if isinstance(raw, Sequence) and not isinstance(raw, str) else (raw,)
    if not all(isinstance(value, bool | int | float | str) for value in values):
        message = f"a parameter is a value, a list of values (a gradient), or conditions: {_FORM}"
        inner = next((list(value) for value in values if isinstance(value, list | tuple)), [])
        if not inner or not all(isinstance(part, bool | int | float | str) for part in inner):
            raise Misformed(message)
        message += "; here a list stands inside a list, and a gradient is one list"
        message += f": the first of these {len(values)}, say" if len(values) > 1 else ""
        raise Misformed(message, Put((), inner))
    return tuple(map(_number, values))


def _number(value: Scalar) -> Scalar:
    """`1e-3`, which YAML 1.1 takes for text, as the number that it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
