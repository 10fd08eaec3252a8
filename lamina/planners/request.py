"""A recipe with its models open and its settings typed: what the rest of planning works on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from lamina.architectures.layer_config import Origin, Origins, is_unmoved
from lamina.errors import Problem, nearest
from lamina.merge_methods import METHODS, MergeMethod
from lamina.merge_methods.parameters import Parameter
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel
from lamina.plans.plan import Notice
from lamina.recipe.load import Recipe
from lamina.recipe.schema import RecipeSchema
from lamina.recipe.settings import Conditional, Scalar, Setting, as_data, mapped
from lamina.recipe.slices import Slice, Source
from lamina.recipe.steps import Move, Put, Remove, Rename, Step
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

    def fault(self, code: str, message: str, way: Way, suggestion: str = "", steps: Sequence[Step] = ()) -> None:
        """Something that stands in the way of the merge, and the steps that mend the recipe."""
        if code in _FOLLOWS_FROM and any(told == _FOLLOWS_FROM[code] for told, _ in self._told):
            return
        if (code, way) not in self._told:
            self._told.add((code, way))
            self.problems.append(self.recipe.problem(code, message, way, suggestion, steps))

    def has(self, code: str, way: Way) -> bool:
        """True when this has been told of this place."""
        return (code, way) in self._told

    def notice(self, code: str, message: str, way: Way | None = None) -> None:
        """Something that the user should know."""
        place = "" if way is None else self.recipe.problem(code, message, way).place
        if Notice(code, message, place) not in self.notices:
            self.notices.append(Notice(code, message, place))

    def without_effect(
        self, code: str, message: str, way: Way, suggestion: str = "", steps: Sequence[Step] = ()
    ) -> None:
        """Something in the recipe that changes nothing: a notice, and under the strict border a fault."""
        if self.recipe.border == "strict":
            self.fault(code, message, way, suggestion, steps)
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

        Then they are merged as that layer is, and numbered on from it; else they are dropped.
        """
        last = [self.donor.architecture, *(self.models[source.ref].architecture for source in self.slices[-1].sources)]
        found = {frozenset(each.next_token_name(name, 0) for name in each.next_token) for each in last}
        is_behind_last = all(origin.layer == origin.decoder.architecture.depth - 1 for origin in self.origins[-1])
        return is_behind_last and len(found) == 1

    @property
    def is_unmoved(self) -> bool:
        """True where every layer stays where it was."""
        return is_unmoved(self.donor.decoder, self.origins)


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
            meant = next(
                (_number_meant(value) for rule in setting for value in rule.values if _number_meant(value)), ""
            )
            hint = f" Did you mean `{meant}`?" if meant else ""
            beside_model = way[:1] == ("stack",) and (*way[:-1], written) in findings.recipe.places
            place = (*way[:-1], written) if beside_model else (*way, written)
            valid = mapped(setting, partial(_as_valid, method.parameters[name]))
            findings.fault("parameter-value", f"{error}{hint}", place, meant, [Put(place, as_data(valid))])
            typed[name] = (Conditional(None, (method.parameters[name].stand_in,)),)
    return typed


def _number_meant(value: Scalar) -> str:
    """`0,5` and `50%` as the number that they stand for; empty where there is none."""
    if found := re.fullmatch(r"(-?\d{1,9})[,.]?(\d{0,9})(%?)", str(value)):
        number = float(f"{found[1]}.{found[2] or 0}")
        if found[3] or "," in str(value):
            return f"{number / 100 if found[3] else number:g}"
    return ""


def _as_valid(parameter: Parameter, value: Scalar) -> Scalar:
    """A value as it is; or one that the parameter takes, as near to it as can be told."""
    meaning = parameter.meaning
    usual = 0.5 if parameter.default is None and not meaning.choices else parameter.stand_in
    tries: list[Scalar] = [value, _number_meant(value)]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        tries += [value / 100] * (meaning.maximum == 1 and value >= 10)
        tries += [-value, int(value), min(max(value, meaning.minimum), meaning.maximum)]
    for each in [*tries, usual]:
        try:
            parameter.coerce(each)
        except (ValueError, OverflowError):
            continue
        return float(each) if isinstance(each, str) and each and each == tries[1] else each
    return usual


def _tell_of_unknown(name: str, method: MergeMethod, way: Way, findings: Findings) -> str | None:
    """Say what is wrong with a parameter; returns the one that it is read as, if any."""
    known = list(dict.fromkeys(parameter for other in METHODS.values() for parameter in other.parameters))
    if name in known:
        message = f"{method.name} has no parameter `{name}`; it has no effect here."
        findings.without_effect("no-effect", message, way, steps=[Remove(way[:-1])])
        return None
    meant = nearest(name.lower(), list(method.parameters)) or nearest(name.lower(), known)
    misplaced = meant is None and name in RecipeSchema.model_fields
    if misplaced:
        message = f"`{name}` is no parameter: it belongs at the top level of the recipe, not under `parameters`."
    elif meant is None:
        message = f"unknown parameter `{name}` has no effect."
        findings.without_effect("unknown-parameter", message, way, steps=[Remove(way[:-1])])
        return None
    else:
        message = f"unknown parameter `{name}` of {method.name}. Did you mean `{meant}`?"
    if findings.recipe.border == "lenient":
        findings.notice("unknown-parameter", message, way)
        return None
    steps: list[Step] = [Rename(way[:-1], meant)] if meant else [Remove(way[:-1])]
    if misplaced and not findings.recipe.says((name,)):
        steps = [Move(way[:-1], (name,))]
    findings.fault("misplaced-key" if misplaced else "unknown-parameter", message, way, meant or "", steps)
    return meant
