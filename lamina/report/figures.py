"""Scores as a page writes them."""

from __future__ import annotations

from lamina.ledger.runs import Score
from lamina.report.scores import interval


def with_interval(score: Score) -> str:
    """`91.6 ± 1.9`, half a 95% interval; `*` where it is of a part of the items."""
    margin = interval(score)
    spread = "" if margin is None else f"\u00a0±\u00a0{plain(score, margin)}"
    return plain(score, score.value) + spread + "*" * score.limited


def plain(score: Score, value: float) -> str:
    """A figure in the score's unit: shares in percent."""
    factor, digits = _unit(score)
    return f"{factor * value:.{digits}f}"


def signed(score: Score, value: float) -> str:
    """A difference, in the score's unit."""
    factor, digits = _unit(score)
    return f"{factor * value:+.{digits}f}"


def _unit(score: Score) -> tuple[int, int]:
    return (100, 1) if score.unit == "share" else (1, 3)
