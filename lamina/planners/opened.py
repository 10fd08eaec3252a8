"""The models that a recipe names, opened by their headers; those that are not there are told."""

from __future__ import annotations

from collections.abc import Callable

from lamina.errors import CheckpointError, nearest
from lamina.model_ref import AdapterRef, ModelRef
from lamina.models.plain import PlainModel, folder_like
from lamina.planners.request import Findings
from lamina.planners.vocabularies import place_of_wish
from lamina.recipe.load import Recipe
from lamina.recipe.steps import Put
from lamina.recipe.text import Way

OpenModel = Callable[[ModelRef], PlainModel]


def referenced_models(recipe: Recipe) -> dict[ModelRef, Way]:
    """Every model that the recipe names and where; first the one that gives config and tokenizer."""
    schema = recipe.schema
    named: list[tuple[ModelRef | None, Way]] = [(schema.base_model, ("base_model",))]
    named += [(entry.model, ("models", i, "model")) for i, entry in enumerate(schema.models or ())]
    for i, entry in enumerate(schema.slices or ()):
        named += [(source.model, ("slices", i, "sources", j, "model")) for j, source in enumerate(entry.sources)]
        named.append((entry.base_model, ("slices", i, "base_model")))
    named += [(entry.model, ("stack", i, "model")) for i, entry in enumerate(schema.stack or ())]
    for key in ("embed", "norm", "head"):
        named += [(source.model, (key, i, "model")) for i, source in enumerate(getattr(schema, key) or ())]
    if isinstance(schema.vocabulary_source, ModelRef):
        named.append((schema.vocabulary_source, place_of_wish(schema)))
    found: dict[ModelRef, Way] = {}
    for ref, way in named:
        if ref is not None:
            found.setdefault(ref, way)
    return found


def opened(recipe: Recipe, open_model: OpenModel, findings: Findings) -> dict[ModelRef, PlainModel]:
    """Every model of a recipe that can be opened; the others are faults."""
    models = {}
    for ref, way in referenced_models(recipe).items():
        if ref.adapters:
            bare = AdapterRef(ref.path, ref.revision)
            adapter = "it" if len(ref.adapters) == 1 else "them"
            message = (
                f"`{ref}`: adapters are not merged yet. Merge {adapter} into `{bare}` first and name the result, or "
                f"write `{bare}`, the model without."
            )
            findings.fault("not-yet", message, way, steps=[Put(way, str(bare))])
            continue
        try:
            models[ref] = open_model(ref)
            _ = models[ref].architecture
        except CheckpointError as error:
            _tell_of_missing(ref, error, way, findings)
    return models


def _tell_of_missing(ref: ModelRef, error: CheckpointError, way: Way, findings: Findings) -> None:
    """A model that is not there, and what may be meant: a word for a model, a folder nearby."""
    words = ("union", "base") if way[0] in ("tokenizer", "tokenizer_source") else ()
    meant = nearest(ref.path, words) or folder_like(ref.path, findings.recipe.folder)
    said = str(error) if str(error)[-1:] in (".", "?", ")", "`") else f"{error}."
    message = f"{said}{f' Did you mean `{meant}`?' if meant else ''}"
    if words and meant is None:
        message += " Without a model, `base` is valid, or `union`."
    chosen = meant or ("base" if words else None)
    findings.fault("model", message, way, meant or "", [Put(way, chosen)] if chosen else ())
