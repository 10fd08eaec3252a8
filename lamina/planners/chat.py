"""How the result speaks: its chat template, and the tokens with which it begins and ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lamina.architectures.infer import text_config
from lamina.errors import did_you_mean
from lamina.models.plain import PlainModel
from lamina.planners.request import Findings, Request
from lamina.planners.small_files import small_files
from lamina.planners.vocabularies import place_of, tokenizer_giver, vocabulary_of
from lamina.recipe.load import Recipe
from lamina.tokenizers.chat_templates import (
    BUILT_IN,
    TEMPLATE_FILES,
    TOKENS_WRITTEN,
    built_in_template,
    check_template,
    template_of,
)
from lamina.tokenizers.files import TOKENIZER_CONFIG, json_mapping
from lamina.tokenizers.vocabulary import shown

GENERATION_CONFIG = "generation_config.json"


@dataclass(frozen=True)
class Template:
    """The template that a recipe asks for. `origin` says whose it is: `of `a``, `the built-in chatml`."""

    text: str
    origin: str


def check_chat_template(recipe: Recipe, findings: Findings) -> None:
    """Fault a `chat_template` that is neither a name nor Jinja text; no model need be opened for it."""
    wish = recipe.schema.chat_template
    if wish is None or wish in ("auto", *BUILT_IN):
        return
    if "{" not in wish and len(wish.split()) <= 1:
        hint = did_you_mean(wish, ["auto", *BUILT_IN])
        message = f"`{wish}` is no chat template.{hint} Anything else is Jinja text."
        findings.fault("chat-template", message, ("chat_template",))
        return
    try:
        check_template(wish)
    except ValueError as error:
        findings.fault("chat-template", f"{error}.", ("chat_template",))


def chosen_template(request: Request, findings: Findings) -> Template | None:
    """The template that the result gets in place of its tokenizer's own; None where that stays."""
    wish = request.recipe.schema.chat_template
    if wish is None:
        return None
    if wish in BUILT_IN:
        return Template(built_in_template(wish), f"the built-in `{wish}`")
    return _most_frequent(request, findings) if wish == "auto" else Template(wish, "as the recipe writes it")


def tell_of_chat(request: Request, findings: Findings) -> None:
    """Whose template and whose eos the result has, where the recipe chooses or the parents differ."""
    giver, wish = tokenizer_giver(request), request.recipe.schema.chat_template
    own = _speech(giver, request.donor)
    chosen = chosen_template(request, findings)
    template = own.template if chosen is None else chosen.text.strip()
    differing = [told for model in request.models.values() if (told := _differences(model, own, template))]
    if not differing and chosen is None:
        return
    of_template = f"of `{giver.name}`" if chosen is None else chosen.origin
    if template is None:
        of_template = "none"
    whose = (
        f"config.json is of `{request.donor.name}`, the tokenizer of `{giver.name}`, the chat template {of_template}"
    )
    ends = f"; {own.described('eos')} ends a text" if own.eos else ""
    findings.notice(
        "chat",
        f"{whose}{ends}.{''.join(f' {told}.' for told in differing)}",
        None if wish is None else ("chat_template",),
    )
    if wish is not None and wish in TOKENS_WRITTEN:
        _tell_of_tokens(wish, giver, own, findings)


@dataclass(frozen=True)
class _Speech:
    """What a model writes around its texts: template, and the tokens of begin and end in words."""

    template: str | None
    bos: str
    eos: str

    def described(self, which: str) -> str:
        return f"{which} {getattr(self, which)}"


