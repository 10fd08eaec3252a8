"""What an evaluation found, as plain data: one model, one task, the score of every item, and how it was asked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray


@dataclass(frozen=True)
class Settings:
    """How a task was asked. Two scores are comparable where all of this is the same but for the device.

    `few_shot` examples stand before each question; `limit` is the number of items asked of each task, None for all.
    `seed` chooses the examples.
    """

    harness: str
    task_version: str
    few_shot: int
    template: bool
    dtype: str
    batch: int
    device: str
    seed: int
    limit: int | None = None


@dataclass(frozen=True)
class Item:
    """One question: a digest of it, what the model answered (as the task sees it), and what that is worth."""

    digest: str
    answer: Any
    score: float


@dataclass(frozen=True)
class Evaluation:
    """The score of one model on one task.

    `value` is the task's first metric, or `acc_norm` where it has that; `others` has the rest by name. `stderr` is its
    standard error, None where the task gives none. `items` are empty where the value is no mean over items.
    """

    model: str
    digest: str
    task: str
    metric: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool
    settings: Settings
    items: tuple[Item, ...] = field(default=(), repr=False)
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def limited(self) -> bool:
        """True where only some of the task's items were asked: such a score ranks beside no other."""
        return self.settings.limit is not None

    @property
    def is_share(self) -> bool:
        """True for a mean of scores from 0 to 1, more being better: it is shown in percent."""
        return self.higher_is_better and bool(self.items) and all(0 <= item.score <= 1 for item in self.items)

    @property
    def scores(self) -> NDArray[np.float64]:
        """The score of each item."""
        return np.array([item.score for item in self.items], dtype=np.float64)

    @property
    def items_digest(self) -> str:
        """Equal where the same items were asked in the same way, so that they can be paired; empty without items."""
        if not self.items:
            return ""
        ours = self.settings
        way = [self.task, self.metric, ours.task_version, ours.few_shot, ours.template, ours.limit, ours.seed]
        known = json.dumps([way, [item.digest for item in self.items]])
        return xxhash.xxh3_128_hexdigest(known.encode())

    def __str__(self) -> str:
        scale, digits = (100, 1) if self.is_share else (1, 3)
        shown = f"{scale * self.value:.{digits}f}"
        return shown if self.stderr is None else f"{shown} ± {scale * self.stderr:.{digits}f}"

    def to_json(self) -> dict[str, Any]:
        """The same in what JSON knows; `EVALUATION_FIELDS` says what each key holds."""
        return {**asdict(self), "others": dict(self.others), "limited": self.limited}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Evaluation:
        """What `to_json` gave. Raises ValueError for anything else."""
        try:
            known = {name: value for name, value in content.items() if name != "limited"}
            known["settings"] = Settings(**known["settings"])
            known["items"] = tuple(Item(**item) for item in known["items"])
            found = cls(**known)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this is no evaluation: {error}") from error
        if not math.isfinite(found.value):
            raise ValueError(f"a value of {found.value} is no score")
        return found


# What `to_json` gives, by key.
EVALUATION_FIELDS: Mapping[str, str] = {
    "model": "as it was named",
    "digest": "of the model: a few KB of each tensor, its config and its tokenizer; of a recipe, of what it is made of",
    "task, metric": "what was asked, and which of its metrics `value` is",
    "value, stderr": "the score and its standard error; `stderr` is null where the task gives none",
    "n": "how many items were asked",
    "higher_is_better": "of the metric",
    "settings": "`harness` (version of lm-eval), `task_version`, `few_shot`, `template`, `dtype`, `batch`, `device`, "
    "`seed` (of the few-shot examples), `limit` (null for all items)",
    "items": "each item: `digest` of the question, `answer` as the task saw it, `score`; empty where the value is no "
    "mean of them",
    "others": "the task's other metrics, by name",
    "limited": "true where `limit` is set: such a score is not to be ranked beside one of all items",
}
