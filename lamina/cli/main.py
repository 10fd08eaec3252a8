"""`lamina VERB`: finds the verb, and turns a letter into a message and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

import click

from lamina.cli.console import show_what_can_be_shown
from lamina.errors import LaminaError, Problem, did_you_mean
from lamina.version import VERSION

# Verb -> its line in `lamina --help`. The verb's module is imported when it is called.
VERBS = {
    "merge": "Merge the models of a recipe into a new folder.",
    "upscale": "Make a model deeper: SOLAR, or LLaMA-Pro.",
    "plan": "Show what a recipe would do, without reading a tensor.",
    "explain": "Explain one tensor of a merge: what it is made of, and why.",
    "reproduce": "Check a published folder, and make its merge again to compare.",
    "clean": "Remove what merges that were stopped have left behind.",
    "check": "Check a model: whole, its layers in place, its weights sound.",
    "diff": "Compare two models, layer by layer.",
    "eval": "Score models and recipes on the same questions, with intervals.",
    "sweep": "Try many values of a recipe in memory: which is best, and is that beyond chance.",
    "chat": "Talk to a model, or to a merge before it is written.",
    "runs": "List what was merged, checked and scored; compare two runs.",
    "report": "Write a page about a merge, or rank several: scores, layers, recipe, provenance.",
    "push": "Publish a merge on the Hub.",
    "methods": "List the merge methods, or explain one.",
    "demo": "Merge the bundled models and score the result.",
}

EXIT_CODES = {
    0: "done, or already there",
    1: "failed after reading began; nothing is visible at the output",
    2: "the request cannot be planned; nothing was read but configs and headers",
    3: "suspicious (`lamina check`), or not reproduced (`lamina reproduce`)",
    4: "broken: `lamina check` found a model that is not what it should be",
    130: "interrupted; nothing is visible at the output, and the same command goes on",
    141: "who read the output went away (`lamina plan recipe.yml | head -1`)",
}


class _ReaderGone(Exception):
    """Who read our output went away."""


class _Stopped(Exception):
    """Ctrl-C; the message says what is left of the work."""


class _Verbs(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click would exit with 1, which says something else,
            raise _ReaderGone from error
        except KeyboardInterrupt as stop:  # and forget the message
            raise _Stopped(str(stop)) from stop

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(f"lamina.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word in VERBS or word.startswith("-"):
            return super().resolve_command(ctx, args)
        is_recipe = Path(word).exists()
        hint = f" Is it a recipe? `lamina plan {word}` shows it." if is_recipe else did_you_mean(word, list(VERBS))
        raise click.UsageError(f"`{word}` is no command.{hint}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="lamina")
def cli() -> None:
    """Merge language models layer by layer: exact, streamed, in bounded memory.

    Start with `lamina demo`, or with a recipe: `lamina plan recipe.yml`, then `lamina merge recipe.yml out`.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point. Exits with one of EXIT_CODES; with `--json`, what is wrong comes as data on stdout."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    show_what_can_be_shown()
    try:
        code = _run(arguments, as_json)
    except (BrokenPipeError, _ReaderGone):
        _let_go(sys.stdout)
        _let_go(sys.stderr)
        code = 141
    sys.exit(code)


def _run(arguments: list[str], as_json: bool) -> int:
    try:
        color = False if os.environ.get("NO_COLOR") else None  # None: as the terminal can
        code = cli.main(arguments, prog_name="lamina", standalone_mode=False, color=color)
        sys.stdout.flush()
    except LaminaError as error:
        return _fail(error.problems, str(error), error.exit_code, as_json)
    except click.UsageError as error:
        if not as_json:
            error.show()
        return _fail([Problem("usage", error.format_message())], "", 2, as_json)
    except BrokenPipeError:
        raise
    except OSError as error:  # what belongs to a merge has its own letter: this came before, or on our output
        try:
            sys.stdout.flush()
        except OSError:
            _let_go(sys.stdout)
        reason = f"{error.filename or 'the output'}: {(error.strerror or str(error)).lower()}."
        return _fail([Problem("file", reason)], reason, 2, as_json)
    except MemoryError:  # of a limit set from outside: what --memory allows is seen to before
        message = "the system gave no more memory; `-j 1` and a smaller --memory need less, or see its limits (ulimit)."
        return _fail([Problem("memory", message)], message, 1, as_json)
    except (_Stopped, KeyboardInterrupt, click.Abort) as stop:
        return stopped(str(stop), as_json=as_json)
    return code if isinstance(code, int) else 0


def stopped(message: str, *, as_json: bool) -> int:
    """Tell that Ctrl-C ended the work, and what is left of it where `message` is not empty. Returns the exit code."""
    message = message or "stopped; the same command can be given again."
    return _fail([Problem("interrupted", message)], f"\n{message}", 130, as_json)


def _fail(problems: Iterable[Problem], message: str, code: int, as_json: bool) -> int:
    if as_json:
        content = {"exit_code": code, "problems": [problem.as_data() for problem in problems]}
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
    elif message:
        click.echo(message, err=True)
    return code


def _let_go(stream: TextIO) -> None:
    """Point a stream that is broken at nothing, so that the interpreter does not complain at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
