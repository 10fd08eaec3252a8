"""Everything that a page shows, gathered as values: nothing here knows of HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lamina.check.diff import Diff
from lamina.check.noting import INPUT_SHIFT
from lamina.ledger.compare import Compared
from lamina.ledger.ledger import Ledger
from lamina.ledger.runs import Run, in_json
from lamina.plans.show import as_data as plan_as_data
from lamina.report.scores import Scored, ScoreTable, Swept, SweptPoint, interval, score_table, sweeps_of
from lamina.report.subjects import Subject


@dataclass(frozen=True)
class DiffMap:
    """How far the tensors of each class of each layer are from a parent's: ‖b - a‖ / ‖a‖.

    `distances[kind]` has a value for each layer, None where nothing was compared; `counterparts` the parent's layer
    that each was compared with.
    """

    parent: str
    distances: Mapping[str, tuple[float | None, ...]]
    outside: Mapping[str, float | None]
    counterparts: tuple[int | None, ...]
    identical: int
    tensors: int
    descent: str


@dataclass(frozen=True)
class Sheet:
    """All that is known of one merge. Where a part is missing, `missing` says why in a sentence, by its name."""

    subject: Subject
    scores: ScoreTable | None
    sweeps: tuple[Swept, ...]
    shifts: Mapping[int, float]
    diff: DiffMap | None
    missing: Mapping[str, str] = field(default_factory=dict)


def sheet_of(subject: Subject, ledger: Ledger | None, measure: Callable[[Subject], tuple[Diff | None, str]]) -> Sheet:
    """Gather what there is. `measure` compares the folder with its first parent, or says why it did not."""
    missing: dict[str, str] = {}
    scores = score_table(subject, ledger)
    if scores is None:
        missing["scores"] = _no_scores(subject, ledger)
    if subject.plan is None:
        missing["plan"] = subject.unplanned
    check = subject.check
    if check is None:
        missing["check"] = f"not checked: `lamina check {subject.folder or 'OUT'}` does"
    shifts = shifts_of(check)
    if not shifts:
        missing["shift"] = _no_shift(check)
    found, why = measure(subject)
    if found is None:
        missing["diff"] = why
    diff = None if found is None else diff_map(found)
    return Sheet(subject, scores, tuple(sweeps_of(subject, ledger)), shifts, diff, missing)


def shifts_of(check: Run | None) -> dict[int, float]:
    """What a check has noted of the layers' inputs."""
    noted = check.details.get(INPUT_SHIFT) if check is not None else None
    known = noted.items() if isinstance(noted, Mapping) else ()
    return {int(layer): float(share) for layer, share in known if math.isfinite(share)}


def diff_map(found: Diff) -> DiffMap:
    """The figures of a comparison that a heat map shows."""
    layers = range(len(found.counterparts))
    compared = {(each.layer, each.kind) for each in found.compared}
    return DiffMap(
        parent=found.a,
        distances={
            kind: tuple(
                in_json(found.by(layer=layer, kind=kind).distance) if (layer, kind) in compared else None
                for layer in layers
            )
            for kind in found.kinds
        },
        outside={kind: in_json(found.by(layer=None, kind=kind).distance) for kind in found.outside},
        counterparts=found.counterparts,
        identical=found.total.identical,
        tensors=found.total.tensors,
        descent=found.descent,
    )


def _no_scores(subject: Subject, ledger: Ledger | None) -> str:
    named = subject.folder or subject.source
    if ledger is None:
        return "there is no ledger to have scores of it"
    command = f"lamina eval {named} --parents --tasks TASK"
    return f"no score is noted of it: `{command}` asks it and its parents the same questions"


def _no_shift(check: Run | None) -> str:
    if check is None:
        return "nothing was run: `lamina check OUT`, with the extra `hf`, measures it"
    return "the newest check has not measured it: it needs the extra `hf`, and parents that are here"


# What `lamina report --json` prints of each source, by key.
SHEET_FIELDS: Mapping[str, str] = {
    "source, name": "as it was named; what it is called",
    "folder": "where the model lies, null where it does not",
    "plan": "as in `lamina plan --json`; null where the recipe could not be planned",
    "digest": "the plan's digest",
    "recipe": "its text",
    "verdict, findings": "of the newest check",
    "scores": "each model, the merge first: `label`, `is_parent`, `scores` as in `lamina runs --json`, each with "
    "`margin`, half its 95% interval",
    "over": "by score: the best parent (`parent`), `difference` from it, `margin`, `paired`, `beyond_chance`",
    "sweeps": "each: `paths`, `points` with `run`, `values`, `score`, `over`, `margin`, `best`, `near_best` (not told "
    "from the best), `own` (the merge itself), `as_written`",
    "input_shift": "by layer: the mean cosine of what it receives and what its origin receives",
    "diff": "beside the first parent: `parent`, `distances` by class of tensors and layer, `outside`, `counterparts`, "
    "`identical` of `tensors`, `descent`",
    "missing": "by part: why it is not there",
}


def as_data(sheet: Sheet) -> dict[str, Any]:
    """A sheet for JSON; `SHEET_FIELDS` says what each key holds."""
    subject, check = sheet.subject, sheet.subject.check
    return {
        "source": subject.source,
        "name": subject.name,
        "folder": None if subject.folder is None else str(subject.folder),
        "plan": None if subject.plan is None else plan_as_data(subject.plan),
        "digest": subject.digest,
        "recipe": subject.recipe,
        "verdict": "" if check is None else check.verdict,
        "findings": [] if check is None else list(check.details.get("findings", [])),
        "scores": [] if sheet.scores is None else [_scored(each) for each in sheet.scores.models],
        "over": {} if sheet.scores is None else {name: _over(*pair) for name, pair in sheet.scores.over.items()},
        "sweeps": [_swept(each) for each in sheet.sweeps],
        "input_shift": {str(layer): share for layer, share in sheet.shifts.items()},
        "diff": None if sheet.diff is None else _diff(sheet.diff),
        "missing": dict(sheet.missing),
    }


def _scored(model: Scored) -> dict[str, Any]:
    scores = [score.as_data() | {"margin": interval(score)} for score in model.scores]
    return {"label": model.label, "is_parent": model.is_parent, "scores": scores}


def _over(parent: str, compared: Compared) -> dict[str, Any]:
    return {
        "parent": parent, "difference": compared.difference, "margin": compared.margin, "paired": compared.paired,
        "beyond_chance": compared.is_beyond_chance,
    }  # fmt: skip


def _swept(swept: Swept) -> dict[str, Any]:
    return {
        "paths": list(swept.paths),
        "points": [_point(each) for each in swept.points],
    }


def _point(point: SweptPoint) -> dict[str, Any]:
    over = point.standing.over
    return {
        "run": point.run,
        "values": list(point.values),
        "score": point.score.as_data(),
        "over": None if over is None else in_json(over.difference),
        "margin": None if over is None else in_json(over.margin),
        "best": point.standing.is_best,
        "near_best": point.standing.is_near_best,
        "own": point.is_own,
        "as_written": point.is_written,
    }


def _diff(diff: DiffMap) -> dict[str, Any]:
    return {
        "parent": diff.parent,
        "distances": {kind: list(values) for kind, values in diff.distances.items()},
        "outside": dict(diff.outside),
        "counterparts": list(diff.counterparts),
        "identical": diff.identical,
        "tensors": diff.tensors,
        "descent": diff.descent,
    }
