"""Scores of a merge beside those of its parents, and the sweeps that it is a point of, as the ledger has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lamina.check.naming import short_name
from lamina.ledger.compare import ABSENT, Compared, compared_scores, content_of, meaning_of, recipe_changes, same_recipe
from lamina.ledger.ledger import Ledger
from lamina.ledger.merges import newest_scores
from lamina.ledger.runs import Run, Score
from lamina.recipe.ways import Way, parse_way
from lamina.report.subjects import Subject, rows_of_model
from lamina.studies.ranking import SUFFIXES, items_of
from lamina.studies.sweep import Standing, standings

Z = 1.96  # standard errors to each side of a 95% interval


@dataclass(frozen=True)
class Scored:
    """A model with its scores: the newest of each name, a whole one before a limited one."""

    label: str
    is_parent: bool
    scores: tuple[Score, ...]

    def score(self, name: str) -> Score | None:
        return next((score for score in self.scores if score.name == name), None)


@dataclass(frozen=True)
class ScoreTable:
    """A merge and its parents. `over[name]` compares the merge with the best parent by that score."""

    models: tuple[Scored, ...]
    names: tuple[str, ...]
    over: dict[str, tuple[str, Compared]]


def score_table(subject: Subject, ledger: Ledger | None) -> ScoreTable | None:
    """The scores of a merge, beside those of its parents; None where it has none."""
    own = Scored(subject.name, False, _newest(subject.rows))
    if not own.scores:
        return None
    parents = parents_scored(subject, ledger)
    names = tuple(sorted((score.name for score in own.scores), key=_order))
    over = {}
    for name in names:
        found = _over_best(own, parents, name)
        if found is not None:
            over[name] = found
    shown = tuple(each for each in parents if any(each.score(name) for name in names))
    return ScoreTable((own, *shown), names, over)


def parents_scored(subject: Subject, ledger: Ledger | None) -> list[Scored]:
    """Each parent with what the ledger has of it."""
    return [
        Scored(short_name(parent.name), True, _newest(rows_of_model(ledger, parent.folder)))
        for parent in subject.parents
        if parent.folder is not None
    ]


def _newest(rows: Sequence[Run]) -> tuple[Score, ...]:
    return tuple(score for _, score in newest_scores(rows))


def interval(score: Score) -> float | None:
    """Half the width of a score's own 95% interval; None where its standard error is not known."""
    return None if score.stderr is None or not math.isfinite(score.stderr) else Z * score.stderr


def is_dev(name: str) -> bool:
    """True for a score that a sweep chooses by: the chosen one's is partly luck."""
    return items_of(name) == "-dev"


def _order(name: str) -> int:
    """Evaluations come first, then what only the chosen was asked; else as they were noted."""
    return SUFFIXES.index(items_of(name))


def _over_best(own: Scored, parents: Sequence[Scored], name: str) -> tuple[str, Compared] | None:
    """The merge against the parent that is best by a score."""
    mine = own.score(name)
    if mine is None:
        return None
    rivals = [(each, score) for each in parents if (score := each.score(name)) is not None]
    rivals = [(each, score) for each, score in rivals if score.limited == mine.limited and math.isfinite(score.value)]
    if not rivals:
        return None
    best, theirs = max(rivals, key=lambda pair: -pair[1].value if mine.lower_is_better else pair[1].value)
    (compared,) = compared_scores(Run("eval", "", scores=(theirs,)), Run("eval", "", scores=(mine,)))
    return best.label, compared


@dataclass(frozen=True)
class SweptPoint:
    """A point that was measured, and how it stands. `is_own`: it is the merge that the page is about; `is_written`: the
    recipe as it is."""

    run: str
    values: tuple[str, ...]
    score: Score
    standing: Standing
    is_own: bool
    is_written: bool


