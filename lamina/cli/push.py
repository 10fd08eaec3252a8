"""`lamina push`: a folder becomes a model on the Hub."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from lamina.checkpoints.hub_client import HubOptions
from lamina.checkpoints.hub_upload import Upload, prepare_upload, send
from lamina.cli.answer import json_option, print_json
from lamina.wording import counted, in_bytes, in_seconds

# What `lamina push --json` prints, by key.
PUSH_FIELDS = {
    "repo": "the model's name on the Hub",
    "branch": "the branch that is written",
    "url": "where it is; null with --dry-run",
    "files": "bytes of each file of the folder that belongs to it, by name",
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
def push(
    out: Path, repo: str, dry_run: bool, private: bool, force: bool, revision: str | None, token: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Publish the folder OUT, which is a model, as ORG/NAME on the Hub.

    Everything in it is sent: weights, config, tokenizer, model card, recipe and record. After a stop the same
    command goes on, and content that the Hub has is not sent again.

    Example: lamina push out me/my-merge --dry-run
    """
    started = time.monotonic()
    upload = prepare_upload(out, repo, revision)
    url = None
    if not dry_run:
        shown = not as_json and sys.stderr.isatty()
        url = send(upload, HubOptions(token=token), private=private, replace=force, show_progress=shown)
    seconds = time.monotonic() - started
    if as_json:
        data = {"repo": repo, "branch": upload.branch, "url": url, "files": dict(upload.files)}
        print_json({**data, "seconds": round(seconds, 3)})
        return
    size = f"{counted(len(upload.files), 'file')}, {in_bytes(upload.size)}"
    if url is None:
        _show(upload)
        click.echo(f"{repo} · {upload.branch} · {size} · nothing was sent; without --dry-run it is")
    else:
        click.echo(f"{url} · {size} · {in_seconds(seconds)}")


def _show(upload: Upload) -> None:
    width = max(len(name) for name in upload.files)
    for name, size in upload.files.items():
        click.echo(f"  {name:<{width}}  {in_bytes(size):>8}")
