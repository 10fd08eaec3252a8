"""How much each source counts in every output layer: the data of a heat map, and of the picture of the layers.

Rows are sources (a model's layers at one offset), columns output layers. Derived from the jobs alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from lamina.architectures.roles import OUTPUTS, Role, end_role_of, role_of
from lamina.expressions.inspect import is_copy
from lamina.expressions.nodes import Merge
from lamina.plans.explain import Names, factors_in, short_names
from lamina.tensor_spec import Kind

if TYPE_CHECKING:
    from lamina.plans.plan import Job, Plan

KINDS = ("attention", "mixer", "mlp", "norm", "other")  # of tensors in a layer
_KIND_OF_ROLE = {
    Role.ATTENTION_QUERY: "attention",
    Role.ATTENTION_KEY: "attention",
    Role.ATTENTION_VALUE: "attention",
    Role.ATTENTION_OTHER: "attention",
    Role.ATTENTION_OUTPUT: "attention",
    Role.MIXER: "mixer",
    Role.MIXER_OUTPUT: "mixer",
    Role.MLP_INPUT: "mlp",
    Role.MLP_OUTPUT: "mlp",
    Role.ROUTER: "mlp",
    Role.NORM: "norm",
}


@dataclass(frozen=True)
class Factors:
    """The smallest and the largest factor by which a source enters some tensors: 0 for a tensor without it."""

    low: float
    high: float


@dataclass(frozen=True)
class WeightRow:
    """One model's layers at one offset: output layer minus source layer. `of_delta`: it enters as tensor minus base.

    `kinds` has, for each kind of tensor in which it enters anywhere, a column for each output layer: None where it
    enters no tensor of that kind.
    """

    model: str
    offset: int
    of_delta: bool
    kinds: Mapping[str, tuple[Factors | None, ...]]


@dataclass(frozen=True)
class EndPart:
    """One source of a tensor outside the layers."""

    model: str
    factor: float
    of_delta: bool


@dataclass(frozen=True)
class EndWeights:
    """A tensor outside the layers, and what it is made of. `role` is `Role.OTHER` where the name does not tell."""

    tensor: str
    role: Role
    parts: tuple[EndPart, ...]


@dataclass(frozen=True)
class EffectiveWeights:
    """Every source's factors. `copied` and `silent` have an entry for each output layer.

    `copied`: each tensor has an input's bytes. `silent`: what it would add to the residual stream is multiplied by
    zero, so that it hands on what it receives. `before` and `after` are the ends on both sides of the layers.
    """

    rows: tuple[WeightRow, ...]
    copied: tuple[bool, ...]
    silent: tuple[bool, ...]
    before: tuple[EndWeights, ...]
    after: tuple[EndWeights, ...]

    @property
    def depth(self) -> int:
        """Number of output layers."""
        return len(self.copied)

    @cached_property
    def overall(self) -> tuple[tuple[Factors | None, ...], ...]:
        """For each row a column for each output layer, over all kinds of tensors that the layer has."""
        kinds: list[set[str]] = [set() for _ in self.copied]  # that each layer has
        for row in self.rows:
            for kind, cells in row.kinds.items():
                for output, cell in enumerate(cells):
                    if cell is not None:
                        kinds[output].add(kind)
        return tuple(
            tuple(_hull([cells[i] for cells in row.kinds.values()], len(kinds[i])) for i in range(self.depth))
            for row in self.rows
        )


def effective_weights(plan: Plan, names: Names = short_names) -> EffectiveWeights:
    """The factors of every source in every output layer, and at the ends; `names` says what a model is called."""
    called = names(plan)
    numbers = [job.layer for job in plan.jobs if job.layer is not None]
    depth = max(numbers, default=-1) + 1
    by_layer: list[list[Job]] = [[] for _ in range(depth)]
    before: list[EndWeights] = []
    after: list[EndWeights] = []
    for job in plan.jobs:
        if job.layer is not None:
            by_layer[job.layer].append(job)
        else:
            (after if any(by_layer) else before).append(_end(job, called))
    found: dict[tuple[str, int, bool], dict[str, list[Factors | None]]] = {}
    for output, jobs in enumerate(by_layer):
        for (model, layer, of_delta), kind, factors in _in_layer(jobs, called):
            cells = found.setdefault((model, output - layer, of_delta), {})
            cells.setdefault(kind, [None] * depth)[output] = factors
    return EffectiveWeights(
        rows=tuple(
            WeightRow(*source, {kind: tuple(cells[kind]) for kind in KINDS if kind in cells})
            for source, cells in found.items()
        ),
        copied=tuple(all(is_copy(job.expr) for job in jobs) for jobs in by_layer),
        silent=tuple(_is_silent(jobs, called) for jobs in by_layer),
        before=tuple(before),
        after=tuple(after),
    )


_Source = tuple[str, int, bool]  # model, its layer, whether it enters as a delta


def _in_layer(jobs: Iterable[Job], names: Mapping[str, str]) -> Iterable[tuple[_Source, str, Factors]]:
    """What enters a layer: each source, the kind of tensors, and its factors in them."""
    by_kind: dict[str, list[dict[_Source, float]]] = {}
    for job in jobs:
        if not _is_compared(job):
            by_kind.setdefault(_kind_of(_suffix(job)), []).append(factors_in(job, names))
    for kind, tensors in by_kind.items():
        for source in dict.fromkeys(source for each in tensors for source in each):
            values = [each.get(source, 0.0) for each in tensors]
            yield source, kind, Factors(min(values), max(values))


def _is_compared(job: Job) -> bool:
    """True for integers of several models, which have to agree: no factor says what they count."""
    return isinstance(job.expr, Merge) and job.expr.spec.dtype.kind is not Kind.FLOAT


def _is_silent(jobs: Iterable[Job], names: Mapping[str, str]) -> bool:
    outputs = [job for job in jobs if _role(_suffix(job)) in (*OUTPUTS, Role.OUTPUT_BIAS)]
    return bool(outputs) and not any(factor for job in outputs for factor in factors_in(job, names).values())


def _suffix(job: Job) -> str:
    return job.name.partition(f".{job.layer}.")[2]


_role = lru_cache(maxsize=4096)(role_of)  # the same few names in every layer


@lru_cache(maxsize=4096)
def _kind_of(suffix: str) -> str:
    """The kind of tensors that one belongs to; a bias goes with its matrix."""
    stem, dot, word = suffix.rpartition(".")
    return _KIND_OF_ROLE.get(role_of(f"{stem}{dot}weight" if word == "bias" else suffix), "other")


def _end(job: Job, names: Mapping[str, str]) -> EndWeights:
    parts = factors_in(job, names).items()
    return EndWeights(
        job.name, end_role_of(job.name), tuple(EndPart(model, factor, delta) for (model, _, delta), factor in parts)
    )


def _hull(cells: Sequence[Factors | None], kinds: int) -> Factors | None:
    """From the smallest to the largest; of a source that enters fewer than the layer's `kinds`, 0 as well."""
    entered = [cell for cell in cells if cell is not None]
    if not entered:
        return None
    values = [value for cell in entered for value in (cell.low, cell.high)] + [0.0] * (len(entered) < kinds)
    return Factors(min(values), max(values))
