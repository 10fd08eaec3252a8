"""`lamina runs`: what was merged, checked and scored; which is best; what made the difference."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import Command, ledger_option
from lamina.errors import LedgerError, did_you_mean
from lamina.ledger.compare import Changed, Compared, compared_scores, ranked, recipe_changes, with_mean
from lamina.ledger.ledger import Ledger, ledger_file
from lamina.ledger.runs import KINDS, Run, Score
from lamina.wording import counted, in_bytes, in_seconds

SCORES_SHOWN = 3
FEWEST_COLUMNS = 60
SPANS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

# What `lamina runs diff --json` prints, by key.
RUNS_DIFF_FIELDS: Mapping[str, str] = {
    "first, second": "the rows' ids",
    "recipe": "each value that differs: `path` (as `--set` takes it), `first`, `second`; null where one has no recipe",
    "scores": "each that both have: `name`, `first`, `second`, `difference` (second minus first), `margin` (half of "
    "its 95% interval), `paired` (over the same items), `beyond_chance`",
}


class _Moment(click.ParamType[datetime]):
    """A time: `2d` (ago), or `2026-01-31`."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if found := re.fullmatch(r"(\d{1,5})([hdw])", str(value)):
            return datetime.now(UTC) - int(found[1]) * SPANS[found[2]]
        try:
            return datetime.fromisoformat(str(value)).astimezone()
        except ValueError:
            self.fail(f"`{value}` is no time; write `3h`, `2d`, `1w` (ago) or `2026-01-31`.", param, ctx)


class _Number(click.ParamType[int]):
    """The number of a row: `r14`, or `14`."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"r?(\d{1,18})", str(value))
        if found is not None:
            return int(found[1])
        return self.fail(f"`{value}` is no run; write `r14`, as `lamina runs` shows it.", param, ctx)


_FILTERS: Sequence[Callable[[Command], Command]] = (
    click.option("--kind", type=click.Choice(KINDS), help="Only these."),
    click.option("--verdict", metavar="VERDICT", help="Only checks with this verdict: healthy, broken, ..."),
    click.option("--text", metavar="TEXT", help="Only those with it in name, recipe, parents or output."),
    click.option("--since", type=_Moment(), help="Only since then: 3h, 2d, 1w (ago) or 2026-01-31."),
    click.option("--sort", metavar="SCORE", help="Only those with this score, best first; A,B ranks by a mean."),
    ledger_option,
)


def _with_filters(command: Command) -> Command:
    for decorate in reversed(_FILTERS):
        command = decorate(command)
    return command


@click.group(invoke_without_command=True)
@_with_filters
@click.option(
    "--limit", type=click.IntRange(1), default=30, show_default=True, metavar="N", help="How many lines at most."
)
@json_option
@click.pass_context
def runs(
    ctx: click.Context,
    kind: str | None,
    verdict: str | None,
    text: str | None,
    since: datetime | None,
    sort: str | None,
    ledger: Path | None,
    limit: int,
    as_json: bool,
) -> None:  # fmt: skip
    """List what was merged, checked and scored, newest first, or best first by a score.

    Merges, checks, evaluations and points of sweeps are noted in the ledger, one file for all of a user's work.

    Example: lamina runs --sort skills
    """
    if ctx.invoked_subcommand is not None:
        return
    file = ledger_file(ledger)
    if not file.exists():
        _tell_empty(file, as_json)
        return
    with Ledger(file) as opened:
        found = opened.runs(kind=kind, verdict=verdict, text=text, since=since)
        health = {run.plan: run.verdict for run in reversed(opened.runs(kind="check")) if run.plan}
    whole, limited = (found, []) if sort is None else _sorted(found, sort)
    if as_json:
        print_json([run.as_data() | {"health": _health(run, health)} for run in (*whole, *limited)])
    elif not found and not any((kind, verdict, text, since)):
        _tell_empty(file, as_json)
    elif not found:
        click.echo("no run is like that; `lamina runs` lists all.")
    else:
        width = max(shutil.get_terminal_size().columns, FEWEST_COLUMNS)
        for line in table(whole, limited, sort, health, width, limit):
            click.echo(line)


@runs.command()
@click.argument("run", type=_Number())
@ledger_option
@json_option
def show(run: int, ledger: Path | None, as_json: bool) -> None:
    """Show all that is known of RUN: its recipe, models, versions and scores.

    Example: lamina runs show r14
    """
    with _opened(ledger) as opened:
        found = opened.run(run)
    if as_json:
        print_json(found.as_data())
        return
    for line in described(found):
        click.echo(line)


@runs.command()
@click.argument("first", type=_Number())
@click.argument("second", type=_Number())
@ledger_option
@json_option
def diff(first: int, second: int, ledger: Path | None, as_json: bool) -> None:
    """Show what in the recipes of two runs differs, beside the difference of their scores.

    Where both have the answers to the same questions, the interval is that of the paired differences.

    Example: lamina runs diff r12 r14
    """
    with _opened(ledger) as opened:
        ours, theirs = opened.run(first), opened.run(second)
    changes = recipe_changes(ours.recipe, theirs.recipe) if ours.recipe and theirs.recipe else None
    scores = compared_scores(ours, theirs)
    if as_json:
        print_json(_diff_data(ours, theirs, changes, scores))
        return
    for line in _diff_lines(ours, theirs, changes, scores):
        click.echo(line)


@runs.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@_with_filters
@json_option
def export(
    file: Path | None,
    kind: str | None,
    verdict: str | None,
    text: str | None,
    since: datetime | None,
    sort: str | None,
    ledger: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Write the runs as CSV to FILE, or to standard output: a line a run, three columns a score.

    Example: lamina runs export runs.csv
    """
    with _opened(ledger) as opened:
        found = opened.runs(kind=kind, verdict=verdict, text=text, since=since)
    rows = found if sort is None else [run for part in _sorted(found, sort) for run in part]
    content = as_csv(rows)
    if file is not None:
        file.write_text(content, encoding="utf-8", newline="")
    if as_json:
        print_json({"file": None if file is None else str(file), "runs": [run.as_data() for run in rows]})
    elif file is None:
        click.echo(content, nl=False)
    else:
        click.echo(f"{counted(len(rows), 'run')} written to {file}")


