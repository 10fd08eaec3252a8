"""`lamina chat`: talk to a model, or to a recipe's merge before it is written."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lamina import api
from lamina.cli.options import recipe_options
from lamina.recipe.load import RecipeLike, names_a_recipe
from lamina.wording import in_seconds

if TYPE_CHECKING:
    from lamina.evaluate.conversation import Conversation

HELP = "/new begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer"


@click.command()
@recipe_options
@click.option("--prompt", metavar="TEXT", help="Say this, print the answer, and end.")
@click.option("--system", default="", metavar="TEXT", help="The system message, of models whose template has one.")
@click.option("--temperature", type=click.FloatRange(0), metavar="T",
              help="Of the draws; 0 takes the likeliest.  [default: as in generation_config.json]")  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(1), default=512, show_default=True, metavar="N",
              help="Of an answer.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="Where the model runs, as torch calls it.")
def chat(
    recipe: RecipeLike, options: api.Options, prompt: str | None, system: str, temperature: float | None,
    max_tokens: int, device: str,
) -> None:  # fmt: skip
    """Talk to RECIPE's merge, made in memory: nothing is written. RECIPE may be a model too, as a folder or org/name.

    Lines that come in by a pipe are said one after the other. A model without a chat template goes on with the text.
    --seed makes draws repeatable. Needs the extra `hf`.

    Example: lamina chat recipe.yml --prompt "Who are you?"
    """
    from lamina.evaluate.conversation import conversation  # torch, which --help does without

    started = time.monotonic()
    talking = conversation(_as_recipe(recipe), system=system, device=device, options=options)

    def say(text: str) -> None:
        _say(talking, text, most=max_tokens, temperature=temperature, seed=options.get("seed"))

    if prompt is not None:
        say(prompt)
        return
    if not sys.stdin.isatty():
        for line in sys.stdin:
            say(line.rstrip("\n"))
        return
    kind = "" if talking.has_template else " · no chat template: it goes on with the text"
    click.echo(f"ready in {in_seconds(time.monotonic() - started)}{kind}\n{HELP}\n")
    _talk(talking, say)


def _talk(talking: Conversation, say: Callable[[str], None]) -> None:
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            click.echo()
            return
        if text == "/exit":
            return
        if text == "/new":
            talking.messages.clear()
            click.echo("(a new conversation)\n")
        elif text.startswith("/"):
            click.echo(f"({HELP})\n")
        elif text:
            try:
                say(text)
            except KeyboardInterrupt:
                click.echo("\n(stopped; this was not said)")
            except ValueError as error:
                click.echo(f"({error}; /new begins anew)")
            click.echo()


def _say(talking: Conversation, text: str, *, most: int, temperature: float | None, seed: int | None) -> None:
    talking.say(text, lambda piece: click.echo(piece, nl=False), most=most, temperature=temperature, seed=seed)
    click.echo()


def _as_recipe(source: RecipeLike) -> RecipeLike:
    """A model is a merge of itself alone; a recipe is a file."""
    if not isinstance(source, Path) or names_a_recipe(source):
        return source
    return {"models": [{"model": str(source)}], "merge_method": "passthrough"}
