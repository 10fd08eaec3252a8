"""What to write where a recipe cannot be carried out as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lamina.merge_methods import MergeMethod
from lamina.merge_methods.parameters import Parameter, Value
from lamina.recipe.mending import END, Move, Put, Remove, Rewrite, Step
from lamina.recipe.recipe import Recipe
from lamina.recipe.schema import InputModel, RecipeSchema, SliceSource
from lamina.recipe.settings import Setting, as_data
from lamina.recipe.slices import Depth, Slice, Source, source_as_data
from lamina.recipe.text import Way

# What people call a method, and no slip of the finger.
OTHER_NAMES = {
    "average": "linear", "avg": "linear", "mean": "linear", "weighted": "linear", "weighted_average": "linear",
    "lerp": "linear", "soup": "linear", "model_soup": "linear", "interpolate": "slerp", "spherical": "slerp",
    "frankenmerge": "passthrough", "copy": "passthrough", "stack": "passthrough", "concat": "passthrough",
    "task": "task_arithmetic", "task_vector": "task_arithmetic", "add_difference": "task_arithmetic",
    "dare": "dare_ties", "della_ties": "della", "stock": "model_stock",
}  # fmt: skip


def likely_method(schema: RecipeSchema) -> str:
    """The method that a recipe without one is most likely written for, and that takes it as it is."""
    parts: list[Sequence[InputModel | SliceSource]] = [entry.sources for entry in schema.slices or ()]
    parts = parts or [schema.models or []]
    sources = [source for part in parts for source in part]
    if schema.stack is not None or all("weight" in source.parameters for source in sources):
        return "linear"
    if all(len(part) == 1 for part in parts):
        return "passthrough"
    if "t" in schema.parameters and schema.base_model is not None:
        return "slerp"
    return "linear" if "weight" in schema.parameters else "karcher"


def without_modules(schema: RecipeSchema, given: Sequence[str]) -> list[Step]:
    """The only module's layers at the top level; nothing of it where others give the layers."""
    modules = schema.modules or {}
    if len(given) > 1:
        return [Remove(("modules",))]
    if len(modules) != 1 or any(module.parameters for module in modules.values()):
        return []
    name, module = next(iter(modules.items()))
    key = "models" if module.models is not None else "slices"
    return [Move(("modules", name, key), (key,))]


def missing_form(parameter: Parameter, settings: Sequence[Setting]) -> str:
    """For a parameter without a value: how it is given, or that none of its filters matched."""
    if any(settings):
        return "no filter of it matches; `{value: ...}` as the last condition holds for all others"
    return f"`parameters: {{{parameter.name}: {usual_value(parameter):g}}}`, for instance"


def missing_steps(parameter: Parameter, who: Way, found: Sequence[tuple[Setting, Way]]) -> list[Step]:
    """A value for a parameter that has none, or for what none of its filters matches."""
    if who == ("base_model",):
        return [Remove(who)]
    if not found:
        stands = ("parameters",) if not parameter.meaning.per_model else (*who, "parameters")
        return [Put((*stands, parameter.name), usual_value(parameter))]
    setting, way = found[-1]
    written = as_data(setting)
    rules = written if isinstance(written, list) else [written]
    place = (*way, "parameters", parameter.name)
    last = {"value": usual_value(parameter)}
    return [Put((*place, END), last) if len(setting) > 1 else Put(place, [*rules, last])]


def usual_value(parameter: Parameter) -> float:
    """A value that a parameter without default takes: models count alike, and t is half-way."""
    return 1 if parameter.meaning.per_model else 0.5


def inputs_advice(recipe: Recipe, method: MergeMethod, entry: Slice, most: int | None) -> tuple[str, list[Step]]:
    """For a slice with more or fewer sources than the method takes: what to do, and the steps of it."""
    beyond = entry.sources[-1].way == ("base_model",)
    if method.name == "passthrough":
        if len(entry.sources) == 2 and beyond:
            return " Leave `base_model` out.", [Remove(("base_model",))]
        advice = " To stack models, give each a slice of its own; to average them, write `merge_method: linear`."
        return advice, _apart(recipe, entry)
    if most is None:
        more = (
            f" List another: `- {{model: org/name, layer_range: [{entry.sources[0].start}, {entry.sources[0].stop}]}}`."
            if entry.sources[0].way[0] == "slices"
            else " List another: `- {model: org/name}`."
        )
        return more, []
    listed = [source for source in entry.sources if source.way != ("base_model",)]
    if beyond and method.base in ("ordinary", "first"):
        if len(listed) == most and method.base == "first":
            return f" Let `base_model` be one of those listed, as `{listed[0].ref}`.", [
                Put(("base_model",), str(listed[0].ref))
            ]
        return " Leave `base_model` out.", [Remove(("base_model",))]
    others = [source for source in listed if method.base == "ordinary" or source.ref != entry.base]
    kept = most - (method.base == "first")
    surplus = others[kept:]
    many = {"slerp": "karcher", "nuslerp": "multislerp"}.get(method.name)
    advice = f" Leave {' and '.join(f'`{source.ref}`' for source in surplus)} out"
    advice += f", or write `merge_method: {many}`, which takes any number." if many else "."
    return advice, [Remove(source.way) for source in surplus]


def _apart(recipe: Recipe, entry: Slice) -> list[Step]:
    """A slice for each source of a slice."""
    alone: list[dict[str, Any]] = [{"sources": [source_as_data(source)]} for source in entry.sources]
    if entry.way == ("models",):
        return [Rewrite(("models",), "slices", alone)]
    written = recipe.schema.slices or ()
    if len(written) != 1:
        return []
    return [Put(("slices",), alone)]


def models_as_slices(recipe: Recipe, entry: Slice, depth: Depth) -> list[Step]:
    """`models` of unequal depth as one slice, of the layers that all of them have."""
    counts = [count for source in entry.sources if (count := depth(source.ref))]
    if recipe.incomplete or len(counts) < len(entry.sources):
        return []
    sources = [source_as_data(source, (0, min(counts))) for source in entry.sources]
    return [Rewrite(("models",), "slices", [{"sources": sources}])]


def base_steps(entry: Slice, count: int) -> list[Step]:
    """A base where none is named; its layers where they are not there; the first of them where they are twice."""
    first = entry.sources[0]
    if entry.base is None:
        return [Put(("base_model",), str(first.ref))]
    if count == 0:
        return [Put((*entry.way, "sources", END), source_as_data(Source(entry.base, first.start, first.stop, {}, ())))]
    again = [source for source in entry.sources if source.ref == entry.base][1:]
    return [Remove(source.way) for source in again]


def defined_steps(entry: Slice, values: Mapping[str, Value | tuple[Value, ...]]) -> tuple[str, list[Step]]:
    """For weights that sum to zero: what gives them a sum, or does without."""
    weights, first = values.get("weight"), entry.sources[0].way
    if not isinstance(weights, tuple) or first[-1:] == ("base_model",):
        return "", []
    if any(weights):
        return " `normalize: false` adds them up as they are.", [Put(("parameters", "normalize"), False)]
    place = (*first, "weight") if first[0] == "stack" else (*first, "parameters", "weight")
    return " Give one of them a weight there.", [Put(place, 1)]
