"""`lamina upscale`: a deeper model from one, with the recipe that it stands for and what to train of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lamina import api
from lamina.checkpoints.hub_client import HubOptions
from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import ledger_options
from lamina.cli.merge import RESULT_FIELDS, as_data, merge_and_tell, tell_what_is_next
from lamina.cli.options import hub_options, memory_option, shard_size_option, workers_option
from lamina.cli.plan import plan_and_tell
from lamina.ledger.notebook import Notebook
from lamina.planners.upscale import Overlap
from lamina.upscaling import Method, check_beside, keep_beside, upscale_recipe

# What `lamina upscale --json` prints, by key.
UPSCALE_FIELDS: Mapping[str, str] = {
    **RESULT_FIELDS,
    "recipe": "the file that was written beside the folder",
    "train": "the output layers to train, as in `training.json`",
}


class _Layers(click.ParamType[tuple[int, ...]]):
    """Output layers in words: `4,9,14`."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(part.strip().isdecimal() for part in parts):
            self.fail(f"`{value}` is no list of layers; the form is `4,9,14`, counted from 0.", param, ctx)
        return tuple(map(int, parts))


@click.command()
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option(
    "--method", type=click.Choice(("solar", "llama-pro")), default="solar", show_default=True,
    help="Lay the model over itself, or add layers that change nothing until they are trained.",
)  # fmt: skip
@click.option("--to", type=int, metavar="N", help="solar: layers of the result, at most twice the model's.")
@click.option(
    "--drop", type=int, metavar="N",
    help="solar: layers dropped from each copy.  [default: a quarter, or what keeps the rhythm of layer kinds]",
)  # fmt: skip
@click.option(
    "--first", type=int, metavar="N",
    help="solar: layers of the first copy; the second brings the last ones.  [default: both lose alike]",
)  # fmt: skip
@click.option(
    "--overlap", type=click.Choice(("cut", "ramp", "average")), default="cut", show_default=True,
    help="solar: cut blends nothing; ramp and average lay whole copies down and blend them where they cross.",
)  # fmt: skip
@click.option(
    "--scale-repeated", type=float, metavar="X",
    help="solar: factor on what layers add that are there twice; 0.7071 is in use.  [default: none]",
)  # fmt: skip
@click.option("--add", type=int, metavar="N", help="llama-pro: new layers, evenly spread.  [default: a quarter]")
@click.option("--at", type=_Layers(), metavar="N,N,...", help="llama-pro: the output layers that are new, from 0.")
@click.option(
    "--scan", "scans", is_flag=True,
    help="Write no model: what each layer changes, and what each cut to --to layers loses (extra `hf`).",
)  # fmt: skip
@click.option(
    "--text", "texts", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="--scan: on this text; may be repeated.  [default: bundled prose, code and chat]",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(2), metavar="N", help="--scan: choose on N rows of each text.")
@click.option("--device", metavar="NAME", help="--scan: where the model is run: cpu, cuda.  [default: cpu]")
@click.option(
    "--recipe", "only_recipe", is_flag=True, help="Print the recipe that it stands for, nothing else; needs no OUT."
)
@hub_options
@workers_option
@memory_option
@shard_size_option
@click.option("--force", is_flag=True, help="Replace what is at OUT, once the new folder is complete, and OUT.yml.")
@click.option("--dry-run", is_flag=True, help="Show the plan, write nothing.")
@json_option
@ledger_options
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print the plan before merging.")
def upscale(
    model: str,
    out: Path | None,
    method: Method,
    to: int | None,
    drop: int | None,
    first: int | None,
    overlap: Overlap,
    scale_repeated: float | None,
    add: int | None,
    at: tuple[int, ...] | None,
    scans: bool,
    texts: tuple[Path, ...],
    limit: int | None,
    device: str | None,
    only_recipe: bool,
    hub: HubOptions,
    workers: int | None,
    memory: int | None,
    shard_size: int,
    force: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    notebook: Notebook,
) -> None:  # fmt: skip
    """Make MODEL deeper, into the folder OUT: a recipe is written for you, and merged like any other.

    The recipe is kept as OUT.yml beside OUT. In OUT, training.md and training.json say which layers to train.
    --scan says beforehand where to cut.

    Example: lamina upscale SmolLM2-135M deeper --to 48
    """
    if scans:
        mine = {"--method": method != "solar", "--first": first is not None, "--overlap": overlap != "cut",
                "--scale-repeated": scale_repeated is not None, "--add": add is not None, "--at": bool(at),
                "--recipe": only_recipe, "--dry-run": dry_run}  # fmt: skip
        if foreign := [flag for flag, is_given in mine.items() if is_given]:
            raise click.UsageError(f"--scan tries every cut of two whole copies: leave out {', '.join(foreign)}.")
        _scan(model, out, to, drop, texts, limit, device or "cpu", memory, hub, notebook, as_json=as_json, quiet=quiet)
        return
    if out is None and not only_recipe:
        raise click.UsageError("Missing argument 'OUT'.")
    if texts or limit is not None or device is not None:
        raise click.UsageError("--text, --limit and --device are what a model is run with: they go with --scan.")
    options = api.Options(cache_dir=hub.cache_dir, token=hub.token, offline=hub.offline, revision=hub.revision)
    recipe = upscale_recipe(
        model, out, method=method, to=to, drop=drop, first=first, overlap=overlap,
        scale_repeated=scale_repeated, add=add, at=at or (), **options,  # type: ignore[misc]
    )  # fmt: skip
    if only_recipe or out is None:
        click.echo(recipe.text, nl=False)
        return
    limits: dict[str, Any] = {"workers": workers, "memory": memory, "shard_size": shard_size, "force": force}
    check_beside(recipe, force=force)
    if not quiet and not as_json:
        for line in recipe.text.splitlines():
            if line.startswith("# "):
                click.echo(line.removeprefix("# "))
    if dry_run:
        plan_and_tell(recipe, out, options, **limits, as_json=as_json)
        return
    result = merge_and_tell(recipe, out, options, **limits, quiet=quiet or as_json, verbose=verbose, notebook=notebook)
    keep_beside(recipe)
    if as_json:
        train = json.loads(recipe.notes["training.json"])["layers"]
        print_json(as_data(result) | {"recipe": recipe.file, "train": train})
    elif not quiet:
        click.echo(f"recipe: {recipe.file} · to train: {out / 'training.md'}")
        tell_what_is_next(result)


def _scan(
    model: str,
    out: Path | None,
    to: int | None,
    drop: int | None,
    texts: tuple[Path, ...],
    limit: int | None,
    device: str,
    memory: int | None,
    hub: HubOptions,
    notebook: Notebook,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from lamina.cli import scan as told  # with all that measures, which an up-scaling has no use for
    from lamina.studies.scan import scan

    given = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in texts}

    def progress(what: str) -> None:
        if not quiet and not as_json and sys.stderr.isatty():
            click.echo(f"{what} ...", err=True)

    found = scan(
        model, to=to, drop=drop, texts=given or None, limit=limit, device=device, memory=memory, hub=hub,
        notebook=notebook, progress=progress,
    )  # fmt: skip
    command = told.next_command(found, "OUT" if out is None else str(out))
    if as_json:
        print_json(told.as_data(found, command))
        return
    for line in told.lines(found, command):
        click.echo(line)
