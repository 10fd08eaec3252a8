"""Scores as a page writes and draws them: shares in percent."""

from __future__ import annotations

import math

from lamina.ledger.runs import Score
from lamina.report.scores import interval


def with_error(score: Score) -> str:
    """`91.6 ± 0.9`, a standard error, as tables in the terminal have it; `*` where it is of a part of the items."""
    return str(score).replace(" ", "\u00a0")


def plain(score: Score, value: float) -> str:
    """A figure in the score's unit."""
    return f"{factor_of(score) * value:.{_digits(score)}f}"


def signed(score: Score, value: float) -> str:
    """A difference, in the score's unit."""
    return f"{factor_of(score) * value:+.{_digits(score)}f}"


def level(score: Score) -> float | None:
    """Where a chart has a score; None for no number."""
    return finite(factor_of(score) * score.value)


def margin_of(score: Score) -> float | None:
    """Half the width of a score's 95% interval, as a chart has it; None where that is not known."""
    margin = interval(score)
    return None if margin is None else factor_of(score) * margin


def scale_title(score: Score) -> str:
    """What an axis of such scores says."""
    worse = ", lower is better" if score.lower_is_better else ""
    return {"share": "percent", "nats": "nats a token"}.get(score.unit, "score") + worse


def factor_of(score: Score) -> int:
    """What a score is multiplied by to be shown."""
    return 100 if score.unit == "share" else 1


def _digits(score: Score) -> int:
    return 1 if score.unit == "share" else 3


def finite(figure: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return figure if figure is not None and math.isfinite(figure) else None
