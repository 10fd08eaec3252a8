"""A recipe with its models open and its settings typed: what the rest of planning works on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from lamina.architectures.layer_config import Origin, Origins, is_unmoved
from lamina.errors import Problem, nearest
from lamina.merge_methods import METHODS, MergeMethod
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel
from lamina.plans.plan import Notice
from lamina.recipe.load import Recipe
from lamina.recipe.schema import RecipeSchema
from lamina.recipe.settings import Conditional, Setting, mapped
from lamina.recipe.slices import Slice, Source
from lamina.recipe.text import KEY, Way

# Faults that another one explains: models of unlike kinds have unlike tensors.
_FOLLOWS_FROM = {"shape": "unlike-models", "missing-tensor": "unlike-models"}


@dataclass
class Findings:
    """What planning has to say: faults, of which each is told once a place, and notices."""

    recipe: Recipe
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    unlike_models: bool = False  # models whose configs disagree are worth a notice and no fault
    _told: set[tuple[str, Way]] = field(default_factory=set)

    def fault(self, code: str, message: str, way: Way, suggestion: str = "") -> None:
        """Something that stands in the way of the merge."""
        if code in _FOLLOWS_FROM and any(told == _FOLLOWS_FROM[code] for told, _ in self._told):
            return
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

    def without_effect(self, code: str, message: str, way: Way, suggestion: str = "") -> None:
        """Something in the recipe that changes nothing: a notice, and under the strict border a fault."""
        if self.recipe.border == "strict":
            self.fault(code, message, way, suggestion)
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
    assume_per_layer: Sequence[str] = ()  # keys of config.json, unknown here, whose lists go with the layers

    @property
    def gradient_ends(self) -> str:
        """Which value of a gradient norm and head take: its `first`, as in MergeKit, or their `own`."""
        schema = self.recipe.schema
        return schema.gradient_ends or ("own" if schema.stack is not None else "first")

    @property
    def depth(self) -> int:
        """Number of output layers."""
        return sum(entry.depth for entry in self.slices)

    @cached_property
    def origins(self) -> Origins:
        """For each output layer the layers that it is made of."""
        return [
            [Origin(self.models[source.ref].decoder, source.start + index) for source in entry.sources]
            for entry in self.slices
            for index in range(entry.depth)
        ]

    @cached_property
    def keeps_next_token(self) -> bool:
        """True where layers that predict further tokens still come after the last layer that they were trained behind.

        Then they are merged as the final norm is; else they are dropped.
        """
        found = {frozenset(self.models[source.ref].architecture.next_token) for source in self.slices[-1].sources}
        return is_unmoved(self.donor.decoder, self.origins) and len(found) == 1


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
    typed: dict[str, Setting] = {}
    for written, setting in parameters.items():
        name = written
        if name not in method.parameters:
            meant = _tell_of_unknown(name, method, (*way, name, KEY), findings)
            if meant is None or meant not in method.parameters or meant in parameters:
                continue
            name = meant  # read as what was meant, so that its absence is no second fault
        try:
            typed[name] = mapped(setting, method.parameters[name].coerce)
        except (ValueError, OverflowError) as error:
            meant = _number_meant(setting)
            hint = f" Did you mean `{meant}`?" if meant else ""
            beside_model = way[:1] == ("stack",) and (*way[:-1], written) in findings.recipe.places
            place = (*way[:-1], written) if beside_model else (*way, written)
            findings.fault("parameter-value", f"{error}{hint}", place, meant)
            typed[name] = (Conditional(None, (1.0,)),)  # stands in, so that the rest can be looked at
    return typed


def _number_meant(setting: Setting) -> str:
    """`0,5` and `50%` as the number that they stand for; empty where there is none."""
    for value in (value for rule in setting for value in rule.values):
        if found := re.fullmatch(r"(-?\d+)[,.]?(\d*)(%?)", str(value)):
            number = float(f"{found[1]}.{found[2] or 0}")
            if found[3] or "," in str(value):
                return f"{number / 100 if found[3] else number:g}"
    return ""


def _tell_of_unknown(name: str, method: MergeMethod, way: Way, findings: Findings) -> str | None:
    """Say what is wrong with a parameter; returns the one that it is read as, if any."""
    known = list(dict.fromkeys(parameter for other in METHODS.values() for parameter in other.parameters))
    if name in known:
        findings.without_effect("no-effect", f"{method.name} has no parameter `{name}`; it has no effect here.", way)
        return None
    meant = nearest(name.lower(), list(method.parameters)) or nearest(name.lower(), known)
    misplaced = meant is None and name in RecipeSchema.model_fields
    if misplaced:
        message = f"`{name}` is no parameter: it belongs at the top level of the recipe, not under `parameters`."
    elif meant is None:
        findings.without_effect("unknown-parameter", f"unknown parameter `{name}` has no effect.", way)
        return None
    else:
        message = f"unknown parameter `{name}` of {method.name}. Did you mean `{meant}`?"
    if findings.recipe.border == "lenient":
        findings.notice("unknown-parameter", message, way)
        return None
    findings.fault("misplaced-key" if misplaced else "unknown-parameter", message, way, meant or "")
    return meant
