"""One output tensor explained: what it is made of, and where the recipe sets every value that enters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.expressions.inspect import parts
from lamina.expressions.nodes import Concat, Expr, Merge, Read, Slice
from lamina.merge_methods import method_called
from lamina.plans.plan import Job
from lamina.wording import in_bytes

DEFAULT = "default"

# What `as_data` gives, by key: the page of commands prints it.
EXPLAIN_FIELDS: Mapping[str, str] = {
    "tensor": "the output tensor's name",
    "layer": "its output layer, null for what lies outside the layers",
    "dtype": "as it is stored",
    "shape": "its sizes",
    "expression": "a tree: `op` (read, cast, merge, ...), `dtype`, `shape`; a read has `model` and `tensor`, all else "
    "`inputs`, each with its `role` (source or base) and, where the formula gives one before anything is read, its "
    "`coefficient`; a merge has its `method`",
    "values": "every parameter: `parameter`, `value`, `model` and `source_layer` (null where it holds for all), "
    "`place` (file:line:column, `--set ...`, or `default`), and `gradient`: the values between which it lies",
}


@dataclass(frozen=True)
class Value:
    """One parameter's value, and the `place` where it was set. `model` is empty where it holds for all."""

    parameter: str
    value: float | bool | int | str
    place: str
    model: str = ""
    source_layer: int | None = None
    gradient: tuple[float | bool | str, ...] = ()
    reached: str = ""  # where on the gradient

    @property
    def origin(self) -> str:
        """`ramp.yml:3:30, on [0, 1] at layer 5 of 24`."""
        if len(self.gradient) < 2:
            return self.place
        return f"{self.place}, on {_written(self.gradient)} at {self.reached}"


@dataclass(frozen=True)
class Explanation:
    """How one output tensor is made. Its `repr` is what `lamina explain` prints, models under their own `names`."""

    job: Job
    values: tuple[Value, ...]
    names: Mapping[str, str]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        spec = self.job.expr.spec
        layer = "" if self.job.layer is None else f" · output layer {self.job.layer}"
        yield f"{self.job.name} · {spec} · {in_bytes(spec.nbytes)}{layer}"
        yield ""
        yield from (f"  {line}" for line in _tree(self.job.expr, self.names))
        if self.values:
            yield ""
            table = [("parameter", "of", "value", "set at")]
            table += [(each.parameter, self._of(each), _number(each.value), each.origin) for each in self.values]
            widths = [max(len(row[column]) for row in table) for column in range(3)]
            for row in table:
                cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
                yield "  ".join(["", *cells, row[-1]]).rstrip()

    def _of(self, value: Value) -> str:
        """`base 8`: whose value it is."""
        if not value.model:
            return "all"
        layer = "" if value.source_layer is None else f" {value.source_layer}"
        return f"{self.names[value.model]}{layer}"

    def as_data(self) -> dict[str, Any]:
        """The explanation for JSON; `EXPLAIN_FIELDS` says what each key holds."""
        spec = self.job.expr.spec
        return {
            "tensor": self.job.name,
            "layer": self.job.layer,
            "dtype": str(spec.dtype),
            "shape": list(spec.shape),
            "expression": _as_data(self.job.expr),
            "values": [
                {
                    "parameter": each.parameter,
                    "value": each.value,
                    "model": each.model or None,
                    "source_layer": each.source_layer,
                    "place": each.place,
                    "gradient": list(each.gradient) if len(each.gradient) > 1 else None,
                }
                for each in self.values
            ],
        }


def _tree(expr: Expr, names: Mapping[str, str], head: str = "", indent: str = "") -> Iterator[str]:
    """The expression, a line a node, what it is made of below it."""
    yield f"{head}{_named(expr, names)}"
    inputs = list(_inputs(expr))
    for number, (role, coefficient, part) in enumerate(inputs):
        last = number == len(inputs) - 1
        factor = "base  " if role == "base" else "" if coefficient is None else f"{_number(coefficient)} ×  "
        branch = "└─ " if last else "├─ "
        yield from _tree(part, names, f"{indent}{branch}{factor}", indent + ("   " if last else "│  "))


def _named(expr: Expr, names: Mapping[str, str]) -> str:
    match expr:
        case Read():
            return f"{names[expr.model]}: {expr.name} · {expr.spec}"
        case Merge():
            summed = expr.base is not None and expr.coefficients
            what = " · base + the sum of coefficient × (tensor - base)" if summed else ""
            return f"{method_called(expr.method).title}{what} · {expr.spec.dtype}"
        case Slice():
            return f"{_AXES[expr.axis]} {expr.start}-{expr.stop - 1} · {expr.spec}"
        case Concat():
            return f"{_AXES[expr.axis]} side by side · {expr.spec}"
        case _:
            return f"{type(expr).__name__.lower()} to {expr.spec.dtype}"


_AXES = {0: "rows", -1: "columns"}


def _inputs(expr: Expr) -> Iterator[tuple[str, float | None, Expr]]:
    """What a node is made of: as what, how much it counts where that is known, and the expression."""
    if not isinstance(expr, Merge):
        yield from (("source", None, part) for part in parts(expr))
        return
    if expr.base is not None:
        yield "base", None, expr.base
    known: Sequence[float | None] = expr.coefficients or [None] * len(expr.inputs)
    yield from (("source", factor, part) for factor, part in zip(known, expr.inputs, strict=True))


def _as_data(expr: Expr) -> dict[str, Any]:
    data: dict[str, Any] = {
        "op": type(expr).__name__.lower(),
        "dtype": str(expr.spec.dtype),
        "shape": list(expr.spec.shape),
    }
    if isinstance(expr, Read):
        return data | {"model": expr.model, "tensor": expr.name}
    if isinstance(expr, Merge):
        data["method"] = method_called(expr.method).name
    data["inputs"] = [
        {"role": role} | ({} if factor is None else {"coefficient": factor}) | _as_data(part)
        for role, factor, part in _inputs(expr)
    ]
    return data


def _number(value: float | bool | int | str) -> str:
    return str(value).lower() if isinstance(value, bool | str) else f"{value:.6g}"


def _written(values: Sequence[float | bool | str]) -> str:
    shown = [_number(value) for value in values]
    return f"[{', '.join(shown if len(shown) <= 6 else [*shown[:3], '...', shown[-1]])}]"
