"""What a model is asked: three bundled texts as rows of tokens, and twenty prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources

import numpy as np
import xxhash

from lamina.check.running import RunningModel, Tokens

ROW = 256  # tokens
TOKENS_OF_TEXT = 4096  # at most, of each text
QUICK_TOKENS = 1024
LEAST_ROWS = 2
STREAMED_ROWS = 2  # of each text, where a model does not fit into memory


def bundled_texts() -> dict[str, str]:
    """Prose (Jane Austen, *Emma*), code (our own); the chat is rendered by each model's template."""
    folder = resources.files(__package__).joinpath("texts")
    return {name: folder.joinpath(f"{name}.txt").read_text(encoding="utf-8") for name in ("prose", "code")}


def token_rows(
    running: RunningModel, texts: Mapping[str, str] | None = None, *, quick: bool = False
) -> dict[str, Tokens]:
    """Each text as rows of tokens, [rows, length]; a text of fewer than two rows is left out."""
    given = dict(texts) if texts is not None else bundled_texts() | {"chat": _chat(running)}
    length = min(ROW, running.longest)
    most = QUICK_TOKENS if quick else TOKENS_OF_TEXT
    most = STREAMED_ROWS * length if running.is_streamed else most
    found = {}
    for name, text in given.items():
        tokens = running.encode(text)[:most]
        count = len(tokens) // length
        if count >= LEAST_ROWS:
            found[name] = np.array(tokens[: count * length], np.int64).reshape(count, length)
    return found


def digest_of_rows(texts: Mapping[str, str] | None, *, is_streamed: bool) -> str:
    """Of all that decides, beside the model, what `token_rows` makes of texts. Needs no running model."""
    asked = [[*texts.items()] if texts is not None else [[*bundled_texts().items()], _chats()]]
    return xxhash.xxh3_128_hexdigest(json.dumps([ROW, TOKENS_OF_TEXT, is_streamed and STREAMED_ROWS, *asked]).encode())


def _chat(running: RunningModel) -> str:
    return "".join(running.render([(role, content) for role, content in chat]) for chat in _chats())


def _chats() -> list[list[list[str]]]:
    """Bundled conversations: of each its turns, a role and what is said."""
    folder = resources.files(__package__).joinpath("texts")
    chats: list[list[list[str]]] = json.loads(folder.joinpath("chat.json").read_text(encoding="utf-8"))
    return chats


def prompts() -> list[str]:
    """Twenty questions that any chat model answers in a line or two."""
    folder = resources.files(__package__).joinpath("texts")
    return [str(prompt) for prompt in json.loads(folder.joinpath("prompts.json").read_text(encoding="utf-8"))]
