"""`lamina check`: is a model healthy, and a verdict."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lamina.check.check import check as checked
from lamina.check.findings import Finding, Level, Report, Section
from lamina.check.noting import check_run
from lamina.checkpoints.hub_client import HubOptions
from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import ledger_options
from lamina.cli.options import hub_options, workers_option
from lamina.cli.progress import MovingLine
from lamina.cli.sizes import Size
from lamina.ledger.notebook import Notebook
from lamina.ledger.noting import folder_noted
from lamina.wording import in_bytes, in_seconds, listed

# What `lamina check --json` prints, by key.
CHECK_FIELDS: Mapping[str, str] = {
    "model, parents": "as they were named",
    "verdict": "`healthy`, `needs training`, `suspicious` or `broken`",
    "sections": "each part of the check: `name`, `mark` (`ok`, `not run` or a level), `told` (what was measured)",
    "findings": "each: `section`, `level`, `code` (stable), `message`, `layer`, `key` (a tensor, a key of config.json "
    "or a file), `place` (file:line:column of the recipe)",
    "seconds, peak_memory": "of the check; bytes",
}

DEFAULT_MEMORY = 6_000_000_000  # bytes
WIDEST = 110  # columns

LEVELS = {str(level): level for level in Level}
NEXT = {
    Level.HEALTHY: "",
    Level.NEEDS_TRAINING: "As it was asked for, and not yet of use: train it first.",
    Level.SUSPICIOUS: "It loads and runs, and something in it was not asked for.",
    Level.BROKEN: "Do not use it.",
}


@click.command()
@click.argument("model")
@click.option("--parents", multiple=True, metavar="MODEL", help="A model that it was made from; may be repeated.")
@click.option(
    "--recipe",
    type=click.Path(exists=True),
    metavar="RECIPE",
    help="What it was made by.  [default: the recipe in the folder]",
)
@click.option("--allow-own-code", is_flag=True, help="Run the merge method that the recipe in the folder brings.")
@click.option(
    "--fail-on",
    type=click.Choice(list(LEVELS)[1:]),
    default="suspicious",
    show_default=True,
    help="The mildest verdict with an exit code that is not 0.",
)
@click.option(
    "--text",
    "texts",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take the loss on this text; may be repeated.  [default: three that are bundled]",
)
@click.option("--quick", is_flag=True, help="Run the model on a quarter of the text, and ask it for no answers.")
@click.option("--weights-only", is_flag=True, help="Do not run the model: seconds, and no extra is needed.")
@click.option(
    "--memory",
    type=Size(),
    default=in_bytes(DEFAULT_MEMORY).replace(" ", ""),
    show_default=True,
    help="A model that is larger is run layer by layer from the disk.",
)
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Where the model is run: cpu, cuda.")
@workers_option
@hub_options
@json_option
@ledger_options
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def check(
    model: str,
    parents: tuple[str, ...],
    recipe: str | None,
    allow_own_code: bool,
    fail_on: str,
    texts: tuple[Path, ...],
    quick: bool,
    weights_only: bool,
    memory: int,
    device: str,
    workers: int | None,
    hub: HubOptions,
    as_json: bool,
    quiet: bool,
    notebook: Notebook,
) -> int:  # fmt: skip
    """Check MODEL: is all of it there, is each layer the one it should be, are the weights sound.

    With the recipe that it carries, or --recipe, every tensor is compared with what the recipe makes of the
    parents; with --parents alone, layers are matched to theirs by likeness. Then the model and its parents are
    run on the same texts and prompts, where the extra `hf` is installed. Exit code 3: suspicious, 4: broken.

    Example: lamina check out --parents examples/models/base
    """
    report = check_with_progress(
        model, parents, recipe=recipe, beside=folder_noted(notebook, model), hub=hub, workers=workers,
        allow_own_code=allow_own_code, quiet=quiet or as_json,
        behaviour=not weights_only, quick=quick, memory=memory, device=device,
        texts={path.name: path.read_text(encoding="utf-8", errors="replace") for path in texts} or None,
    )  # fmt: skip
    notebook.note(check_run(report))
    if as_json:
        print_json(as_data(report))
    else:
        show(report)
    return exit_code(report.verdict, LEVELS[fail_on])


def check_with_progress(
    model: str | Path, parents: Sequence[str] = (), *, quiet: bool, memory: int = DEFAULT_MEMORY, **wanted: Any
) -> Report:
    """Check a model, with a line that moves where someone looks on. `wanted` is as in `lamina.check.check.check`."""
    shown = not quiet and sys.stderr.isatty()
    line = MovingLine("checking", enabled=shown)

    def running(step: str) -> None:
        line.stop()
        if shown:
            click.echo(f"{step} ...", err=True)

    try:
        return checked(
            model, parents, memory=memory, on_start=line.start, progress=line.advance, running=running, **wanted
        )
    finally:
        line.stop()


def show(report: Report) -> None:
    """Print a report as wide as the terminal, to a hundred and ten columns."""
    click.echo("\n".join(lines(report, min(shutil.get_terminal_size().columns, WIDEST))))


def exit_code(verdict: Level, fail_on: Level) -> int:
    """0 below the level that fails; else 3, for broken 4."""
    if verdict < fail_on:
        return 0
    return 4 if verdict is Level.BROKEN else 3


def lines(report: Report, width: int) -> Iterator[str]:
    """The verdict, a line for every part, and below it what was found there."""
    yield f"{report.model} · {report.verdict}{_as_far_as(report)}"
    yield ""
    for section in report.sections:
        yield from _section(section, width)
    yield ""
    if NEXT[report.verdict]:
        yield f"  {_next(report)}"
    yield f"  checked in {in_seconds(report.seconds)} · peak memory {in_bytes(report.peak_memory)}"


def _as_far_as(report: Report) -> str:
    """What a good verdict leaves open: a part that found no fault because it could not be run."""
    left_out = [section.name for section in report.sections if section.not_run and not section.unasked]
    if not left_out or report.verdict > Level.NEEDS_TRAINING:
        return ""
    return f", as far as it was looked at: {listed(left_out)} not run"


def _next(report: Report) -> str:
    """What follows from the verdict; which layers to train, where that is written down."""
    which = Path(report.model) / "training.md"
    return NEXT[report.verdict] + (
        f" {which} says which layers." if report.verdict is Level.NEEDS_TRAINING and which.is_file() else ""
    )


def _section(section: Section, width: int) -> Iterator[str]:
    told = [_finding(finding) for finding in section.findings] or [section.told]
    if section.not_run:
        told = [section.not_run]
    for number, message in enumerate(told):
        mark = section.mark if number == 0 else ""
        name = section.name if number == 0 else ""
        body = textwrap.wrap(message, max(30, width - 32), break_on_hyphens=False, break_long_words=False)
        for index, text in enumerate(body):
            first = index == 0
            yield f"  {name if first else '':<10}  {mark if first else '':<14}  {text}"


def _finding(finding: Finding) -> str:
    return f"{finding.message} ({finding.place})" if finding.place else finding.message


def as_data(report: Report) -> dict[str, Any]:
    """The report for JSON; `CHECK_FIELDS` says what each key holds."""
    return {
        "model": report.model,
        "parents": list(report.parents),
        "verdict": str(report.verdict),
        "sections": [
            {"name": section.name, "mark": section.mark, "told": section.not_run or section.told}
            for section in report.sections
        ],
        "findings": [
            {
                "section": section.name,
                "level": str(finding.level),
                "code": finding.code,
                "message": finding.message,
                "layer": finding.layer,
                "key": finding.key,
                "place": finding.place,
            }
            for section in report.sections
            for finding in section.findings
        ],
        "seconds": round(report.seconds, 3),
        "peak_memory": report.peak_memory,
    }
