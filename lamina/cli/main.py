"""`lamina VERB`: finds the verb, and turns a letter into a message and an exit code."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from lamina.errors import LaminaError
from lamina.version import VERSION

# Verb -> its line in `lamina --help`. The verb's module is imported when it is called.
VERBS = {
    "merge": "Merge the models of a recipe into a new folder.",
    "plan": "Show what a recipe would do, without reading a tensor.",
    "methods": "List the merge methods, or explain one.",
    "demo": "Merge the bundled models and score the result.",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(f"lamina.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="lamina")
def cli() -> None:
    """Merge language models layer by layer: exact, streamed, in bounded memory.

    Start with `lamina demo`, or with a recipe: `lamina plan recipe.yml`, then `lamina merge recipe.yml out`.
    """


def main(arguments: list[str] | None = None) -> Any:
    """The entry point. Exits 0 done, 1 failed after reading began, 2 cannot be planned, 130 interrupted."""
    try:
        cli.main(arguments, prog_name="lamina", standalone_mode=False)
    except LaminaError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped.", err=True)
        sys.exit(130)
