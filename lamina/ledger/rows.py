"""Runs and scores as the columns of their tables, and back. No I/O."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lamina.ledger.runs import Parent, Run, Score


def run_columns(run: Run) -> dict[str, Any]:
    """What the table `runs` keeps of a run, by column, but for its number."""
    columns: dict[str, Any] = {
        "kind": run.kind,
        "name": run.name,
        "at": run.at.astimezone(UTC).isoformat(),
        "recipe": run.recipe,
        "recipe_digest": run.recipe_digest,
        "plan": run.plan,
        "parents": _json([[parent.name, parent.revision] for parent in run.parents]),
        "versions": _json(run.versions),
        "seed": run.seed,
        "seconds": run.seconds,
        "peak_memory": run.peak_memory,
        "output": run.output,
        "verdict": run.verdict,
        "details": _json(run.details),
        "key": run.key,
    }
    return {name: _storable(value) for name, value in columns.items()}


def _storable(value: Any) -> Any:
    """Text as UTF-8 has it: a path may hold bytes that are none."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def as_run(row: Mapping[str, Any], scores: Sequence[Score]) -> Run:
    """The run of a row of `runs`, with its scores."""
    return Run(
        kind=row["kind"],
        name=row["name"],
        recipe=row["recipe"],
        plan=row["plan"],
        parents=tuple(Parent(name, revision) for name, revision in json.loads(row["parents"])),
        versions=json.loads(row["versions"]),
        seed=row["seed"],
        at=datetime.fromisoformat(row["at"]),
        seconds=row["seconds"],
        peak_memory=row["peak_memory"],
        output=row["output"],
        verdict=row["verdict"],
        scores=tuple(scores),
        details=json.loads(row["details"]),
        key=row["key"],
        number=row["number"],
    )


def score_columns(score: Score) -> tuple[Any, ...]:
    """A row of `scores` but for its run. SQLite keeps NaN as NULL."""
    items = zlib.compress(np.array(score.items, "<f8").tobytes()) if score.items else None
    return (
        score.name, score.value, score.stderr, score.n, score.unit, score.limited, score.lower_is_better, items,
        score.items_digest,
    )  # fmt: skip


def as_score(row: Mapping[str, Any]) -> Score:
    """The score of a row of `scores`; without items where those are not selected."""
    items = () if row["items"] is None else tuple(np.frombuffer(zlib.decompress(row["items"]), "<f8").tolist())
    value = math.nan if row["value"] is None else row["value"]
    return Score(
        row["name"], value, row["stderr"], row["n"], row["unit"], bool(row["limited"]), bool(row["lower_is_better"]),
        items, row["items_digest"],
    )  # fmt: skip


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
