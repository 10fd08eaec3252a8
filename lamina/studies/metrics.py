"""What a sweep measures of a merge that lies in memory: right answers of a kind, or the loss on bundled texts.

Every metric has two splits of its items: `dev`, on which a sweep chooses, and `test`, which only the chosen is asked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from lamina.check.asked import ROW, TOKENS_OF_TEXT, bundled_texts
from lamina.check.running import silent
from lamina.errors import CheckpointError
from lamina.evaluate.skills import SKILLS, Question, answered, load_questions, read_tokenizer
from lamina.evaluate.tiny_llama import build_tiny_llama, shape_of
from lamina.execute.live_model import frameworks, live_model
from lamina.execute.tensors import Tensors
from lamina.ledger.runs import Score
from lamina.plans.plan import Plan

Split = Literal["dev", "test"]

QUESTIONS = ("skills", *SKILLS, "max")


class Metric(Protocol):
    """A figure of a merge, and what it is taken over."""

    @property
    def name(self) -> str: ...

    @property
    def lower_is_better(self) -> bool: ...

    def asked(self) -> str:
        """What is asked, in words: `2 x 400 questions`."""
        ...

    def digest(self, split: Split) -> str:
        """Of all that decides the scores beside the merge."""
        ...

    def check(self, plan: Plan) -> None:
        """Raises CheckpointError where this cannot be measured of what a plan makes."""
        ...

    def scores(self, tensors: Tensors, split: Split) -> tuple[Score, ...]:
        """The score itself, with its items, and those that it is made of."""
        ...


@dataclass(frozen=True)
class Skills:
    """The mean share of right answers over kinds of questions, each kind by its split. Runs Llamas, in numpy."""

    name: str
    questions: Mapping[str, Mapping[Split, Sequence[Question]]]
    limited: bool
    lower_is_better: bool = False

    def asked(self) -> str:
        counts = [len(questions["dev"]) for questions in self.questions.values()]
        return f"{len(counts)} x {counts[0]} questions" if len(counts) > 1 else f"{counts[0]} questions"

    def digest(self, split: Split) -> str:
        asked = [
            [kind, [(each.prompt, each.answer) for each in questions[split]]]
            for kind, questions in self.questions.items()
        ]
        return xxhash.xxh3_128_hexdigest(json.dumps(asked).encode())

    def check(self, plan: Plan) -> None:
        _side_file(plan, "tokenizer.json")
        try:
            shape_of(json.loads(_side_file(plan, "config.json")))
        except ValueError as error:
            raise CheckpointError(f"`--metric {self.name}`: {error}; `--metric loss` takes any model.") from error

    def scores(self, tensors: Tensors, split: Split) -> tuple[Score, ...]:
        config = json.loads(_side_file(tensors.plan, "config.json"))
        weights = {name: tensors[name].astype(np.float32, copy=False) for name in tensors}
        model = build_tiny_llama(config, weights)
        tokenizer = read_tokenizer(_side_file(tensors.plan, "tokenizer.json"))
        right = {kind: answered(model, tokenizer, asked[split]) for kind, asked in self.questions.items()}
        kinds = [self._score(_named(kind, split), [each.astype(np.float64)], split) for kind, each in right.items()]
        if len(kinds) == 1:
            return tuple(kinds)
        return (
            self._score(_named(self.name, split), [each.astype(np.float64) for each in right.values()], split),
            *kinds,
        )

    def _score(self, name: str, kinds: Sequence[NDArray[np.float64]], split: Split) -> Score:
        """The mean over kinds. An item counts by how few its kind has, so that the mean of all is that of the kinds."""
        total = sum(map(len, kinds))
        items = np.concatenate([kind * (total / len(kinds) / len(kind)) for kind in kinds])
        error = math.sqrt(sum(kind.var() / len(kind) for kind in kinds)) / len(kinds)
        return Score(
            name, float(np.mean([kind.mean() for kind in kinds])), error, total, "share", limited=self.limited,
            items=tuple(items.tolist()), items_digest=self.digest(split),
        )  # fmt: skip


@dataclass(frozen=True)
class Loss:
    """Nats a token on bundled prose and code, run by transformers: every other row of 256 tokens is `dev`."""

    name: str = "loss"
    limit: int | None = None
    device: str = "cpu"
    lower_is_better: bool = True

    def asked(self) -> str:
        return " and ".join(bundled_texts()) + (f", {self.limit} rows each" if self.limit else "")

    def digest(self, split: Split) -> str:
        return xxhash.xxh3_128_hexdigest(json.dumps([split, self.limit, ROW, TOKENS_OF_TEXT, bundled_texts()]).encode())

    def check(self, plan: Plan) -> None:
        frameworks()
        _side_file(plan, "tokenizer.json")

    def scores(self, tensors: Tensors, split: Split) -> tuple[Score, ...]:
        tokenizer = read_tokenizer(_side_file(tensors.plan, "tokenizer.json"))
        rows = {name: self._rows(tokenizer, text, split) for name, text in bundled_texts().items()}
        with silent(frameworks()[1]):
            model = live_model(tensors, self.device, "float32")
        losses = {name: _losses(model, each, self.device) for name, each in rows.items()}
        parts = [self._score(f"{_named(self.name, split)}/{name}", each, split) for name, each in losses.items()]
        return (self._score(_named(self.name, split), np.concatenate([*losses.values()]), split), *parts)

    def _rows(self, tokenizer: Any, text: str, split: Split) -> NDArray[np.int64]:
        tokens = tokenizer.encode(text, add_special_tokens=False).ids[:TOKENS_OF_TEXT]
        whole = len(tokens) // ROW
        if whole < 4:
            raise CheckpointError(
                f"the bundled texts are only {len(tokens)} tokens to this tokenizer: too few to tell."
            )
        rows = np.array(tokens[: whole * ROW], np.int64).reshape(whole, ROW)
        return rows[0 if split == "dev" else 1 :: 2][: self.limit]

    def _score(self, name: str, losses: NDArray[np.float64], split: Split) -> Score:
        error = float(losses.std(ddof=1)) / math.sqrt(len(losses)) if len(losses) > 1 else None
        return Score(
            name, float(losses.mean()), error, len(losses), "nats", limited=self.limit is not None,
            lower_is_better=True, items=tuple(losses.tolist()), items_digest=self.digest(split),
        )  # fmt: skip


def bundled_skills(name: str, folder: Path, limit: int | None = None) -> Skills:
    """One of QUESTIONS; `folder` is where the bundled ones lie. `limit` is of questions of a kind."""
    kinds = SKILLS if name == "skills" else (name,)
    splits: tuple[Split, ...] = ("dev", "test")
    read = {
        kind: {split: load_questions(folder / f"{kind}.{split}.jsonl")[:limit] for split in splits} for kind in kinds
    }
    return Skills(name, read, limited=limit is not None)


def _named(name: str, split: Split) -> str:
    """What is chosen by has another name than what is reported."""
    return f"{name}-dev" if split == "dev" else name


def _losses(model: Any, rows: NDArray[np.int64], device: str) -> NDArray[np.float64]:
    """The mean loss of each row, nats a token, its first token left out."""
    torch, _ = frameworks()
    found = []
    for row in rows:
        tokens = torch.from_numpy(row[None]).to(device)
        with torch.no_grad():
            logits = model(tokens, use_cache=False).logits[0, :-1].float()
        found.append(float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:]).cpu()))
    return np.array(found)


def _side_file(plan: Plan, name: str) -> str:
    """A file that the merge would have. Raises CheckpointError where it would not."""
    content = next((file.content for file in plan.files if file.name == name), None)
    if content is None:
        raise CheckpointError(f"the merge has no {name}, and without it nothing can be asked of it.")
    return content.decode("utf-8")
