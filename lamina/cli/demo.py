"""`lamina demo`: real trained models are merged, and scored, in a few seconds."""

from __future__ import annotations

import math
from pathlib import Path

import click

from lamina import api
from lamina.cli.merge import merge_and_tell
from lamina.cli.plan import show_forecast
from lamina.evaluate.skills import SKILLS, Score, accuracy, examples_folder, load_questions, load_tokenizer
from lamina.evaluate.tiny_llama import load_tiny_llama
from lamina.ledger.notebook import Notebook


@click.command()
@click.argument("out", type=click.Path(path_type=Path), default="demo-output")
def demo(out: Path) -> None:
    """Merge the bundled models and score the result; the merges go to OUT (demo-output).

    Needs the extra `demo` and the repository's folder examples/.  Example: lamina demo
    """
    examples = examples_folder()
    models, recipes = examples / "models", examples / "recipes"
    click.echo(
        "Five tiny models lie in examples/models: `base`, and fine-tunes of it. `rev` reverses four letters\n"
        "(`rev: k a q d =` gives ` d q a k`), `sort` sorts them. All are real: trained, in bfloat16, 1.1 MB each.\n"
    )
    _chapter(
        "1", "layers placed at any depth, blended where they cross", recipes / "solar-ramp.yml", out / "solar-ramp"
    )
    _chapter("2", "two skills in one model", recipes / "skills.yml", out / "skills")
    _heading("Scores", "400 held-out questions a skill, percent right")
    folders = [models / "base", models / "rev", models / "sort", out / "skills", out / "solar-ramp"]
    for line in score_table(folders, examples / "questions"):
        click.echo(line)
    click.echo(
        "\n`skills` holds most of both fine-tunes in one model; by the mean it is within chance of `rev`, since all\n"
        "of them can sort. `solar-ramp` is `base`, one layer deeper and not trained further: models of four layers\n"
        "show that the mechanics work, and say nothing about depth.\n\n"
        f"The merges lie in {out}: folders that transformers loads. Next:\n"
        f"  lamina plan {_shown(recipes / 'solar-stack.yml')}       the first merge, written as a stack\n"
        f"  lamina plan {_shown(recipes / 'skills.yml')}            then change a weight in it, and merge:\n"
        f"  lamina merge {_shown(recipes / 'skills.yml')} {out / 'mine'}\n"
        "  lamina methods                                    what else there is"
    )


def score_table(folders: list[Path], questions: Path) -> list[str]:
    """Each model's score on the test questions of each skill, and the mean."""
    asked = {skill: load_questions(questions / f"{skill}.test.jsonl") for skill in SKILLS}
    lines = [f"  {'model':<12}{'rev':>14}{'sort':>14}{'mean':>14}"]
    for folder in folders:
        model, tokenizer = load_tiny_llama(folder), load_tokenizer(folder)
        scores = [accuracy(model, tokenizer, asked[skill]) for skill in SKILLS]
        cells = [*map(str, scores), _mean(scores)]
        lines.append(f"  {folder.name:<12}" + "".join(f"{cell:>14}" for cell in cells))
    return lines


def _mean(scores: list[Score]) -> str:
    """The mean of independent scores, in percent, with its standard error."""
    mean = sum(score.share for score in scores) / len(scores)
    error = math.hypot(*(score.standard_error for score in scores)) / len(scores)
    return f"{100 * mean:.1f} ± {100 * error:.1f}"


def _chapter(number: str, title: str, recipe: Path, out: Path) -> None:
    _heading(number, title)
    click.echo(f"$ cat {_shown(recipe)}")
    click.echo("".join(f"  {line}" for line in recipe.read_text().splitlines(keepends=True)))
    click.echo(f"$ lamina plan {_shown(recipe)}")
    show_forecast(api.forecast(recipe, out))
    click.echo(f"\n$ lamina merge {_shown(recipe)} {out}")
    merge_and_tell(recipe, out, force=out.exists(), notices=False, notebook=Notebook(wanted=False))
    click.echo()


def _heading(number: str, title: str) -> None:
    click.echo(click.style(f"{number} · {title}", bold=True) + "\n")


def _shown(path: Path) -> str:
    """A path as short as it can be written here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
