"""Rows of what was done: what of a merge, of a check and of an evaluation is worth noting."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from lamina.checkpoints.writer import made_by
from lamina.ledger.notebook import Notebook
from lamina.ledger.runs import Parent, Run, Score, versions

if TYPE_CHECKING:  # a merge that is noted starts without what checks and evaluates
    from lamina.api import Result
    from lamina.check.findings import Report
    from lamina.evaluate.results import Evaluation
    from lamina.evaluate.subjects import Subject
    from lamina.plans.plan import Plan

INPUT_SHIFT = "input_shift"  # of a check's details: by layer, what it receives of what it was trained on
FOLDER = "recipe_folder"  # of a merge's details: where the names in its recipe lead from


def merge_run(result: Result) -> Run:
    """The row of a merge."""
    return Run(
        "merge",
        run_name(result.plan.title, result.recipe.overrides.values()),
        recipe=result.recipe.text,
        plan=result.plan.digest,
        parents=parents_of(result.plan),
        versions=versions(),
        seed=result.plan.seed,
        seconds=result.seconds,
        peak_memory=result.peak_memory,
        output=str(result.out.absolute()),
        details={
            FOLDER: str(result.recipe.folder.absolute()),
            **({"non_finite": list(result.non_finite)} if result.non_finite else {}),
        },
    )


def folder_noted(notebook: Notebook, out: str | Path) -> Path | None:
    """The folder beside which a merge, that a row tells of, found its models; None where none does, or it is gone."""
    plan = str(made_by(Path(out)).get("plan", "")) if Path(out).is_dir() else ""
    rows = notebook.runs("merge", plan) if plan else []
    folders = (Path(str(row.details[FOLDER])) for row in rows if FOLDER in row.details)
    return next((folder for folder in folders if folder.is_dir()), None)


def check_run(report: Report) -> Run:
    """The row of a check. A folder that a merge made is known by its plan's digest."""
    folder = Path(report.model)
    here = folder.exists()
    return Run(
        "check",
        report.model,
        plan=str(made_by(folder).get("plan", "")) if here else "",
        parents=tuple(Parent(name) for name in report.parents),
        versions=versions(),
        seconds=report.seconds,
        peak_memory=report.peak_memory,
        output=str(folder.absolute()) if here else report.model,
        verdict=str(report.verdict),
        details={
            "findings": [
                {"section": section.name, "level": str(each.level), "code": each.code, "message": each.message}
                for section in report.sections
                for each in section.findings
            ],
            **_shifts(report),
        },
    )


def _shifts(report: Report) -> dict[str, dict[str, float]]:
    """What each layer receives, where that was measured, as JSON has it."""
    found = next((section.by_layer for section in report.sections if section.by_layer), {})
    return {INPUT_SHIFT: {str(layer): round(share, 6) for layer, share in found.items()}} if found else {}


def eval_run(subject: Subject, evaluations: Sequence[Evaluation], seconds: float) -> Run:
    """The row of a model that was scored. A merge, written or not, is known by its plan's digest.

    Its key tells model, scores and how they were asked, so that what was noted before is not noted twice.
    """
    here = Path(subject.source).exists()
    told = [subject.digest, [[each.task, each.metric, each.value, each.items_digest] for each in evaluations]]
    settings = {each.task: asdict(each.settings) for each in evaluations}
    return Run(
        "eval",
        subject.name,
        recipe=subject.recipe,
        plan=subject.plan,
        parents=tuple(Parent(name) for name in subject.parents),
        versions=versions(lm_eval=evaluations[0].settings.harness),
        seconds=seconds,
        output=str(Path(subject.source).absolute()) if here else subject.source,
        scores=tuple(map(score_of, evaluations)),
        details={
            "digest": subject.digest,
            "settings": settings,
            "metrics": {each.task: each.metric for each in evaluations},
        },
        key=xxhash.xxh3_128_hexdigest(json.dumps([*told, settings], sort_keys=True, default=str).encode()),
    )


def score_of(made: Evaluation) -> Score:
    """What an evaluation found, as a score of a row."""
    return Score(
        made.task, made.value, made.stderr, made.n, unit="share" if made.is_share else "", limited=made.limited,
        lower_is_better=not made.higher_is_better, items=tuple(item.score for item in made.items),
        items_digest=made.items_digest,
    )  # fmt: skip


def parents_of(plan: Plan) -> tuple[Parent, ...]:
    """The models that a plan reads."""
    return tuple(Parent(source.name, source.commit) for source in plan.inputs)


def run_name(title: str, set_values: Iterable[str]) -> str:
    """`skills.yml`, and what was changed in it: `skills.yml parameters.t=0.3`."""
    return " ".join([title, *set_values])
