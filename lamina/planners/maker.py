"""One output tensor after the other: its sources' tensors, the parameters that hold for it, and what they make.

What cannot be made is a finding, and no job.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import xxhash

from lamina.expressions.nodes import Expr, cast, concat, merge, slice_of
from lamina.merge_methods import UndefinedMerge
from lamina.merge_methods.parameters import Value
from lamina.models.plain import PlainModel
from lamina.planners.advice import base_advice, inputs_advice, weights_advice
from lamina.planners.request import Findings, Request
from lamina.planners.values import ParameterValues, Place, Trace
from lamina.planners.vocabularies import rows_in_words
from lamina.plans.plan import Job
from lamina.recipe.settings import Position
from lamina.recipe.slices import Slice, Source
from lamina.recipe.steps import Put, Step
from lamina.tensor_spec import F64, Kind

NameIn = Callable[[PlainModel, Source], str]  # what a tensor is called in a source


def same(name: str) -> NameIn:
    """For what every source calls alike."""
    return lambda _model, _source: name


class Maker:
    """Makes one job after the other from a request; what cannot be made is a finding."""

    def __init__(self, request: Request, findings: Findings, trace: Trace | None) -> None:
        self._request, self._findings = request, findings
        self.values = ParameterValues(request, findings, trace)
        self.weight_sums: dict[str, float] = {}

    def job(self, name: str, name_in: NameIn, place: Place) -> Job | None:
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
                made.append(self.job(name, same(name), place))
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

    def _parts(self, name: str, name_in: NameIn, place: Place) -> list[tuple[str, Expr]] | None:
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
