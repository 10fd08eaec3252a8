"""`lamina plan`: a recipe's table, map and sizes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from lamina import api
from lamina.checkpoints.files import write_file
from lamina.checkpoints.layout import DEFAULT_SHARD_SIZE
from lamina.cli.answer import json_option, print_json
from lamina.cli.options import memory_option, recipe_options, refuse_swapped, shard_size_option, workers_option
from lamina.plans.picture import layer_map_svg
from lamina.plans.plan import Notice
from lamina.plans.show import MARK, PLAN_FIELDS, as_data, notice_lines, table
from lamina.recipe.load import RecipeLike
from lamina.wording import in_bytes

# What `lamina plan --json` prints, by key.
FORECAST_FIELDS: Mapping[str, str] = {
    **PLAN_FIELDS,
    "memory": "`predicted` bytes of the process at its peak, and the `bound` of --memory",
    "disk": "bytes that are `needed` in the `folder` and `free` there; the number of `shards`",
    "seconds": "that planning took",
    "staged": "`bytes` of tensors that an earlier run of this merge has left whole, and the `share` that they are",
    "already_there": "true where OUT was made by this very plan",
    "refusal": "why `lamina merge` would refuse OUT as it is now, null where it would not; the exit code is its own",
}


class _Picture(click.Path):
    """A file to draw into; no other name is written over by mistake."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if Path(value).suffix.lower() != ".svg":
            self.fail(f"{value} is no name of a picture; write {Path(value).with_suffix('.svg')}", param, ctx)
        return super().convert(value, param, ctx)


@click.command()
@recipe_options
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--as-slices", is_flag=True, help="Print the recipe with its layers spelled as `slices`, nothing else.")
@click.option(
    "--svg",
    type=_Picture(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the layers into FILE too, as every merge has them in its layers.svg.",
)
@workers_option
@memory_option
@shard_size_option
@json_option
def plan(
    recipe: RecipeLike,
    options: api.Options,
    out: Path | None,
    as_slices: bool,
    svg: Path | None,
    workers: int | None,
    memory: int | None,
    shard_size: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Show what RECIPE would do: every layer's origin, what is read and written, every error.

    RECIPE is a file, the folder of a published merge, or - for standard input. With OUT, that disk counts,
    and what would stand in the way there is told. Reads config.json and headers, never a tensor.

    Example: lamina plan solar.yml
    """
    if out is not None:
        refuse_swapped("plan", recipe, out)
    if as_slices:
        written = api.as_slices(recipe, **options)
        click.echo(json.dumps(yaml.safe_load(written), indent=2) + "\n" if as_json else written, nl=False)
        return
    plan_and_tell(recipe, out, options, workers=workers, memory=memory, shard_size=shard_size, svg=svg, as_json=as_json)


def plan_and_tell(
    recipe: RecipeLike,
    out: Path | None,
    options: api.Options,
    *,
    workers: int | None = None,
    memory: int | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    force: bool = False,
    svg: Path | None = None,
    as_json: bool = False,
) -> None:
    """Plan, print the plan, draw its layers into `svg`. Raises, after it, what a merge would refuse `out` with."""
    started = time.monotonic()
    found = api.forecast(recipe, out, workers=workers, memory=memory, shard_size=shard_size, force=force, **options)
    if svg is not None:
        write_file(svg, layer_map_svg(found.plan).encode())
    if as_json:
        print_json(_as_data(found, out, time.monotonic() - started))
        if found.refusal is not None:
            raise click.exceptions.Exit(found.refusal.exit_code)
        return
    show_forecast(found)
    if found.refusal is not None:
        click.echo()
        raise found.refusal
    if found.already_there:
        click.echo(f"\nno errors; {out} is already there, made by this plan")
    elif found.staged:
        click.echo(
            f"\nno errors; {found.staged / found.tensor_bytes:.0%} is made already, and a merge goes on from there"
        )
    else:
        click.echo("\nno errors")


def show_forecast(found: api.Forecast) -> None:
    """Print a plan and what it takes."""
    figures = [f"memory {in_bytes(found.memory)}", f"disk free {in_bytes(found.disk_free)}"]
    for line in table(found.plan, figures):
        click.echo(line)
    if found.plan.notices:
        click.echo()
        show_notices(found.plan.notices)


def show_notices(notices: Iterable[Notice], err: bool = False) -> None:
    """Print notices as paragraphs beside the word that marks them."""
    width = min(shutil.get_terminal_size().columns, 110)
    for notice in notices:
        lines = "\n".join(notice_lines(notice, width))
        click.echo(click.style(MARK, fg="yellow") + lines.removeprefix(MARK), err=err)


def _as_data(found: api.Forecast, out: Path | None, seconds: float) -> dict[str, Any]:
    return as_data(found.plan) | {
        "memory": {"predicted": found.memory, "bound": found.memory_bound},
        "disk": {
            "needed": found.disk_needed,
            "free": found.disk_free,
            "folder": str(out or "."),
            "shards": found.shards,
        },
        "seconds": round(seconds, 3),
        "staged": {
            "bytes": found.staged,
            "share": round(found.staged / found.tensor_bytes, 4) if found.staged else 0.0,
        },
        "already_there": found.already_there,
        "refusal": None if found.refusal is None else found.refusal.problems[0].as_data(),
    }
