"""The tables of `lamina runs`: newest first, or best first with what is beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from lamina.cli.runs_names import shortened
from lamina.ledger.runs import Run
from lamina.studies.ranking import Ranked, Ranking, items_of
from lamina.wording import counted

NAME_WIDTH = 16  # what is left to names, of which the end stays: scores that need more room give way

PART = "* of a part of the items"


def table(found: Sequence[Run], health: Mapping[str, str], width: int, limit: int) -> Iterator[str]:
    """Rows with as many scores as there is room for, those of the newest first. Below it, what is not shown."""
    shown = found[:limit]
    rows = [[run.id, f"{run.at.astimezone():%m-%d %H:%M}", run.kind, run.name, health_of(run, health)] for run in shown]
    yield from _with_scores(["run", "when", "kind", "recipe", "health"], rows, shown, _names(shown), width, name_at=3)
    if any(score.limited for run in shown for score in run.scores):
        yield f"{PART} only"
    if (hidden := len(found) - len(shown)) > 0:
        yield f"and {hidden} more: --limit N"


def ranked_table(order: Ranking, health: Mapping[str, str], width: int, limit: int) -> Iterator[str]:
    """The best first, each with its difference from the best and `~` where that is within chance; limited ones apart
    and unranked. Below it, what follows."""
    shown = (*order.whole, *order.limited)[:limit]
    has_best = len(order.whole) > 1 and order.best is not None
    head = ["run", "recipe", order.name, *(["from best"] if has_best else []), "health"]
    rows = [
        [each.run.id, _name(each), str(each.run.scores[0]), *([_from_best(each)] if has_best else []),
         health_of(each.run, health)]
        for each in shown
    ]  # fmt: skip
    runs = [each.run for each in shown]
    others = [name for name in _names([replace(run, scores=run.scores[1:]) for run in runs]) if name != order.name]
    beside = [name for name in others if items_of(name) == items_of(order.name)]  # over the same items
    others = [*beside, *(name for name in others if name not in beside)]
    lines = _with_scores(head, rows, runs, others, width, name_at=1, wanted=len(beside))
    yield next(lines)
    for number, line in enumerate(lines):
        if number == len(order.whole) < len(shown):
            yield f"{PART}: not ranked beside whole ones"
        yield line
    if len(order.whole) >= len(shown) and any(score.limited for run in runs for score in run.scores):
        yield f"{PART} only"
    if (hidden := len(order.whole) + len(order.limited) - len(shown)) > 0:
        yield f"and {hidden} more: --limit N"
    if order.older:
        yield f"and {counted(order.older, 'older row')} of these models: --all"
    if has_best:
        yield ""
        yield from _follows(order)


def _follows(order: Ranking) -> Iterator[str]:
    """Which is best, what cannot be told from it, how it stands to the best parent, and what the figures are."""
    best, parent = order.best, order.best_parent
    assert best is not None
    yield f"best: {best.run.id} {_name(best)}; {_told([each.mark for each in order.whole[1:]])}."
    if parent is best:
        yield "no recipe here is better than this parent."
    elif parent is not None and parent.difference is not None:
        over = best.run.scores[0].signed(-parent.difference, parent.margin)
        yield f"over {parent.run.name}, the best parent: {over}{parent.mark and f', {parent.mark}'}."
    yield " ".join(_how(order.whole))


def _told(marks: Sequence[str]) -> str:
    """How many of the others cannot be told from the best."""
    near, unknown, all_ = marks.count("within chance"), marks.count(""), len(marks)
    parts = []
    if near:
        parts.append(
            "the other cannot be told from it (~)"
            if all_ == 1
            else f"{near} of {all_} others cannot be told from it (~)"
        )
    elif not unknown:
        parts.append("beyond chance of the other" if all_ == 1 else f"beyond chance of all {all_} others")
    if unknown:
        parts.append(f"for {unknown} the error of the difference is not known")
    return ", ".join(parts)


def _how(whole: Sequence[Ranked]) -> Iterator[str]:
    """What the intervals are, and where they are not of the same items."""
    for_all = "" if len(whole) == 2 else f", for all pairs of the {len(whole)} at once"
    yield f"± of a difference is half its 95% interval{for_all}."
    apart = [each.run.id for each in whole if each.margin is not None and not each.paired]
    if len(apart) == 1:
        yield f"{apart[0]} has no answers to the same items: taken as independent."
    elif apart:
        yield f"{len(apart)} have no answers to the same items: taken as independent."


def _from_best(each: Ranked) -> str:
    if each.mark == "best" or each.difference is None:
        return each.mark
    near = " ~" if each.mark == "within chance" else ""
    return each.run.scores[0].signed(each.difference, each.margin) + near


def _name(each: Ranked) -> str:
    return f"{each.run.name} (parent)" if each.is_parent else each.run.name


def _names(runs: Sequence[Run]) -> list[str]:
    """The scores of runs, the most wanted first: one for each run that has any, then the others, the newest first."""
    often = Counter(score.name for run in runs for score in run.scores)
    first: dict[str, None] = {}
    for run in runs:
        own = [score.name for score in run.scores]
        if own and not any(name in first for name in own):
            first[max(own, key=lambda name: often[name])] = None
    return [*dict.fromkeys([*first, *often])]


def _with_scores(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    runs: Sequence[Run],
    names: Sequence[str],
    width: int,
    *,
    name_at: int,
    wanted: int | None = None,
) -> Iterator[str]:
    """Rows in columns, before the last one as many of the scores `names` as there is room for; then those left out.

    The first `wanted` of them, by default all, may make the names of rows shorter.
    """
    columns = list(map(list, zip(head, *rows, strict=True)))
    room = width - sum(_width(column) for number, column in enumerate(columns) if number != name_at)
    longest = max(map(len, columns[name_at]))
    scores: dict[str, list[str]] = {}
    for number, name in enumerate(names):
        column = [name, *("" if (score := run.score(name)) is None else str(score) for run in runs)]
        is_wanted = wanted is None or number < wanted
        if _width(column) + (min(NAME_WIDTH, longest) if is_wanted else longest) <= room:
            scores[name] = column
            room -= _width(column)
    yield from _lines([*columns[:-1], *scores.values(), columns[-1]], width, name_at=name_at)
    if left_out := [name for name in names if name not in scores]:
        yield _not_shown(left_out, width)


def _width(column: Sequence[str]) -> int:
    """Of a column, and of what is before it."""
    return max(map(len, column)) + 2


def health_of(run: Run, health: Mapping[str, str]) -> str:
    """The run's own verdict, or that of the newest check of the same merge."""
    return run.verdict or health.get(run.id, "")


def _lines(columns: Sequence[Sequence[str]], width: int, *, name_at: int) -> Iterator[str]:
    """Columns side by side; the names give way where all do not fit."""
    others = sum(_width(column) for number, column in enumerate(columns) if number != name_at)
    names = shortened(columns[name_at], max(12, width - others))
    shown = [names if number == name_at else column for number, column in enumerate(columns)]
    widths = [max(map(len, column)) for column in shown]
    for row in zip(*shown, strict=True):
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _not_shown(names: Sequence[str], width: int) -> str:
    """The scores that there was no room for, as many as one line can name, and how to see them."""
    told = list(names)
    while len(told) > 1 and len(_list(told, len(names))) > width:
        told.pop()
    return f"{_list(told, len(names))}\n`--sort NAME` ranks by one of them, `lamina runs show rN` has all of a row."


def _list(told: Sequence[str], of: int) -> str:
    return f"not shown: {', '.join(told)}{f' and {of - len(told)} more' if len(told) < of else ''}"
