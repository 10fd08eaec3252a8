"""What is chance: intervals of a paired difference, and of many that are to hold all at once. No I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 4000  # of the largest statistic; its 95% point is then known to about 0.02
CHUNK = 500


@dataclass(frozen=True)
class Interval:
    """A mean of paired differences, and half the width of its interval. Where nothing differs, both are 0."""

    difference: float
    margin: float

    @property
    def is_beyond_chance(self) -> bool:
        return abs(self.difference) > self.margin


def worth(is_beyond_chance: bool) -> str:
    """What is said of a difference."""
    return "beyond chance" if is_beyond_chance else "within chance"


@dataclass(frozen=True)
class Difference:
    """By how much one model's score exceeds another's, in shares, and half the width of its 95% interval."""

    share: float
    margin: float

    def __str__(self) -> str:
        return f"{100 * self.share:+.1f} ± {100 * self.margin:.1f}"


def difference(ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]) -> Difference:
    """The mean over skills of the difference in score, paired: both models were asked the same questions.

    A skill is one array, an element a question: whether it was answered right, or what the answer is worth. The
    interval is the normal one, of the paired differences within each skill; it speaks of other questions of the same
    kind, of two models that were fixed before. A skill of a single question has no such interval: it is infinite.
    """
    paired = [mine.astype(np.float64) - other for mine, other in zip(ours, theirs, strict=True)]
    variance = sum(each.var() / len(each) if len(each) > 1 else math.inf for each in paired) / len(paired) ** 2
    return Difference(float(np.mean([each.mean() for each in paired])), 1.96 * math.sqrt(variance))


def simultaneous(differences: Sequence[Sequence[float]]) -> list[Interval]:
    """For each row of paired differences, an element an item, its mean with an interval.

    In 95 of 100 repetitions all intervals hold their true means together. The width is the 95% point of the largest
    |t| of all rows, by Gaussian multipliers on the centred items, which keeps what rows have in common: nearly equal
    merges cost less than independent ones, and a single row gets the usual 1.96 standard errors
    (https://arxiv.org/abs/1212.6906, section 3), and as Student's t has it where items are few. The draws are the
    same every time.
    """
    rows = np.asarray(differences, dtype=np.float64)
    if rows.size == 0:
        return []
    count = rows.shape[1]
    means = rows.mean(axis=1)
    with _no_number_is_told():
        centred = rows - means[:, None]
        errors = np.sqrt((centred**2).sum(axis=1) / max(count - 1, 1) / count)
    if count < 2:
        return [Interval(float(mean), 0.0 if mean == 0 else math.inf) for mean in means]
    varying = errors > 0
    width = _critical(centred[varying] / (errors[varying, None] * count)) if varying.any() else 0.0
    width = students(width, count - 1)
    return [Interval(float(mean), float(width * error)) for mean, error in zip(means, errors, strict=True)]


def among_pairs(differences: Sequence[Sequence[float]], candidates: int) -> list[Interval]:
    """For each row of paired differences its mean, with an interval for all pairs of so many candidates at once.

    This is for differences from the best of them: which that is was chosen on the same items, so that any pair might
    have been looked at. Bonferroni's bound, wider than need be: more is called chance, never less; and as Student's t
    has it where items are few.
    """
    rows = np.asarray(differences, dtype=np.float64)
    count = rows.shape[1]
    if count < 2:
        return [Interval(float(mean), math.inf) for mean in rows.mean(axis=1)]
    width = students(width_among_pairs(candidates), count - 1)
    with _no_number_is_told():
        errors = rows.std(axis=1, ddof=1) / math.sqrt(count)
    return [Interval(float(mean), float(width * error)) for mean, error in zip(rows.mean(axis=1), errors, strict=True)]


def _no_number_is_told() -> np.errstate:
    """An item that is infinite leaves no interval, which says it; numpy need not warn of it as well."""
    return np.errstate(invalid="ignore")


def width_among_pairs(candidates: int) -> float:
    """Half the width, in standard errors, of intervals that hold in 95 of 100 cases for all pairs of so many."""
    return NormalDist().inv_cdf(1 - 0.05 / max(2, candidates * (candidates - 1)))


def students(z: float, degrees: int) -> float:
    """The point of Student's t that has the probability of a normal point (Abramowitz and Stegun, 26.7.5).

    Within 0.2% from 5 degrees on for one 95% interval, within 1.1% from 7 on for a hundred at once; with fewer degrees
    it is too small.
    """
    if degrees < 1:
        return math.inf
    first = (z**3 + z) / (4 * degrees)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    return z + first + second + third


def _critical(scaled: NDArray[np.float64]) -> float:
    """The 95% point of the largest |sum of items times normal draws| over the rows."""
    draws = np.random.default_rng(0)
    largest = [
        np.abs(scaled @ draws.standard_normal((scaled.shape[1], CHUNK))).max(axis=0) for _ in range(DRAWS // CHUNK)
    ]
    # With a single row this estimates 1.96, which is known: no interval of several may be narrower.
    return max(1.96, float(np.quantile(np.concatenate(largest), 0.95)))
