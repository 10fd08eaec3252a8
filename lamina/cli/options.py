"""RECIPE and the flags that every verb with a recipe takes: how it is read, changed, and answered."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from lamina.api import Options
from lamina.checkpoints.hub_client import HubOptions
from lamina.cli.sizes import Size
from lamina.recipe.load import RECIPE_ENDINGS, RecipeLike

Command = Callable[..., object]


def recipe_options(command: Command) -> Command:
    """Give a command RECIPE and its flags; it is called with `recipe` and `options`, ready for the API."""

    @functools.wraps(command)
    def with_options(
        recipe: str,
        set_values: tuple[str, ...],
        border: str,
        seed: int,
        assume_per_layer: tuple[str, ...],
        cache_dir: Path | None,
        token: str | None,
        offline: bool,
        revision: str | None,
        allow_own_code: bool,
        **others: Any,
    ) -> object:
        options: dict[str, Any] = {"set_values": set_values, "border": border, "seed": seed}
        options |= {"cache_dir": cache_dir, "token": token, "offline": offline, "revision": revision}
        options["assume_per_layer"] = assume_per_layer
        options["allow_own_code"] = allow_own_code
        return command(_source(recipe), Options(**options), **others)  # type: ignore[typeddict-item]

    return _decorated(with_options, (*_RECIPE_OPTIONS, *_HUB_OPTIONS))


def hub_options(command: Command) -> Command:
    """Give a command the flags about the Hub; it is called with `hub`."""

    @functools.wraps(command)
    def with_options(
        cache_dir: Path | None, token: str | None, offline: bool, revision: str | None, **others: Any
    ) -> object:
        return command(hub=HubOptions(cache_dir, token, offline, revision), **others)

    return _decorated(with_options, _HUB_OPTIONS)


def _decorated(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for decorate in reversed(options):
        command = decorate(command)
    return command


class _Aliased(click.Option):
    """An option that `mergekit-yaml` calls otherwise: its name there is accepted, and not shown in help."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None:
            return None
        shown = record[0]
        for name in ALIASES:
            shown = shown.replace(f", {name}", "")
        return shown, record[1]


# mergekit-yaml's name -> ours.
ALIASES = {
    "--random-seed": "--seed",
    "--transformers-cache": "--cache-dir",
    "--num-threads": "--workers",
    "--out-shard-size": "--shard-size",
}

set_option = click.option(
    "--set", "set_values", multiple=True, metavar="PATH=VALUE",
    help="Change a value of the recipe, as in `--set stack[1].at=8`; may be repeated.",
)  # fmt: skip
seed_option = click.option(
    "--seed", "--random-seed", cls=_Aliased, type=int, metavar="N", default=0, show_default=True,
    help="Of the random draws.",
)  # fmt: skip

_RECIPE_OPTIONS = [
    click.argument("recipe"),
    set_option,
    click.option("--strict", "border", flag_value="strict", type=str,
                 help="Keys and parameters without effect are errors too."),
    click.option("--lenient", "border", flag_value="lenient", type=str,
                 help="Unknown keys are notices, as they are to MergeKit."),
    click.option("--normal", "border", flag_value="normal", default="normal", type=str, hidden=True),
    seed_option,
    click.option("--assume-per-layer", "assume_per_layer", multiple=True, metavar="KEY",
                 help="A list in config.json that Lamina does not know and whose values go with the layers."),
    click.option("--allow-own-code", is_flag=True,
                 help="Run the merge method that a recipe brings which came with a model."),
]  # fmt: skip

_HUB_OPTIONS = [
    click.option("--cache-dir", "--transformers-cache", cls=_Aliased, type=click.Path(path_type=Path), metavar="FOLDER",
                 help="Where models of the Hub are kept.  [default: the Hub's cache]"),
    click.option("--token", metavar="TOKEN",
                 help="For gated models of the Hub.  [default: as `hf auth login` left it]"),
    click.option("--offline", is_flag=True, help="Ask the Hub for nothing; what is cached is used."),
    click.option("--revision", metavar="REV",
                 help="Branch, tag or commit of what is named on the Hub without one.  [default: main]"),
]  # fmt: skip

workers_option = click.option(
    "-j", "--workers", "--num-threads", "workers", cls=_Aliased, type=click.IntRange(1, 256), metavar="N",
    help="Threads that compute.  [default: the machine's cores]",
)  # fmt: skip
memory_option = click.option(
    "--memory",
    type=Size(),
    help="Bound of the whole process's memory.  [default: 200MB, or 600MB where a method needs torch]",
)
shard_size_option = click.option(
    "--shard-size", "--out-shard-size", cls=_Aliased, type=Size(zero_is_unlimited=True), default="5GB",
    show_default=True,
    help="Largest output file; 0 for a single one.",
)  # fmt: skip


def refuse_swapped(verb: str, recipe: RecipeLike, other: str | Path) -> None:
    """Raises UsageError where the recipe of a command line is its second argument, and the first is none."""
    second = Path(other)
    if isinstance(recipe, Path) and not recipe.is_file() and second.suffix in RECIPE_ENDINGS and second.is_file():
        right = shlex.join(["lamina", verb, str(second), str(recipe)])
        raise click.UsageError(f"`{recipe}` is no recipe's file, and `{second}` is one: RECIPE comes first, `{right}`.")


def _source(recipe: str) -> RecipeLike:
    """A recipe's file or folder; `-` is what comes in by a pipe."""
    return sys.stdin.read() + "\n" if recipe == "-" else Path(recipe)
