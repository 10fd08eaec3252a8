"""`lamina sweep`: a recipe under many values, as a curve or a heat map, and what of it is beyond chance."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from lamina import api
from lamina.chance import Interval
from lamina.check.asked import bundled_texts
from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import ledger_options
from lamina.cli.options import memory_option, recipe_options, workers_option
from lamina.errors import MissingExtra, TaskError, did_you_mean
from lamina.evaluate.evaluation import DTYPES, Template
from lamina.evaluate.harness import Harness
from lamina.evaluate.skills import examples_folder
from lamina.evaluate.tasks import OWN_NAMES
from lamina.ledger.notebook import Notebook
from lamina.ledger.runs import Score
from lamina.recipe.load import RecipeLike
from lamina.studies.grid import Axis, parse_axes
from lamina.studies.harness_metric import harness_tasks
from lamina.studies.metrics import QUESTIONS, Loss, Metric, bundled_skills
from lamina.studies.sweep import Point, Sweep
from lamina.studies.sweep import sweep as swept
from lamina.wording import counted, in_seconds

METRICS = (*QUESTIONS, "loss")  # that are not asked by the harness
BAR = 24
SHADES = " ░▒▓█"

# What `lamina sweep --json` prints, by key.
SWEEP_FIELDS: Mapping[str, str] = {
    "metric": "what was measured; `METRIC-dev` is what was chosen by, `METRIC` what only the chosen was asked",
    "points": "in the order of the grid, each: `set` (the changes), `plan` (digest), `run` (its row in the ledger, or "
    "null), `scores`, `over` and `margin` (the difference from the recipe as it is written, better is positive, "
    "and half its interval, for all points at once), `near_best` (not told from the best)",
    "as_written": "the recipe as it is, like a point",
    "best": "the point with the best score",
    "beyond_chance": "whether its difference from the recipe as it is written is",
    "test": "of the best and the recipe as it is on the test items: `best`, `as_written`, `over`, `margin`, "
    "`beyond_chance`; null where they are the same merge",
    "measured": "how many measurements were taken now, those of the test items included",
    "seconds": "of wall time",
}


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

    def measuring(_number: int, point: Sequence[str], score: Score | None) -> None:
        nonlocal done
        done += score is not None
        if score is None and shown:
            click.echo(f"measuring {' '.join(point) or 'the recipe as it is'} ...", err=True)

    try:
        found = swept(
            recipe, axes, metric, notebook=notebook, workers=workers, memory=memory, measuring=measuring, **options
        )
    except KeyboardInterrupt as stop:
        kept = "what was measured is noted, and the same command goes on." if notebook.wanted else "nothing was noted."
        raise KeyboardInterrupt(f"stopped after {counted(done, 'point')}; {kept}") from stop
    if as_json:
        print_json(as_data(found, metric))
        return
    for line in lines(found, axes, metric):
        click.echo(line)


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


def lines(found: Sweep, axes: Sequence[Axis], metric: Metric) -> Iterator[str]:
    """The picture, the best, and what can be said of it."""
    took = f"{counted(found.measured, 'measurement')} in {in_seconds(found.seconds)}"
    if found.measured == 0:
        took = "all of them measured before"
    asked = metric.asked(found.written.scores[0].n or 0)
    yield f"{metric.name} on {asked} (dev) · {counted(len(found.points), 'point')} · {took}"
    yield ""
    if len(axes) == 2:
        yield from _heat_map(found, axes)
        yield ""
    else:
        yield from _curve(found, axes)
        yield ""
    yield from _told(found)


def _curve(found: Sweep, axes: Sequence[Axis]) -> Iterator[str]:
    """A line a point, with a bar from the worst to the best."""
    share = _shares([found.written, *found.points])
    names = [" ".join(_values(point)) for point in found.points]
    name_width = max(len("as written"), *map(len, names), len(" ".join(_heads(axes))))
    told = [str(point.scores[0]) for point in (found.written, *found.points)]
    overs = [_over(point.over, point.scores[0]) for point in (found.written, *found.points)]
    widths = [max(len(found.written.scores[0].name), *map(len, told)), max(len("over as written"), *map(len, overs))]
    head = f"  {' '.join(_heads(axes)):<{name_width}}  {found.written.scores[0].name:<{widths[0]}}"
    yield f"{head}  {'over as written':<{widths[1]}}"
    for name, point in zip(["as written", *names], [found.written, *found.points], strict=True):
        is_written = point is found.written
        over = "" if is_written else _over(point.over, point.scores[0])
        mark = "" if is_written else "best" if point is found.best else "~" if point.is_near_best else ""
        bar = "█" * round(1 + (BAR - 1) * share(point))
        row = f"  {name:<{name_width}}  {point.scores[0]!s:<{widths[0]}}  {over:<{widths[1]}}  {bar:<{BAR}}  {mark}"
        yield row.rstrip()


def _heat_map(found: Sweep, axes: Sequence[Axis]) -> Iterator[str]:
    """A line a value of the first axis, a column a value of the second, shaded from the worst to the best."""
    rows, columns = axes
    share = _shares(found.points)
    cells = [f"{_shade(share(point))} {_figure(point.scores[0])}" for point in found.points]
    marks = ["*" if point is found.best else "~" if point.is_near_best else " " for point in found.points]
    width = max(*map(len, cells), *map(len, columns.values)) + 1
    name_width = max(len(rows.path), *map(len, rows.values))
    yield f"  {rows.path:<{name_width}}   {columns.path}"
    yield f"  {'':<{name_width}}   " + " ".join(f"{value:<{width}}" for value in columns.values).rstrip()
    for index, value in enumerate(rows.values):
        first = index * len(columns.values)
        row = [f"{cells[first + at] + marks[first + at]:<{width}}" for at in range(len(columns.values))]
        yield f"  {value:<{name_width}}   {' '.join(row)}".rstrip()
    yield f"  {found.points[0].scores[0].name}; * the best, ~ within chance of it"


def _told(found: Sweep) -> Iterator[str]:
    best, first = found.best, found.best.scores[0]
    near = [point for point in found.points if point.is_near_best and point.plan != best.plan]
    yield f"best        {' '.join(best.set_values)} · {first}{f' · {best.run}' if best.run else ''}"
    if found.test is None or found.test_over is None:
        yield "            The same merge as the recipe as it is written: nothing here is better."
    else:
        yield (
            f"as written  {found.written.scores[0]}; the best is {_over(best.over, first)} over it, for all points at "
            f"once: {_worth(best.over)}"
        )
        ours, theirs = found.test
        yield (
            f"test        {ours} against {theirs} as written: {_over(found.test_over, ours)}, "
            f"{_worth(found.test_over)}; these items chose nothing"
        )
    if near:
        yield f"near        {counted(len(near), 'other point')} of {len(found.points)} within chance of the best (~)"
    if first.limited:
        yield "*           Of a part of the items only: leave out --limit before you decide."
    if first.lower_is_better:
        yield "            Lower is better; a difference over the recipe as written counts what is gained."


def _heads(axes: Sequence[Axis]) -> list[str]:
    return [axis.path for axis in axes]


def _values(point: Point) -> list[str]:
    return [change.partition("=")[2] for change in point.set_values]


def _shares(points: Sequence[Point]) -> Callable[[Point], float]:
    """Where a point lies between the worst of all, 0, and the best, 1."""
    finite = [point.scores[0].value for point in points if math.isfinite(point.scores[0].value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    lower_is_better = points[0].scores[0].lower_is_better

    def share(point: Point) -> float:
        value = point.scores[0].value
        if not math.isfinite(value):
            return 0.0
        at = (value - low) / (high - low) if high > low else 1.0
        return 1 - at if lower_is_better and high > low else at

    return share


def _shade(share: float) -> str:
    return SHADES[min(len(SHADES) - 1, int(share * len(SHADES)))] * 2


def _figure(score: Score) -> str:
    return f"{100 * score.value:.1f}" if score.unit == "share" else f"{score.value:.3f}"


def _over(over: Interval, score: Score) -> str:
    factor, digits = (100, 1) if score.unit == "share" else (1, 3)
    return f"{factor * over.difference:+.{digits}f} ± {factor * over.margin:.{digits}f}"


def _worth(over: Interval) -> str:
    return "beyond chance" if over.is_beyond_chance else "within chance"


def as_data(found: Sweep, metric: Metric) -> dict[str, Any]:
    """The sweep for JSON; `SWEEP_FIELDS` says what each key holds."""
    test = None
    if found.test is not None and found.test_over is not None:
        ours, theirs = found.test
        test = {"best": ours.as_data(), "as_written": theirs.as_data(), **_interval(found.test_over)}
        test["beyond_chance"] = found.test_over.is_beyond_chance
    return {
        "metric": metric.name,
        "points": [_point(point) for point in found.points],
        "as_written": _point(found.written),
        "best": _point(found.best),
        "beyond_chance": found.best.over.is_beyond_chance,
        "test": test,
        "measured": found.measured,
        "seconds": round(found.seconds, 3),
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "set": list(point.set_values),
        "plan": point.plan,
        "run": point.run,
        "scores": [score.as_data() for score in point.scores],
        **_interval(point.over),
        "near_best": point.is_near_best,
    }


def _interval(over: Interval) -> dict[str, float | None]:
    """JSON has no NaN and no infinity."""
    figures = {"over": over.difference, "margin": over.margin}
    return {name: figure if math.isfinite(figure) else None for name, figure in figures.items()}
