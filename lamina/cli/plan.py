"""`lamina plan`: a recipe's table, map and sizes."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click

from lamina import api
from lamina.checkpoints.files import free_bytes
from lamina.execute.memory import predicted_memory
from lamina.plans.explain import end_rows, layer_map, layer_rows
from lamina.plans.plan import Notice, Plan
from lamina.wording import counted, in_bytes, in_parameters, span


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--as-slices", is_flag=True, help="Print the recipe with its layers spelled as `slices`, nothing else.")
def plan(recipe: Path, as_slices: bool) -> None:
    """Show what RECIPE would do: every layer's origin, what is read and written, every error.

    Reads config.json and headers, never a tensor.  Example: lamina plan solar.yml
    """
    if as_slices:
        click.echo(api.as_slices(recipe), nl=False)
        return
    show_plan(api.plan(recipe), Path())
    click.echo("\nno errors")


def show_plan(found: Plan, where: Path) -> None:
    """Print a plan; `where` is the folder whose disk counts."""
    rows = layer_rows(found)
    dtypes = ", ".join(dict.fromkeys(str(spec.dtype) for spec in found.specs.values()))
    size = f"{counted(rows[-1].last + 1, 'layer')}, {in_parameters(found.parameters)} parameters"
    click.echo(f"{found.title} · {found.method} · {dtypes} · {size}\n")
    table = [("layers", "from", "blend")]
    table += [(span(row.first, row.last), row.sources, row.blend) for row in rows]
    table += end_rows(found)
    widths = [max(len(row[column]) for row in table) for column in range(2)]
    for layers, source, blend in table:
        click.echo(f"  {layers:<{widths[0]}}  {source:<{widths[1]}}  {blend}".rstrip())
    click.echo()
    for line in layer_map(found):
        click.echo(line)
    memory = predicted_memory(found, None, api.DEFAULT_MEMORY)
    click.echo(
        f"\n  read {in_bytes(found.bytes_read)} · write {in_bytes(found.bytes_written)} · "
        f"memory {in_bytes(memory)} · disk free {in_bytes(free_bytes(where.absolute()))}"
    )
    for file in found.files:
        if file.note:
            click.echo(f"  {file.name}: {file.note}")
    for (model, reason), number in Counter((each.model, each.reason) for each in found.dropped).items():
        click.echo(f"  not in the output: {counted(number, 'tensor')} of {model}: {reason}")
    if found.notices:
        click.echo()
        show_notices(found.notices)


def show_notices(notices: Iterable[Notice], err: bool = False) -> None:
    """Print notices as paragraphs beside the word that marks them."""
    width = min(shutil.get_terminal_size().columns, 110)
    for notice in notices:
        place = f"{notice.place}  " if notice.place else ""
        lines = textwrap.wrap(place + notice.message, width - 8, break_on_hyphens=False, break_long_words=False)
        click.echo(click.style("notice", fg="yellow") + "  " + "\n        ".join(lines), err=err)
