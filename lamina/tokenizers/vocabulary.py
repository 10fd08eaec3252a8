"""The vocabulary of a model as id -> token, from the bytes of its files. Encodes and decodes nothing.

Understood are tokenizer.json, vocab.json, vocab.txt and SentencePiece's tokenizer.model. Files of other kinds
(tiktoken, tekken) still tell whether two models have the same ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import xxhash

from lamina.json_mapping import json_mapping

ADDED_TOKENS = "added_tokens.json"
TOKENIZER_CONFIG = "tokenizer_config.json"

# The first of these that a model has is what transformers reads its vocabulary from.
MAIN_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")

# All files that say something of a vocabulary, as patterns.
VOCABULARY_FILES = (*MAIN_FILES, ADDED_TOKENS, TOKENIZER_CONFIG, "*.tiktoken", "tekken.json")

# Merges are most of a tokenizer.json, and as Python objects ten times the file: they are cut out unread.
# Possessive repeats (`*+`) keep the match from growing a stack over half a million of them.
_TEXT = rb'"(?:[^"\\]|\\.)*+"'
_MERGE = _TEXT + rb"|\[\s*" + _TEXT + rb"\s*,\s*" + _TEXT + rb"\s*\]"  # "a b" or ["a", "b"]
_MERGES = re.compile(rb'"merges"\s*:\s*\[(?:\s*+(?:' + _MERGE + rb")\s*+,?)*+\s*\]", re.DOTALL)

MOST_SHOWN = 3  # tokens named in a letter
LONGEST_SHOWN = 40  # letters of each


@dataclass(frozen=True)
class Vocabulary:
    """What a model's files say of its tokens. `files` are those of VOCABULARY_FILES that it has, by name.

    A file is asked for when it is needed, and not kept.
    """

    files: Mapping[str, bytes]

    @property
    def is_there(self) -> bool:
        """False for a model that comes without a tokenizer."""
        return bool(self.files.keys() - {TOKENIZER_CONFIG, ADDED_TOKENS})

    @cached_property
    def tokens(self) -> Mapping[int, str] | None:
        """Id -> token; None where the files are of no kind that is understood.

        Raises ValueError, with a sentence that names the file, where one is malformed.
        """
        main = self._main
        if main is None:
            return None
        tokens = _READERS[main](self.files[main], main)
        if main != "tokenizer.json" and ADDED_TOKENS in self.files:
            tokens |= _token_to_id(json_mapping(self.files[ADDED_TOKENS], ADDED_TOKENS), ADDED_TOKENS)
        # What tokenizer.json lacks of these, transformers adds when it loads.
        return tokens | {number: token for number, token in self._added.items() if number not in tokens}

    @cached_property
    def _main(self) -> str | None:
        return next((name for name in MAIN_FILES if name in self.files), None)

    @cached_property
    def _added(self) -> Mapping[int, str]:
        """The tokens that tokenizer_config.json adds, which are among the others as a rule."""
        raw = self.files.get(TOKENIZER_CONFIG)
        added = json_mapping(raw, TOKENIZER_CONFIG).get("added_tokens_decoder") if raw is not None else None
        if not isinstance(added, dict):
            return {}
        try:
            return {int(number): str(token["content"]) for number, token in added.items()}
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{TOKENIZER_CONFIG}: `added_tokens_decoder` is not id -> {{content: ...}}") from error

    @cached_property
    def _digest(self) -> str:
        """Equal for equal files. What only wraps a tokenizer (classes, templates) does not count."""
        names = [self._main] if self._main else sorted(self.files.keys() - {TOKENIZER_CONFIG, ADDED_TOKENS})
        if self._main != "tokenizer.json" and ADDED_TOKENS in self.files:
            names.append(ADDED_TOKENS)
        parts = [[name, xxhash.xxh3_128_hexdigest(self.files[name])] for name in names]
        try:
            return json.dumps([parts, sorted(self._added.items())])
        except ValueError:  # malformed, and told of where the tokens are asked for
            return json.dumps([parts, xxhash.xxh3_128_hexdigest(self.files[TOKENIZER_CONFIG])])

    def same_files(self, other: Vocabulary) -> bool:
        """True where equal bytes say that the vocabularies are equal: nothing is parsed for it."""
        return self.is_there and other.is_there and self._digest == other._digest


@dataclass(frozen=True)
class Comparison:
    """How two vocabularies differ, in the ids that concern their rows.

    `unlike` ids stand for another token in each; `first_only` and `second_only` ids are tokens of one alone.
    """

    unlike: tuple[int, ...]
    first_only: tuple[int, ...]
    second_only: tuple[int, ...]

    @property
    def equal(self) -> bool:
        return not (self.unlike or self.first_only or self.second_only)


def compared(first: Mapping[int, str], second: Mapping[int, str]) -> Comparison:
    """Every id on which two vocabularies disagree, in order."""
    return Comparison(
        unlike=tuple(sorted(id_ for id_ in first.keys() & second.keys() if first[id_] != second[id_])),
        first_only=tuple(sorted(first.keys() - second.keys())),
        second_only=tuple(sorted(second.keys() - first.keys())),
    )


def difference_in_words(first_name: str, first: Mapping[int, str], second_name: str, second: Mapping[int, str]) -> str:
    """What differs, the first of it by name: counts, ids of other tokens, tokens that only one has."""
    difference = compared(first, second)
    told = []
    if len(first) != len(second):
        told.append(f"`{first_name}` has {len(first)} tokens and `{second_name}` {len(second)}")
    if difference.unlike:
        pairs = [
            f"id {id_} is {shown(first[id_])} in `{first_name}` and {shown(second[id_])} in `{second_name}`"
            for id_ in difference.unlike[:MOST_SHOWN]
        ]
        told.append(", ".join(pairs) + _and_more(difference.unlike))
    for name, own, other in ((first_name, first, second), (second_name, second, first)):
        known = set(other.values())
        alone = [id_ for id_ in sorted(own) if own[id_] not in known]
        if alone and (len(first) != len(second) or not difference.unlike):
            told.append(f"only `{name}` has {listed(own, alone)}")
    return "; ".join(told)


def listed(tokens: Mapping[int, str], ids: list[int] | tuple[int, ...]) -> str:
    """`'<a>' (id 7), '<b>' (id 8) and 3 more`."""
    return ", ".join(f"{shown(tokens[id_])} (id {id_})" for id_ in ids[:MOST_SHOWN]) + _and_more(ids)


def shown(token: str) -> str:
    """A token in quotes, what cannot be printed escaped, no longer than a line bears."""
    return repr(token if len(token) <= LONGEST_SHOWN else token[: LONGEST_SHOWN - 3] + "...")


def _and_more(ids: list[int] | tuple[int, ...]) -> str:
    return f" and {len(ids) - MOST_SHOWN} more" if len(ids) > MOST_SHOWN else ""


def _tokenizer_json(raw: bytes, name: str) -> dict[int, str]:
    """BPE, WordPiece and WordLevel have a mapping of token to id; Unigram a list of [token, score]."""
    content = json_mapping(_MERGES.sub(rb'"merges": []', raw, count=1), name)
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):
        try:
            tokens = dict(enumerate(_text(token) for token, _score in vocabulary))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: the entries of `model.vocab` are not [token, score]") from error
    elif isinstance(vocabulary, dict):
        tokens = _token_to_id(vocabulary, name)
    else:
        raise ValueError(f"{name} has no `model.vocab`")
    try:
        return tokens | {_id(added["id"]): _text(added["content"]) for added in content.get("added_tokens") or ()}
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{name}: the entries of `added_tokens` are not {{id: ..., content: ...}}") from error


def _vocab_json(raw: bytes, name: str) -> dict[int, str]:
    return _token_to_id(json_mapping(raw, name), name)


def _vocab_txt(raw: bytes, name: str) -> dict[int, str]:
    """One token a line, the line's number is its id."""
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not text in UTF-8 ({error.reason})") from error
    return {number: line.rstrip("\r") for number, line in enumerate(lines) if line or number < len(lines) - 1}


