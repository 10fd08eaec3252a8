"""Which of many runs is the best by some scores, and which cannot be told from it by what was asked. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal

import numpy as np

from lamina.chance import students, width_among_pairs
from lamina.errors import LedgerError, did_you_mean
from lamina.evaluate.skills import SKILLS
from lamina.ledger.merges import by_merge
from lamina.ledger.runs import Run, Score

Mark = Literal["best", "within chance", "beyond chance", ""]

# Of a score's name: an evaluation's, a sweep's on what only the chosen was asked, and on what it chose by. `skills-dev`
# is the mean of `rev-dev` and `sort-dev`.
SUFFIXES = ("", "-test", "-dev")


@dataclass(frozen=True)
class Ranked:
    """A run in its place. `mean` is over the names that are ranked by, with its standard error.

    `difference` is from the best, in the unit of the score, and `margin` half the width of its 95% interval, which
    holds for all pairs of the ranking at once; `paired` where it is over the same items. `mark` says what follows; it
    is empty where that is not known: `margin` is None without standard errors, and a mean may be no number. `run` has
    the mean as its first score.
    """

    run: Run
    mean: float
    error: float | None
    difference: float | None
    margin: float | None
    paired: bool
    mark: Mark
    is_parent: bool


@dataclass(frozen=True)
class Ranking:
    """All runs with these scores, the best first: whole ones, and limited ones among themselves, which have no marks.

    `older` is how many rows were left out, because a newer one tells of the same model.
    """

    name: str
    whole: tuple[Ranked, ...]
    limited: tuple[Ranked, ...]
    older: int

    @property
    def best(self) -> Ranked | None:
        return next((each for each in self.whole if each.mark == "best"), None)

    @property
    def best_parent(self) -> Ranked | None:
        return next((each for each in self.whole if each.is_parent), None)


def items_of(name: str) -> str:
    """The suffix that tells which items a score is over: of `rev-dev` and `loss-dev/prose` it is `-dev`."""
    return next((suffix for suffix in SUFFIXES[1:] if name.partition("/")[0].endswith(suffix)), "")


def items_needed(name: str) -> list[str]:
    """The scores whose items `ranking` compares by, for what `--sort` calls `name`."""
    return [part for each in dict.fromkeys([name, *name.split(",")]) for part in (each, *_parts(each))]


def ranking(runs: Sequence[Run], name: str, *, among: Sequence[Run] = (), every: bool = False) -> Ranking:
    """Rank runs, the newest first, by a score or by the mean of several: `skills`, or `rev,sort`.

    `skills` is the mean over the kinds of bundled questions, as are `skills-dev` and `skills-test`. Of a model that was
    scored several times its newest scores are taken, or, with `every`, each row by itself. Rows that are models
    without a recipe and went into another of the runs are parents. `among` are all rows, these runs and what else there
    is: they tell of what merge a folder is that was scored, and more parents are taken from them.
    Raises LedgerError where no run has the scores, or they have no mean.
    """
    called = {PurePath(parent.name).name for run in runs for parent in run.parents}
    known = {run.number for run in runs}
    rows = [*runs, *(run for run in among if run.number not in known and _is_parent(run, called))]
    wanted = _wanted(runs, name, among or runs)
    asked = {run.number for run in rows}
    merges = [[run] for run in rows] if every else by_merge(among or rows)
    models = ([run for run in merge if run.number in asked] for merge in merges)
    held = [(each, found) for each in models if (found := _scored(each, wanted, name)) is not None]
    scored = [found for _, found in held]
    if not any(run.number in known for each, _ in held for run in each):  # parents that nobody asked for are no answer
        raise LedgerError(f"no run here has all of {', '.join(wanted)}, in one unit, to take a mean of.")
    whole = sorted((each for each in scored if not each.mean.limited), key=_Scored.order)
    limited = sorted((each for each in scored if each.mean.limited), key=_Scored.order)
    best = whole[0] if whole and not math.isnan(whole[0].mean.value) else None
    width = width_among_pairs(len(whole))
    return Ranking(
        name,
        tuple(_placed(each, best, width, _is_parent(each.run, called)) for each in whole),
        tuple(_placed(each, None, width, _is_parent(each.run, called)) for each in limited),
        sum(each.older for each in scored),
    )


@dataclass(frozen=True)
class _Scored:
    """A model with the mean and what it is made of, each score with its weight; `older` rows have one of them too."""

    run: Run
    mean: Score
    made_of: tuple[tuple[float, Score], ...]
    older: int

    def order(self) -> tuple[bool, float]:
        """The best first; what is no number last."""
        value = self.mean.value
        return math.isnan(value), value if self.mean.lower_is_better else -value


def _wanted(runs: Sequence[Run], name: str, among: Sequence[Run]) -> list[str]:
    names, known = _names(runs), _names(among)
    if name in names:
        return [name]
    wanted = name.split(",")
    for each in wanted:
        if _has(names, each):
            continue
        if _has(known, each):
            raise LedgerError(
                f"none of the runs that were asked for has a score `{each}`; others in the ledger have it. Leave out "
                "what chooses runs: --kind, --verdict, --text, --since."
            )
        hint = (
            did_you_mean(each, known) if known else " No run has any yet: `lamina eval` and `lamina sweep` take them."
        )
        raise LedgerError(f"no run here has a score `{each}`.{hint}")
    return wanted


def _names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(score.name for run in runs for score in run.scores))


def _has(names: Sequence[str], name: str) -> bool:
    return name in names or all(part in names for part in _parts(name) or (name,))


def _parts(name: str) -> tuple[str, ...]:
    """The scores that a score is the mean of; none where it is one of its own."""
    suffix = items_of(name)
    return tuple(f"{skill}{suffix}" for skill in SKILLS) if name == f"skills{suffix}" else ()


def _scored(rows: Sequence[Run], wanted: Sequence[str], name: str) -> _Scored | None:
    """The newest scores of a model's rows, whole ones before limited ones. None where some are missing."""
    return next((found for limited in (False, True) if (found := _of(rows, wanted, name, limited)) is not None), None)


