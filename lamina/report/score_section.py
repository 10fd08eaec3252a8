"""The scores of a merge on its page: the first of them in tiles, all of them in charts and tables."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.chance import worth
from lamina.evaluate.skills import SKILLS
from lamina.ledger.runs import Score
from lamina.report.figures import with_error
from lamina.report.html import chart, paragraph, table, text
from lamina.report.score_charts import score_chart
from lamina.report.scores import Scored, ScoreTable, is_dev
from lamina.studies.ranking import items_of

TILES = 4  # scores in the headline


def tiles(scores: ScoreTable | None) -> str:
    """The first scores that nothing was chosen by, large; "" where there are none."""
    if scores is None:
        return ""
    own = scores.models[0]
    names = _told_names(scores)
    shown = []
    for name in names[:TILES]:
        score = own.score(name)
        assert score is not None
        beside = _worth(scores, name)
        shown.append(
            f'<div class="tile"><span>{text(name)}</span><b>{_big(score)}</b><span>{text(beside)}</span></div>'
        )
    return f'<div class="tiles">{"".join(shown)}</div>\n'


def _big(score: Score) -> str:
    figure, _, error = with_error(score).partition("\u00a0")
    return f"{figure}{f' <small>{text(error)}</small>' * bool(error)}"


def _worth(scores: ScoreTable, name: str) -> str:
    """`+4.1 ± 2.5 over rev, beyond chance`."""
    if name not in scores.over:
        return "no parent was asked"
    parent, compared = scores.over[name]
    over = "beside" if compared.first.lower_is_better else "over"
    told = f"{compared.first.signed(compared.difference, compared.margin)} {over} {parent}"
    return told if compared.margin is None else f"{told}, {worth(compared.is_beyond_chance)}"


def scores_section(scores: ScoreTable) -> str:
    """A chart for each unit, with its table, and what the figures are."""
    parts = []
    told = _told_names(scores)
    for number, unit in enumerate(dict.fromkeys(_unit(scores, name) for name in told)):
        names = [name for name in told if _unit(scores, name) == unit]
        parts.append(chart(score_chart(scores, names), f"scores-{number}", _score_rows(scores, names)))
    notes = [
        "± of a score is one standard error, of a difference half its 95% interval; charts show 95% intervals.",
        "A difference is paired, question by question, where both were asked the same.",
    ]
    if any(map(is_dev, _told_names(scores))):
        notes.append("-dev are the items that a sweep chose by: the chosen one's score on them is partly luck.")
    if any(score.limited for score in scores.models[0].scores):
        notes.append("* is of a part of the items.")
    if len(scores.models) == 1:
        notes.append("No score of its parents is noted: lamina eval with --parents asks them too.")
    return "".join(parts) + paragraph(" ".join(notes), "note")


def _told_names(scores: ScoreTable) -> list[str]:
    """The scores that nothing was chosen by; all, where there are no others. An evaluation stands before what a sweep
    asked of the same."""
    evaluated = {name for name in scores.names if not items_of(name)}
    evaluated |= {"skills"} if evaluated.issuperset(SKILLS) else set()
    told = [name for name in scores.names if not is_dev(name)]
    told = [name for name in told if not items_of(name) or name.removesuffix("-test") not in evaluated]
    return told or list(scores.names)


def _unit(scores: ScoreTable, name: str) -> tuple[str, bool]:
    score = scores.models[0].score(name)
    assert score is not None
    return score.unit, score.lower_is_better


def _score_rows(scores: ScoreTable, names: Sequence[str]) -> str:
    head = ["", *names]
    rows = [
        [text(f"{model.label} (parent)" if model.is_parent else model.label), *(_cell(model, name) for name in names)]
        for model in scores.models
    ]
    rows.append(["beside the best parent", *(text(_worth(scores, name)) for name in names)])
    kinds = ["parent" if model.is_parent else "own" for model in scores.models]
    return table(head, rows, numbers=range(1, len(head)), kinds=[*kinds, ""])


def _cell(model: Scored, name: str) -> str:
    score = model.score(name)
    return "" if score is None else text(with_error(score))
