"""Scores as a page writes and draws them: shares in percent."""

from __future__ import annotations

from lamina.ledger.runs import Score, in_json
from lamina.report.scores import interval


def with_error(score: Score) -> str:
    """`91.6 ± 0.9`, a standard error, as tables in the terminal have it; `*` where it is of a part of the items."""
    return str(score).replace(" ", "\u00a0")


def level(score: Score) -> float | None:
    """Where a chart has a score; None for no number."""
    return in_json(score.factor * score.value)


def margin_of(score: Score) -> float | None:
    """Half the width of a score's 95% interval, as a chart has it; None where that is not known."""
    margin = interval(score)
    return None if margin is None else score.factor * margin


def scale_title(score: Score) -> str:
    """What an axis of such scores says."""
    worse = ", lower is better" if score.lower_is_better else ""
    return {"share": "percent", "nats": "nats a token"}.get(score.unit, "score") + worse
