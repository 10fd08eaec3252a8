"""What `lamina runs show`, `diff` and `export` write."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lamina.ledger.compare import Changed, Compared
from lamina.ledger.runs import Run, Score, in_json
from lamina.wording import counted, in_bytes, in_seconds

# What `lamina runs diff --json` prints, by key.
RUNS_DIFF_FIELDS: Mapping[str, str] = {
    "first, second": "the rows' ids",
    "recipe": "each value that differs: `path` (as `--set` takes it), `first`, `second`; null where one has no recipe",
    "scores": "each that both have: `name`, `first`, `second`, `difference` (second minus first; null where "
    "that is not finite), `margin` (half of its 95% interval), `paired` (over the same items), `beyond_chance`",
}

# Columns of an export that every one has, first: by them it is known.
_PLAIN = ("id", "kind", "name", "at", "plan", "recipe_digest", "seed", "seconds", "peak_memory", "output", "verdict")
CSV_HEAD = ",".join((*_PLAIN, "models"))


def described(run: Run) -> Iterator[str]:
    """All of a row in lines."""
    yield f"{run.id} · {run.kind} · {run.name}"
    yield ""
    seconds = "" if run.seconds is None else f" · {in_seconds(run.seconds)}"
    memory = "" if run.peak_memory is None else f" · peak memory {in_bytes(run.peak_memory)}"
    yield f"  when      {run.at.astimezone():%Y-%m-%d %H:%M:%S}{seconds}{memory}"
    if run.output:
        yield f"  output    {run.output}"
    for number, parent in enumerate(run.parents):
        yield f"  {'' if number else 'models':<8}  {parent.name}{f' at {parent.revision}' if parent.revision else ''}"
    if run.verdict:
        yield f"  verdict   {run.verdict}"
    yield f"  with      {', '.join(f'{name} {version}' for name, version in run.versions.items())}"
    if run.plan:
        yield f"  plan      {run.plan}{'' if run.seed is None else f' · seed {run.seed}'}"
    for number, score in enumerate(run.scores):
        items = "" if score.n is None else f" over {counted(score.n, 'item')}"
        yield f"  {'' if number else 'scores':<8}  {score.name} {score}{items}"
    for name, value in run.details.items():
        if isinstance(value, str | int | float):
            yield f"  {name:<8}  {value}"
    if run.recipe:
        yield ""
        yield from (f"  {line}".rstrip() for line in run.recipe.splitlines())


def diff_lines(first: Run, second: Run, changes: Sequence[Changed] | None, scores: Sequence[Compared]) -> Iterator[str]:
    yield f"{first.id} · {first.kind} · {first.name}"
    yield f"{second.id} · {second.kind} · {second.name}"
    yield ""
    if changes is None:
        without = " and ".join(run.id for run in (first, second) if not run.recipe)
        yield f"  {without}: no recipe is noted to compare"
    elif not changes:
        yield "  the same recipe"
    else:
        rows = [("recipe", first.id, second.id), *((each.path, each.first, each.second) for each in changes)]
        yield from _aligned(rows)
    yield ""
    if not scores:
        yield "  no score that both have"
        return
    lines = [("score", first.id, second.id, f"{second.id} - {first.id}", "")]
    yield from _aligned([*lines, *((each.name, str(each.first), str(each.second), *_told(each)) for each in scores)])


def _told(compared: Compared) -> tuple[str, str]:
    """The difference with its interval, and what it is worth."""
    factor, digits = (100, 1) if compared.first.unit == "share" else (1, 3)
    difference = f"{factor * compared.difference:+.{digits}f}"
    if not math.isfinite(compared.difference):
        return "", "not finite"
    if compared.margin is None:
        return difference, "no standard error is known"
    worth = "beyond chance" if compared.is_beyond_chance else "within chance"
    return f"{difference} ± {factor * compared.margin:.{digits}f}", f"{worth}{', paired' if compared.paired else ''}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def diff_data(first: Run, second: Run, changes: Sequence[Changed] | None, scores: Sequence[Compared]) -> dict[str, Any]:
    return {
        "first": first.id,
        "second": second.id,
        "recipe": changes and [{"path": each.path, "first": each.first, "second": each.second} for each in changes],
        "scores": [
            {
                "name": each.name,
                "first": each.first.as_data()["value"],
                "second": each.second.as_data()["value"],
                "difference": in_json(each.difference),
                "margin": in_json(each.margin),
                "paired": each.paired,
                "beyond_chance": each.is_beyond_chance,
            }
            for each in scores
        ],
    }


def as_csv(rows: Iterable[Run]) -> str:
    """A line a run; of each score its value, standard error, and whether it is limited."""
    rows = list(rows)
    names = list(dict.fromkeys(score.name for run in rows for score in run.scores))
    written = io.StringIO()
    lines = csv.writer(written)
    columns = [f"{name}{part}" for name in names for part in ("", " stderr", " limited")]
    lines.writerow([*_PLAIN, "models", *columns, "recipe"])
    for run in rows:
        data = run.as_data()
        scores = [cell for name in names for cell in _score_cells(run.score(name))]
        models = " ".join(f"{each.name}@{each.revision}" if each.revision else each.name for each in run.parents)
        lines.writerow([*(data[name] for name in _PLAIN), models, *scores, run.recipe])
    return written.getvalue()


def _score_cells(score: Score | None) -> tuple[object, object, object]:
    return ("", "", "") if score is None else (score.value, score.stderr, score.limited)
