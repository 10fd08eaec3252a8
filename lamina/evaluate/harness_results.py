"""From what lm-evaluation-harness gives to an Evaluation: which scores are reported, and the items that they are of.

Knows of the harness only what its results look like; nothing is done to a score.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from lamina.evaluate.results import Evaluation, Item, Settings

_NUMBER = (int, float, np.number, np.bool_)


@dataclass(frozen=True)
class Of:
    """The model that an evaluation is of."""

    model: str
    digest: str


def evaluations_of(
    found: Mapping[str, Any], members: Mapping[str, Sequence[str]], settings: Settings, of: Of
) -> list[Evaluation]:
    """A score for each name to report. `members` are those of each group, as the harness lists them."""
    names = _reported(found["results"], members)
    return [_evaluation(found, name, _leaves(name, members), settings, of) for name in names]


def _reported(results: Mapping[str, Mapping[str, Any]], members: Mapping[str, Sequence[str]]) -> list[str]:
    """The names to report: those that lie in no group, and in the place of a group without a score its members.

    A group whose group changes something of its one task is in the harness's lists a member of itself.
    """
    inner = {child for name, children in members.items() for child in children if child != name}
    waiting, found = [name for name in (*members, *results) if name not in inner], []
    while waiting:
        name = waiting.pop(0)
        if name in results and _metrics(results[name]):
            found.append(name)
        else:
            waiting = [*(child for child in members.get(name, ()) if child != name), *waiting]
    return list(dict.fromkeys(found))


def _leaves(name: str, members: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks of a group, however deep they lie; of a task itself."""
    inner = [child for child in members.get(name, ()) if child != name]
    return [leaf for child in inner for leaf in _leaves(child, members)] or [name]


def _evaluation(found: Mapping[str, Any], name: str, leaves: Sequence[str], settings: Settings, of: Of) -> Evaluation:
    """The score of one name, which these tasks make: its first metric, or the one that knows of lengths."""
    result = found["results"][name]
    metrics = _metrics(result)
    key = next((each for each in metrics if each.startswith("acc_norm,")), next(iter(metrics)))
    metric, _, filtered = key.partition(",")
    stderr = result.get(f"{metric}_stderr,{filtered}")
    samples = [x for leaf in leaves for x in sorted(found["samples"][leaf], key=lambda each: int(each["doc_id"]))]
    items = _items([sample for sample in samples if sample["filter"] == filtered], metric)
    is_mean = bool(items) and math.isclose(np.mean([item.score for item in items]), metrics[key], rel_tol=1e-9)
    return Evaluation(
        model=of.model, digest=of.digest, task=name, metric=_shown(key), value=metrics[key],
        stderr=float(stderr) if isinstance(stderr, int | float) and math.isfinite(stderr) else None,
        n=sum(found["n-samples"][leaf]["effective"] for leaf in leaves),
        higher_is_better=bool(found["higher_is_better"][name].get(metric, True)),
        settings=Settings(
            **{
                **vars(settings),
                "task_version": str(found["versions"].get(name, "")),
                "few_shot": int(found["n-shot"][leaves[0]]),
            }
        ),
        items=items if is_mean else (),
        others={_shown(other): value for other, value in metrics.items() if other != key},
    )  # fmt: skip


def _items(samples: Sequence[Mapping[str, Any]], metric: str) -> tuple[Item, ...]:
    """The items of a metric that gives each a number; none for a metric of all together."""
    if not all(isinstance(sample.get(metric), _NUMBER) for sample in samples):
        return ()
    return tuple(
        Item(
            xxhash.xxh3_64_hexdigest(f"{sample['prompt_hash']} {sample['target_hash']}".encode()),
            json.loads(json.dumps(sample["filtered_resps"], default=str)),
            float(sample[metric]),
        )
        for sample in samples
    )


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The finite figures of a task by `metric,filter`."""
    return {
        key: float(value)
        for key, value in result.items()
        if "," in key and "_stderr," not in key and isinstance(value, int | float) and math.isfinite(value)
    }


def _shown(key: str) -> str:
    return key.removesuffix(",none")
