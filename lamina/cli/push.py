"""`lamina push`: a folder becomes a model on the Hub."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from lamina.checkpoints.files import exists, read_all, replace_file, size_of
from lamina.checkpoints.hub_client import HubOptions
from lamina.checkpoints.hub_upload import Upload, prepare_upload, send
from lamina.checkpoints.writer import made_by
from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import ledger_options
from lamina.errors import OutputError
from lamina.ledger.card import publishable, with_scores
from lamina.ledger.merges import by_merge
from lamina.ledger.notebook import Notebook
from lamina.ledger.runs import Run, Score
from lamina.planners.model_card import CARD
from lamina.wording import counted, in_bytes, in_seconds, listed

# What `lamina push --json` prints, by key.
PUSH_FIELDS = {
    "repo": "the model's name on the Hub",
    "branch": "the branch that is written",
    "url": "where it is; null with --dry-run",
    "files": "bytes of each file of the folder that belongs to it, by name",
    "scores": "those that its card has from the ledger",
    "seconds": "of wall time",
}


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("repo", metavar="ORG/NAME")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be sent; ask nothing of the Hub.")
@click.option("--private", is_flag=True, help="A model that is made anew is private.")
@click.option("--force", is_flag=True, help="Replace the weights of another model there; they stay in its history.")
@click.option("--revision", metavar="BRANCH", help="The branch to write, made where it is not there.  [default: main]")
@click.option("--token", metavar="TOKEN", help="With the right to write.  [default: as `hf auth login` left it]")
@json_option
@ledger_options
def push(
    out: Path, repo: str, dry_run: bool, private: bool, force: bool, revision: str | None, token: str | None,
    as_json: bool, notebook: Notebook,
) -> None:  # fmt: skip
    """Publish the folder OUT, which is a model, as ORG/NAME on the Hub.

    Everything in it is sent: weights, config, tokenizer, model card, recipe and record. Scores of whole tasks that
    the ledger has of this merge are written into its card, OUT/README.md, first. After a stop the same command goes
    on, and content that the Hub has is not sent again.

    Example: lamina push out me/my-merge --dry-run
    """
    started = time.monotonic()
    upload = prepare_upload(out, repo, revision)
    scored = _scores(out, notebook)
    if scored and not dry_run:
        _write_into_card(out / CARD, repo, scored)
        upload = replace(upload, files={**upload.files, CARD: size_of(out / CARD)})
    url = None
    if not dry_run:
        shown = not as_json and sys.stderr.isatty()
        url = send(upload, HubOptions(token=token), private=private, replace=force, show_progress=shown)
    seconds = time.monotonic() - started
    if as_json:
        data = {"repo": repo, "branch": upload.branch, "url": url, "files": dict(upload.files)}
        scores = [score.as_data() for _, score in scored]
        print_json({**data, "scores": scores, "seconds": round(seconds, 3)})
        return
    size = f"{counted(len(upload.files), 'file')}, {in_bytes(upload.size)}"
    if scored:
        names = listed([score.name for _, score in scored])
        click.echo(f"{CARD} {'would get' if dry_run else 'has'} the scores that the ledger has: {names}")
    if url is None:
        _show(upload)
        click.echo(f"{repo} · {upload.branch} · {size} · nothing was sent; without --dry-run it is")
    else:
        click.echo(f"{url} · {size} · {in_seconds(seconds)}")


def _scores(out: Path, notebook: Notebook) -> list[tuple[Run, Score]]:
    """What the ledger has of the merge in a folder."""
    plan = str(made_by(out).get("plan", ""))
    rows = [*notebook.runs("eval", plan), *notebook.runs("merge", plan)] if plan else []
    merges = by_merge(sorted(rows, key=lambda run: run.number or 0, reverse=True))
    if len(merges) > 1:  # of one plan, and yet not one: what is said of this folder
        merges = [merge for merge in merges if any(run.output == str(out.absolute()) for run in merge)]
    return publishable(run for merge in merges for run in merge)


def _write_into_card(card: Path, repo: str, scored: Sequence[tuple[Run, Score]]) -> None:
    text = read_all(card).decode("utf-8", errors="replace") if exists(card) else f"# {repo}\n"
    try:
        replace_file(card, with_scores(text, repo.rpartition("/")[2], scored).encode())
    except ValueError as error:
        raise OutputError(f"{card}: {error}; mend or remove it, or push with --no-ledger.") from error


def _show(upload: Upload) -> None:
    width = max(len(name) for name in upload.files)
    for name, size in upload.files.items():
        click.echo(f"  {name:<{width}}  {in_bytes(size):>8}")
