"""Which scores head a page."""

from __future__ import annotations

import re

from lamina.ledger.runs import Score
from lamina.report.score_section import tiles
from lamina.report.scores import Scored, ScoreTable


def headed(*names: str) -> list[str]:
    own = Scored("out", False, tuple(Score(name, 0.5, 0.1, 25, unit="share") for name in names))
    return re.findall(r'class="tile"><span>([^<]*)', tiles(ScoreTable((own,), names, {})))


def test_an_evaluation_stands_before_what_a_sweep_asked_of_the_same() -> None:
    assert headed("rev", "sort", "skills-test", "rev-test", "sort-test", "skills-dev") == ["rev", "sort"]
    assert headed("rev", "loss-test", "rev-test") == ["rev", "loss-test"]


def test_what_a_sweep_chose_by_is_shown_where_there_is_nothing_else() -> None:
    assert headed("skills-test", "skills-dev") == ["skills-test"]
    assert headed("skills-dev") == ["skills-dev"]
