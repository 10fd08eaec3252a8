"""How the result speaks: its chat template, and the tokens with which it begins and ends."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.architectures.infer import text_config
from lamina.errors import did_you_mean, nearest
from lamina.json_mapping import json_mapping
from lamina.models.plain import PlainModel
from lamina.planners.request import Findings, Request
from lamina.planners.small_files import small_files
from lamina.planners.vocabularies import place_of, tokenizer_giver, vocabulary_of
from lamina.recipe.load import Recipe
from lamina.recipe.steps import Put, Remove
from lamina.tokenizers.chat_templates import (
    BUILT_IN,
    TEMPLATE_FILES,
    TOKENS_WRITTEN,
    built_in_template,
    check_template,
    template_of,
)
from lamina.tokenizers.vocabulary import TOKENIZER_CONFIG, shown

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
        meant = nearest(wish, ["auto", *BUILT_IN])
        steps = [Put(("chat_template",), meant) if meant else Remove(("chat_template",))]
        findings.fault("chat-template", message, ("chat_template",), meant or "", steps)
        return
    try:
        check_template(wish)
    except ValueError as error:
        ended = re.search(r"never ended by `(.+?)`", str(error))
        steps = [Put(("chat_template",), wish + ended[1])] if ended else []
        findings.fault("chat-template", f"{error}.", ("chat_template",), steps=steps)


def chosen_template(request: Request, findings: Findings) -> Template | None:
    """The template that the result gets in place of its tokenizer's own; None where that stays."""
    wish = request.recipe.schema.chat_template
    if wish is None:
        return None
    if wish in BUILT_IN:
        return Template(built_in_template(wish), f"the built-in `{wish}`")
    return _most_frequent(request, findings) if wish == "auto" else Template(wish, "as the recipe writes it")


def tell_of_chat(request: Request, chosen: Template | None, findings: Findings) -> None:
    """Whose template, the `chosen` one or its own, and whose eos the result has, where there was a choice."""
    giver, wish = tokenizer_giver(request), request.recipe.schema.chat_template
    own = _speech(giver, request.donor)
    others = [(model, _speech(model)) for model in request.models.values()]
    differing = [told for model, other in others if (told := _differences(model, own, other, chosen))]
    if not differing and chosen is None:
        return
    template = chosen.origin if chosen is not None else f"of `{giver.name}`" if own.template else "none"
    ends = f"; eos {own.eos} ends a text" if own.eos.is_known else ""
    findings.notice(
        "chat",
        f"config.json is of `{request.donor.name}`, the tokenizer of `{giver.name}`, the chat template {template}"
        f"{ends}.{''.join(f' {told}.' for told in differing)}",
        None if wish is None else ("chat_template",),
    )
    if wish is not None and wish in TOKENS_WRITTEN:
        _tell_of_tokens(wish, giver, own, findings)


@dataclass(frozen=True)
class _Special:
    """A token with a role: its text as tokenizer_config.json has it, and the ids that generation goes by."""

    text: str | None
    ids: tuple[int, ...]

    @property
    def is_known(self) -> bool:
        return self.text is not None or bool(self.ids)

    def differs(self, other: _Special) -> bool:
        """True where both say something, and not the same."""
        texts = self.text is not None and other.text is not None and self.text != other.text
        return texts or (bool(self.ids) and bool(other.ids) and set(self.ids) != set(other.ids))

    def __str__(self) -> str:
        """`'</s>' (id 2)`."""
        ids = f"id{'s' if len(self.ids) > 1 else ''} {', '.join(map(str, self.ids))}" if self.ids else ""
        if self.text is None:
            return ids
        return f"{shown(self.text)} ({ids})" if ids else shown(self.text)


@dataclass(frozen=True)
class _Speech:
    """What a model writes around its texts."""

    template: str | None
    bos: _Special
    eos: _Special


def _speech(tokenizer: PlainModel, config: PlainModel | None = None) -> _Speech:
    """Of a model, or of one model's tokenizer under another's config. What is malformed counts as not there."""
    files = small_files(tokenizer, TEMPLATE_FILES)
    try:
        template = template_of(files)
    except ValueError:
        template = None  # told where it matters: when the file is asked for, or its tokens are
    named = _readable(files.get(TOKENIZER_CONFIG), TOKENIZER_CONFIG)
    owner = config or tokenizer
    generation = _readable(small_files(owner, [GENERATION_CONFIG]).get(GENERATION_CONFIG), GENERATION_CONFIG)
    bos, eos = (
        _special(which, named, [generation, owner.config, text_config(owner.config)]) for which in ("bos", "eos")
    )
    return _Speech(template.strip() if template else None, bos, eos)


def _special(which: str, named: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> _Special:
    """The token of one role; the first of the configs that has its id counts."""
    token = named.get(f"{which}_token")
    text = token.get("content") if isinstance(token, dict) else token
    key = f"{which}_token_id"
    written: Any = next((config[key] for config in configs if config.get(key) is not None), [])
    ids = written if isinstance(written, list) else [written]
    return _Special(text if isinstance(text, str) else None, tuple(number for number in ids if type(number) is int))


def _differences(model: PlainModel, own: _Speech, other: _Speech, chosen: Template | None) -> str:
    """How a model speaks otherwise than the result; empty where it does not, or leaves it unsaid."""
    told = []
    if chosen is None and other.template is not None and other.template != own.template:
        told.append("another chat template" if own.template else "a chat template")
    if other.bos.differs(own.bos):
        told.append(f"bos {other.bos}, not {own.bos}")
    if other.eos.differs(own.eos):
        told.append(f"eos {other.eos}")
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
    elif own.eos.is_known and not _stops_at(written[-1], own.eos, tokens or {}):
        findings.notice(
            "chat-template",
            f"a turn of `{name}` ends with {shown(written[-1])}, and generation stops at {own.eos}: "
            "add the id of the former to `eos_token_id` in generation_config.json.",
            ("chat_template",),
        )


def _stops_at(token: str, eos: _Special, tokens: Mapping[int, str]) -> bool:
    return any(tokens.get(id_) == token for id_ in eos.ids) if eos.ids else eos.text == token


def _readable(raw: bytes | None, name: str) -> dict[str, Any]:
    try:
        return {} if raw is None else json_mapping(raw, name)
    except ValueError:
        return {}
