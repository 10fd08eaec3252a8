"""Several merges side by side, ranked by a score: which is best, which cannot be told from it, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.errors import LedgerError
from lamina.evaluate.skills import SKILLS
from lamina.ledger.compare import content_of, recipe_changes
from lamina.ledger.ledger import Ledger
from lamina.ledger.merges import recipes_of, verdicts
from lamina.ledger.runs import Run, in_json
from lamina.recipe.ways import parse_way
from lamina.report.scores import value_in
from lamina.report.subjects import Subject
from lamina.studies.ranking import Ranked, Ranking, items_of, ranking

BY = ("skills", "skills-test", "skills-dev")  # what is ranked by where nothing is said and runs have it
MOST_PATHS = 12  # in which recipes differ: more are told by their number


@dataclass(frozen=True)
class Comparison:
    """A ranking, whose scores have the `names`, and what differs between the recipes: for each path of `paths` what
    the run of each plan has there, in `values`. `more_paths` is how many other values differ; `unscored`
    are sources without the scores."""

    ranking: Ranking
    names: tuple[str, ...]
    paths: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    more_paths: int
    health: Mapping[str, str]
    unscored: tuple[str, ...]

    @property
    def shown(self) -> tuple[Ranked, ...]:
        """Those that are ranked; limited ones where there are no whole ones."""
        return self.ranking.whole or self.ranking.limited


def comparison_of(subjects: Sequence[Subject], ledger: Ledger | None, by: str | None) -> Comparison:
    """Rank merges, or all runs of the ledger where none are named, beside their parents.

    `by` is a score, or several whose mean is taken: `rev,sort`. Raises LedgerError where there are no such scores.
    """
    if ledger is None:
        raise LedgerError(
            "there is no ledger here to have scores of them: `lamina eval` and `lamina sweep` note scores."
        )
    rows = [ledger.run(run.number) if run.scores and run.number else run for run in ledger.runs()]  # scores with items
    wanted = {run.number for run in rows} if not subjects else {run.number for each in subjects for run in each.rows}
    runs = [run for run in rows if run.number in wanted]
    order = ranking(runs, by or _usual(runs), among=rows)
    shown = order.whole or order.limited
    known, health = recipes_of(rows), verdicts(rows)
    written = {each.run.id: known[each.run.id] for each in shown if each.run.id in known}
    paths = _differing([*written.values()])
    kept = paths[:MOST_PATHS]
    return Comparison(
        order,
        _names(order),
        kept,
        {run: _values_at(kept, recipe) for run, recipe in written.items()},
        len(paths) - len(kept),
        {each.run.id: health[each.run.id] for each in shown if each.run.id in health},
        tuple(subject.source for subject in subjects if not _is_among(subject, order)),
    )


def _usual(runs: Sequence[Run]) -> str:
    """What to rank by: the skills where runs have them, else the score that most have."""
    names = [score.name for run in runs for score in run.scores]
    for name in BY:
        if name in names or (name == BY[0] and {"rev", "sort"} <= set(names)):
            return name
    if not names:
        raise LedgerError("none of them has a score: `lamina eval A B --tasks TASK` asks them the same questions.")
    return max(dict.fromkeys(names), key=names.count)


def _names(order: Ranking) -> tuple[str, ...]:
    """The scores to show beside the one that is ranked by: those that it is the mean of first; of its own kind of
    items, and no mean of what is shown already."""
    by = order.name.split(",")
    shown = order.whole or order.limited
    names = dict.fromkeys(score.name for each in shown for score in each.run.scores)
    kind = items_of(by[0])
    means = {f"skills{kind}"} if {f"{skill}{kind}" for skill in SKILLS} <= set(names) else set()
    beside = [name for name in names if items_of(name) == kind and name not in {order.name, *means}]
    return tuple(sorted(beside, key=lambda name: name not in by))


def _is_among(subject: Subject, order: Ranking) -> bool:
    """True where a ranking has the merge, or one that plans to the same."""
    ranked = [each.run for each in (*order.whole, *order.limited)]
    plans, numbers = {run.plan for run in ranked if run.plan}, {run.number for run in ranked}
    return subject.digest in plans or any(row.number in numbers for row in subject.rows)


def _differing(recipes: Sequence[str]) -> tuple[str, ...]:
    """The paths at which any of them differs from the first."""
    found: dict[str, None] = {}
    for recipe in recipes[1:]:
        found |= dict.fromkeys(change.path for change in recipe_changes(recipes[0], recipe))
    return tuple(found)


def _values_at(paths: Sequence[str], recipe: str) -> tuple[str, ...]:
    content = content_of(recipe)
    return tuple(value_in(content, parse_way(path)) for path in paths)


# What `lamina report --json` prints of several sources, by key.
COMPARISON_FIELDS: Mapping[str, str] = {
    "by": "the score that is ranked by, or those whose mean is",
    "ranked": "the best first, each: `run`, `name`, `is_parent`, `mean`, `stderr`, `difference` from the best, "
    "`margin` (half its 95% interval, for all pairs at once), `paired`, `mark` (`best`, `within chance`, "
    "`beyond chance`), `scores`, `health`, `values` (at `paths`)",
    "paths": "at which the recipes differ",
    "unscored": "sources of which the ledger has no such score",
}


def comparison_data(found: Comparison) -> dict[str, Any]:
    """A comparison for JSON; `COMPARISON_FIELDS` says what each key holds."""
    return {
        "by": found.ranking.name,
        "ranked": [
            {
                "run": each.run.id,
                "name": each.run.name,
                "is_parent": each.is_parent,
                "mean": in_json(each.mean),
                "stderr": in_json(each.error),
                "difference": in_json(each.difference),
                "margin": in_json(each.margin),
                "paired": each.paired,
                "mark": each.mark,
                "scores": [score.as_data() for score in each.run.scores],
                "health": found.health.get(each.run.id, ""),
                "values": list(found.values.get(each.run.id, ())),
            }
            for each in found.shown
        ],
        "paths": list(found.paths),
        "unscored": list(found.unscored),
    }
