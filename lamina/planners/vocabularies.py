"""Which token each row of the result stands for: whose tokenizer it has, and whether the rows agree with it.

Rows are taken as they stand, row by row. Models whose rows meet must have the same token in each; what would
need rows to move is refused with what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lamina.expressions.inspect import reads
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel
from lamina.planners.request import Findings, Request
from lamina.planners.small_files import small_files
from lamina.plans.plan import Job
from lamina.recipe.load import Recipe
from lamina.recipe.schema import RecipeSchema
from lamina.recipe.steps import Remove
from lamina.recipe.text import KEY, Way
from lamina.tokenizers.vocabulary import (
    VOCABULARY_FILES,
    Comparison,
    Vocabulary,
    compared,
    difference_in_words,
    listed,
)


@dataclass(frozen=True)
class _Pair:
    """The tokens of two models: the one whose tokenizer the result has, and another that is merged."""

    giver: PlainModel
    ours: Mapping[int, str]
    model: PlainModel
    theirs: Mapping[int, str]

    @cached_property
    def difference(self) -> Comparison:
        return compared(self.ours, self.theirs)

    @cached_property
    def words(self) -> str:
        return difference_in_words(self.giver.name, self.ours, self.model.name, self.theirs)


def check_tokenizer_keys(recipe: Recipe, findings: Findings) -> None:
    """What `tokenizer_source` and `tokenizer` ask for that no model need be opened to refuse."""
    schema = recipe.schema
    if schema.tokenizer is None:
        return
    if schema.tokenizer_source is not None:
        message = "`tokenizer` and `tokenizer_source` say the same thing; keep one."
        findings.fault("tokenizer-twice", message, ("tokenizer_source", KEY), steps=[Remove(("tokenizer_source",))])
    if schema.tokenizer.tokens:
        message = "rows for single `tokens` are not merged yet; leave them out, and the rows stay as they are."
        findings.fault("not-yet", message, ("tokenizer", "tokens", KEY), steps=[Remove(("tokenizer", "tokens"))])
    if schema.tokenizer.pad_to_multiple_of is not None:
        message = "`pad_to_multiple_of` is not merged yet; leave it out, and the number of rows stays as it is."
        way = ("tokenizer", "pad_to_multiple_of")
        findings.fault("not-yet", message, (*way, KEY), steps=[Remove(way)])


def tokenizer_giver(request: Request) -> PlainModel:
    """The model whose tokenizer files the result has: the one that the recipe names, else the donor."""
    source = request.recipe.schema.vocabulary_source
    return request.models.get(source, request.donor) if isinstance(source, ModelRef) else request.donor


def vocabulary_of(model: PlainModel) -> Vocabulary:
    """What a model's files say of its tokens."""
    return Vocabulary(small_files(model, VOCABULARY_FILES))


def check_vocabularies(request: Request, jobs: Sequence[Job], findings: Findings) -> None:
    """Compare every model's tokens with those of the tokenizer that the result has.

    Where a model's rows enter the result, unlike tokens are a fault; where only its layers do, a notice.
    """
    giver = tokenizer_giver(request)
    own = vocabulary_of(giver)
    ends = _models_of_ends(request, jobs)
    wish = request.recipe.schema.vocabulary_source
    for ref, model in request.models.items():
        other = vocabulary_of(model)
        if model is giver or own.same_files(other) or not (own.is_there or other.is_there):
            continue
        rows_count = model.name in ends or wish == "union"
        way = place_of(request, model)
        if not rows_count and not _has_layers(request, ref):
            continue
        tokens = []
        for each, vocabulary in ((giver, own), (model, other)):
            try:
                tokens.append(vocabulary.tokens)
            except ValueError as error:
                _tell_of_malformed(request, each, error, findings, matters=rows_count)
        if len(tokens) < 2:
            continue
        ours, theirs = tokens
        if ours is None or theirs is None:
            if rows_count:
                _tell_of_unknown(giver, own, model, other, way, findings)
            continue
        pair = _Pair(giver, ours, model, theirs)
        if pair.difference.equal:
            continue
        if not rows_count:
            findings.notice(
                "vocabulary",
                f"`{model.name}` has another vocabulary than the result: {pair.words}. Only its layers are used, so "
                "no rows are mixed; they were trained to read other embeddings.",
                way,
            )
        elif wish is not None:
            asked = "tokenizer_source" if request.recipe.schema.tokenizer is None else "source"
            findings.fault(
                "not-yet",
                f"`{asked}: {wish}` is not merged yet where vocabularies differ: {pair.words}. {_one_owner(giver)}",
                place_of_wish(request.recipe.schema),
            )
        elif pair.difference.unlike:
            findings.fault("vocabulary", _unlike_tokens(pair, blended=len(ends) > 1), way)
        else:
            _tell_of_padding(pair, way, findings, blended=len(ends) > 1)