@dataclass(frozen=True)
class Swept:
    """The points of one grid, on the items that a sweep chooses by: the recipe as it is written, where that was
    measured, then the others in the order in which they were measured."""

    paths: tuple[str, ...]
    points: tuple[SweptPoint, ...]

    @property
    def written(self) -> SweptPoint | None:
        return next((point for point in self.points if point.is_written), None)

    @property
    def best(self) -> SweptPoint:
        return next(point for point in self.points if point.standing.is_best)


def sweeps_of(subject: Subject, ledger: Ledger | None) -> list[Swept]:
    """The sweeps in the ledger of which the merge is a point, or the recipe as it is written."""
    if ledger is None or not subject.recipe:
        return []
    groups: dict[tuple[tuple[str, ...], str, bool, int | None], list[Run]] = {}
    written: dict[tuple[str, bool], list[Run]] = {}
    for row in ledger.runs(kind="sweep"):
        if row.details.get("split") != "dev" or not row.scores or not row.recipe:
            continue
        score, point = row.scores[0], row.details.get("point")
        if not isinstance(point, list) or not score.items_digest:
            continue
        paths = tuple(str(change).partition("=")[0] for change in point)
        if paths:
            depth = row.details.get("depth")  # of a scan: those to other depths answer other questions
            groups.setdefault((paths, score.items_digest, score.limited, depth), []).append(row)
        else:
            written.setdefault((score.items_digest, score.limited), []).append(row)
    found = []
    for (paths, items, limited, depth), rows in groups.items():
        kept = _same_but_for(subject.recipe, paths, rows)
        if len(kept) < 2 or (depth is not None and not any(same_recipe(row.recipe, subject.recipe) for row in kept)):
            continue
        bases = _same_but_for(subject.recipe, paths, written.get((items, limited), []))
        found.append(_swept(ledger, subject, paths, kept, bases[:1]))
    return sorted(found, key=lambda each: -len(each.points))


def _same_but_for(recipe: str, paths: Sequence[str], rows: Sequence[Run]) -> list[Run]:
    """The rows whose recipe differs from this one at these paths alone; of each recipe the newest."""
    kept: dict[str, Run] = {}  # by what the recipe says
    for row in rows:
        changes = recipe_changes(recipe, row.recipe)
        if all(any(each.path == path or each.path.startswith((f"{path}.", f"{path}[")) for path in paths)
               for each in changes):  # fmt: skip
            kept.setdefault(meaning_of(row.recipe), row)
    return list(kept.values())


def _swept(
    ledger: Ledger, subject: Subject, paths: tuple[str, ...], rows: Sequence[Run], bases: Sequence[Run]
) -> Swept:
    """The points with their differences, as `lamina sweep` has them: for all points at once."""
    written = "".join(base.recipe for base in bases)
    ordered = sorted((row for row in rows if not same_recipe(row.recipe, written)), key=lambda row: row.number or 0)
    whole = [ledger.run(row.number) for row in (*bases, *ordered) if row.number is not None]
    scores = [row.scores[0] for row in whole]
    points = [
        SweptPoint(
            row.id, _values_at(paths, row), score, own, same_recipe(row.recipe, subject.recipe), row.recipe == written
        )
        for row, score, own in zip(whole, scores, standings(scores, scores[0] if bases else None), strict=True)
    ]
    return Swept(paths, tuple(points))


def _values_at(paths: Sequence[str], row: Run) -> tuple[str, ...]:
    """What a point's recipe has at the paths: as it was set, or as it stands there; `-` for nothing."""
    point = row.details.get("point") or []
    given = dict(str(change).partition("=")[::2] for change in point)
    return tuple(given.get(path) or value_in(content_of(row.recipe), parse_way(path)) for path in paths)


def value_in(content: Any, way: Way) -> str:
    """What stands in a recipe's content at the end of a way, as it would be written; `-` for nothing."""
    for step in way:
        if isinstance(content, list):
            content = content[step] if isinstance(step, int) and step < len(content) else None
        else:
            content = content.get(step) if isinstance(content, dict) else None
    return ABSENT if content is None else yaml.safe_dump(content, default_flow_style=True).split("\n")[0]
