"""What a sweep measures of a merge that lies in memory: right answers of a kind, the loss on texts, tasks of a harness.

Every metric has two splits of its items: `dev`, on which a sweep chooses, and `test`, which only the chosen is asked.
This module has the protocol and the metrics that ask nothing of the evaluation harness; `harness_metric` has its tasks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from lamina.check.asked import ROW, TOKENS_OF_TEXT
from lamina.check.running import silent
from lamina.errors import CheckpointError
from lamina.evaluate.halves import Split
from lamina.evaluate.skills import SKILLS, Question, answered, load_questions, read_tokenizer
from lamina.evaluate.tiny_llama import build_tiny_llama, shape_of
from lamina.execute.live_model import frameworks, live_model
from lamina.execute.tensors import Tensors
from lamina.ledger.runs import Score
from lamina.plans.plan import Plan

FEWEST_ROWS = 4  # two to choose by and two to report
QUESTIONS = ("skills", *SKILLS, "max")

Losses = NDArray[np.float64]  # one a row: the mean over its tokens but the first, nats a token


class Metric(Protocol):
    """A figure of a merge, and what it is taken over."""

    @property
    def name(self) -> str: ...

    def asked(self, items: int) -> str:
        """What is asked, in words: `2 x 400 questions`. `items` is how many there are of them."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """How it is asked, as JSON has it: what of that decides a score."""
        ...

    def digest(self, split: Split) -> str:
        """Of all that decides the scores beside the merge."""
        ...

    def ready(self, plans: Sequence[Plan]) -> Metric:
        """The same, settled for what these plans make. Raises CheckpointError where it cannot be measured of one."""
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

    def asked(self, items: int) -> str:
        kinds = len(self.questions)
        return f"{kinds} x {items // kinds} questions" if kinds > 1 else f"{items} questions"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"asked": "greedy answers, in float32 on the CPU", "limited": self.limited}

    def digest(self, split: Split) -> str:
        asked = [
            [kind, [(each.prompt, each.answer) for each in questions[split]]]
            for kind, questions in self.questions.items()
        ]
        return xxhash.xxh3_128_hexdigest(json.dumps(asked).encode())

    def ready(self, plans: Sequence[Plan]) -> Skills:
        for plan in plans:
            _side_file(plan, "tokenizer.json")
            try:
                shape_of(json.loads(_side_file(plan, "config.json")))
            except ValueError as error:
                raise CheckpointError(f"`--metric {self.name}`: {error}; `--metric loss` takes any model.") from error
        return self

    def scores(self, tensors: Tensors, split: Split) -> tuple[Score, ...]:
        config = json.loads(_side_file(tensors.plan, "config.json"))
        weights = {name: tensors[name].astype(np.float32, copy=False) for name in tensors}
        model = build_tiny_llama(config, weights)
        tokenizer = read_tokenizer(_side_file(tensors.plan, "tokenizer.json"))
        kinds = [
            self._score(_named(kind, split), answered(model, tokenizer, asked[split]).astype(np.float64), split)
            for kind, asked in self.questions.items()
        ]
        if len(kinds) == 1:
            return tuple(kinds)
        return (mean_of(_named(self.name, split), kinds, self.digest(split)), *kinds)

    def _score(self, name: str, right: NDArray[np.float64], split: Split) -> Score:
        return Score(
            name, float(right.mean()), math.sqrt(right.var() / len(right)), len(right), "share", limited=self.limited,
            items=tuple(right.tolist()), items_digest=self.digest(split),
        )  # fmt: skip


@dataclass(frozen=True)
class Loss:
    """Nats a token on texts by name, run by transformers: every other row of 256 tokens is `dev`."""

    texts: Mapping[str, str]
    name: str = "loss"
    limit: int | None = None
    device: str = "cpu"

    def asked(self, items: int) -> str:  # noqa: ARG002 (rows are as long as it likes, and say little)
        return ", ".join(self.texts) + (f", {self.limit} rows each" if self.limit else "")

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"device": self.device, "limit": self.limit}

    def digest(self, split: Split) -> str:
        asked = [split, self.limit, ROW, TOKENS_OF_TEXT, list(self.texts.items())]
        return xxhash.xxh3_128_hexdigest(json.dumps(asked).encode())

    def ready(self, plans: Sequence[Plan]) -> Loss:
        frameworks()
        for plan in plans:
            _side_file(plan, "tokenizer.json")
        return self

    def scores(self, tensors: Tensors, split: Split) -> tuple[Score, ...]:
        tokenizer = read_tokenizer(_side_file(tensors.plan, "tokenizer.json"))
        rows = {name: self._rows(tokenizer, name, split) for name in self.texts}
        with silent(frameworks()[1]):
            model = live_model(tensors, self.device, "float32")
        losses = {name: _losses(model, each, self.device) for name, each in rows.items()}
        return loss_scores(self.name, split, losses, rows, limited=self.limit is not None)

    def _rows(self, tokenizer: Any, name: str, split: Split) -> NDArray[np.int64]:
        tokens = tokenizer.encode(self.texts[name], add_special_tokens=False).ids[:TOKENS_OF_TEXT]
        whole = len(tokens) // ROW
        if whole < FEWEST_ROWS:
            least = FEWEST_ROWS * ROW
            raise CheckpointError(
                f"{name} has {len(tokens)} tokens for this tokenizer; a sweep takes texts of {least} or more."
            )
        rows = np.array(tokens[: whole * ROW], np.int64).reshape(whole, ROW)
        return rows_of(rows, split, self.limit)


def rows_of(rows: NDArray[np.int64], split: Split, limit: int | None) -> NDArray[np.int64]:
    """Of a text's rows those of a split, at most so many: every other one is `dev`."""
    return rows[0 if split == "dev" else 1 :: 2][:limit]


