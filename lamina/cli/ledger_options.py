"""--ledger and --no-ledger, for verbs that note what they did and for those that read it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lamina.ledger.notebook import Notebook

Command = Callable[..., object]

ledger_option = click.option(
    "--ledger", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Where runs are noted.  [default: LAMINA_LEDGER, else the user's data folder]",
)  # fmt: skip


def ledger_options(command: Command) -> Command:
    """Give a command the flags about noting; it is called with `notebook`."""

    @functools.wraps(command)
    def with_options(*args: Any, ledger: Path | None, no_ledger: bool, **others: Any) -> object:
        return command(*args, notebook=Notebook(ledger, wanted=not no_ledger, tell=_tell), **others)

    without = click.option("--no-ledger", is_flag=True, help="Note nothing: see `lamina runs`.")
    return ledger_option(without(with_options))


def _tell(why: str) -> None:
    from lamina.cli.plan import show_notices  # with all that plans, which `lamina runs` has no use for
    from lamina.plans.plan import Notice

    show_notices([Notice("ledger", f"{why}; without one: --no-ledger")], err=True)
