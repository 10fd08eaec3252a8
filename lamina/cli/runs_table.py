"""The tables of `lamina runs`: newest first, or best first with what is beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lamina.ledger.runs import Run, Score
from lamina.studies.ranking import Ranked, Ranking
from lamina.wording import counted

SCORES_SHOWN = 3
NAME_WIDTH = 26  # a recipe with a changed value: other scores give way to it, the one that is ranked by does not


def table(found: Sequence[Run], health: Mapping[str, str], width: int, limit: int) -> Iterator[str]:
    """Rows with the scores that most of them have."""
    shown = found[:limit]
    columns = _columns(shown)[:SCORES_SHOWN]
    cells = [
        [
            run.id,
            f"{run.at.astimezone():%m-%d %H:%M}",
            run.kind,
            run.name,
            *_scores(run, columns),
            health_of(run, health),
        ]
        for run in shown
    ]
    yield from _lines([["run", "when", "kind", "recipe", *columns, "health"], *cells], width, name_at=3)
    if (hidden := len(found) - len(shown)) > 0:
        yield f"and {hidden} more: --limit N"


def ranked_table(order: Ranking, health: Mapping[str, str], width: int, limit: int) -> Iterator[str]:
    """The best first, each with its difference from the best and `~` where that is within chance; limited ones apart
    and unranked. Below it, what follows."""
    shown = (*order.whole, *order.limited)[:limit]
    others = [name for name in _columns([each.run for each in shown]) if name != order.name][: SCORES_SHOWN - 1]
    has_best = len(order.whole) > 1 and order.best is not None

    def rows(columns: Sequence[str]) -> Iterator[list[str]]:
        yield ["run", "recipe", order.name, *(["from best"] if has_best else []), *columns, "health"]
        for each in shown:
            scores = [str(each.run.scores[0]), *([_from_best(each)] if has_best else []), *_scores(each.run, columns)]
            yield [each.run.id, _name(each), *scores, health_of(each.run, health)]

    names = min(NAME_WIDTH, max(len(_name(each)) for each in shown))
    while others and _width(rows(others), name_at=1) + names > width:
        others = others[:-1]
    head, *lines = _lines([*rows(others)], width, name_at=1)
    yield head
    for number, line in enumerate(lines):
        if number == len(order.whole):
            yield "* of a part of the items: not ranked beside whole ones"
        yield line
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
        over = _difference(-parent.difference, parent.margin, best.run.scores[0])
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
    return _difference(each.difference, each.margin, each.run.scores[0]) + near


def _difference(difference: float, margin: float | None, like: Score) -> str:
    factor, digits = (100, 1) if like.unit == "share" else (1, 3)
    spread = "" if margin is None else f" ± {factor * margin:.{digits}f}"
    return f"{factor * difference:+.{digits}f}{spread}"


def _name(each: Ranked) -> str:
    return f"{each.run.name} (parent)" if each.is_parent else each.run.name


def _columns(shown: Sequence[Run]) -> list[str]:
    return [name for name, _ in Counter(score.name for run in shown for score in run.scores).most_common()]


def _scores(run: Run, columns: Sequence[str]) -> list[str]:
    return ["" if (score := run.score(name)) is None else str(score) for name in columns]


def health_of(run: Run, health: Mapping[str, str]) -> str:
    """The run's own verdict, or that of the newest check of the same merge."""
    return run.verdict or health.get(run.id, "")


def _width(rows: Iterable[Sequence[str]], *, name_at: int) -> int:
    """The width of all columns but that of the names, and of what is between."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return sum(widths) - widths[name_at] + 2 * (len(widths) - 1)


def _lines(rows: Sequence[Sequence[str]], width: int, *, name_at: int) -> Iterator[str]:
    """Rows in columns; the names give way where all do not fit."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[name_at] = max(12, min(widths[name_at], width - _width(rows, name_at=name_at)))
    for row in rows:
        shown = list(row)
        if len(shown[name_at]) > widths[name_at]:  # the end of a name tells more: what was changed
            shown[name_at] = "…" + shown[name_at][1 - widths[name_at] :]
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(shown, widths, strict=True)).rstrip()