def _sentencepiece(raw: bytes, name: str) -> dict[int, str]:
    """The pieces of a ModelProto (field 1), each with its text (field 1); a piece's place is its id."""
    try:
        pieces = [dict(_fields(piece)) for field, piece in _fields(raw) if field == 1]
        return {number: piece[1].decode("utf-8") for number, piece in enumerate(pieces)}
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{name} is not a SentencePiece model") from error


_READERS = {
    "tokenizer.json": _tokenizer_json,
    "vocab.json": _vocab_json,
    "vocab.txt": _vocab_txt,
    "tokenizer.model": _sentencepiece,
    "spiece.model": _sentencepiece,
}


def _fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message that hold bytes; the others are passed over.

    Raises ValueError or IndexError for what is no message.
    """
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        match key & 7:
            case 0:
                _, place = _varint(raw, place)
            case 1 | 5 as fixed:
                place += 8 if fixed == 1 else 4
            case 2:
                length, place = _varint(raw, place)
                yield key >> 3, raw[place : place + length]
                place += length
            case _:
                raise ValueError("an unknown wire type")
    if place != len(raw):
        raise ValueError("the last field is cut off")


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """A number in base 128, the lowest digits first, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than 64 bits")


def _token_to_id(content: Mapping[str, Any], name: str) -> dict[int, str]:
    try:
        return {_id(number): token for token, number in content.items()}
    except ValueError as error:
        raise ValueError(f"{name}: its tokens are not mapped to ids") from error


def _id(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("an id is a whole number from 0 on")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a token is text")
    return value
