"""The row of an evaluation: what of it is worth noting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import xxhash

from lamina.evaluate.results import Evaluation
from lamina.evaluate.subjects import Subject
from lamina.execute.memory import peak_memory
from lamina.ledger.noting import FOLDER
from lamina.ledger.runs import Parent, Run, Score, versions


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
        seed=subject.seed,
        seconds=seconds,
        peak_memory=peak_memory(),
        output=str(Path(subject.source).absolute()) if here else subject.source,
        scores=tuple(map(score_of, evaluations)),
        details={
            "digest": subject.digest,
            "settings": settings,
            "metrics": {each.task: each.metric for each in evaluations},
            **({FOLDER: str(Path(subject.source).absolute().parent)} if subject.recipe else {}),
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