def _of(rows: Sequence[Run], wanted: Sequence[str], name: str, limited: bool) -> _Scored | None:
    scores: dict[str, Score] = {}
    holder: dict[str, Run] = {}
    for row in rows:
        for score in row.scores:
            if score.limited == limited and score.name not in scores:
                scores[score.name], holder[score.name] = score, row
    made_of: list[tuple[float, Score]] = []
    for each in wanted:
        parts = _parts(each)
        names = parts if parts and all(part in scores for part in parts) else (each,)
        if not all(part in scores for part in names):
            return None
        made_of += [(1 / len(wanted) / len(names), scores[part]) for part in names]
    kinds = {(score.unit, score.lower_is_better) for _, score in made_of}
    if len(kinds) > 1:
        return None
    first = next(row for row in rows if any(holder[score.name] is row for _, score in made_of))
    mean = _mean(made_of, name)
    others = [score for score in scores.values() if score.name != name]
    same = sum(row.score(made_of[0][1].name) is not None for row in rows)
    return _Scored(replace(first, scores=(mean, *others)), mean, tuple(made_of), same - 1)


def _mean(made_of: Sequence[tuple[float, Score]], name: str) -> Score:
    first = made_of[0][1]
    if len(made_of) == 1:
        return replace(first, name=name)
    errors = [weight * score.stderr for weight, score in made_of if score.stderr is not None]
    counts = [score.n for _, score in made_of if score.n is not None]
    return Score(
        name,
        sum(weight * score.value for weight, score in made_of),
        math.hypot(*errors) if len(errors) == len(made_of) else None,
        sum(counts) if len(counts) == len(made_of) else None,
        unit=first.unit,
        limited=first.limited,
        lower_is_better=first.lower_is_better,
    )


def _placed(found: _Scored, best: _Scored | None, width: float, is_parent: bool) -> Ranked:
    mean = found.mean
    if best is None or math.isnan(mean.value):
        return Ranked(found.run, mean.value, mean.stderr, None, None, False, "", is_parent)
    if found is best:
        return Ranked(found.run, mean.value, mean.stderr, 0.0, 0.0, True, "best", is_parent)
    difference = mean.value - best.mean.value
    error, count, paired = _error(found, best)
    margin = None if error is None else students(width, count - 1) * error if error else 0.0
    mark: Mark = "" if margin is None else "within chance" if abs(difference) <= margin else "beyond chance"
    return Ranked(found.run, mean.value, mean.stderr, difference, margin, paired, mark, is_parent)


def _error(first: _Scored, second: _Scored) -> tuple[float | None, int, bool]:
    """The standard error of the difference of two means, the fewest items it is from, and whether all are paired.

    Scores over the same items count by their differences item by item, others as independent ones.
    """
    pairs = list(zip(first.made_of, second.made_of, strict=False))
    if [each.name for _, each in first.made_of] != [each.name for _, each in second.made_of]:
        pairs = [((1.0, first.mean), (1.0, second.mean))]
    errors: list[float] = []
    counts: list[int] = []
    paired = True
    for (weight, ours), (_, theirs) in pairs:
        if ours.items and ours.items_digest and (ours.items_digest, len(ours.items)) == (
            theirs.items_digest, len(theirs.items),
        ):  # fmt: skip
            differences = np.subtract(ours.items, theirs.items)
            count = len(differences)
            errors.append(weight * (float(differences.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf))
            counts.append(count)
        elif ours.stderr is not None and theirs.stderr is not None:
            paired = False
            errors.append(weight * math.hypot(ours.stderr, theirs.stderr))
            counts += [score.n for score in (ours, theirs) if score.n is not None]
        else:
            return None, 0, False
    return math.hypot(*errors), min(counts, default=1_000_000), paired


def _is_parent(run: Run, called: set[str]) -> bool:
    names: Iterator[str] = (PurePath(name).name for name in (run.name, run.output))
    return not run.recipe and not run.plan and any(name in called for name in names)
