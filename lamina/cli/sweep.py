"""`lamina sweep`: a recipe under many values, as a curve or a heat map, and what of it is beyond chance."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from lamina import api
from lamina.check.asked import bundled_texts
from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import ledger_options
from lamina.cli.options import memory_option, recipe_options, workers_option
from lamina.cli.plan import show_notices
from lamina.cli.sweep_shown import as_data, lines
from lamina.errors import MissingExtra, TaskError, did_you_mean
from lamina.evaluate.evaluation import DTYPES, Template
from lamina.evaluate.harness import Harness
from lamina.evaluate.skills import examples_folder
from lamina.evaluate.tasks import OWN_NAMES
from lamina.ledger.notebook import Notebook
from lamina.ledger.runs import Score
from lamina.plans.plan import Notice, Plan
from lamina.recipe.load import RecipeLike
from lamina.studies.grid import parse_axes
from lamina.studies.harness_metric import harness_tasks
from lamina.studies.metrics import QUESTIONS, Loss, Metric, bundled_skills
from lamina.studies.sweep import sweep as swept
from lamina.wording import counted

METRICS = (*QUESTIONS, "loss")  # that are not asked by the harness


@click.command()
@recipe_options
@click.option(
    "--vary", "varied", multiple=True, required=True, metavar="PATH=VALUES",
    help="A value of the recipe and what it becomes: parameters.t=0:1:0.1 (first, last, step) or overlap=cut,ramp; "
    "several make a grid.",
)  # fmt: skip
@click.option(
    "--metric", "name", metavar="NAME", default="skills", show_default=True,
    help=f"{', '.join(QUESTIONS)}: right answers to bundled questions; loss: on bundled texts (extra `hf`); or what "
    "`lamina eval --tasks` takes (extra `eval`).",
)  # fmt: skip
@click.option(
    "--text", "texts", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Take the loss on this text; may be repeated.  [default: bundled prose and code]",
)  # fmt: skip
@click.option(
    "--limit",
    type=click.IntRange(2),
    metavar="N",
    help="Ask N items: questions of a kind, rows of a text, of a task in each half.",
)
@click.option(
    "--few-shot", type=click.IntRange(0), metavar="N", help="Of tasks: examples shown.  [default: as each says]"
)
@click.option("--chat-template", "template", type=click.Choice(get_args(Template)), default="auto", show_default=True,
              help="Of tasks; auto: where the merge has one at every point.")  # fmt: skip
@click.option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True,
              help="Of tasks: what merges compute in; auto: as each is stored.")  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, metavar="N", help="Of tasks: rows at once."
)
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Where merges are run: cpu, cuda.")
@workers_option
@memory_option
@json_option
@ledger_options
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def sweep(
    recipe: RecipeLike,
    options: api.Options,
    varied: tuple[str, ...],
    name: str,
    texts: tuple[Path, ...],
    limit: int | None,
    few_shot: int | None,
    template: Template,
    dtype: str,
    batch: int,
    device: str,
    workers: int | None,
    memory: int | None,
    as_json: bool,
    notebook: Notebook,
    quiet: bool,
) -> None:  # fmt: skip
    """Merge RECIPE in memory under many values, and tell which is best and whether that is beyond chance.

    All points are planned before any is merged. Each is a row of the ledger as soon as it is measured, and is not
    measured again: a sweep that was stopped goes on. Points are compared on `dev` items; only the best one and the
    recipe as it is written are asked the `test` items. Of a task of lm-evaluation-harness each is a half.

    Example: lamina sweep examples/recipes/skills.yml --vary models[0].parameters.weight=0.3:0.9:0.2
    """
    axes = parse_axes(varied)
    if texts and name != "loss":
        raise click.UsageError(f"--text is what a loss is taken on, and --metric is {name}: add `--metric loss`.")
    shown = not quiet and not as_json and sys.stderr.isatty()
    metric: Metric
    if name in METRICS:
        _check_no_task_flags(name)
        metric = _own_metric(name, texts, limit, device)
    else:
        if options.get("offline", False):  # for what the harness fetches; read when it is imported
            os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
        allowed = options.get("allow_own_code", False)
        harness = _harness(
            name, batch=batch, device=device, few_shot=few_shot, limit=limit, allow_own_code=allowed, shown=shown
        )
        metric = harness_tasks(name, harness, template=template, dtype=dtype, allow_own_code=allowed)
    done = 0

    def on_plans(plans: Sequence[Plan]) -> None:
        if not quiet and not as_json:
            show_notices(_in_all(plans[1:]), err=True)

    def measuring(_number: int, point: Sequence[str], score: Score | None) -> None:
        nonlocal done
        done += score is not None
        if score is None and shown:
            click.echo(f"measuring {' '.join(point) or 'the recipe as it is'} ...", err=True)

    try:
        found = swept(
            recipe,
            axes,
            metric,
            notebook=notebook,
            workers=workers,
            memory=memory,
            on_plans=on_plans,
            measuring=measuring,
            **options,
        )
    except KeyboardInterrupt as stop:
        kept = "what was measured is noted, and the same command goes on." if notebook.wanted else "nothing was noted."
        raise KeyboardInterrupt(f"stopped after {counted(done, 'point')}; {kept}") from stop
    if as_json:
        print_json(as_data(found, metric))
        return
    for line in lines(found, axes, metric):
        click.echo(line)


def _in_all(plans: Sequence[Plan]) -> list[Notice]:
    """The notices that every plan has, whatever the values: what has no effect at all is among them."""
    said = [{(notice.code, notice.message) for notice in plan.notices} for plan in plans]
    return [each for each in plans[0].notices if all((each.code, each.message) in others for others in said)]


def _own_metric(name: str, texts: Sequence[Path], limit: int | None, device: str) -> Metric:
    if name == "loss":
        given = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in texts}
        return Loss(given or bundled_texts(), limit=limit, device=device)
    return bundled_skills(name, examples_folder() / "questions", limit)


def _check_no_task_flags(name: str) -> None:
    """Raises UsageError for a flag that would have no effect."""
    context = click.get_current_context()
    for flag in ("few_shot", "template", "dtype", "batch"):
        if context.get_parameter_source(flag) is click.core.ParameterSource.COMMANDLINE:
            option = next(each.opts[0] for each in context.command.params if each.name == flag)
            raise click.UsageError(f"{option} is how tasks of lm-evaluation-harness are asked, and --metric is {name}.")
    if name != "loss" and context.get_parameter_source("device") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(
            f"--device is where a loss is taken and tasks are asked, and --metric {name} is on the CPU: leave it out."
        )


def _harness(name: str, **how: Any) -> Harness:
    try:
        return Harness(other_names=(*METRICS, *OWN_NAMES), **how)
    except MissingExtra as error:
        hint = did_you_mean(name, METRICS)
        if hint.startswith(" Did"):
            raise TaskError(
                f"there is no metric `{name}`.{hint} For tasks of lm-evaluation-harness {error}."
            ) from error
        raise