def _speech(tokenizer: PlainModel, config: PlainModel | None = None) -> _Speech:
    """Of a model, or of one model's tokenizer under another's config. What is malformed counts as not there."""
    files = small_files(tokenizer, TEMPLATE_FILES)
    try:
        template = template_of(files)
    except ValueError:
        template = None  # told where it matters: when the file is carried, or asked for
    named = _readable(files.get(TOKENIZER_CONFIG), TOKENIZER_CONFIG)
    owner = config or tokenizer
    generation = _readable(small_files(owner, [GENERATION_CONFIG]).get(GENERATION_CONFIG), GENERATION_CONFIG)
    bos, eos = (_token(which, named, generation, owner.config) for which in ("bos", "eos"))
    return _Speech(template.strip() if template else None, bos, eos)


def _token(which: str, named: Mapping[str, Any], generation: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """A special token in words: `'</s>' (id 2)`. Ids are those that generation goes by."""
    token = named.get(f"{which}_token")
    text = token.get("content") if isinstance(token, dict) else token
    key = f"{which}_token_id"
    number = next((each[key] for each in (generation, config, text_config(config)) if each.get(key) is not None), None)
    numbers = number if isinstance(number, list) else [number] if number is not None else []
    ids = f"id{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}" if numbers else ""
    if not isinstance(text, str):
        return ids
    return f"{shown(text)} ({ids})" if ids else shown(text)


def _differences(model: PlainModel, own: _Speech, template: str | None) -> str:
    """How a model speaks otherwise than the result; empty where it does not. What it leaves unsaid is no difference."""
    other, told = _speech(model), []
    if other.template is not None and other.template != template:
        told.append("another chat template" if template else "a chat template")
    for which in ("bos", "eos"):
        theirs, ours = getattr(other, which), getattr(own, which)
        if theirs and ours and theirs != ours:
            told.append(f"{which} {theirs}" + (f", not {ours}" if which == "bos" else ""))
    return f"`{model.name}` has {' and '.join(told)}" if told else ""


def _most_frequent(request: Request, findings: Findings) -> Template | None:
    """The template that most of the recipe's models have; of equally many the one that comes first."""
    owners: dict[str, list[PlainModel]] = {}
    for model in request.models.values():
        try:
            template = template_of(small_files(model, TEMPLATE_FILES))
        except ValueError as error:
            findings.fault(
                "tokenizer", f"`{model.name}`: {error}; mend or replace that file.", place_of(request, model)
            )
            continue
        if template is not None:
            owners.setdefault(template.strip(), []).append(model)
    if not owners:
        message = "none of the models has a chat template, so the result has none; `chat_template: chatml` gives one."
        findings.notice("chat-template", message, ("chat_template",))
        return None
    counts = Counter({template: len(models) for template, models in owners.items()})
    text = counts.most_common(1)[0][0]  # among equals the first that was counted
    names = " and ".join(f"`{model.name}`" for model in owners[text])
    return Template(text, f"of {names}")


def _tell_of_tokens(name: str, giver: PlainModel, own: _Speech, findings: Findings) -> None:
    """The tokens that a built-in template writes, against what the tokenizer knows."""
    written = TOKENS_WRITTEN[name]
    try:
        tokens = vocabulary_of(giver).tokens
    except ValueError as error:
        findings.fault("tokenizer", f"`{giver.name}`: {error}; mend or replace that file.", ("chat_template",))
        return
    missing = [] if tokens is None else sorted(set(written) - set(tokens.values()), key=written.index)
    if missing:
        findings.notice(
            "chat-template",
            f"the template `{name}` writes {', '.join(map(shown, missing))}, which the tokenizer of `{giver.name}` "
            "does not have as tokens: they would be spelled in pieces, which no model was trained on.",
            ("chat_template",),
        )
    elif own.eos and shown(written[-1]) not in own.eos:
        findings.notice(
            "chat-template",
            f"a turn of `{name}` ends with {shown(written[-1])}, and generation stops at {own.eos}: "
            "add the id of the former to `eos_token_id` in generation_config.json.",
            ("chat_template",),
        )


def _readable(raw: bytes | None, name: str) -> dict[str, Any]:
    try:
        return {} if raw is None else json_mapping(raw, name)
    except ValueError:
        return {}
