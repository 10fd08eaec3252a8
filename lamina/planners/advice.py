"""What to write where a recipe cannot be carried out as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lamina.merge_methods import MergeMethod
from lamina.merge_methods.parameters import Parameter, Value
from lamina.recipe.recipe import Recipe
from lamina.recipe.schema import InputModel, RecipeSchema, SliceSource
from lamina.recipe.settings import Conditional, Setting, as_data
from lamina.recipe.slices import Depth, Slice, Source, source_as_data
from lamina.recipe.steps import END, Move, Put, Remove, Rewrite, Step
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


def missing_value(
    recipe: Recipe, parameter: Parameter, tensor: str, who: Way, entry: Slice, found: Sequence[tuple[Setting, Way]]
) -> tuple[str, list[Step]]:
    """For a parameter without a value: how it is given, or that none of its filters matched, and the steps of it."""
    usual = 1 if parameter.meaning.per_model else 0.5  # models count alike, t is half-way
    given = [(source, number) for source in entry.sources if (number := _plain_number(source, parameter)) is not None]
    beside, value = given[0] if given else (None, usual)
    if who == ("base_model",):
        form = "`base_model` is not listed and joins, as in MergeKit: list it with its own, or leave it out"
        return f": {form}.", [Remove(who)]
    if found:
        setting, way = found[-1]
        written, place, last = as_data(setting), (*way, "parameters", parameter.name), {"value": value}
        rules = written if isinstance(written, list) else [written]
        step = Put((*place, END), last) if len(setting) > 1 else Put(place, [*rules, last])
        form = f" for {tensor}: no filter of it matches; `{{value: ...}}` as the last condition holds for all others."
        return form, [step]
    stands = (*who, "parameters") if parameter.meaning.per_model else ("parameters",)
    if parameter.meaning.per_model and recipe.says((*who, parameter.name)):
        form = ": it stands beside `model`, where it has no effect, and belongs under `parameters`."
        return form, [Move((*who, parameter.name), (*stands, parameter.name))]
    form = f"`parameters: {{{parameter.name}: {value:g}}}`"
    return f": {form}, {'' if beside is None or value == usual else f'as `{beside.ref}` has it, '}for instance.", [
        Put((*stands, parameter.name), value)
    ]


def _plain_number(source: Source, parameter: Parameter) -> float | None:
    """A source's value for a parameter, where it is one positive number for every tensor and layer."""
    match source.parameters.get(parameter.name, ()):
        case (Conditional(None, (int() | float() as value,)),) if not isinstance(value, bool) and value > 0:
            return value
    return None


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


def base_advice(entry: Slice, method: MergeMethod, count: int) -> tuple[str, list[Step]]:
    """For a base that is not named; whose layers are not there; or are there `count` times. With the steps."""
    first = entry.sources[0]
    if entry.base is None and method.base == "first":
        return f"{method.name} starts at a base: name it, as `base_model: {first.ref}`.", [
            Put(("base_model",), str(first.ref))
        ]
    if entry.base is None:
        made = f"`{first.ref}` was" if len(entry.sources) == 1 else "the others were"
        message = f"{method.name} adds differences to a base: name the model that {made} made from"
        bare = [source for source in entry.sources if not source.parameters]
        if len(bare) == 1 and len(entry.sources) > 1:  # all others have weights
            return f"{message}, as `base_model: {bare[0].ref}`.", [Put(("base_model",), str(bare[0].ref))]
        return f"{message}, as `base_model: org/name`.", []
    if count == 0:
        step = Put((*entry.way, "sources", END), source_as_data(Source(entry.base, first.start, first.stop, {}, ())))
        return f"{method.name} needs its base among the sources: add layers of `{entry.base}`.", [step]
    again = [source for source in entry.sources if source.ref == entry.base][1:]
    message = f"{method.name} needs its base once, and `{entry.base}` stands here {count} times; keep one."
    return message, [Remove(source.way) for source in again]


def weights_advice(entry: Slice, values: Mapping[str, Value | tuple[Value, ...]]) -> tuple[str, Way, list[Step]]:
    """For weights that sum to zero: what gives them a sum, or does without; and the weight that it is about."""
    weights, last = values.get("weight"), entry.sources[-1]
    if not isinstance(weights, tuple):
        return "", entry.way, []
    if any(weights):
        return " `normalize: false` adds them up as they are.", entry.way, [Put(("parameters", "normalize"), False)]
    place = (*last.way, "weight") if last.way[0] == "stack" else (*last.way, "parameters", "weight")
    given = [source.parameters.get("weight", ()) for source in entry.sources]
    match given[-1]:
        case (Conditional(None, gradient),) if len(given) == 2 and given[0] == given[1]:
            other = [int(value) if float(value).is_integer() else float(value) for value in map(float, gradient)][::-1]
            if all(float(one) + two > 0 for one, two in zip(gradient, other, strict=True)):
                message = f" From one model to the other, the second rises where the first falls: `{other}`."
                return message, place, [Put(place, other)]
    return " Give one of them a weight there.", place, [Put(place, 1)]
