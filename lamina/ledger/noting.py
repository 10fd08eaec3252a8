"""Rows of what was done: what of a merge is worth noting, and what rows of all kinds have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import xxhash

from lamina.checkpoints.writer import made_by
from lamina.ledger.notebook import Notebook
from lamina.ledger.runs import Parent, Run, versions
from lamina.plans.plan import Plan
from lamina.recipe.load import Recipe

FOLDER = "recipe_folder"  # of the details of whatever has a recipe: where the names in its recipe lead from


def merge_run(
    plan: Plan, recipe: Recipe, out: Path, *, seconds: float, peak_memory: int, non_finite: Sequence[str] = ()
) -> Run:
    """The row of a merge. `non_finite` are its tensors that hold NaN or infinity.

    Its key tells recipe, seed and output, so that a merge that is there already is not noted again.
    """
    made = [plan.digest, recipe.text, str(plan.seed), str(out.absolute())]
    return Run(
        "merge",
        run_name(plan.title, recipe.overrides.values()),
        recipe=recipe.text,
        plan=plan.digest,
        parents=parents_of(plan),
        versions=versions(),
        seed=plan.seed,
        seconds=seconds,
        peak_memory=peak_memory,
        output=str(out.absolute()),
        details={
            FOLDER: str(recipe.folder.absolute()),
            **({"non_finite": list(non_finite)} if non_finite else {}),
        },
        key=xxhash.xxh3_128_hexdigest("\n".join(made).encode()),
    )


def folder_noted(notebook: Notebook, out: str | Path) -> Path | None:
    """The folder beside which a merge, that a row tells of, found its models; None where none does, or it is gone."""
    plan = str(made_by(Path(out)).get("plan", "")) if Path(out).is_dir() else ""
    rows = notebook.runs("merge", plan) if plan else []
    folders = (Path(str(row.details[FOLDER])) for row in rows if FOLDER in row.details)
    return next((folder for folder in folders if folder.is_dir()), None)


def parents_of(plan: Plan) -> tuple[Parent, ...]:
    """The models that a plan reads."""
    return tuple(Parent(source.name, source.commit) for source in plan.inputs)


def run_name(title: str, set_values: Iterable[str]) -> str:
    """`skills.yml`, and what was changed in it: `skills.yml parameters.t=0.3`."""
    return " ".join([title, *set_values])
