"""`lamina clean`: what merges that were stopped, or died, have left in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from lamina.checkpoints.staging import Staging, clear, stagings_in
from lamina.wording import counted, in_bytes


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be removed, remove nothing.")
def clean(folder: Path, dry_run: bool) -> None:
    """Remove what merges that were stopped or died have left in FOLDER (default: here).

    The same merge would go on from it. Outputs that are complete are not touched, nor is what a running merge
    is writing; an output that a merge had moved aside is put back.

    Example: lamina clean --dry-run
    """
    found = stagings_in(folder)
    freed = 0
    for staging in found:
        size, left = staging.bytes_staged(), staging.finished()
        told = f"{_shown(staging, folder)} · {counted(left, 'tensor')} finished of a merge into {staging.out.name}"
        if not dry_run and not clear(staging):
            click.echo(f"in use   {told}")
            continue
        freed += size
        click.echo(f"{'found' if dry_run else 'removed'}  {told} · {in_bytes(size)}")
    if not found:
        click.echo(f"nothing is left of earlier merges in {folder}")
    elif dry_run:
        click.echo(f"{in_bytes(freed)} in all; without --dry-run they are removed")
    else:
        click.echo(f"{in_bytes(freed)} freed")


def _shown(staging: Staging, folder: Path) -> str:
    """Its folder, seen from where the user looks."""
    return str(folder / staging.folder.relative_to(folder.resolve()))