def table(
    whole: Sequence[Run], limited: Sequence[Run], sort: str | None, health: Mapping[str, str], width: int, limit: int
) -> Iterator[str]:
    """Rows with the scores that most of them have, the sorted one first; limited ones apart and unranked."""
    shown = [*whole, *limited][:limit]
    names = Counter(score.name for run in shown for score in run.scores)
    columns = list(dict.fromkeys([*([sort] if sort else []), *(name for name, _ in names.most_common())]))
    columns = columns[:SCORES_SHOWN]
    cells = [_cells(run, columns, health, with_time=sort is None) for run in shown]
    head = ["run", *([] if sort else ["when", "kind"]), "recipe", *columns, "health"]
    widths = [max(len(row[index]) for row in [head, *cells]) for index in range(len(head))]
    name_at = head.index("recipe")
    others = sum(widths) - widths[name_at] + 2 * (len(head) - 1)
    widths[name_at] = max(12, min(widths[name_at], width - others))
    yield _line(head, widths, name_at)
    for number, row in enumerate(cells):
        if number == len(whole) < len(shown):
            yield "* of a part of the items: not ranked beside whole ones"
        yield _line(row, widths, name_at)
    if (hidden := len(whole) + len(limited) - len(shown)) > 0:
        yield f"and {hidden} more: --limit N"


def _cells(run: Run, columns: Sequence[str], health: Mapping[str, str], *, with_time: bool) -> list[str]:
    scores = [run.score(name) for name in columns]
    when = [f"{run.at.astimezone():%m-%d %H:%M}", run.kind] if with_time else []
    return [run.id, *when, run.name, *("" if score is None else str(score) for score in scores), _health(run, health)]


def _line(cells: Sequence[str], widths: Sequence[int], name_at: int) -> str:
    shown = list(cells)
    if len(shown[name_at]) > widths[name_at]:  # the end of a name tells more: what was changed
        shown[name_at] = "…" + shown[name_at][1 - widths[name_at] :]
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(shown, widths, strict=True)).rstrip()


def _health(run: Run, health: Mapping[str, str]) -> str:
    """The run's own verdict, or that of the newest check of what the same plan made."""
    return run.verdict or health.get(run.plan, "")


def described(run: Run) -> Iterator[str]:
    """All of a row in lines."""
    yield f"{run.id} · {run.kind} · {run.name}"
    yield ""
    seconds = "" if run.seconds is None else f" · {in_seconds(run.seconds)}"
    memory = "" if run.peak_memory is None else f" · peak memory {in_bytes(run.peak_memory)}"
    yield f"  when      {run.at.astimezone():%Y-%m-%d %H:%M:%S}{seconds}{memory}"
    if run.output:
        yield f"  output    {run.output}"
    for number, parent in enumerate(run.parents):
        yield f"  {'' if number else 'models':<8}  {parent.name}{f' at {parent.revision}' if parent.revision else ''}"
    if run.verdict:
        yield f"  verdict   {run.verdict}"
    yield f"  with      {', '.join(f'{name} {version}' for name, version in run.versions.items())}"
    if run.plan:
        yield f"  plan      {run.plan}{'' if run.seed is None else f' · seed {run.seed}'}"
    for number, score in enumerate(run.scores):
        items = "" if score.n is None else f" over {counted(score.n, 'item')}"
        yield f"  {'' if number else 'scores':<8}  {score.name} {score}{items}"
    for name, value in run.details.items():
        if isinstance(value, str | int | float):
            yield f"  {name:<8}  {value}"
    if run.recipe:
        yield ""
        yield from (f"  {line}".rstrip() for line in run.recipe.splitlines())


