"""The one form that a planner works on: slices, each made of layers of its sources.

`models`, `slices` and `stack` all say the same thing in the end. A source is known by its position in its
slice, never by its model's name: one model may feed a layer any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lamina.model_ref import ModelRef
from lamina.recipe.load import Recipe
from lamina.recipe.schema import TokenizerSettings
from lamina.recipe.settings import Setting, as_data
from lamina.recipe.text import Way

# The number of a model's layers; None where the model could not be opened, which is told elsewhere.
Depth = Callable[[ModelRef], int | None]


@dataclass(frozen=True)
class Source:
    """Layers [start, stop) of one model, and what is set for it. `way` is where the recipe says so."""

    ref: ModelRef
    start: int
    stop: int
    parameters: Mapping[str, Setting]
    way: Way


@dataclass(frozen=True)
class Slice:
    """Output layers made of equally many layers of each source. `parameters` holds for the whole slice."""

    sources: tuple[Source, ...]
    parameters: Mapping[str, Setting]
    base: ModelRef | None
    way: Way

    @property
    def depth(self) -> int:
        """Number of output layers."""
        return self.sources[0].stop - self.sources[0].start


def slices_of_models(recipe: Recipe, depth: Depth) -> list[Slice]:
    """`models`: one slice over all layers. A base that is not listed joins as the last source, as in MergeKit."""
    schema = recipe.schema
    sources = [
        Source(entry.model, 0, depth(entry.model) or 0, entry.parameters, ("models", number))
        for number, entry in enumerate(schema.models or ())
    ]
    base = schema.base_model
    if base is not None and base not in [source.ref for source in sources]:
        sources.append(Source(base, 0, depth(base) or 0, {}, ("base_model",)))
    return [Slice(tuple(sources), {}, base, ("models",))]


def slices_as_written(recipe: Recipe) -> list[Slice]:
    """`slices`, as the recipe has them."""
    return [
        Slice(
            tuple(
                Source(source.model, *source.layer_range, source.parameters, ("slices", number, "sources", place))
                for place, source in enumerate(entry.sources)
            ),
            entry.parameters,
            entry.base_model or recipe.schema.base_model,
            ("slices", number),
        )
        for number, entry in enumerate(recipe.schema.slices or ())
    ]


def as_yaml(recipe: Recipe, slices: list[Slice]) -> str:
    """The recipe with its layers spelled as `slices`: it plans to the same result."""
    schema = recipe.schema
    content: dict[str, Any] = {
        "slices": [
            {
                "sources": [source_as_data(source) for source in entry.sources],
                **({} if entry.base in (None, schema.base_model) else {"base_model": str(entry.base)}),
                **_parameters(entry.parameters),
            }
            for entry in slices
        ],
        "merge_method": schema.merge_method or "linear",
    }
    donor = schema.base_model or (schema.stack[0].model if schema.stack else None)
    if schema.base_model is not None or donor not in (None, slices[0].sources[0].ref):
        content["base_model"] = str(donor)  # config and tokenizer are those of the first entry, wherever it lies
    content |= _parameters(schema.parameters)
    for key in ("embed", "norm", "head"):
        if (end := getattr(schema, key)) is not None:
            content[key] = [
                {"model": str(source.model)} | ({"weight": as_data(source.weight)} if source.weight else {})
                for source in end
            ]
    if schema.gradient_ends == "own" or schema.stack is not None:
        content["gradient_ends"] = "own"
    for key in ("dtype", "out_dtype"):
        if (dtype := getattr(schema, key)) is not None:
            content[key] = str(dtype)
    if schema.tokenizer is not None:
        content["tokenizer"] = _tokenizer(schema.tokenizer)
    if schema.tokenizer_source is not None:
        content["tokenizer_source"] = str(schema.tokenizer_source)
    if schema.chat_template is not None:
        content["chat_template"] = schema.chat_template
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)


def source_as_data(source: Source, layers: tuple[int, int] | None = None) -> dict[str, Any]:
    """A source of a slice as a recipe writes it."""
    written: dict[str, Any] = {"model": str(source.ref), "layer_range": list(layers or (source.start, source.stop))}
    return written | _parameters(source.parameters)


def _tokenizer(settings: TokenizerSettings) -> dict[str, Any]:
    return {
        "source": str(settings.source),
        **({"tokens": settings.tokens} if settings.tokens else {}),
        **({"pad_to_multiple_of": settings.pad_to_multiple_of} if settings.pad_to_multiple_of else {}),
    }


def _parameters(parameters: Mapping[str, Setting]) -> dict[str, Any]:
    return {"parameters": {name: as_data(setting) for name, setting in parameters.items()}} if parameters else {}
