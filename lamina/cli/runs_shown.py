"""What `lamina runs show`, `diff` and `export` write."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lamina.chance import worth
from lamina.ledger.compare import Changed, Compared
from lamina.ledger.noting import FOLDER
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

# How people read what rows keep by other names.
_LABELS = {
    FOLDER: "beside", "digest": "content", "few_shot": "few-shot", "template": "chat template", "harness": "lm-eval",
}  # fmt: skip


def described(run: Run) -> Iterator[str]:
    """All of a row in lines."""
    yield f"{run.id} · {run.kind} · {run.name}"
    yield ""
    told = [*_facts(run)]
    width = max(8, *(len(name) for name, _ in told))
    before = ""
    for name, fact in told:
        yield f"  {'' if name == before else name:<{width}}  {fact}"
        before = name
    if run.recipe:
        yield ""
        yield from (f"  {line}".rstrip() for line in run.recipe.splitlines())


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """What is known of a row but for its recipe, by the names that people read."""
    seconds = "" if run.seconds is None else f" · {in_seconds(run.seconds)}"
    memory = "" if run.peak_memory is None else f" · peak memory {in_bytes(run.peak_memory)}"
    yield "when", f"{run.at.astimezone():%Y-%m-%d %H:%M:%S}{seconds}{memory}"
    if run.output:
        yield "output", run.output
    for parent in run.parents:
        yield "models", f"{parent.name}{f' at {parent.revision}' if parent.revision else ''}"
    if run.verdict:
        yield "verdict", run.verdict
    yield "with", ", ".join(f"{name} {version}" for name, version in run.versions.items())
    if run.plan:
        yield "plan", f"{run.plan}{'' if run.seed is None else f' · seed {run.seed}'}"
    for score in run.scores:
        items = "" if score.n is None else f" over {counted(score.n, 'item')}"
        yield "scores", f"{score.name} {score}{items}"
    for how in _asked(run.details.get("settings", {})):
        yield "asked", how
    for name, value in run.details.items():
        if isinstance(value, str | int | float):
            yield _LABELS.get(name, name.replace("_", " ")), str(value)


def _asked(settings: Mapping[str, Any]) -> list[str]:
    """How scores were taken: in a line where that was one way, else in a line a task."""
    by_task = {name: _in_words(each) for name, each in settings.items() if isinstance(each, Mapping)}
    if not by_task:
        return [_in_words(settings)] if settings else []
    if len({*by_task.values()}) == 1:
        return [*dict.fromkeys(by_task.values())]
    return [f"{name}: {how}" for name, how in by_task.items()]


def _in_words(settings: Mapping[str, Any]) -> str:
    told = []
    for name, value in settings.items():
        if name == "template" and isinstance(value, bool):
            told.append("chat template" if value else "no chat template")
        elif name == "asked" or value is True:
            told.append(name if value is True else str(value))
        elif value is not None and value is not False:
            told.append(f"{_LABELS.get(name, name.replace('_', ' '))} {value}")
    return ", ".join(told)


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
    difference = compared.first.signed(compared.difference, compared.margin)
    if not math.isfinite(compared.difference):
        return "", "not finite"
    if compared.margin is None:
        return difference, "no standard error is known"
    return difference, f"{worth(compared.is_beyond_chance)}{', paired' if compared.paired else ''}"


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
    """A line a run; of each score its value, standard error, and whether it is limited; versions, and how scores were
    taken, as JSON."""
    rows = list(rows)
    names = list(dict.fromkeys(score.name for run in rows for score in run.scores))
    written = io.StringIO()
    lines = csv.writer(written)
    columns = [f"{name}{part}" for name in names for part in ("", " stderr", " limited")]
    lines.writerow([*_PLAIN, "models", "versions", "settings", *columns, "recipe"])
    for run in rows:
        data = run.as_data()
        scores = [cell for name in names for cell in _score_cells(run.score(name))]
        models = " ".join(f"{each.name}@{each.revision}" if each.revision else each.name for each in run.parents)
        kept = (json.dumps(each) if each else "" for each in (data["versions"], data["details"].get("settings")))
        lines.writerow([*(data[name] for name in _PLAIN), models, *kept, *scores, run.recipe])
    return written.getvalue()


def _score_cells(score: Score | None) -> tuple[object, object, object]:
    return ("", "", "") if score is None else (score.value, score.stderr, score.limited)
