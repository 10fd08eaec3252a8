"""`lamina eval`: how good models and merges are, on the same questions."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from lamina.api import Options
from lamina.chance import Difference
from lamina.checkpoints.hub_client import HubOptions
from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import ledger_options
from lamina.cli.options import hub_options, seed_option, set_option
from lamina.evaluate.compare import Comparison, Row
from lamina.evaluate.evaluation import DTYPES, Step, Template, evaluate
from lamina.evaluate.noting import eval_run
from lamina.evaluate.results import Evaluation
from lamina.ledger.notebook import Notebook
from lamina.recipe.load import names_a_recipe
from lamina.wording import counted

# What `lamina eval --json` prints, by key.
EVAL_FIELDS: Mapping[str, str] = {
    "models": "each, the best first: `model`, `parent` (added by --parents), `mean` (null where a score is no share), "
    "`over` and `over_by_task` (`difference` from the reference and `margin`, half its 95% interval; null where items "
    "cannot be paired, and a margin is null where it is infinite: of a single item), `evaluations` (docs/eval.md)",
    "reference": "the model that differences are from; null where there is one model",
    "limited": "true under --limit: such scores are not to be ranked beside whole ones",
    "out": "the folder that keeps the scores, of each item too",
}


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL|RECIPE...")
@click.option("--tasks", required=True, metavar="A,B", help="What to ask, comma-separated: see below.")
@click.option("--parents", is_flag=True, help="Score the models that the recipes name, too.")
@click.option(
    "--against", metavar="NAME", help="The model differences are from.  [default: the best parent, else the first]"
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Ask the first N items of each task: a first look.")
@click.option("--few-shot", type=click.IntRange(0), metavar="N", help="Examples shown.  [default: as each task says]")
@click.option(
    "--chat-template", "template", type=click.Choice(get_args(Template)), default="auto", show_default=True,
    help="For all models alike; auto: where every one of them has a template.",
)  # fmt: skip
@click.option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True,
              help="What all compute in; auto: as each is stored.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, metavar="N", help="Rows at once.")
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Where models are run: cpu, cuda.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="lamina-evaluations", show_default=True,
    metavar="FOLDER", help="Keeps each score; what it has is not asked again.",
)  # fmt: skip
@set_option
@seed_option
@click.option(
    "--allow-own-code",
    is_flag=True,
    help="Run code: of tasks (a function, `!function` in a file, answers that a task runs as programs), and the "
    "merge method of a recipe which came with a model.",
)
@hub_options
@ledger_options
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def eval(
    models: tuple[str, ...],
    tasks: str,
    parents: bool,
    against: str | None,
    limit: int | None,
    few_shot: int | None,
    template: Template,
    dtype: str,
    batch: int,
    device: str,
    out: Path,
    set_values: tuple[str, ...],
    seed: int,
    allow_own_code: bool,
    hub: HubOptions,
    notebook: Notebook,
    as_json: bool,
    quiet: bool,
) -> None:
    """Score models on tasks: folders, models of the Hub, and recipes, which are merged in memory for it.

    All are asked the same items in the same way, by lm-evaluation-harness (the extra `eval`). TASKS are `skills` (the
    questions of the bundled models), `openllm` (its six tasks), `quick` (three short ones), any other of the harness,
    a task file `.yml`, questions in a `.jsonl`, or a function, `file.py:name`, with --allow-own-code. A run that was
    stopped goes on.

    Example: lamina eval examples/recipes/skills.yml --parents --tasks skills
    """
    if set_values and not any(names_a_recipe(Path(each)) for each in models):
        raise click.UsageError(f"--set changes a recipe, and there is none among {', '.join(models)}: leave it out.")
    if hub.offline:  # for what the harness fetches; read when it is imported
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    shown = not quiet and not as_json and sys.stderr.isatty()
    kept = []

    def tell(step: Step) -> None:
        kept.append(step.kept)
        if shown and not step.kept:
            click.echo(f"scoring {step.model} on {step.task} ({step.number} of {step.total})", err=True)

    options = Options(
        set_values=set_values, seed=seed, allow_own_code=allow_own_code, cache_dir=hub.cache_dir, token=hub.token,
        offline=hub.offline, revision=hub.revision,
    )  # fmt: skip
    try:
        found = evaluate(
            models, tasks.split(","), out, parents=parents, against=against, template=template, dtype=dtype,
            batch=batch, device=device, few_shot=few_shot, limit=limit, hub=hub, options=options,
            allow_own_code=allow_own_code, shown=shown, progress=tell,
            scored=lambda subject, made, seconds: notebook.note_once(eval_run(subject, made, seconds)),
        )  # fmt: skip
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"stopped; {out} keeps what was scored, and the same command goes on.") from stop
    if as_json:
        print_json(as_data(found, out))
        return
    for line in lines(found, min(shutil.get_terminal_size().columns, 110)):
        click.echo(line)
    again = f", {sum(kept)} of them from before" if any(kept) else ""
    click.echo(f"  {counted(len(kept), 'score')} in {out}{again}")


def lines(found: Comparison, width: int) -> Iterator[str]:
    """How all were asked, the table, and what follows from it."""
    yield _asked(found)
    yield ""
    table = _table(found, with_errors=True)
    if max(map(len, table)) > width:
        table = _table(found, with_errors=False)
    yield from table
    yield ""
    errors = "± of a score is one standard error" if "±" in "".join(table) else ""
    if any(row.over is not None for row in found.rows):
        errors = f"{errors}, of a difference half its 95% interval".removeprefix(", ")
    if errors:
        yield f"  {errors}."
    if found.limited:
        limit = next(iter(found.rows[0].scores.values())).settings.limit
        yield f"  The first {counted(limit or 0, 'item')} of each task only: do not rank this beside whole runs."
    yield from (f"  {line}" for line in _follows(found))


def _asked(found: Comparison) -> str:
    evaluations = [each for row in found.rows for each in row.scores.values()]
    settings = evaluations[0].settings
    shots = sorted({each.settings.few_shot for each in evaluations})
    examples = "no examples" if shots == [0] else f"{'-'.join(map(str, dict.fromkeys((shots[0], shots[-1]))))} examples"
    return " · ".join(
        [
            f"lm-eval {settings.harness}",
            examples,
            "chat template" if settings.template else "no chat template",
            ", ".join(sorted({each.settings.dtype for each in evaluations})),
            f"batch {settings.batch}",
            settings.device,
        ]
    )


def _table(found: Comparison, *, with_errors: bool) -> list[str]:
    means = any(row.mean is not None for row in found.rows) and len(found.tasks) > 1
    overs = any(row.over is not None for row in found.rows)
    metrics = {each.task: each.metric for row in found.rows for each in row.scores.values()}
    head = ["model", *found.tasks, *(["mean"] if means else []), *([f"over {found.reference}"] if overs else [])]
    under = ["", *(metrics[task] for task in found.tasks), *([""] if means else []), *([""] if overs else [])]
    rows = [head, under]
    for row in found.rows:
        cells = [f"{row.model}{' (parent)' if row.is_parent else ''}"]
        cells += [_cell(row.scores.get(task), with_errors) for task in found.tasks]
        cells += [_mean(row, with_errors)] if means else []
        cells += [_over(row, row.over)] if overs else []
        rows.append(cells)
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(head))]
    return [_aligned(cells, widths) for cells in rows]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    right = "".join(f"  {cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))
    return f"  {cells[0]:<{widths[0]}}{right}".rstrip()


def _cell(evaluation: Evaluation | None, with_errors: bool) -> str:
    shown = "" if evaluation is None else str(evaluation)
    return shown if with_errors else shown.partition(" ±")[0]


def _mean(row: Row, with_errors: bool) -> str:
    """The mean of the tasks in percent, with the standard error of independent ones."""
    if row.mean is None:
        return ""
    errors = [each.stderr for each in row.scores.values()]
    shown = f"{100 * row.mean:.1f}"
    known = [error for error in errors if error is not None]
    if not with_errors or len(known) < len(errors):
        return shown
    return f"{shown} ± {100 * math.hypot(*known) / len(known):.1f}"


def _over(row: Row, over: Difference | None) -> str:
    if over is None:
        return ""
    if row.mean is not None:
        return str(over)
    return f"{over.share:+.3f} ± {over.margin:.3f}"


def _follows(found: Comparison) -> Iterator[str]:
    """In a sentence: whether the best that is no parent is better than the reference."""
    row = next((row for row in found.rows if not row.is_parent and row.model != found.reference), None)
    if row is None or row.over is None:
        return
    better = row.over.share if next(iter(row.scores.values())).higher_is_better else -row.over.share
    what = "within chance of" if abs(better) <= row.over.margin else "better than" if better > 0 else "worse than"
    beyond = "" if what.startswith("within") else ", beyond chance"
    yield f"{row.model} is {what} {found.reference}{beyond}: {_over(row, row.over)}."


def as_data(found: Comparison, out: Path) -> dict[str, Any]:
    """The comparison for JSON; `EVAL_FIELDS` says what each key holds."""
    return {
        "models": [
            {
                "model": row.model,
                "parent": row.is_parent,
                "mean": row.mean,
                "over": _difference(row.over),
                "over_by_task": {task: _difference(each) for task, each in row.over_by_task.items()},
                "evaluations": [_without_items(each) for each in row.scores.values()],
            }
            for row in found.rows
        ],
        "reference": found.reference,
        "limited": found.limited,
        "out": str(out),
    }


def _without_items(evaluation: Evaluation) -> dict[str, Any]:
    return {key: value for key, value in evaluation.to_json().items() if key != "items"}


def _difference(found: Difference | None) -> dict[str, float] | None:
    return None if found is None else {"difference": found.share, "margin": found.margin}
