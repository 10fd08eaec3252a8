"""The layers that a recipe takes, as slices, against those that its models have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import yaml

from lamina.errors import Problem
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel
from lamina.planners.advice import models_as_slices
from lamina.planners.request import Findings
from lamina.recipe.load import Recipe
from lamina.recipe.schema import UNTOLD
from lamina.recipe.slices import Depth, Slice, Source, slices_as_written, slices_of_models
from lamina.recipe.stack import slices_of_stack
from lamina.recipe.steps import Put, Step


def slices_of(recipe: Recipe, models: Mapping[ModelRef, PlainModel], findings: Findings) -> list[Slice]:
    """The recipe's layers as slices, however they are spelled. Faults go to `findings`.

    Slices that are at fault are among them, so that what else is wrong there is told in the same breath.
    """

    def depth(ref: ModelRef) -> int | None:
        return models[ref].architecture.depth if ref in models else None

    schema = recipe.schema
    if schema.stack is not None:
        return slices_of_stack(recipe, depth, findings.problems)
    slices = slices_of_models(recipe, depth) if schema.models is not None else slices_as_written(recipe)
    for problem in (problem for entry in slices for problem in _range_problems(recipe, entry, depth)):
        place = (problem.code, problem.line, problem.column)  # told without the model's layers, it is told anew
        findings.problems = [each for each in findings.problems if (each.code, each.line, each.column) != place]
        findings.problems.append(problem)
    return slices


def is_sound(entry: Slice, models: Mapping[ModelRef, PlainModel]) -> bool:
    """True when every layer that the slice names is there."""
    return all(
        source.ref in models
        and 0 <= source.start < source.stop <= models[source.ref].architecture.depth
        and source.stop - source.start == entry.depth
        for source in entry.sources
    )


def _range_problems(recipe: Recipe, entry: Slice, depth: Depth) -> Iterator[Problem]:
    first = entry.sources[0]
    for source in entry.sources:
        layers = f"layer_range [{source.start}, {source.stop}]"
        way, count = (*source.way, "layer_range"), depth(source.ref)
        suggestion = ""
        if source.stop == UNTOLD:
            yield _untold_range(recipe, source, count)
            continue
        steps: Sequence[Step] | None = None
        if source.way[0] in ("models", "base_model"):
            if None in (count, depth(first.ref)) or source.stop == first.stop:
                continue
            message = (
                f"`{source.ref}` has {source.stop} layers, and `{first.ref}` has {first.stop}: under `models` all have "
                "equally many. `slices` takes the same number of layers from each."
            )
            steps = models_as_slices(recipe, entry, depth)
        elif source.start < 0 or source.stop < 0:
            known = f": `{source.ref}` has {count}, and `{count}` as the end includes the last" if count else ""
            message = f"{layers} counts from the end, and layers are counted from 0{known}."
            end = source.stop if 0 < source.stop <= (count or 0) else count
            suggestion = f"[{max(source.start, 0)}, {end}]" if end and source.start < end else ""
        elif source.stop == source.start:
            message = f"{layers} is empty; the form is [start, end], the end not included."
            start = source.start - (source.start == count)
            suggestion = f"[{start}, {start + 1}]"
        elif source.stop < source.start:
            suggestion = f"[{source.stop}, {source.start}]"
            message = f"{layers} runs backwards; the form is [start, end], the end not included."
        elif count is not None and source.stop > count:
            message = f"{layers} ends beyond `{source.ref}`, which has {count} layers (0 to {count} is valid)."
            suggestion = f"[{source.start}, {count}]" if source.start < count else ""
        elif (
            source.stop - source.start != entry.depth
            and first.stop != UNTOLD
            and 0 <= first.start < first.stop <= (depth(first.ref) or first.stop)
        ):
            message = (
                f"{layers} of `{source.ref}` are {source.stop - source.start} layers, and the first source of this "
                f"slice has {entry.depth}: sources of one slice need equally many."
            )
            start = source.start if source.start + entry.depth <= (count or 0) else (count or 0) - entry.depth
            suggestion = f"[{start}, {start + entry.depth}]" if start >= 0 else ""
        else:
            continue
        hint = f" Did you mean `{suggestion}`?" if suggestion else ""
        if steps is None:
            steps = [Put(way, yaml.safe_load(suggestion))] if suggestion else []
        yield recipe.problem("layer-range", message + hint, way, suggestion, steps)


def _untold_range(recipe: Recipe, source: Source, count: int | None) -> Problem:
    """A layer_range that is missing, or that nobody can read."""
    way = (*source.way, "layer_range")
    form = "`layer_range: [start, end]`, the end not included"
    whole = f"[0, {count}]" if count else ""
    if recipe.says(way):
        hint = f" Did you mean `{whole}`, all layers of `{source.ref}`?" if whole else ""
        message = f"a layer_range is two whole numbers, `[start, end]`, the end not included, and this is not.{hint}"
        return recipe.problem("wrong-value", message, way, whole, [Put(way, [0, count])] if whole else ())
    hint = f" `layer_range: {whole}` takes all layers of `{source.ref}`." if whole else ""
    message = f"`layer_range` is missing here: {form}.{hint}"
    return recipe.problem("missing-key", message, source.way, "layer_range", [Put(way, [0, count])] if whole else ())
