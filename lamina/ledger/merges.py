"""Rows that speak of one merge, and what they say of it together: its recipe, its verdict, its scores. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from lamina.ledger.compare import meaning_of
from lamina.ledger.runs import Run, Score


def by_merge(runs: Sequence[Run]) -> list[list[Run]]:
    """The rows of each model, of rows that are newest first, in their order; one that no other speaks of stands alone.

    A merge is known by its plan and by what its recipe says: the plan alone does not tell fine-tunes of one shape
    apart, so that a slerp at t = 0 and one at t = 1 plan alike. A row without a recipe, of a folder that was checked or
    scored, belongs to the recipe that was merged into that folder last before it, else to the only one of its plan. A
    model that is no merge is known by the digest of its content; a check, which notes none, by what was scored there.
    """
    known = _meant(runs)
    scored_at = {run.output: digest for run in reversed(runs) if not run.plan and (digest := _content(run))}
    merged_into: dict[tuple[str, str], str] = {}
    keys: list[tuple[str, str]] = []
    for run in reversed(runs):  # a merge before what is said of it
        meant = known.get(run.plan, {})
        if not run.plan:
            keys.append(("", _content(run) or scored_at.get(run.output, "") or run.id))
        elif run.recipe:
            keys.append((run.plan, meant[run.recipe]))
            if run.kind == "merge":
                merged_into[run.plan, run.output] = meant[run.recipe]
        else:
            others = {*meant.values()}
            only = others.pop() if len(others) == 1 else ""
            keys.append((run.plan, merged_into.get((run.plan, run.output), only) or (run.id if meant else "")))
    found: dict[tuple[str, str], list[Run]] = {}
    for run, key in zip(runs, reversed(keys), strict=True):
        found.setdefault(key, []).append(run)
    return [*found.values()]


def _meant(runs: Iterable[Run]) -> Mapping[str, Mapping[str, str]]:
    """For each plan the texts of its recipes, each with the first that says the same: a comment makes no new merge."""
    found: dict[str, dict[str, str]] = {}
    for run in runs:
        if run.plan and run.recipe:
            found.setdefault(run.plan, {})[run.recipe] = run.recipe
    for texts in found.values():
        if len(texts) > 1:  # a text is read where there is another that might say the same
            first: dict[str, str] = {}
            for text in texts:
                texts[text] = first.setdefault(meaning_of(text), text)
    return found


def _content(run: Run) -> str:
    return str(run.details.get("digest", ""))


def verdicts(runs: Sequence[Run]) -> dict[str, str]:
    """For each run, by its id, the verdict of the newest check of the same merge, of rows that are newest first."""
    return _of_merge(runs, lambda run: run.verdict if run.kind == "check" else "")


def recipes_of(runs: Sequence[Run]) -> dict[str, str]:
    """For each run, by its id, the recipe of the same merge, as its newest row has it."""
    return _of_merge(runs, lambda run: run.recipe)


def _of_merge(runs: Sequence[Run], told: Callable[[Run], str]) -> dict[str, str]:
    """What the first row of each merge that tells something tells, for all of its rows; nothing where none does."""
    found: dict[str, str] = {}
    for merge in by_merge(runs):
        if said := next(filter(None, map(told, merge)), ""):
            found |= dict.fromkeys((run.id for run in merge), said)
    return found


def newest_scores(runs: Iterable[Run]) -> list[tuple[Run, Score]]:
    """The newest score of each name with its run, of rows of one model that are newest first.

    A limited score is there only where no row has a whole one of its name.
    """
    found: dict[str, tuple[Run, Score]] = {}
    for run in runs:
        for score in run.scores:
            if score.name not in found or (found[score.name][1].limited and not score.limited):
                found[score.name] = (run, score)
    return [*found.values()]