def rows_in_words(first: PlainModel, second: PlainModel, name: str, rows: tuple[int, int]) -> str:
    """The letter for two models of which one has more rows than the other, where they would be blended."""
    try:
        ours, theirs = vocabulary_of(first).tokens, vocabulary_of(second).tokens
    except ValueError as error:
        words = f" {error}."
    else:
        words = "" if ours is None or theirs is None else _sizes_in_words(_Pair(first, ours, second, theirs))
    return (
        f"{name} has {rows[0]} rows in `{first.name}` and {rows[1]} in `{second.name}`: vocabularies of different "
        f"sizes are not merged yet.{words} {_one_owner(first)}"
    )


def place_of(request: Request, model: PlainModel) -> Way:
    """Where the recipe names a model: as a source, for an end, as base, for its tokenizer, in this order."""
    ref = next(ref for ref, each in request.models.items() if each is model)
    for entry in request.slices:
        for source in entry.sources:
            if source.ref == ref:
                return source.way
    schema = request.recipe.schema
    for key in ("embed", "norm", "head"):
        for number, end in enumerate(getattr(schema, key) or ()):
            if end.model == ref:
                return (key, number)
    return ("base_model",) if schema.base_model == ref else place_of_wish(schema)


def place_of_wish(schema: RecipeSchema) -> Way:
    """Where the recipe says whose tokenizer the result has."""
    return ("tokenizer", "source") if schema.tokenizer is not None else ("tokenizer_source",)


def _models_of_ends(request: Request, jobs: Sequence[Job]) -> set[str]:
    """The models whose rows are in the embedding or the head, by name."""
    ends = (request.donor.architecture.embedding, request.donor.architecture.head)
    return {read.model for job in jobs if job.name in ends for read in reads(job.expr)}


def _has_layers(request: Request, ref: ModelRef) -> bool:
    return any(source.ref == ref for entry in request.slices for source in entry.sources)


def _tell_of_malformed(
    request: Request, model: PlainModel, error: ValueError, findings: Findings, *, matters: bool
) -> None:
    if matters:
        findings.fault("tokenizer", f"`{model.name}`: {error}; mend or replace that file.", place_of(request, model))
    else:
        message = f"`{model.name}`: {error}. No rows are mixed, so the merge goes on without it."
        findings.notice("tokenizer", message, place_of(request, model))


def _sizes_in_words(pair: _Pair) -> str:
    if pair.difference.equal:
        same = f" Their {len(pair.ours)} tokens are the same, the rows beyond are padding."
        return same if pair.ours else " Neither has tokenizer files from which to tell which token a row belongs to."
    return f" What differs: {pair.words}."


def _one_owner(model: PlainModel) -> str:
    return f"`embed: {model.name}` and `head: {model.name}` take all rows from one model."


def _unlike_tokens(pair: _Pair, *, blended: bool) -> str:
    giver, model = pair.giver.name, pair.model.name
    if blended:
        return (
            f"rows of `{giver}` and of `{model}` stand for different tokens: {pair.words}. "
            f"Averaging them mixes unlike tokens. {_one_owner(pair.giver)}"
        )
    return (
        f"the rows come from `{model}` and the tokenizer from `{giver}`, and they do not agree: {pair.words}. "
        f"`tokenizer_source: {model}` gives the result the tokenizer of its rows."
    )


def _tell_of_padding(pair: _Pair, way: Way, findings: Findings, *, blended: bool) -> None:
    """Tokens that one model has where the other has padding: nothing contradicts, and it is not nothing."""
    giver, model, difference = pair.giver.name, pair.model.name, pair.difference
    if difference.first_only:
        what = f"only `{giver}` has {listed(pair.ours, difference.first_only)}; to `{model}` these rows are padding"
        follows = "In the result they are blended with it." if blended else "In the result they are that padding."
        findings.notice("vocabulary", f"{what}. {follows}", way)
    if difference.second_only:
        what = f"only `{model}` has {listed(pair.theirs, difference.second_only)}"
        findings.notice("vocabulary", f"{what}; the result's tokenizer, that of `{giver}`, does not know them.", way)


def _tell_of_unknown(
    giver: PlainModel, own: Vocabulary, model: PlainModel, other: Vocabulary, way: Way, findings: Findings
) -> None:
    """Two vocabularies of which one cannot be read off its files."""
    if not (own.is_there and other.is_there):
        bare, full = (giver, model) if other.is_there else (model, giver)
        found = (
            f"`{bare.name}` has no tokenizer files, and its rows are taken to mean what those of `{full.name}` mean."
        )
    else:
        unread = giver if own.tokens is None else model
        found = (
            f"the tokenizer files of `{giver.name}` and `{model.name}` differ, and those of `{unread.name}` are of a "
            "kind whose tokens are not read."
        )
    findings.notice("vocabulary", f"{found} Make sure that both have the same tokens.", way)
