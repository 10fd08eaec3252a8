"""`lamina merge`: the main job, with one line that moves and one that stays."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lamina import api
from lamina.checkpoints.layout import DEFAULT_SHARD_SIZE
from lamina.cli.plan import show_notices
from lamina.cli.progress import MovingLine
from lamina.cli.sizes import Size
from lamina.plans.plan import Notice, Plan
from lamina.wording import counted, in_bytes, in_seconds


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--workers", type=click.IntRange(1, 256), help="Threads that compute.  [default: the machine's cores]")
@click.option("--memory", type=Size(), default="200MB", show_default=True, help="Bound of the whole process's memory.")
@click.option("--shard-size", type=Size(), default="5GB", show_default=True, help="Largest output file.")
@click.option("--force", is_flag=True, help="Replace what is at OUT, once the new folder is complete.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def merge(recipe: Path, out: Path, workers: int | None, memory: int, shard_size: int, force: bool, quiet: bool) -> None:
    """Merge the models of RECIPE into the folder OUT, which appears whole or not at all.

    Example: lamina merge solar.yml out
    """
    merge_and_tell(recipe, out, workers=workers, memory=memory, shard_size=shard_size, force=force, quiet=quiet)


def merge_and_tell(
    recipe: Path,
    out: Path,
    *,
    workers: int | None = None,
    memory: int = api.DEFAULT_MEMORY,
    shard_size: int = DEFAULT_SHARD_SIZE,
    force: bool = False,
    quiet: bool = False,
    notices: bool = True,
) -> None:
    """Merge, showing notices (unless they were shown before), progress and a closing line."""
    line = MovingLine(enabled=not quiet and sys.stderr.isatty())

    def on_plan(plan: Plan) -> None:
        if notices and not quiet:
            show_notices(plan.notices, err=True)
        line.start(sum(spec.nbytes for spec in plan.specs.values()))

    try:
        result = api.merge(
            recipe, out, workers=workers, memory=memory, shard_size=shard_size, force=force,
            on_plan=on_plan, progress=line.advance,
        )  # fmt: skip
    except KeyboardInterrupt:
        line.stop()
        click.echo(
            f"\nstopped at {line.share:.0%}. Nothing is visible at {out}; the same command starts again.", err=True
        )
        sys.exit(130)
    finally:
        line.stop()
    if quiet:
        return
    if result.already_there:
        click.echo(f"already there · {out} · made by the same plan from the same models")
        return
    if result.non_finite:
        names = ", ".join(result.non_finite[:3]) + (" ..." if len(result.non_finite) > 3 else "")
        told = f"{counted(len(result.non_finite), 'tensor')} hold NaN or infinity, as their inputs do: {names}"
        show_notices([Notice("non-finite", told)], err=True)
    shards, size = counted(len(result.layout.shards), "shard"), result.layout.size
    click.echo(
        f"merged in {in_seconds(result.seconds)} · {out} · {shards}, {in_bytes(size)} · "
        f"{in_bytes(size / max(result.seconds, 1e-9))}/s · peak memory {in_bytes(result.peak_memory)}"
    )
