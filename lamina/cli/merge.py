"""`lamina merge`: the main job, with one line that moves and one that stays."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lamina import api
from lamina.check.noting import check_run
from lamina.checkpoints.layout import DEFAULT_SHARD_SIZE
from lamina.checkpoints.writer import made_by
from lamina.cli.answer import json_option, print_json
from lamina.cli.ledger_options import ledger_options
from lamina.cli.mergekit_flags import ON_CPU, idle_flags
from lamina.cli.options import memory_option, recipe_options, shard_size_option, workers_option
from lamina.cli.plan import plan_and_tell, show_notices
from lamina.cli.progress import MovingLine
from lamina.ledger.notebook import Notebook
from lamina.planners.own_code import names_code
from lamina.plans.plan import Notice, Plan
from lamina.plans.show import notices_as_data, table
from lamina.recipe.load import RecipeLike
from lamina.wording import counted, in_bytes, in_seconds

# What `lamina merge --json` prints, by key.
RESULT_FIELDS: Mapping[str, str] = {
    "out": "the folder",
    "already_there": "true where the same plan had made it before, from the same models",
    "digest": "of the plan",
    "bytes": "of the tensor files",
    "shards": "the tensor files' names",
    "seconds": "of wall time",
    "peak_memory": "of the process, in bytes",
    "resumed": "bytes of tensors that an earlier run of the same merge had left whole",
    "non_finite": "tensors that hold NaN or infinity because an input does",
    "notices": "as in the plan",
    "check": "with --check: as `lamina check --json` prints it",
}


@click.command()
@recipe_options
@click.argument("out", type=click.Path(path_type=Path))
@workers_option
@memory_option
@shard_size_option
@click.option("--device", default="cpu", show_default=True, help="Where it computes; there is only the CPU yet.")
@click.option("--force", is_flag=True, help="Replace what is at OUT, once the new folder is complete.")
@click.option("--dry-run", is_flag=True, help="Show the plan, merge nothing: as `lamina plan RECIPE OUT`.")
@click.option("--copy-tokenizer/--no-copy-tokenizer", default=True, help="Write the tokenizer's files.  [default: on]")
@click.option(
    "--write-model-card/--no-write-model-card",
    default=True,
    help="Write README.md with a picture of the layers, and a copy of the recipe.  [default: on]",
)
@click.option(
    "--allow-crimes/--no-allow-crimes",
    help="Merge models whose configs disagree about what they compute, if their tensors have equal shapes.",
)
@click.option(
    "--check", "then_check", is_flag=True,
    help="Then check OUT as `lamina check OUT --quick` does, and exit with its code; OUT stays whatever it finds.",
)  # fmt: skip
@json_option
@click.option("-q", "--quiet/--no-quiet", help="Print errors only.")
@click.option("-v", "--verbose", count=True, help="Print the plan before merging.")
@ledger_options
@idle_flags
def merge(
    recipe: RecipeLike,
    options: api.Options,
    out: Path,
    workers: int | None,
    memory: int | None,
    shard_size: int,
    device: str,
    force: bool,
    dry_run: bool,
    copy_tokenizer: bool,
    write_model_card: bool,
    allow_crimes: bool,
    then_check: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    notebook: Notebook,
) -> int:  # fmt: skip
    """Merge the models of RECIPE into the folder OUT, which appears whole or not at all.

    RECIPE is a file, the folder of a published merge, or - for standard input. All flags of mergekit-yaml
    are accepted; docs/commands.md lists those without effect.

    Example: lamina merge solar.yml out
    """
    options["copy_tokenizer"], options["write_model_card"] = copy_tokenizer, write_model_card
    options["unlike_models"] = allow_crimes
    limits: dict[str, Any] = {"workers": workers, "memory": memory, "shard_size": shard_size}
    if device != "cpu" and not quiet and not as_json:
        click.echo(f"--device {device} has no effect: {ON_CPU}", err=True)
    if dry_run:
        plan_and_tell(recipe, out, options, **limits, force=force, as_json=as_json)
        return 0
    result = merge_and_tell(
        recipe, out, options, **limits, force=force, quiet=quiet or as_json, verbose=verbose > 0, notebook=notebook
    )
    if then_check:
        return _check(result, recipe, options, workers, notebook, as_json=as_json, quiet=quiet)
    if as_json:
        print_json(as_data(result))
    elif not quiet:
        tell_what_is_next(result)
    return 0


def tell_what_is_next(result: api.Result) -> None:
    """Name the command that says whether what was made is sound."""
    flag = " --allow-own-code" if names_code(result.plan.method) else ""
    click.echo(f"next: lamina check {shlex.quote(str(result.out))}{flag}")


def _check(
    result: api.Result,
    recipe: RecipeLike,
    options: api.Options,
    workers: int | None,
    notebook: Notebook,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Check a merge that is published, and return the exit code of its verdict.

    Raises KeyboardInterrupt, with what is left to do, when stopped.
    """
    from lamina.cli import check  # a merge that is not checked starts without it

    try:
        report = check.check_with_progress(
            result.out, recipe=recipe, options=options, hub=api.hub_options(options), workers=workers, quick=True,
            quiet=quiet or as_json,
        )  # fmt: skip
    except KeyboardInterrupt as stop:
        told = f"stopped while checking. {result.out} is complete; `lamina check {result.out}` checks it."
        raise KeyboardInterrupt(told) from stop
    notebook.note(check_run(report))
    if as_json:
        print_json(as_data(result) | {"check": check.as_data(report)})
    elif report.verdict.exit_code or not quiet:
        check.show(report)
    return report.verdict.exit_code


