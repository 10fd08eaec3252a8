"""Several merges on one page: the best first, and what of it is beyond chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lamina.chance import worth
from lamina.report.comparison import Comparison
from lamina.report.figures import with_error
from lamina.report.html import chart, paragraph, section, table, text, whole_page
from lamina.report.page import LEVELS, SCHEME
from lamina.report.score_charts import ranking_chart, scatter_chart
from lamina.report.scores import Scored, is_dev
from lamina.report.subjects import title_of
from lamina.studies.ranking import Ranked
from lamina.wording import counted

IN_TABLE = 3  # values in which recipes differ; more have a table of their own
MARKS = {"best": "best", "within chance": "near", "beyond chance": "other", "": "other"}


def comparison_page(found: Comparison) -> str:
    """The whole page of several merges. Raises MissingExtra without the extra `report`."""
    body = _headline(found) + "".join(section(*part) for part in _sections(found))
    return whole_page(f"{counted(len(found.shown), 'run')} by {found.ranking.name} · Lamina", body)


def _sections(found: Comparison) -> Iterator[tuple[str, str, str]]:
    yield "ranking", "Ranking", _ranking(found)
    if len(found.names) > 1:
        yield "scatter", f"{found.names[0]} and {found.names[1]}", _scatter(found)
    if len(found.paths) > IN_TABLE:
        yield "recipes", "What differs in the recipes", _recipes(found)


def _headline(found: Comparison) -> str:
    order, shown = found.ranking, found.shown
    title = f"{counted(sum(not each.is_parent for each in shown), 'merge')} by {_named(order.name)}"
    head = f'<div class="title"><h1>{text(title)}</h1>{SCHEME}</div>\n'
    return head + "".join(f'<p class="lead">{text(line)}</p>\n' for line in _follows(found))


def _named(name: str) -> str:
    return f"the mean of {' and '.join(name.split(','))}" if "," in name else name


def _follows(found: Comparison) -> Iterator[str]:
    """In sentences: the best, those that cannot be told from it, and whether it beats the best parent."""
    order = found.ranking
    best = order.best
    if found.unscored:
        yield f"Not ranked, for want of such a score: {', '.join(found.unscored)}."
    if best is None:
        yield "Of a part of the items only: these are not ranked." if order.limited else "No mean is a number."
        return
    score = best.run.scores[0]
    values = found.values.get(best.run.id, ())
    pairs = zip(found.paths, values, strict=True) if 0 < len(values) <= IN_TABLE else ()
    which = ", ".join(f"{path}={value}" for path, value in pairs)
    which = ", a parent," if best.is_parent else f" ({which or best.run.name})"
    yield f"{called(best)}{which} is the best: {with_error(score)}."
    near = [each for each in order.whole if each.mark == "within chance"]
    rest = len(order.whole) - len(near) - 1
    if near:
        names = ", ".join(called(each) for each in near[:6]) + (f" and {len(near) - 6} more" if len(near) > 6 else "")
        yield f"Within chance of it: {names}. {counted(rest, 'other')} beyond chance worse."
    elif rest:
        yield f"All {rest} others are beyond chance worse."
    parent = order.best_parent
    if parent is not None and parent is not best and parent.difference is not None and parent.margin is not None:
        told = worth(parent.mark == "beyond chance")
        difference = score.signed(-parent.difference, parent.margin)
        yield f"Over the best parent, {called(parent)}: {difference}, {told}."


def called(ranked: Ranked) -> str:
    """`r12`; a parent by its name."""
    return ranked.run.name if ranked.is_parent else ranked.run.id


def _label(found: Comparison, ranked: Ranked) -> str:
    """A run in a line: by what its recipe has where others have something else, or by its name."""
    if ranked.is_parent:
        return f"{ranked.run.name} (parent)"
    values = found.values.get(ranked.run.id, ())
    return f"{ranked.run.id} · {', '.join(values) if 0 < len(values) <= IN_TABLE else ranked.run.name}"


def _ranking(found: Comparison) -> str:
    name = found.ranking.name
    paths = found.paths if len(found.paths) <= IN_TABLE else ()
    healthy = ["health"] if found.health else []
    head = ["run", "recipe", *paths, "mean" if "," in name else name, "from the best", "", *found.names, *healthy]
    rows = []
    for each in found.shown:
        score = each.run.scores[0]
        behind = ""
        if each.difference is not None and each.margin is not None and each.mark != "best":
            behind = score.signed(each.difference, each.margin)
        values = found.values.get(each.run.id, ("",) * len(found.paths)) if paths else ()
        called_so = title_of(each.run) if any(values) else each.run.name
        health = found.health.get(each.run.id, "")
        scores = [each.run.score(other) for other in found.names]
        rows.append(
            [
                text(each.run.id), text(called_so + (" (parent)" if each.is_parent else "")), *map(text, values),
                text(with_error(score)), text(behind), _mark(each),
                *("" if other is None else text(with_error(other)) for other in scores),
                *[f'<span class="{LEVELS.get(health, "soft")}">{text(health)}</span>' for _ in healthy],
            ]
        )  # fmt: skip
    first = 2 + len(paths)
    numbers = [first, first + 1, *range(first + 3, first + 3 + len(found.names))]
    kinds = ["own" if each.mark == "best" else "parent" if each.is_parent else "" for each in found.shown]
    drawn = ranking_chart(found.shown, [_label(found, each) for each in found.shown])
    note = paragraph(" ".join(_notes(found)), "note")
    return chart(drawn, "ranking-0", "") + table(head, rows, numbers=numbers, kinds=kinds) + note


def _notes(found: Comparison) -> Iterator[str]:
    yield "± of a score is one standard error; the chart shows 95% intervals."
    yield "± of a difference from the best holds for all pairs at once, since the best was found on the same items."
    if all(each.paired for each in found.shown):
        yield "Differences are paired, item by item."
    if is_dev(found.ranking.name):
        yield "A sweep chooses by these items: what is the best on them is partly luck, until others say so."
    if found.ranking.older:
        yield f"{counted(found.ranking.older, 'older row')} of the same merges left out."
    if found.ranking.limited and found.ranking.whole:
        yield f"{counted(len(found.ranking.limited), 'run')} of a part of the items left out."


def _mark(ranked: Ranked) -> str:
    kinds = {"best": "good", "within chance": "", "beyond chance": "soft", "": ""}
    return f'<span class="whole {kinds[ranked.mark]}">{text(ranked.mark)}</span>'


def _scatter(found: Comparison) -> str:
    across, up = found.names[:2]
    models = [Scored(called(each), each.is_parent, each.run.scores) for each in found.shown]
    marks = ["parent" if each.is_parent and each.mark != "best" else MARKS[each.mark] for each in found.shown]
    rows = [[text(model.label), *_two(model, (across, up))] for model in models]
    return chart(scatter_chart(models, marks, across, up), "scatter-0", table(["", across, up], rows, numbers=[1, 2]))


def _two(model: Scored, names: Sequence[str]) -> list[str]:
    return ["" if (score := model.score(name)) is None else text(with_error(score)) for name in names]


def _recipes(found: Comparison) -> str:
    rows = [
        [text(each.run.id), *map(text, found.values[each.run.id])]
        for each in found.shown
        if each.run.id in found.values
    ]
    more = paragraph(f"{counted(found.more_paths, 'other value')} differ too.", "note") if found.more_paths else ""
    return table(["run", *found.paths], rows) + more
