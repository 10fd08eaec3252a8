"""What lies beside the tensors: config.json true to them, the donor's tokenizer, the recipe, picture and card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from lamina.architectures.config_values import SHARED, config_values
from lamina.architectures.infer import is_tied_by_config, text_key
from lamina.architectures.layer_config import restacked_config
from lamina.expressions.inspect import is_copy
from lamina.merge_methods import METHODS
from lamina.models.plain import PlainModel
from lamina.planners.chat import Template
from lamina.planners.model_card import CARD, PICTURE, Licenses, model_card
from lamina.planners.own_code import file_beside
from lamina.planners.request import Findings, Request
from lamina.planners.slices import Jobs
from lamina.planners.small_files import small_files
from lamina.planners.vocabularies import tokenizer_giver
from lamina.plans.picture import in_words, layer_map_svg
from lamina.plans.plan import Plan, SideFile
from lamina.recipe.slices import Source
from lamina.tensor_spec import DType, Kind
from lamina.tokenizers.chat_templates import TEMPLATE_FILE, TEMPLATE_FILES, without_template
from lamina.tokenizers.vocabulary import VOCABULARY_FILES
from lamina.wording import listed

# What is carried as it is: of the model that gives the tokenizer, and of the donor, where they have it.
TOKENIZER_FILES = (*VOCABULARY_FILES, "special_tokens_map.json", "merges.txt", *TEMPLATE_FILES)
OTHER_FILES = ("generation_config.json", "preprocessor_config.json", "processor_config.json")


def check_one_family(request: Request, findings: Findings) -> None:
    """Fault every model whose layers cannot stand beside the donor's under one config.json."""
    donor = config_values(request.donor.config)
    for entry in request.slices:
        for source in entry.sources:
            other = config_values(request.models[source.ref].config)
            for key in donor:
                if key.startswith(SHARED) and key in other and donor[key] != other[key]:
                    what = f"`{source.ref}` has {key} {other[key]} and `{request.donor.name}` has {donor[key]}"
                    if findings.unlike_models and _have_equal_shapes(request.models[source.ref], request.donor):
                        findings.notice("unlike-models", f"{what}; they are merged as asked.")
                    else:
                        message = (
                            f"{what}: their layers do not fit into one model. Leave one of them out, or take a model "
                            "of the other's family, trained from the same base."
                        )
                        findings.fault("unlike-models", message, source.way)
            _check_tensors(request, source, findings)


def _have_equal_shapes(model: PlainModel, other: PlainModel) -> bool:
    """True when a layer of one fits in the place of a layer of the other, whatever their configs say."""
    ours, theirs = (
        {suffix: each.checkpoint.specs[each.architecture.layer_name(0, suffix)].shape for suffix in layer}
        for each in (model, other)
        for layer in each.architecture.layers[:1]
    )
    return ours == theirs


def _check_tensors(request: Request, source: Source, findings: Findings) -> None:
    """Layers of different models hold the same tensors: no config.json describes a bias that half of them have."""
    model, donor = request.models[source.ref], request.donor
    ours, theirs = ({suffix for layer in each.architecture.layers for suffix in layer} for each in (model, donor))
    if ours != theirs:
        message = (
            f"layers of `{source.ref}` and of `{donor.name}` do not hold the same tensors: only one of them has "
            f"{listed(sorted(ours ^ theirs))}."
        )
        findings.fault("unlike-models", message, source.way)


def side_files(request: Request, jobs: Jobs, template: Template | None, findings: Findings) -> tuple[SideFile, ...]:
    """Every file of the model but the tensors, with this chat template instead of the tokenizer's own."""
    config = _config(request, jobs, findings)
    carried = _carried(request, template, findings)
    return (
        SideFile("config.json", _json(config), note=_changes(request.donor.config, config)),
        *carried,
        *(file for file in _own_code(request) if file.name not in {other.name for other in carried}),
    )


def files_about_the_merge(request: Request, licenses: Licenses, plan: Plan) -> tuple[SideFile, ...]:
    """What tells of the merge and is no part of the model: the recipe, a picture of the layers, the card, notes."""
    recipe = request.recipe
    recipe_name = "lamina.yml" if _has_own_words(request) else "mergekit_config.yml"
    contents = {
        recipe_name: recipe.text.encode(),
        PICTURE: layer_map_svg(plan).encode(),
        CARD: model_card(request, licenses, recipe_name, in_words(plan)).encode(),
        **recipe.notes,
    }
    return tuple(SideFile(name, content, about_the_merge=True) for name, content in contents.items())