def merge_and_tell(
    recipe: RecipeLike,
    out: Path,
    options: api.Options | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    force: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    notices: bool = True,
    notebook: Notebook,
) -> api.Result:
    """Merge, showing the plan's table where asked for, notices (unless shown before), progress, a closing line."""
    line = MovingLine(enabled=not quiet and sys.stderr.isatty())

    digest = ""

    def on_plan(plan: Plan) -> None:
        nonlocal digest
        digest = plan.digest
        if verbose and not quiet:
            click.echo("\n".join([*table(plan), ""]))
        if notices and not quiet:
            show_notices(plan.notices, err=True)
        line.start(plan.bytes_to_fetch + sum(spec.nbytes for spec in plan.specs.values()))

    def resuming(kept: int, discarded: int) -> None:
        line.resume(kept)
        if discarded and not quiet:
            told = f"an earlier run had begun something else at {out}: {in_bytes(discarded)} of it were discarded."
            show_notices([Notice("begun-anew", told)], err=True)

    try:
        result = api.merge(
            recipe, out, workers=workers, memory=memory, shard_size=shard_size, force=force,
            on_plan=on_plan, fetching=line.advance, resuming=resuming, progress=line.advance,
            notebook=notebook, **(options or api.Options()),
        )  # fmt: skip
    except KeyboardInterrupt as stop:
        if digest and made_by(out).get("plan") == digest:
            raise KeyboardInterrupt(f"stopped. {out} is complete; `lamina clean` removes what it grew in.") from stop
        now = "What was there is as it was" if out.exists() else "Nothing is visible at {out} yet"
        raise KeyboardInterrupt(
            f"stopped at {line.share:.0%}. {now.format(out=out)}; the same command goes on from here."
        ) from stop
    finally:
        line.stop()
    if not quiet:
        _tell(result)
    return result


def _tell(result: api.Result) -> None:
    if result.already_there:
        click.echo(f"already there · {result.out} · made by the same plan from the same models")
        return
    if result.non_finite:
        names = ", ".join(result.non_finite[:3]) + (" ..." if len(result.non_finite) > 3 else "")
        one = len(result.non_finite) == 1
        holds = "holds NaN or infinity, as its inputs do" if one else "hold NaN or infinity, as their inputs do"
        told = f"{counted(len(result.non_finite), 'tensor')} {holds}: {names}"
        show_notices([Notice("non-finite", told)], err=True)
    shards, size = counted(len(result.layout.shards), "shard"), result.layout.size
    made = size - result.resumed
    before = f" ({result.resumed / size:.0%} was there)" if result.resumed else ""
    click.echo(
        f"merged in {in_seconds(result.seconds)}{before} · {result.out} · {shards}, {in_bytes(size)} · "
        f"{in_bytes(made / max(result.seconds, 1e-9))}/s · peak memory {in_bytes(result.peak_memory)}"
    )


def as_data(result: api.Result) -> dict[str, Any]:
    return {
        "out": str(result.out),
        "already_there": result.already_there,
        "digest": result.plan.digest,
        "bytes": result.layout.size,
        "shards": [shard.file_name for shard in result.layout.shards],
        "seconds": round(result.seconds, 3),
        "peak_memory": result.peak_memory,
        "resumed": result.resumed,
        "non_finite": list(result.non_finite),
        "notices": notices_as_data(result.plan.notices),
    }
