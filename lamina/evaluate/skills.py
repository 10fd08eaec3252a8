"""Accuracy on questions with one right answer: what a merge has kept of what its parents could do.

    tokenizer = load_tokenizer(folder)
    print(accuracy(load_tiny_llama(folder), tokenizer, load_questions(Path("rev.dev.jsonl"))))    # 96.8 ± 0.9

Knows nothing of how a model computes: whatever turns token ids into logits can be asked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from lamina.errors import MissingExtra, OutputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SKILLS = ("rev", "sort")  # those that the bundled models learnt; `max` they hardly did
ROWS_AT_ONCE = 100  # keeps the logits of a batch at a few MB; a larger batch is not faster


class LanguageModel(Protocol):
    """Token ids [rows, length], padded on the right, to logits [rows, length, vocabulary]."""

    def logits(self, tokens: NDArray[np.int64], /) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Question:
    """A prompt and what must follow it, separating space included: `rev: k a q d =`, ` d q a k`."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Score:
    """How many of the questions asked were answered right."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        return self.right / self.asked

    @property
    def standard_error(self) -> float:
        """Of the share, for questions drawn at random. Too sure of itself (0) when all or none are right."""
        return math.sqrt(self.share * (1 - self.share) / self.asked)

    def __str__(self) -> str:
        return f"{100 * self.share:.1f} ± {100 * self.standard_error:.1f}"


def examples_folder() -> Path:
    """The repository's `examples`: in the working directory, or beside the package. Raises OutputError."""
    for folder in (Path("examples"), Path(__file__).parents[2] / "examples"):
        if (folder / "models" / "base").is_dir():
            return folder
    raise OutputError(
        "the bundled models and questions lie in the repository's folder examples/; run this in a clone of it."
    )


def load_questions(path: Path) -> list[Question]:
    """The questions of a JSONL file, one `{"prompt": ..., "answer": ...}` a line."""
    questions = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            question = question_in(line)
            if question is None:
                raise ValueError(f'{path}:{number} is not {{"prompt": "...", "answer": "..."}}: {line[:80].strip()}')
            questions.append(question)
    if not questions:
        raise ValueError(f"{path} holds no questions")
    return questions


def question_in(line: str) -> Question | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    match fields:
        case {"prompt": str(prompt), "answer": str(answer)}:
            return Question(prompt, answer)
    return None


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder."""
    return read_tokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"))


def read_tokenizer(content: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json. This is the one place that needs the extra `demo`."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra("demo", "tokenizers") from None
    return Tokenizer.from_str(content)


def accuracy(model: LanguageModel, tokenizer: Tokenizer, questions: Sequence[Question]) -> Score:
    """Exact match of the greedy answer."""
    right = answered(model, tokenizer, questions)
    return Score(int(right.sum()), len(right))


def answered(model: LanguageModel, tokenizer: Tokenizer, questions: Sequence[Question]) -> NDArray[np.bool_]:
    """Which of the questions the greedy answer matches exactly, in their order.

    One forward pass scores all tokens of an answer, each after the right ones before it. This is exact:
    greedy decoding writes the answer if and only if each of its tokens then has the largest logit. What
    the model would write after the answer is not looked at.
    """
    encoded = [encode(question, tokenizer) for question in questions]
    right = []
    for start in range(0, len(encoded), ROWS_AT_ONCE):
        batch = encoded[start : start + ROWS_AT_ONCE]
        predicted = model.logits(pad([question.tokens for question in batch])).argmax(axis=-1)
        for row, question in zip(predicted, batch, strict=True):
            first, end = question.prompt_length, len(question.tokens)
            # The logits at a position speak of the token after it.
            right.append(row[first - 1 : end - 1].tolist() == question.tokens[first:end])
    return np.array(right)


@dataclass(frozen=True)
class EncodedQuestion:
    tokens: list[int]
    prompt_length: int


def encode(question: Question, tokenizer: Tokenizer) -> EncodedQuestion:
    """Prompt and answer apart, as in training; the tokenizer's own template puts bos before the prompt."""
    prompt: list[int] = tokenizer.encode(question.prompt).ids
    answer: list[int] = tokenizer.encode(question.answer, add_special_tokens=False).ids
    return EncodedQuestion(prompt + answer, len(prompt))


def pad(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Rows as one rectangle, zeros to their right."""
    padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, tokens in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens
    return padded