def _config(request: Request, jobs: Jobs, findings: Findings) -> dict[str, Any]:
    donor = request.donor
    config, problems = restacked_config(
        donor.decoder,
        request.origins,
        request.assume_per_layer,
        # A config may announce layers that no file of the model holds: so it stays where nothing moves.
        keeps_next_token=request.keeps_next_token and bool(donor.architecture.next_token or request.is_unmoved),
    )
    for problem in dict.fromkeys(problems):
        findings.fault("layer-config", problem, (*request.slices[0].way, problem))
    quantised = [model.name for model in request.models.values() if "quantization_config" in model.config]
    if quantised and (len(quantised) < len(request.models) or not all(is_copy(job.expr) for job in jobs.all)):
        message = f"`{quantised[0]}` is quantised: its layers can be moved as they are, and not be averaged or cast."
        findings.fault("quantised", message, request.slices[0].way)
    key = text_key(config)
    text = config if key is None else config[key]
    if (dtype := _dtype(jobs)) is not None:
        config["torch_dtype" if "dtype" not in config else "dtype"] = str(dtype)
    if is_tied_by_config(config) is not jobs.tied:
        # Which of two parts counts is the class's affair: both say it.
        config["tie_word_embeddings"] = text["tie_word_embeddings"] = jobs.tied
    _check_vocabulary(request, jobs, text, findings)
    return config


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What is new in a config: `num_hidden_layers 32 -> 40, layer_types for 40 layers`."""
    told = []
    for key, value in after.items():
        if isinstance(value, list) and before.get(key) != value:
            told.append(f"{key} for {len(value)} layers")
        elif isinstance(value, dict):
            told += [_changes(before.get(key) or {}, value)]
        elif before.get(key) != value:
            told.append(f"{key} {before[key]} -> {value}" if key in before else f"{key} {value}")
    return ", ".join(filter(None, told))


def _dtype(jobs: Jobs) -> DType | None:
    """The dtype of most elements."""
    counts: Counter[DType] = Counter()
    for job in jobs.all:
        if job.expr.spec.dtype.kind is Kind.FLOAT:
            counts[job.expr.spec.dtype] += job.expr.spec.count
    return counts.most_common(1)[0][0] if counts else None


def _check_vocabulary(request: Request, jobs: Jobs, config: Mapping[str, Any], findings: Findings) -> None:
    """Embedding, head and config.json must agree on the number of rows."""
    donor, specs = request.donor.architecture, request.donor.checkpoint.specs
    rows = {job.name: job.expr.spec.shape[0] for job in jobs.all if job.name in (donor.embedding, donor.head)}
    of_donor = specs[donor.embedding].shape[0]
    for name, count in rows.items():
        expected = specs[name].shape[0] if name in specs else of_donor
        if count != expected:
            message = (
                f"`{name}` has {count} rows, while config and tokenizer come from `{request.donor.name}` with "
                f"{expected}. Take both ends from models of one vocabulary, and name its owner as `base_model`."
            )
            findings.fault("vocabulary", message, request.slices[-1 if name == donor.head else 0].sources[0].way)
    if rows and config.get("vocab_size") not in (None, of_donor):
        findings.notice(
            "vocabulary",
            f"config.json of `{request.donor.name}` says vocab_size {config['vocab_size']}; it has {of_donor} rows.",
        )


def _carried(request: Request, template: Template | None, findings: Findings) -> list[SideFile]:
    """The tokenizer's files and the other small ones, with the chat template that the recipe asks for."""
    giver = tokenizer_giver(request)
    own = (*OTHER_FILES, "*.py") if "auto_map" in request.donor.config else OTHER_FILES
    tokenizer = dict(small_files(giver, TOKENIZER_FILES))
    notes = {name: f"of `{giver.name}`" for name in tokenizer if giver is not request.donor}
    if template is not None:
        before = tokenizer
        try:
            tokenizer = without_template(tokenizer)
        except ValueError as error:
            message = f"`{giver.name}`: {error}; mend or replace that file."
            findings.fault("tokenizer", message, ("chat_template",))
        notes |= {name: "chat_template is taken out" for name, raw in tokenizer.items() if before[name] != raw}
        tokenizer = tokenizer | {TEMPLATE_FILE: template.text.encode()}
        notes[TEMPLATE_FILE] = template.origin
    files = {**small_files(request.donor, own), **tokenizer}
    return [SideFile(name, files[name], note=notes.get(name, "")) for name in sorted(files)]


def _own_code(request: Request) -> list[SideFile]:
    """The file of somebody's own method, where it lies beside the recipe: so it does in the published folder."""
    path = file_beside(request.method.name, request.recipe.folder)
    note = "the merge method's code"
    return [] if path is None else [SideFile(path.name, path.read_bytes(), about_the_merge=True, note=note)]


def _has_own_words(request: Request) -> bool:
    """True for a recipe that only Lamina reads."""
    schema = request.recipe.schema
    return request.method.name not in METHODS or any(
        value is not None for value in (schema.stack, schema.gradient_ends, schema.embed, schema.norm, schema.head)
    )


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
