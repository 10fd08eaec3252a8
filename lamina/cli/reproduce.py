"""`lamina reproduce`: is a published folder what its recipe makes?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lamina import api
from lamina.checkpoints.hub_client import HubOptions
from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import ledger_option
from lamina.cli.options import hub_options, memory_option, workers_option
from lamina.cli.progress import MovingLine
from lamina.ledger.notebook import Notebook
from lamina.ledger.noting import folders_noted
from lamina.wording import counted, in_bytes, in_seconds

# What `lamina reproduce --json` prints, by key.
REPRODUCTION_FIELDS = {
    "out": "the folder",
    "reproduced": "true where everything is as its record says, and, unless `digests_only`, is made again",
    "digests_only": "true where nothing was merged",
    "tensors": "how many were compared",
    "differing": "what differs, in words",
    "seconds": "of wall time",
}


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--digests-only", is_flag=True, help="Check the files against lamina.json, merge nothing.")
@click.option(
    "--recipe", type=click.Path(path_type=Path, exists=True), help="The recipe.  [default: the copy that OUT holds]"
)
@click.option("--allow-own-code", is_flag=True, help="Run the merge method that the recipe in OUT brings.")
@hub_options
@workers_option
@memory_option
@json_option
@ledger_option
def reproduce(
    out: Path,
    digests_only: bool,
    recipe: Path | None,
    allow_own_code: bool,
    hub: HubOptions,
    workers: int | None,
    memory: int | None,
    as_json: bool,
    ledger: Path | None,
) -> None:
    """Make the merge in OUT again, and compare every tensor. Nothing is written.

    The files of OUT are compared with the digests in its lamina.json first. Models are looked for as the recipe
    names them: beside it and from where it was merged, if the ledger knows, then in OUT and in the working
    directory; those of the Hub at the commits that lamina.json has. Exits
    with 3 where anything differs.

    Example: lamina reproduce out --digests-only
    """
    notebook = Notebook(
        ledger, tell=lambda why: click.echo(f"the ledger is not asked where models lie: {why}", err=True)
    )
    line = MovingLine(enabled=not as_json and sys.stderr.isatty())
    try:
        found = api.reproduce(
            out, digests_only=digests_only, recipe=recipe, workers=workers, memory=memory,
            beside=folders_noted(notebook, out), allow_own_code=allow_own_code,
            on_start=line.start, progress=line.advance,
            cache_dir=hub.cache_dir, token=hub.token, offline=hub.offline, revision=hub.revision,
        )  # fmt: skip
    finally:
        line.stop()
    if as_json:
        print_json(_as_data(found))
    else:
        _tell(found)
    if found.differing:
        sys.exit(3)


def _tell(found: api.Reproduction) -> None:
    how = "as its lamina.json says" if found.digests_only else "made again, to the bit"
    size = f"{counted(found.tensors, 'tensor')}, {in_bytes(found.nbytes)} · {in_seconds(found.seconds)}"
    if not found.differing:
        click.echo(f"{found.out} · {how} · {size}")
        return
    for told in found.differing[:10]:
        click.echo(told)
    if len(found.differing) > 10:
        click.echo(f"and {len(found.differing) - 10} more")
    click.echo(f"{found.out} · not {how} · {counted(len(found.differing), 'difference')} · {size}")


def _as_data(found: api.Reproduction) -> dict[str, Any]:
    return {
        "out": str(found.out),
        "reproduced": not found.differing,
        "digests_only": found.digests_only,
        "tensors": found.tensors,
        "differing": list(found.differing),
        "seconds": round(found.seconds, 3),
    }
