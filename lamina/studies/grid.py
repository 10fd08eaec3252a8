"""What a sweep varies: paths into a recipe with the values that each takes, and the grid of all of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from lamina.errors import Problem, RecipeError
from lamina.recipe.text import parse_way, written_way

MOST_POINTS = 10_000

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER}):({_NUMBER})")


@dataclass(frozen=True)
class Axis:
    """A value of the recipe, by the path that `--set` takes, and what it becomes, as it would be written."""

    path: str
    values: tuple[str, ...]


def parse_axes(texts: Sequence[str]) -> tuple[Axis, ...]:
    """`parameters.t=0:1:0.1` (first, last, step; the last included) or `overlap=cut,ramp`, each an axis.

    Raises RecipeError with all that are malformed.
    """
    axes, problems = [], []
    for text in texts:
        try:
            axes.append(_axis(text))
        except ValueError as error:
            problems.append(Problem("vary", str(error), file=f"--vary {text}"))
    paths = [axis.path for axis in axes]
    for path in dict.fromkeys(path for path in paths if paths.count(path) > 1):
        problems.append(Problem("vary", f"`{path}` is varied twice; give all of its values in one --vary."))
    if not problems and (count := len(points(axes))) > MOST_POINTS:
        problems.append(Problem("vary", f"these are {count} points; at most {MOST_POINTS} are swept at once."))
    if problems:
        raise RecipeError(problems)
    return tuple(axes)


def points(axes: Sequence[Axis]) -> list[tuple[str, ...]]:
    """Every point of the grid as the changes of `--set`, the last axis running fastest."""
    return [
        tuple(f"{axis.path}={value}" for axis, value in zip(axes, values, strict=True))
        for values in itertools.product(*(axis.values for axis in axes))
    ]


def _axis(text: str) -> Axis:
    path, equals, written = text.partition("=")
    way = parse_way(path)
    if not equals or not written.strip():
        raise ValueError("the form is PATH=VALUES: `parameters.t=0:1:0.1`, or `overlap=cut,ramp`.")
    values = [value for part in _parts(written) for value in _values(part)]
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"`{twice}` is given twice.")
    return Axis(written_way(way), tuple(values))


def _parts(text: str) -> list[str]:
    """The text between commas that no bracket holds: `[1, 0],[0, 1]` are two."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _values(part: str) -> list[str]:
    """A range's values in exact decimals, so that 0.3 is 0.3; else the part itself."""
    if not part:
        raise ValueError("a value is missing between two commas.")
    found = _RANGE.fullmatch(part)
    if found is None:
        if re.fullmatch(rf"{_NUMBER}:{_NUMBER}", part):
            raise ValueError(f"`{part}` is a range without a step; write `{part}:STEP`, as in `0:1:0.1`.")
        return [part]
    first, last, step = map(Decimal, found.groups())
    if step == 0 or (last - first) * step < 0:
        raise ValueError(f"`{part}` holds no value: the step {step} does not lead from {first} to {last}.")
    count = int((last - first) / step) + 1
    if count > MOST_POINTS:
        raise ValueError(f"`{part}` are {count} values; at most {MOST_POINTS} are swept at once.")
    return [f"{first + index * step:f}" for index in range(count)]
