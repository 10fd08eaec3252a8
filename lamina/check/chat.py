"""Does a chat end? What its template writes at the end of a turn, against the tokens at which generation stops."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lamina.architectures.infer import text_config
from lamina.check.findings import Finding, Level, Section
from lamina.json_mapping import json_mapping
from lamina.models.plain import PlainModel
from lamina.planners.small_files import small_files
from lamina.tokenizers.chat_templates import TEMPLATE_FILES, template_of
from lamina.tokenizers.vocabulary import TOKENIZER_CONFIG, VOCABULARY_FILES, Vocabulary
from lamina.wording import listed

GENERATION_CONFIG = "generation_config.json"
_MARK = re.compile(r"[<\[].+[>\]]")  # what tokens that are no text look like: <|im_end|>, </s>, [/INST]


def check_chat(model: PlainModel, parents: Sequence[PlainModel]) -> Section | None:
    """Whether one of the tokens that the chat template writes ends a text; None where there is nothing to ask.

    A template is read, not rendered. What a parent has as well is told, and no fault of the merge.
    """
    try:
        marks, ends = _marks(model), _ends(model)
    except ValueError as error:
        return Section("chat", findings=(Finding(Level.SUSPICIOUS, "template", f"{error}.", key="chat_template"),))
    if not marks or not ends:
        return None
    stops = [mark for mark in marks if mark in ends]
    if stops:
        return Section("chat", f"the template writes {listed(stops)}, at which generation stops")
    inherited = any(_says_the_same(parent, marks, ends) for parent in parents)
    message = f"the chat template writes {listed(marks)}, and generation stops at {listed(ends)}: a turn has no end"
    message += ", as in a parent." if inherited else "."
    level = Level.HEALTHY if inherited else Level.SUSPICIOUS
    return Section("chat", findings=(Finding(level, "end-of-turn", message, key="chat_template"),))


def eos_ids(model: PlainModel) -> list[int]:
    """The ids at which generation stops: those of generation_config.json, else of config.json.

    Raises ValueError, with a sentence, where generation_config.json is malformed.
    """
    files = small_files(model, [GENERATION_CONFIG])
    configs: list[Mapping[str, Any]] = [model.config, text_config(model.config)]
    if GENERATION_CONFIG in files:
        configs.insert(0, json_mapping(files[GENERATION_CONFIG], GENERATION_CONFIG))
    written: Any = next((config["eos_token_id"] for config in configs if config.get("eos_token_id") is not None), [])
    return [number for number in (written if isinstance(written, list) else [written]) if type(number) is int]


def _marks(model: PlainModel) -> list[str]:
    """Tokens that are no text and that the template writes, by name or as `eos_token`. Raises ValueError."""
    template = template_of(small_files(model, TEMPLATE_FILES))
    if template is None:
        return []
    tokens = _tokens(model).values()
    found = [token for token in tokens if _MARK.fullmatch(token) and token in template]
    files = small_files(model, [TOKENIZER_CONFIG])
    if re.search(r"\beos_token\b", template) and TOKENIZER_CONFIG in files:
        eos = json_mapping(files[TOKENIZER_CONFIG], TOKENIZER_CONFIG).get("eos_token")
        eos = eos.get("content") if isinstance(eos, dict) else eos
        found += [eos] if isinstance(eos, str) else []
    return list(dict.fromkeys(found))


def _ends(model: PlainModel) -> list[str]:
    tokens = _tokens(model)
    return [tokens[number] for number in eos_ids(model) if number in tokens]


def _tokens(model: PlainModel) -> Mapping[int, str]:
    return Vocabulary(small_files(model, VOCABULARY_FILES)).tokens or {}


def _says_the_same(parent: PlainModel, marks: Sequence[str], ends: Sequence[str]) -> bool:
    try:
        return (_marks(parent), _ends(parent)) == (marks, ends)
    except ValueError:
        return False  # whatever it says, it cannot be read