def loss_scores(
    name: str, split: Split, losses: Mapping[str, Losses], rows: Mapping[str, NDArray[np.int64]], *, limited: bool
) -> tuple[Score, ...]:
    """The mean loss over the rows of all texts, nats a token, then that over the rows of each: `loss/prose`.

    `losses` has one a row, and `rows` their tokens, [rows, length]. Scores over the same tokens are paired, whoever
    measured them.
    """
    name = _named(name, split)
    whole = _loss_score(name, [*losses.values()], [*rows.values()], limited)
    return (whole, *(_loss_score(f"{name}/{text}", [each], [rows[text]], limited) for text, each in losses.items()))


def _loss_score(name: str, losses: Sequence[Losses], rows: Sequence[NDArray[np.int64]], limited: bool) -> Score:
    items = np.concatenate(losses)
    known = len(items) > 1 and np.isfinite(items).all()
    read = xxhash.xxh3_128()
    for each in rows:
        read.update(f"{each.shape}".encode() + each.astype("<i8").tobytes())
    return Score(
        name, float(items.mean()), float(items.std(ddof=1)) / math.sqrt(len(items)) if known else None, len(items),
        "nats", limited=limited, lower_is_better=True, items=tuple(items.tolist()), items_digest=read.hexdigest(),
    )  # fmt: skip


def bundled_skills(name: str, folder: Path, limit: int | None = None) -> Skills:
    """One of QUESTIONS; `folder` is where the bundled ones lie. `limit` is of questions of a kind."""
    kinds = SKILLS if name == "skills" else (name,)
    splits: tuple[Split, ...] = ("dev", "test")
    read = {
        kind: {split: load_questions(folder / f"{kind}.{split}.jsonl")[:limit] for split in splits} for kind in kinds
    }
    return Skills(name, read, limited=limit is not None)


def mean_of(name: str, parts: Sequence[Score], items_digest: str) -> Score:
    """The mean of several scores in shares, all items of them together.

    An item counts by how few its part has, so that the mean of all items is that of the parts.
    """
    total = sum(len(part.items) for part in parts)
    items = np.concatenate([np.multiply(part.items, total / len(parts) / len(part.items)) for part in parts])
    errors = [part.stderr for part in parts if part.stderr is not None]
    return Score(
        name, float(np.mean([part.value for part in parts])),
        math.hypot(*errors) / len(parts) if len(errors) == len(parts) else None,
        total, "share", limited=any(part.limited for part in parts), items=tuple(items.tolist()),
        items_digest=items_digest,
    )  # fmt: skip


def _named(name: str, split: Split) -> str:
    """What is chosen by has another name than what is reported, and both than a score of an evaluation, which asks
    in another way."""
    return f"{name}-{split}"


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
