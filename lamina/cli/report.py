"""`lamina report`: a page about a merge, or about several."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import click

from lamina.check.diff import Diff
from lamina.check.diff import diff as compared
from lamina.checkpoints.files import replace_file
from lamina.checkpoints.hub_client import HubOptions
from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import ledger_option
from lamina.cli.options import hub_options, workers_option
from lamina.cli.progress import MovingLine
from lamina.cli.replacing import refuse_what_is_not_ours
from lamina.errors import LaminaError
from lamina.ledger.ledger import Ledger, ledger_file
from lamina.report.comparison import Comparison, comparison_data, comparison_of
from lamina.report.comparison_page import comparison_page
from lamina.report.html import MARK
from lamina.report.page import PARTS, page
from lamina.report.sheet import Sheet, as_data, sheet_of
from lamina.report.subjects import RUN, Subject, subject_of
from lamina.wording import counted, in_bytes, listed


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="The page.  [default: NAME-report.html]")  # fmt: skip
@click.option(
    "--by", metavar="SCORE", help="Rank several by this score; A,B by a mean.  [default: skills, or what most have]"
)
@click.option("--allow-own-code", is_flag=True, help="Run the merge method that the recipe in a folder brings.")
@click.option("--quick", is_flag=True, help="Read no weights: leaves out the distances from the parent.")
@click.option("--force", is_flag=True, help="Replace a file that is no report.")
@click.option("--open", "show", is_flag=True, help="Show it in the browser.")
@workers_option
@hub_options
@json_option
@ledger_option
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def report(
    sources: tuple[str, ...],
    by: str | None,
    out: Path | None,
    allow_own_code: bool,
    quick: bool,
    force: bool,
    show: bool,
    workers: int | None,
    hub: HubOptions,
    as_json: bool,
    ledger: Path | None,
    quiet: bool,
) -> None:  # fmt: skip
    """Write one page about SOURCE: a merged folder, a run of the ledger (r12), or a recipe; several are ranked.

    The page needs nothing beside it, and no network: scores with intervals, sweeps, the layers and their weights, how
    far they are from the parent, the check, the recipe, where all of it comes from. Scores and checks are those that
    the ledger has of the same merge. Of several, or of all runs where none is named, the page tells which is best and
    which cannot be told from it. With --json the same as data, and no page is written.

    Example: lamina report out
    """
    file = ledger_file(ledger)
    opened = Ledger(file) if file.exists() else None
    try:
        subjects = [subject_of(source, opened, hub, allow_own_code=allow_own_code) for source in sources]
        if len(subjects) == 1 and by is None:
            measure = _Measure(quick, workers, hub, shown=not quiet and not as_json and sys.stderr.isatty())
            found: Sheet | Comparison = sheet_of(subjects[0], opened, measure)
        else:
            found = comparison_of(subjects, opened, by)
    finally:
        if opened is not None:
            opened.close()
    if as_json:
        print_json(as_data(found) if isinstance(found, Sheet) else comparison_data(found))
        return
    target = out or _target(found)
    refuse_what_is_not_ours(target, MARK, is_called="report", named_by="--out FILE", force=force)
    content = (page(found) if isinstance(found, Sheet) else comparison_page(found)).encode(errors="replace")
    replace_file(target, content)
    click.echo(f"{target} · {in_bytes(len(content))}{_told(found)}")
    if show:
        webbrowser.open(target.resolve().as_uri())


class _Measure:
    """Compares a folder with its first parent, where both are here."""

    def __init__(self, quick: bool, workers: int | None, hub: HubOptions, *, shown: bool) -> None:
        self._quick, self._workers, self._hub, self._shown = quick, workers, hub, shown

    def __call__(self, subject: Subject) -> tuple[Diff | None, str]:
        if self._quick:
            return None, "left out by --quick"
        if subject.folder is None:
            return None, "nothing is written yet that could be compared: `lamina merge` writes it"
        parent = next((each for each in subject.parents if each.folder is not None), None)
        if parent is None or parent.folder is None:
            return None, "no parent is here to compare it with"
        line = MovingLine("comparing", enabled=self._shown)
        try:
            found = compared(
                parent.folder, subject.folder, hub=self._hub, workers=self._workers, on_start=line.start,
                progress=line.advance,
            )  # fmt: skip
        except LaminaError as error:
            return None, f"it could not be compared: {error.problems[0].message}"
        finally:
            line.stop()
        return found, ""


def _target(found: Sheet | Comparison) -> Path:
    if not isinstance(found, Sheet):
        return Path("report.html")
    subject = found.subject
    name = subject.source if RUN.fullmatch(subject.source) else Path(subject.name).stem
    return Path(f"{name}-report.html")


def _told(found: Sheet | Comparison) -> str:
    """What the page lacks, or how many it ranks."""
    if not isinstance(found, Sheet):
        return f" · {counted(len(found.shown), 'run')} by {found.ranking.name}"
    return f" · without {listed([PARTS[part] for part in found.missing])}: it says why" if found.missing else ""
