"""The scores of a merge in its model card: for the Hub in the head, as `model-index`, and for people as a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from lamina.ledger.merges import newest_scores
from lamina.ledger.runs import Run, Score

_HEAD = re.compile(r"\A---\s*\n(.*?\n)---\s*\n", re.DOTALL)
_BEGIN, _END = "<!-- scores: from the ledger -->", "<!-- end of scores -->"
_TABLE = re.compile(rf"\n*{re.escape(_BEGIN)}.*?{re.escape(_END)}\n?", re.DOTALL)


def publishable(runs: Iterable[Run]) -> list[tuple[Run, Score]]:
    """The newest whole score of each name, in their order, with its run, of runs that are newest first."""
    whole = (pair for pair in newest_scores(runs) if not pair[1].limited)
    return sorted(whole, key=lambda pair: pair[1].name)


def with_scores(card: str, model: str, scored: Sequence[tuple[Run, Score]]) -> str:
    """A model card with these scores of `model` in place of those that it had from here before.

    Raises ValueError for a head that is not valid YAML.
    """
    found = _HEAD.match(card)
    try:
        head = (yaml.safe_load(found[1]) if found else None) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"its head is not valid YAML ({error})") from error
    body = _TABLE.sub("\n", card[found.end() :] if found else card).rstrip("\n")
    head["model-index"] = [{"name": model, "results": [_result(run, score) for run, score in scored]}]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n{body}\n\n{_table(scored)}\n"


def _result(run: Run, score: Score) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": score.name, "type": score.name},
        "metrics": [{"type": _metric(run, score), "value": round(score.value, 6), "name": _metric(run, score)}],
    }


def _table(scored: Sequence[tuple[Run, Score]]) -> str:
    rows = [
        f"| {each.name} | {_metric(run, each)} | {each} | {each.n or ''} | {_how(run, each)} |" for run, each in scored
    ]
    lines = ["## Scores", "", "| task | metric | score | items | by |", "|---|---|---:|---:|---|", *rows]
    return "\n".join([_BEGIN, *lines, "", "± is one standard error.", _END])


def _metric(run: Run, score: Score) -> str:
    return str(run.details.get("metrics", {}).get(score.name, "score"))


def _how(run: Run, score: Score) -> str:
    """The harness that asked, and how."""
    harness = f"lm-evaluation-harness {run.versions['lm_eval']}" if "lm_eval" in run.versions else ""
    settings = run.details.get("settings", {}).get(score.name, {})
    examples = f"{settings['few_shot']} examples" if settings.get("few_shot") else ""
    template = "chat template" if settings.get("template") else ""
    return ", ".join(part for part in (harness, examples, template) if part)
