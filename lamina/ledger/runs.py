"""A row of the ledger as a value: what was done, with what, and what came of it. No I/O."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import xxhash

from lamina.version import VERSION

Kind = Literal["merge", "check", "eval", "sweep"]
KINDS: tuple[Kind, ...] = ("merge", "check", "eval", "sweep")


def now() -> datetime:
    """The second in which a row is made."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Parent:
    """A model that went in, as the recipe calls it. `revision` is the commit of a model of the Hub."""

    name: str
    revision: str | None = None


@dataclass(frozen=True)
class Score:
    """One figure of a model. `stderr` is its standard error over `n` items.

    `unit` is "share" (0 to 1, shown in percent), "nats", or empty. `limited` where only a part of the items was
    asked: such a score is never ranked beside a whole one. `items` has one value an item; scores are compared in
    pairs where `items_digest`, which tells the items themselves, is equal.
    """

    name: str
    value: float
    stderr: float | None = None
    n: int | None = None
    unit: str = ""
    limited: bool = False
    lower_is_better: bool = False
    items: tuple[float, ...] = field(default=(), repr=False)
    items_digest: str = ""

    def __str__(self) -> str:
        """`91.0 ± 1.6` for a share, else four digits; a `*` where it is limited."""
        return f"{self.plain(self.value)}{self.spread(self.stderr)}{'*' if self.limited else ''}"

    @property
    def factor(self) -> int:
        """What figures in its unit are multiplied by to be shown: shares are shown in percent."""
        return 100 if self.unit == "share" else 1

    def plain(self, figure: float) -> str:
        """A figure in its unit."""
        return f"{self.factor * figure:.{self._digits}f}"

    def signed(self, difference: float, margin: float | None = None) -> str:
        """`+1.9 ± 1.8`: a difference in its unit, with half the width of an interval where there is one."""
        return f"{self.factor * difference:+.{self._digits}f}{self.spread(margin)}"

    def spread(self, margin: float | None) -> str:
        """` ± 1.8`, in its unit; empty for None."""
        return "" if margin is None else f" ± {self.plain(margin)}"

    @property
    def _digits(self) -> int:
        return 1 if self.unit == "share" else 3

    @property
    def goodness(self) -> float:
        """A figure that is larger for a better score; what is no number is the worst."""
        if math.isnan(self.value):
            return -math.inf
        return -self.value if self.lower_is_better else self.value

    def gains_over(self, other: Score) -> list[float]:
        """By how much each item is better than in another score over the same items, so that more is always better."""
        sign = -1.0 if self.lower_is_better else 1.0
        return [sign * (ours - theirs) for ours, theirs in zip(self.items, other.items, strict=True)]

    def as_data(self) -> dict[str, Any]:
        return {
            "name": self.name, "value": in_json(self.value), "stderr": in_json(self.stderr), "n": self.n,
            "unit": self.unit, "limited": self.limited, "lower_is_better": self.lower_is_better,
        }  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One thing that was done. `seconds` of wall time; `peak_memory` of the process, in bytes; `at` in UTC.

    `name` is what a table calls it; `recipe` its text, empty for a model that was not made here; `plan` the plan's
    digest, by which a check or an evaluation is known to speak of a merge; `output` the folder or model. `details`
    are what else is worth keeping, as JSON has it. `key` is a digest of what was measured of what, where that need not
    be measured again. `number` is given by the ledger.
    """

    kind: Kind
    name: str
    recipe: str = ""
    plan: str = ""
    parents: tuple[Parent, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    at: datetime = field(default_factory=now)
    seconds: float | None = None
    peak_memory: int | None = None
    output: str = ""
    verdict: str = ""
    scores: tuple[Score, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    number: int | None = None

    @property
    def id(self) -> str:
        """`r14`, as the verbs take and show it."""
        return f"r{self.number}"

    @property
    def recipe_digest(self) -> str:
        """Of the recipe's text; empty where there is none."""
        return xxhash.xxh3_128_hexdigest(self.recipe.encode(errors="surrogatepass")) if self.recipe else ""

    def score(self, name: str) -> Score | None:
        """The score of this name, None where the run has none."""
        return next((score for score in self.scores if score.name == name), None)

    def as_data(self) -> dict[str, Any]:
        """The row for JSON: `RUN_FIELDS` says what each key holds."""
        return {
            "id": self.id,
            "kind": self.kind,
            "name": self.name,
            "at": self.at.isoformat(),
            "recipe": self.recipe,
            "recipe_digest": self.recipe_digest,
            "plan": self.plan,
            "parents": [{"name": parent.name, "revision": parent.revision} for parent in self.parents],
            "versions": dict(self.versions),
            "seed": self.seed,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "output": self.output,
            "verdict": self.verdict,
            "scores": [score.as_data() for score in self.scores],
            "details": dict(self.details),
        }


def in_json(figure: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return figure if figure is not None and math.isfinite(figure) else None


# What a row is in `--json`, by key.
RUN_FIELDS: Mapping[str, str] = {
    "id": "as `runs show` and `runs diff` take it",
    "kind": ", ".join(f"`{kind}`" for kind in KINDS),
    "name": "what the table calls it",
    "at": "when it was done, in UTC",
    "recipe, recipe_digest": "the text with the changes of `--set`, and its xxh3-128; empty for a model made elsewhere",
    "plan": "the plan's digest, equal in a merge and in the checks and scores of what it made",
    "parents": "the models that went in: `name`, and `revision` (a commit) of those of the Hub",
    "versions": "of Lamina, Python and what else had a part in it",
    "seed": "of the random draws",
    "seconds, peak_memory": "of wall time; of the process, in bytes",
    "output": "the folder or model",
    "verdict": "of a check",
    "scores": "each: `name`, `value`, `stderr`, `n` (items), `unit` (`share`, `nats` or empty), `limited` (a part of "
    "the items), `lower_is_better`",
    "details": "what else was kept, by kind",
}


def versions(**others: str) -> dict[str, str]:
    """Versions of Lamina and Python, and of what else of a process has a part: what is imported, and `others`."""
    known = {"lamina": VERSION, "python": platform.python_version()}
    imported = {name: sys.modules[name] for name in ("numpy", "torch", "transformers") if name in sys.modules}
    return known | {name: str(getattr(module, "__version__", "?")) for name, module in imported.items()} | others
