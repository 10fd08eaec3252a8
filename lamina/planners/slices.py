"""From slices to jobs: what each output tensor is made of.

Each output layer takes its tensors from the same places of its sources. The ends follow the layers beside
them: embeddings the first slice, norm and head the last, unless the recipe names others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lamina.architectures.infer import Architecture
from lamina.merge_methods import METHODS
from lamina.models.plain import PlainModel
from lamina.planners.maker import Maker, NameIn, same
from lamina.planners.request import Findings, Request
from lamina.planners.values import FilterUse, Place, Trace
from lamina.plans.plan import Job
from lamina.recipe.settings import START, Conditional, Position, Setting
from lamina.recipe.slices import Slice, Source

Role = Literal["embed", "norm", "head"]


@dataclass(frozen=True)
class Jobs:
    """All output tensors. `tied` when the embedding stands for the head, which then is not written."""

    all: tuple[Job, ...]
    tied: bool
    sources_tied: bool  # every model that gives the head is tied
    filters_used: frozenset[FilterUse]
    weight_sums: Mapping[str, float]  # by output tensor, where weights are added up and not divided by their sum


def jobs_of(request: Request, findings: Findings, trace: Trace | None = None) -> Jobs:
    """Every output tensor, in the order in which it is written. Faults go to `findings`."""
    maker = Maker(request, findings, trace)
    make = maker.job
    embed, norm, head = (_end(request, role) for role in ("embed", "norm", "head"))
    donor = request.donor.architecture
    packed = {} if _is_one_stretch(request) else dict(donor.packed)
    jobs = [
        maker.packed_job(name, packed[name]) if name in packed else make(name, same(name), embed)
        for name in _names(request, embed, lambda model: model.architecture.before)
    ]
    jobs += [make(name, source_name, place) for name, source_name, place in _layers(request)]
    jobs += [make(name, source_name, place) for name, source_name, place in _shared(request, findings)]
    jobs += [make(name, same(name), norm) for name in _names(request, norm, lambda model: model.architecture.norms)]
    if request.keeps_next_token:
        behind = _behind_last(request)
        for name in request.donor.architecture.next_token:
            jobs.append(make(donor.next_token_name(name, request.depth), _behind_stack(donor, name), behind))
    companions = _names(request, head, lambda model: model.architecture.head_companions)
    jobs += [make(name, same(name), head) for name in companions]
    head_job = make(donor.head, lambda model, _source: model.architecture.head, head)
    sources_tied = all(request.models[source.ref].architecture.tied for source in head.entry.sources)
    embedding = next((job.expr for job in jobs if job is not None and job.name == donor.embedding), None)
    tied = sources_tied and head_job is not None and head_job.expr == embedding and donor.can_be_tied
    written = [*jobs, None if tied else head_job]
    made = tuple(job for job in written if job is not None)
    return Jobs(made, tied, sources_tied, frozenset(maker.values.filters_used), maker.weight_sums)


def _is_one_stretch(request: Request) -> bool:
    """True where all layers are made alike and none moves: then a tensor that packs them is like any other."""
    return len(request.slices) == 1 and request.is_unmoved


def _layers(request: Request) -> Iterator[tuple[str, NameIn, Place]]:
    """Output name, the name in each source, and the place, for every tensor of every output layer."""
    output = 0
    for entry in request.slices:
        for index in range(entry.depth):
            place = Place(entry, request.method, Position(index, entry.depth), output)
            for suffix in _suffixes(request, entry, index):
                yield request.donor.architecture.layer_name(output, suffix), _in_layer(index, suffix), place
            output += 1


def _shared(request: Request, findings: Findings) -> Iterator[tuple[str, NameIn, Place]]:
    """The same for the block that all layers of one kind share: it stands in the first of them, and is made there."""
    places = [
        Place(entry, request.method, Position(index, entry.depth), output)
        for output, (entry, index) in enumerate((entry, i) for entry in request.slices for i in range(entry.depth))
        if any(origin.layer in origin.decoder.architecture.sharing for origin in request.origins[output])
    ]
    for place in places[:1]:
        for suffix in request.donor.architecture.shared:
            yield request.donor.architecture.layer_name(places[0].layer or 0, suffix), _in_sharing(suffix), place
    for place in places[1:]:
        if [source.ref for source in place.entry.sources] != [source.ref for source in places[0].entry.sources]:
            message = (
                f"output layers {places[0].layer} and {place.layer} come from other models, and in a "
                f"{request.donor.config.get('model_type')} they share one block; take such layers from the same models."
            )
            findings.fault("shared-block", message, place.entry.way)


def _in_sharing(suffix: str) -> NameIn:
    return lambda model, _source: model.architecture.layer_name(model.architecture.sharing[0], suffix)


def _suffixes(request: Request, entry: Slice, index: int) -> list[str]:
    """The tensors of one output layer: all that any of its sources has there."""
    layers = [request.models[source.ref].architecture.layers[source.start + index] for source in entry.sources]
    return list(dict.fromkeys(suffix for layer in layers for suffix in layer))


def _end(request: Request, role: Role) -> Place:
    """The models and weights of the embeddings, the final norm or the head."""
    named = getattr(request.recipe.schema, role)
    if named is not None:
        one = (Conditional(None, (1.0,)),)
        sources = tuple(
            Source(source.model, 0, 0, {"weight": source.weight or one}, (role, number))
            for number, source in enumerate(named)
        )
        return Place(Slice(sources, {}, None, (role,)), METHODS["linear"], START)
    entry = request.slices[0 if role == "embed" else -1]
    own = Position(0 if role == "embed" else entry.depth - 1, entry.depth)
    return Place(entry, request.method, own if request.gradient_ends == "own" else START)


def _behind_last(request: Request) -> Place:
    """Where layers that predict further tokens are made: as the last layer is, but for what is multiplied in it."""
    entry = request.slices[-1]
    sources = tuple(replace(source, parameters=_unscaled(source.parameters)) for source in entry.sources)
    entry = replace(entry, sources=sources, parameters=_unscaled(entry.parameters))
    return Place(entry, request.method, Position(entry.depth - 1, entry.depth))


def _unscaled(parameters: Mapping[str, Setting]) -> dict[str, Setting]:
    return {name: setting for name, setting in parameters.items() if name != "scale"}


def _names(request: Request, place: Place, names: Callable[[PlainModel], tuple[str, ...]]) -> list[str]:
    models = [request.models[source.ref] for source in place.entry.sources]
    return list(dict.fromkeys(name for model in models for name in names(model)))


def _behind_stack(donor: Architecture, name: str) -> NameIn:
    """A tensor that predicts further tokens, as a model of another depth calls it."""
    return lambda model, _source: donor.next_token_name(name, model.architecture.depth)


def _in_layer(index: int, suffix: str) -> NameIn:
    return lambda model, source: model.architecture.layer_name(source.start + index, suffix)
