"""From slices to jobs: what each output tensor is made of.

Each output layer takes its tensors from the same places of its sources. The ends follow the layers beside
them: embeddings the first slice, norm and head the last, unless the recipe names others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import xxhash

from lamina.architectures.infer import Architecture
from lamina.expressions.nodes import Expr, cast, concat, merge, slice_of
from lamina.merge_methods import METHODS, UndefinedMerge
from lamina.merge_methods.parameters import Value
from lamina.models.plain import PlainModel
from lamina.planners.advice import base_advice, inputs_advice, weights_advice
from lamina.planners.request import Findings, Request
from lamina.planners.values import FilterUse, ParameterValues, Place, Trace
from lamina.planners.vocabularies import rows_in_words
from lamina.plans.plan import Job
from lamina.recipe.mending import Put, Step
from lamina.recipe.settings import START, Conditional, Position, Setting
from lamina.recipe.slices import Slice, Source
from lamina.tensor_spec import F64, Kind

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
    maker = _Maker(request, findings, trace)
    make = maker.job
    embed, norm, head = (_end(request, role) for role in ("embed", "norm", "head"))
    donor = request.donor.architecture
    packed = {} if _is_one_stretch(request) else dict(donor.packed)
    jobs = [
        maker.packed_job(name, packed[name]) if name in packed else make(name, _same(name), embed)
        for name in _names(request, embed, lambda model: model.architecture.before)
    ]
    jobs += [make(name, source_name, place) for name, source_name, place in _layers(request)]
    jobs += [make(name, source_name, place) for name, source_name, place in _shared(request, findings)]
    jobs += [make(name, _same(name), norm) for name in _names(request, norm, lambda model: model.architecture.norms)]
    if request.keeps_next_token:
        behind = _behind_last(request)
        for name in request.donor.architecture.next_token:
            jobs.append(make(donor.next_token_name(name, request.depth), _behind_stack(donor, name), behind))
    companions = _names(request, head, lambda model: model.architecture.head_companions)
    jobs += [make(name, _same(name), head) for name in companions]
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


def _layers(request: Request) -> Iterator[tuple[str, _NameIn, Place]]:
    """Output name, the name in each source, and the place, for every tensor of every output layer."""
    output = 0
    for entry in request.slices:
        for index in range(entry.depth):
            place = Place(entry, request.method, Position(index, entry.depth), output)
            for suffix in _suffixes(request, entry, index):
                yield request.donor.architecture.layer_name(output, suffix), _in_layer(index, suffix), place
            output += 1


def _shared(request: Request, findings: Findings) -> Iterator[tuple[str, _NameIn, Place]]:
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


def _in_sharing(suffix: str) -> _NameIn:
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


_NameIn = Callable[[PlainModel, Source], str]


def _same(name: str) -> _NameIn:
    return lambda _model, _source: name


def _behind_stack(donor: Architecture, name: str) -> _NameIn:
    """A tensor that predicts further tokens, as a model of another depth calls it."""
    return lambda model, _source: donor.next_token_name(name, model.architecture.depth)


def _in_layer(index: int, suffix: str) -> _NameIn:
    return lambda model, source: model.architecture.layer_name(source.start + index, suffix)


class _Maker:
    """Makes one job after the other from a request; what cannot be made is a finding."""

    def __init__(self, request: Request, findings: Findings, trace: Trace | None) -> None:
        self._request, self._findings = request, findings
        self.values = ParameterValues(request, findings, trace)
        self.weight_sums: dict[str, float] = {}

    def job(self, name: str, name_in: _NameIn, place: Place) -> Job | None:
        parts = self._parts(name, name_in, place)
        split = self._split(place)
        if parts is None or split is None:
            return None
        sources, base = split
        inputs = [parts[source][1] for source in sources]
        named = [(place.entry.sources[source], parts[source][0]) for source in sources]
        values = {} if place.method.copies(len(sources)) else self.values.of(name, named, place)
        if values is None:
            return None
        weights = values.get("weight")
        if place.method.space == "weights" and values.get("normalize") is False and isinstance(weights, tuple):
            self.weight_sums[name] = math.fsum(map(float, weights))
        schema = self._request.recipe.schema
        target = schema.out_dtype or schema.dtype
        try:
            expr = merge(
                place.method.key,
                inputs,
                values,
                base=None if base is None else parts[base][1],
                dtype=F64 if schema.dtype is F64 else target,
                draw_keys=[_draw_key(self._request.seed, source, self._drawn_as(name, place)) for source in sources],
            )
        except UndefinedMerge as error:
            self._tell_of_undefined(name, error, place, sources, values)
            return None
        if target is not None and expr.spec.dtype.kind is Kind.FLOAT:
            expr = cast(expr, target)
        return Job(name, expr, place.layer)

    def packed_job(self, name: str, axis: int) -> Job | None:
        """A tensor that holds something of every layer, side by side: for each output layer what its sources hold."""
        made: list[Job | None] = []
        for entry in self._request.slices:
            for index in range(entry.depth):
                place = Place(entry, self._request.method, Position(index, entry.depth), len(made), packed_on=axis)
                made.append(self.job(name, _same(name), place))
        jobs = [job for job in made if job is not None]
        if len(jobs) < len(made):
            return None  # told where a layer's part could not be made
        try:
            return Job(name, concat([job.expr for job in jobs], axis), None)
        except ValueError as error:
            self._findings.fault("shape", f"{name} packs all layers: {error}.", self._request.slices[0].way)
            return None

    def _tell_of_undefined(
        self,
        name: str,
        error: UndefinedMerge,
        place: Place,
        sources: Sequence[int],
        values: Mapping[str, Value | tuple[Value, ...]],
    ) -> None:
        """Parameters that the formula has no value for, and what it would have one for."""
        steps: list[Step] = [
            Put((*place.entry.sources[source].way, "parameters", parameter), valid[index])
            for parameter, valid in error.valid.items()
            for index, source in enumerate(sources)
            if isinstance(given := values[parameter], tuple) and valid[index] != given[index]
        ]
        advice, way = "", place.entry.way
        if not error.valid and "sum" in str(error):
            advice, way, steps = weights_advice(place.entry, values)
        self._findings.fault("undefined", f"{name}: {error}.{advice}", way, steps=steps)

    def _drawn_as(self, name: str, place: Place) -> str:
        """The output tensor whose draws these are: of tied models the head is the embedding, and stays it."""
        if place.packed_on is not None:
            return f"{name}.{place.layer}"
        donor = self._request.donor.architecture
        tied = all(self._request.models[source.ref].architecture.tied for source in place.entry.sources)
        return donor.embedding if name == donor.head and tied else name

    def _parts(self, name: str, name_in: _NameIn, place: Place) -> list[tuple[str, Expr]] | None:
        """For each source of the slice the tensor's name there, and the tensor."""
        parts: list[tuple[str, Expr]] = []
        for source in place.entry.sources:
            model = self._request.models[source.ref]
            tensor = name_in(model, source)
            expr = model.expr(tensor)
            if expr is None:
                if not self._findings.has("unlike-models", source.way):
                    message = f"{name} needs `{tensor}`, which `{source.ref}` does not have."
                    self._findings.fault("missing-tensor", message, source.way)
                return None
            if place.packed_on is not None:
                layer, depth = source.start + place.position.index, model.architecture.depth
                width, rest = divmod(expr.spec.shape[place.packed_on], depth)
                if rest or expr.spec.dtype.kind is not Kind.FLOAT:
                    message = f"`{tensor}` of `{source.ref}` ({expr.spec}) does not come apart into {depth} layers."
                    self._findings.fault("shape", message, source.way)
                    return None
                expr = slice_of(expr, place.packed_on, layer * width, (layer + 1) * width)
            parts.append((tensor, expr))
        first = parts[0][1]
        for source, (tensor, expr) in zip(place.entry.sources, parts, strict=True):
            if expr.spec.shape != first.spec.shape:
                if self._is_vocabulary(name) and expr.spec.shape[1:] == first.spec.shape[1:]:
                    self._fault_rows(name, place.entry.sources[0], first, source, expr)
                    return None
                message = (
                    f"{name}: `{place.entry.sources[0].ref}` has {list(first.spec.shape)} and `{source.ref}` has "
                    f"{list(expr.spec.shape)} ({tensor}). Models of one merge need equal shapes."
                )
                self._findings.fault("shape", message, source.way)
                return None
            quantised = Kind.PACKED in (first.spec.dtype.kind, expr.spec.dtype.kind) and expr != first
            if quantised or expr.spec.dtype.kind is not first.spec.dtype.kind:
                message = (
                    f"{name}: {first.spec.dtype} of `{place.entry.sources[0].ref}` and {expr.spec.dtype} of "
                    f"`{source.ref}` cannot be averaged; store the models in a float dtype first."
                )
                self._findings.fault("dtype", message, source.way)
                return None
        return parts

    def _is_vocabulary(self, name: str) -> bool:
        """True for the tensors that have a row for each token."""
        donor = self._request.donor.architecture
        return name in (donor.embedding, donor.head)

    def _fault_rows(self, name: str, first: Source, its: Expr, source: Source, expr: Expr) -> None:
        if not self._findings.has("not-yet", source.way):
            rows = (its.spec.shape[0], expr.spec.shape[0])
            message = rows_in_words(self._request.models[first.ref], self._request.models[source.ref], name, rows)
            steps = [Put((end,), str(first.ref)) for end in ("embed", "head")]
            self._findings.fault("not-yet", message, source.way, steps=steps)

    def _split(self, place: Place) -> tuple[list[int], int | None] | None:
        """Positions of the sources that are combined, and of the one that they are differences from."""
        entry, method = place.entry, place.method
        positions = list(range(len(entry.sources)))
        base: int | None = None
        if method.base == "required" or (method.base == "optional" and entry.base is not None):
            found = self._bases(entry)
            if len(found) != 1:
                message, steps = base_advice(entry, method, len(found))
                self._findings.fault("base", message, entry.way, steps=steps)
                return None
            base = found[0]
            positions.remove(base)
        elif method.base == "first" and len(positions) > 1:
            found = self._bases(entry)
            if not found:
                message, steps = base_advice(entry, method, 0)
                self._findings.fault("base", message, entry.way, steps=steps)
                return None
            positions.remove(found[0])
            positions.insert(0, found[0])
        least, most = method.inputs
        if not least <= len(positions) <= (most or len(positions)):
            extra = ""
            if entry.sources[-1].way == ("base_model",) and base is None:
                extra = " (`base_model` is not listed and joins as the last one, as in MergeKit)"
            beside = "" if base is None else " beside the base"
            message = f"{method.name} takes {method.counted}{beside}, and here are {len(positions)}{extra}."
            advice, steps = inputs_advice(self._request.recipe, method, entry, most)
            self._findings.fault("inputs", message + advice, entry.way, steps=steps)
            return None
        return positions, base

    def _bases(self, entry: Slice) -> list[int]:
        return [position for position, source in enumerate(entry.sources) if source.ref == entry.base]


def _draw_key(seed: int, position: int, name: str) -> int:
    """What random draws for one source of one output tensor are addressed by."""
    return xxhash.xxh3_64_intdigest(f"{seed} {position} {name}".encode())
