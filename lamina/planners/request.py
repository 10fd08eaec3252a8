"""A recipe with its models open and its settings typed: what the rest of planning works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lamina.errors import Problem, nearest
from lamina.merge_methods import METHODS, MergeMethod
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel
from lamina.plans.plan import Notice
from lamina.recipe.load import Recipe
from lamina.recipe.settings import Conditional, Setting, mapped
from lamina.recipe.slices import Slice, Source
from lamina.recipe.text import KEY, Way


@dataclass
class Findings:
    """What planning has to say: faults, of which each is told once a place, and notices."""

    recipe: Recipe
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    _told: set[tuple[str, Way]] = field(default_factory=set)

    def fault(self, code: str, message: str, way: Way, suggestion: str = "") -> None:
        """Something that stands in the way of the merge."""
        if (code, way) not in self._told:
            self._told.add((code, way))
            self.problems.append(self.recipe.problem(code, message, way, suggestion))

    def has(self, code: str, way: Way) -> bool:
        """True when this has been told of this place."""
        return (code, way) in self._told

    def notice(self, code: str, message: str, way: Way | None = None) -> None:
        """Something that the user should know."""
        place = "" if way is None else self.recipe.problem(code, message, way).place
        if Notice(code, message, place) not in self.notices:
            self.notices.append(Notice(code, message, place))

    def without_effect(self, code: str, message: str, way: Way) -> None:
        """Something in the recipe that changes nothing: a notice, and under the strict border a fault."""
        if self.recipe.border == "strict":
            self.fault(code, message, way)
        else:
            self.notice(code, message, way)


@dataclass(frozen=True)
class Request:
    """What is to be merged. `donor` gives config, tokenizer and side files; `parameters` hold for all slices."""

    recipe: Recipe
    method: MergeMethod
    models: Mapping[ModelRef, PlainModel]
    donor: PlainModel
    slices: tuple[Slice, ...]
    parameters: Mapping[str, Setting]
    seed: int = 0

    @property
    def gradient_ends(self) -> str:
        """Which value of a gradient norm and head take: its `first`, as in MergeKit, or their `own`."""
        schema = self.recipe.schema
        return schema.gradient_ends or ("own" if schema.stack is not None else "first")

    @property
    def depth(self) -> int:
        """Number of output layers."""
        return sum(entry.depth for entry in self.slices)


def typed_slices(slices: Sequence[Slice], method: MergeMethod, findings: Findings) -> list[Slice]:
    """The slices with every setting as its parameter's type."""

    def typed_source(source: Source) -> Source:
        way = (*source.way, "parameters")
        return replace(source, parameters=typed_parameters(source.parameters, method, way, findings))

    return [
        replace(
            entry,
            sources=tuple(map(typed_source, entry.sources)),
            parameters=typed_parameters(entry.parameters, method, (*entry.way, "parameters"), findings),
        )
        for entry in slices
    ]


def typed_parameters(
    parameters: Mapping[str, Setting], method: MergeMethod, way: Way, findings: Findings
) -> dict[str, Setting]:
    """The settings that the method knows, as its types; of all others the user is told."""
    typed = {}
    for name, setting in parameters.items():
        if name not in method.parameters:
            _tell_of_unknown(name, method, (*way, name, KEY), findings)
            continue
        try:
            typed[name] = mapped(setting, method.parameters[name].coerce)
        except ValueError as error:
            findings.fault("parameter-value", str(error), (*way, name))
            typed[name] = (Conditional(None, (1.0,)),)  # stands in, so that the rest can be looked at
    return typed


def _tell_of_unknown(name: str, method: MergeMethod, way: Way, findings: Findings) -> None:
    known = list(dict.fromkeys(parameter for other in METHODS.values() for parameter in other.parameters))
    if name in known:
        findings.without_effect("no-effect", f"{method.name} has no parameter `{name}`; it has no effect here.", way)
        return
    meant = nearest(name, list(method.parameters)) or nearest(name, known)
    if meant is None:
        findings.without_effect("unknown-parameter", f"unknown parameter `{name}` has no effect.", way)
        return
    message = f"unknown parameter `{name}` of {method.name}. Did you mean `{meant}`?"
    if findings.recipe.border == "lenient":
        findings.notice("unknown-parameter", message, way)
    else:
        findings.fault("unknown-parameter", message, way, meant)