def _diff_lines(
    first: Run, second: Run, changes: Sequence[Changed] | None, scores: Sequence[Compared]
) -> Iterator[str]:
    yield f"{first.id} · {first.kind} · {first.name}"
    yield f"{second.id} · {second.kind} · {second.name}"
    yield ""
    if changes is None:
        without = " and ".join(run.id for run in (first, second) if not run.recipe)
        yield f"  {without}: no recipe is noted to compare"
    elif not changes:
        yield "  the same recipe"
    else:
        rows = [("recipe", first.id, second.id), *((each.path, each.first, each.second) for each in changes)]
        yield from _aligned(rows)
    yield ""
    if not scores:
        yield "  no score that both have"
        return
    lines = [("score", first.id, second.id, f"{second.id} - {first.id}", "")]
    yield from _aligned([*lines, *((each.name, str(each.first), str(each.second), *_told(each)) for each in scores)])


def _told(compared: Compared) -> tuple[str, str]:
    """The difference with its interval, and what it is worth."""
    factor, digits = (100, 1) if compared.first.unit == "share" else (1, 3)
    difference = f"{factor * compared.difference:+.{digits}f}"
    if compared.margin is None:
        return difference, "no standard error is known"
    worth = "beyond chance" if compared.is_beyond_chance else "within chance"
    return f"{difference} ± {factor * compared.margin:.{digits}f}", f"{worth}{', paired' if compared.paired else ''}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _diff_data(
    first: Run, second: Run, changes: Sequence[Changed] | None, scores: Sequence[Compared]
) -> dict[str, Any]:
    return {
        "first": first.id,
        "second": second.id,
        "recipe": changes and [{"path": each.path, "first": each.first, "second": each.second} for each in changes],
        "scores": [
            {
                "name": each.name,
                "first": each.first.as_data()["value"],
                "second": each.second.as_data()["value"],
                "difference": each.difference,
                "margin": each.margin,
                "paired": each.paired,
                "beyond_chance": each.is_beyond_chance,
            }
            for each in scores
        ],
    }


def as_csv(rows: Iterable[Run]) -> str:
    """A line a run; of each score its value, standard error, and whether it is limited."""
    rows = list(rows)
    names = list(dict.fromkeys(score.name for run in rows for score in run.scores))
    plain = ["id", "kind", "name", "at", "plan", "recipe_digest", "seed", "seconds", "peak_memory", "output", "verdict"]
    written = io.StringIO()
    lines = csv.writer(written)
    columns = [f"{name}{part}" for name in names for part in ("", " stderr", " limited")]
    lines.writerow([*plain, "models", *columns, "recipe"])
    for run in rows:
        data = run.as_data()
        scores = [cell for name in names for cell in _score_cells(run.score(name))]
        models = " ".join(f"{each.name}@{each.revision}" if each.revision else each.name for each in run.parents)
        lines.writerow([*(data[name] for name in plain), models, *scores, run.recipe])
    return written.getvalue()


def _score_cells(score: Score | None) -> tuple[object, object, object]:
    return ("", "", "") if score is None else (score.value, score.stderr, score.limited)


def _sorted(found: Sequence[Run], name: str) -> tuple[list[Run], list[Run]]:
    """Whole and limited runs, best first, by a score or the mean of several. Raises LedgerError where no run has it."""
    names = list(dict.fromkeys(score.name for run in found for score in run.scores))
    wanted = [name] if name in names else name.split(",")
    for each in wanted:
        if each not in names:
            known = did_you_mean(each, names) if names else " No run here has any score yet."
            raise LedgerError(f"no run here has a score `{each}`.{known}")
    if len(wanted) > 1:
        found = [with_mean(run, wanted) for run in found]
        if not any(run.score(name) for run in found):
            raise LedgerError(f"no run here has all of {', '.join(wanted)}, in one unit, to take a mean of.")
    return ranked(found, name)


def _opened(ledger: Path | None) -> Ledger:
    """The ledger, to be read. Raises LedgerError where there is none."""
    file = ledger_file(ledger)
    if not file.exists():
        raise LedgerError(f"there is no ledger at {file} yet: `lamina merge` and `lamina check` begin it.")
    return Ledger(file)


def _tell_empty(file: Path, as_json: bool) -> None:
    if as_json:
        print_json([])
        return
    click.echo(
        f"no runs yet in {file}.\n"
        "Every `lamina merge`, `lamina check` and `lamina sweep` is noted there; `lamina demo` shows a recipe to merge."
    )
