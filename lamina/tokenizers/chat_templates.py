"""How a chat becomes text: the templates we bring, the one that a model has, and what a recipe's own must hold.

A template is Jinja text. It is checked for what a slip of the pen breaks, and never rendered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from lamina.json_mapping import json_mapping
from lamina.tokenizers.vocabulary import TOKENIZER_CONFIG

TEMPLATE_FILE = "chat_template.jinja"
OLD_TEMPLATE_FILE = "chat_template.json"  # where processors kept it
TEMPLATE_FILES = (TEMPLATE_FILE, TOKENIZER_CONFIG, OLD_TEMPLATE_FILE)

BUILT_IN = ("alpaca", "chatml", "exaone", "llama3", "mistral")

# The tokens that a template of ours writes, the one that ends a turn last. The others use the model's own.
TOKENS_WRITTEN: Mapping[str, tuple[str, ...]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "exaone": ("[|endofturn|]",),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
}


def built_in_template(name: str) -> str:
    """The text of one of BUILT_IN."""
    return resources.files(__package__).joinpath("templates", f"{name}.jinja").read_text(encoding="utf-8")


def template_of(files: Mapping[str, bytes]) -> str | None:
    """A model's own template, from those of TEMPLATE_FILES that it has; of several named ones the default.

    Raises ValueError, with a sentence that names the file, where one is malformed.
    """
    if TEMPLATE_FILE in files:
        try:
            return files[TEMPLATE_FILE].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{TEMPLATE_FILE} is not text in UTF-8 ({error.reason})") from error
    for name in (TOKENIZER_CONFIG, OLD_TEMPLATE_FILE):
        if name in files and (template := _default(json_mapping(files[name], name).get("chat_template"))) is not None:
            return template
    return None


def without_template(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same files, with no template in any of them."""
    kept = {name: raw for name, raw in files.items() if name not in (TEMPLATE_FILE, OLD_TEMPLATE_FILE)}
    if TOKENIZER_CONFIG in kept:
        config = json_mapping(kept[TOKENIZER_CONFIG], TOKENIZER_CONFIG)
        if config.pop("chat_template", None) is not None:
            kept[TOKENIZER_CONFIG] = json.dumps(config, indent=2, ensure_ascii=False).encode() + b"\n"
    return kept


def check_template(text: str) -> None:
    """Raise ValueError, with a sentence, for text that cannot be a Jinja template of a chat."""
    if "{{" not in text and "{%" not in text:
        raise ValueError("this is no Jinja template: it holds neither `{{ ... }}` nor `{% ... %}`")
    open_blocks: list[tuple[str, int]] = []
    for word, line in _tags(text):
        if word in _BLOCKS:
            open_blocks.append((word, line))
        elif word.startswith("end") and word[3:] in _BLOCKS:
            if not open_blocks:
                raise ValueError(f"`{{% {word} %}}` in line {line} of the template ends nothing that is open there")
            if open_blocks[-1][0] != word[3:]:
                inner, inner_line = open_blocks[-1]
                raise ValueError(
                    f"`{{% {word} %}}` in line {line} of the template comes before `{{% end{inner} %}}`, "
                    f"which line {inner_line} needs"
                )
            open_blocks.pop()
    if open_blocks:
        word, line = open_blocks[-1]
        raise ValueError(f"`{{% {word} %}}` in line {line} of the template is never ended by `{{% end{word} %}}`")


_OPENING = re.compile(r"\{\{|\{%|\{#")
_CLOSING = {"{{": "}}", "{%": "%}", "{#": "#}"}
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_RAW_END = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_BLOCKS = ("for", "if", "macro", "call", "filter")  # `set` and others may stand without an end


def _tags(text: str) -> Iterator[tuple[str, int]]:
    """The first word and the line of every `{% ... %}`. Raises ValueError where a brace is never closed."""
    place = 0
    while found := _OPENING.search(text, place):
        opening, line = found[0], text.count("\n", 0, found.start()) + 1
        end = _end(text, found.end(), _CLOSING[opening], with_strings=opening != "{#")
        if end is None:
            raise ValueError(f"`{opening}` in line {line} of the template is never closed by `{_CLOSING[opening]}`")
        place = end
        if opening == "{%":
            word = re.match(r"[-+]?\s*(\w*)", text[found.end() : end])
            name = word[1] if word else ""
            if name == "raw":
                ended = _RAW_END.search(text, place)
                if ended is None:
                    raise ValueError(f"`{{% raw %}}` in line {line} of the template is never ended")
                place = ended.end()
            yield name, line


def _end(text: str, place: int, closing: str, *, with_strings: bool) -> int | None:
    """The place behind the next `closing` that stands in no string or mapping; None where there is none."""
    depth = 0
    while place < len(text):
        if depth <= 0 and text.startswith(closing, place):
            return place + len(closing)
        if with_strings and text[place] in "'\"":
            string = _STRING.match(text, place)
            if string is None:
                return None
            place = string.end()
            continue
        if with_strings:
            depth += {"{": 1, "}": -1}.get(text[place], 0)
        place += 1
    return None


def _default(raw: Any) -> str | None:
    if isinstance(raw, str):
        return raw
    named = [entry for entry in raw if isinstance(entry, dict)] if isinstance(raw, list) else []
    templates = {entry.get("name"): entry.get("template") for entry in named if isinstance(entry.get("name"), str)}
    default = templates.get("default")
    return default if isinstance(default, str) else None
