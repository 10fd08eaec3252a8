"""What every parameter is for one tensor: the first level that says so, at the tensor's place on its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lamina.merge_methods import MergeMethod
from lamina.merge_methods.parameters import Parameter, Value
from lamina.planners.advice import missing_value
from lamina.planners.request import Findings, Request
from lamina.recipe.load import Recipe
from lamina.recipe.settings import START, Position, Scalar, setting_at
from lamina.recipe.slices import Slice, Source
from lamina.recipe.text import Way

FilterUse = tuple[Way, str, str | None]  # where a setting stands, the parameter, the filter that matched a name


@dataclass(frozen=True)
class Resolved:
    """One parameter's value for one tensor. `way` is where the recipe sets it, None for the method's default.

    `gradient` are the values that it lies between, and `at` where, if a gradient gives it. A parameter of
    the whole merge has no `source`, an end of the model no `source_layer`.
    """

    parameter: str
    value: Value
    source: Source | None
    source_layer: int | None
    way: Way | None
    gradient: tuple[Scalar, ...] = ()
    at: Position = START


@dataclass
class Trace:
    """Watches how one output tensor is made: every value that is looked up for it, in order."""

    tensor: str
    values: list[Resolved] = field(default_factory=list)

    def add(self, value: Resolved) -> None:
        self.values.append(value)


@dataclass(frozen=True)
class Place:
    """Where in the recipe a tensor is made: by which slice and method, and where on their gradients."""

    entry: Slice
    method: MergeMethod
    position: Position
    layer: int | None = None
    packed_on: int | None = (
        None  # the axis on which a tensor holds something of every layer: only this layer's is meant
    )


class ParameterValues:
    """Looks up the parameters of a request's tensors. `filters_used` are the filters that have matched so far."""

    def __init__(self, request: Request, findings: Findings, trace: Trace | None) -> None:
        self._request, self._findings, self._trace = request, findings, trace
        self.filters_used: set[FilterUse] = set()

    def of(
        self, name: str, sources: Sequence[tuple[Source, str]], place: Place
    ) -> dict[str, Value | tuple[Value, ...]] | None:
        """Every parameter's value: for per-model ones looked up by the name in the model, else in the output.

        `sources` are those that are combined, with the tensor's name in each. None where one has no value, which is
        a fault.
        """
        trace = self._trace if self._trace is not None and self._trace.tensor == name else None
        values: dict[str, Value | tuple[Value, ...]] = {}
        for parameter in place.method.parameters.values():
            if parameter.meaning.per_model:
                found = [self._value(parameter, tensor, place, source, trace) for source, tensor in sources]
                if None in found:
                    return None
                values[parameter.name] = tuple(value for value in found if value is not None)
            else:
                value = self._value(parameter, name, place, None, trace)
                if value is None:
                    return None
                # What has no effect must not tell two tensors apart: a tied head is looked for by equal expressions.
                values[parameter.name] = value if parameter.meaning.effective else parameter.stand_in
        return values

    def _value(
        self, parameter: Parameter, tensor: str, place: Place, source: Source | None, trace: Trace | None
    ) -> Value | None:
        """The first that is set: by the source, its slice, the recipe, the method."""
        levels = [(place.entry.parameters, place.entry.way), (self._request.parameters, ())]
        if source is not None:
            levels.insert(0, (source.parameters, source.way))
        settings = [(setting, way) for level, way in levels if (setting := level.get(parameter.name))]
        for setting, way in settings:
            for rule in setting:
                if rule.filter is not None and rule.matches(tensor):
                    self.filters_used.add((way, parameter.name, rule.filter))
        layer = source.start + place.position.index if source is not None and place.layer is not None else None
        for setting, way in settings:
            value = setting_at(setting, tensor, place.position)
            if value is not None:
                try:
                    value = parameter.coerce(value)
                except ValueError as error:  # a gradient that runs through values which are none
                    self._findings.fault("parameter-value", str(error), place.entry.way)
                    return None
                if trace is not None:
                    rule = next(rule for rule in setting if rule.matches(tensor))
                    number = setting.index(rule) if len(setting) > 1 else None
                    where = _where(self._request.recipe, way, parameter.name, number)
                    trace.add(Resolved(parameter.name, value, source, layer, where, rule.values, place.position))
                return value
        if trace is not None and parameter.default is not None:
            trace.add(Resolved(parameter.name, parameter.default, source, layer, None))
        if parameter.default is None:
            who = source.way if source is not None else place.entry.way
            of = f" of `{source.ref}`" if source is not None else ""
            form, steps = missing_value(self._request.recipe, parameter, tensor, who, place.entry, settings)
            message = f"{place.method.name} needs `{parameter.name}`{of}{form}"
            self._findings.fault("missing-parameter", message, who, steps=steps)
        return parameter.default


def _where(recipe: Recipe, level: Way, parameter: str, rule: int | None) -> Way | None:
    """The way to the setting of a parameter on one level, to its rule where it has several.

    What `overlap` gives to the entries of a stack is set there. None where no word of the recipe sets it.
    """
    for way in ((*level, "parameters", parameter), (*level, parameter)):
        if recipe.says(way):
            return way if rule is None else (*way, rule)
    return ("overlap",) if level[:1] == ("stack",) and recipe.says(("overlap",)) else None
