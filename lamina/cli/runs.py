"""`lamina runs`: what was merged, checked and scored; which is best; what made the difference."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lamina.checkpoints.files import replace_file, writing
from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import ledger_option
from lamina.cli.replacing import refuse_what_is_not_ours
from lamina.cli.runs_shown import CSV_HEAD, as_csv, described, diff_data, diff_lines
from lamina.cli.runs_table import health_of, ranked_table, table
from lamina.cli.runs_wanted import Wanted, wanted_options
from lamina.errors import LedgerError
from lamina.ledger.compare import compared_scores, recipe_changes
from lamina.ledger.ledger import Ledger, ledger_file
from lamina.ledger.merges import verdicts
from lamina.ledger.runs import RUN_FIELDS, Run, in_json
from lamina.studies.ranking import Ranked, Ranking, items_needed, ranking
from lamina.wording import counted

FEWEST_COLUMNS = 60


# What `lamina runs --json` prints of each row, by key.
RUNS_FIELDS: Mapping[str, str] = {
    **RUN_FIELDS,
    "health": "the verdict of the newest check of what the recipe made",
    "standing": "with --sort, where the mean is the first of `scores`: `mark` (`best`, `within chance` or `beyond "
    "chance` of it, null where that is not known), `difference` from the best, `margin` (half of its 95% interval, for "
    "all pairs of the ranking at once), `paired` (over the same items), `parent` (a model that went into others)",
}


class _Number(click.ParamType[int]):
    """The number of a row: `r14`, or `14`."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"r?(\d{1,18})", str(value))
        if found is not None:
            return int(found[1])
        return self.fail(f"`{value}` is no run; write `r14`, as `lamina runs` shows it.", param, ctx)


sort_option = click.option(
    "--sort", metavar="SCORE", help="Only those with this score, best first; A,B ranks by a mean."
)


@click.group(invoke_without_command=True)
@wanted_options
@sort_option
@ledger_option
@click.option(
    "--limit", type=click.IntRange(1), default=30, show_default=True, metavar="N", help="How many lines at most."
)
@click.option("--all", "every", is_flag=True, help="With --sort: every row, not only the newest of each model.")
@json_option
@click.pass_context
def runs(
    ctx: click.Context,
    wanted: Wanted,
    sort: str | None,
    ledger: Path | None,
    limit: int,
    every: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """List what was merged, checked and scored, newest first, or best first by a score.

    Merges, checks, evaluations and points of sweeps are noted in the ledger, one file for all of a user's work. With
    --sort, what cannot be told from the best has a `~`: its difference is within chance.

    Example: lamina runs --sort skills
    """
    if ctx.invoked_subcommand is not None:
        return
    file = ledger_file(ledger)
    if not file.exists():
        _tell_empty(file, as_json)
        return
    with Ledger(file) as opened:
        rows = opened.runs(items=[] if sort is None else items_needed(sort))
    found, health = wanted.among(rows), verdicts(rows)
    order = None if sort is None else ranking(found, sort, among=rows, every=every)
    width = max(shutil.get_terminal_size().columns, FEWEST_COLUMNS)
    if as_json:
        print_json(_as_data(found, order, health))
    elif order is not None:
        for line in ranked_table(order, health, width, limit):
            click.echo(line)
    elif not rows:
        _tell_empty(file, as_json)
    elif not found:
        click.echo("no run is like that; `lamina runs` lists all.")
    else:
        for line in table(found, health, width, limit):
            click.echo(line)


def _as_data(found: Sequence[Run], order: Ranking | None, health: Mapping[str, str]) -> list[dict[str, Any]]:
    if order is None:
        return [run.as_data() | {"health": health_of(run, health)} for run in found]
    return [
        each.run.as_data() | {"health": health_of(each.run, health), "standing": _standing(each)}
        for each in (*order.whole, *order.limited)
    ]


def _standing(ranked: Ranked) -> dict[str, Any]:
    return {
        "mark": ranked.mark or None,
        "difference": ranked.difference,
        "margin": in_json(ranked.margin),
        "paired": ranked.paired,
        "parent": ranked.is_parent,
    }


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
        print_json(diff_data(ours, theirs, changes, scores))
        return
    for line in diff_lines(ours, theirs, changes, scores):
        click.echo(line)


@runs.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@wanted_options
@sort_option
@ledger_option
@click.option("--force", is_flag=True, help="Replace a file that is no export of runs.")
@json_option
def export(
    file: Path | None,
    wanted: Wanted,
    sort: str | None,
    ledger: Path | None,
    force: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Write the runs as CSV to FILE, or to standard output: a line a run, three columns a score.

    An older export at FILE is replaced; what else lies there only with --force.

    Example: lamina runs export runs.csv
    """
    if file is not None:
        refuse_what_is_not_ours(
            file, CSV_HEAD, is_called="export of runs", named_by="`lamina runs export FILE`", force=force
        )
    with _opened(ledger) as opened:
        known = opened.runs()
    rows = wanted.among(known)
    if sort is not None:
        asked = {run.number for run in rows}
        order = ranking(rows, sort, among=known, every=True)
        rows = [each.run for each in (*order.whole, *order.limited) if each.run.number in asked]
    content = as_csv(rows)
    if file is not None:
        with writing(file):
            replace_file(file.resolve(), content.encode(errors="replace"))
    if as_json:
        print_json({"file": None if file is None else str(file), "runs": [run.as_data() for run in rows]})
    elif file is None:
        click.echo(content, nl=False)
    else:
        click.echo(f"{counted(len(rows), 'run')} written to {file}")


def _opened(ledger: Path | None) -> Ledger:
    """The ledger, to be read. Raises LedgerError where there is none."""
    file = ledger_file(ledger)
    if not file.exists():
        raise LedgerError(f"there is no ledger at {file} yet: `lamina merge`, `check`, `eval` and `sweep` begin it.")
    return Ledger(file)


def _tell_empty(file: Path, as_json: bool) -> None:
    if as_json:
        print_json([])
        return
    click.echo(
        f"no runs yet in {file}.\n"
        "Every `lamina merge`, `lamina check`, `lamina eval` and `lamina sweep` is noted there; `lamina demo` shows a "
        "recipe to merge."
    )
