"""Methods that draw: MergeKit's result has to be one that Lamina could have drawn.

Statistics of the whole model are taken of Lamina's result under many seeds; MergeKit's must lie among them. They tell
how many elements are kept, of the small and of the large ones, how far they were rescaled, and in which direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from conformance.compare import Models, Verdict
from conformance.formulas import FORMULAS, Array
from conformance.methods import METHODS
from conformance.models import Checkpoint
from conformance.peer import Outcome
from conformance.reference import parts_of

Recipe = Mapping[str, Any]

SEEDS = 16
BOUND = 8.0  # standard deviations of 16 draws: once in some million, by Student's distribution
ROUNDING = 1e-4  # relative: where nothing is drawn, both round

# What each method is where nothing is dropped.
WHOLE = {"dare_linear": "task_arithmetic", "della_linear": "task_arithmetic", "dare_ties": "ties", "della": "ties"}


def compare_draws(recipe: Recipe, models: Models, ours: Callable[[int], Outcome], theirs: Outcome) -> Verdict:
    """Whether MergeKit's result has the statistics of Lamina's results. `ours` gives the outcome under a seed."""
    outcomes = [ours(seed) for seed in range(SEEDS)]
    if theirs.checkpoint is None or any(each.checkpoint is None for each in outcomes):
        told = [f"{who} refuses: {each.error}" for who, each in (("Lamina", outcomes[0]), ("MergeKit", theirs))]
        return Verdict(tuple(line for line in told if not line.endswith(": ")))
    references = list(_whole(recipe, models))
    ours_found = [statistics(each.checkpoint, references) for each in outcomes if each.checkpoint is not None]
    found = statistics(theirs.checkpoint, references)
    problems = []
    for name, value in found.items():
        drawn = np.array([each[name] for each in ours_found])
        allowed = BOUND * drawn.std(ddof=1) * np.sqrt(1 + 1 / SEEDS) + ROUNDING * abs(drawn.mean())
        if not abs(value - drawn.mean()) <= allowed:
            problems.append(
                f"{name}: {value:.6g} in MergeKit's, {drawn.mean():.6g} ± {drawn.std(ddof=1):.2g} in Lamina's"
            )
    return Verdict(tuple(problems))


Reference = tuple[str, Array, Array, Array]  # name, base, the change where nothing is dropped, sizes of the first delta


def _whole(recipe: Recipe, models: Models) -> Sequence[Reference]:
    found = []
    for part in parts_of(recipe, {name: list(model.tensors) for name, model in models.items()}):
        assert part.base is not None
        base = models[part.base[0]].tensors[part.base[1]]
        inputs = [models[model].tensors[name] for model, name in part.inputs]
        known = METHODS[recipe["merge_method"]]
        weight, normalize, factor = (part.parameters[key] for key in ("weight", "normalize", "lambda"))
        told = {"weight": weight, "normalize": normalize, "lambda_": factor}
        if known.elects:
            told["density"] = [1.0] * len(inputs)
        whole = np.asarray(sum(FORMULAS[WHOLE[recipe["merge_method"]]](inputs, base, **told)))
        found.append((part.name, base, whole - base, np.abs(inputs[0] - base)))
    return found


def statistics(checkpoint: Checkpoint, references: Sequence[Reference]) -> dict[str, float]:
    """Of all tensors together."""
    changes, wholes, ranks = [], [], []
    for name, base, whole, sizes in references:
        changes.append((checkpoint.tensors[name] - base).reshape(-1))
        wholes.append(whole.reshape(-1))
        rows = sizes.reshape(-1, sizes.shape[-1])
        order = np.argsort(np.argsort(rows, axis=1), axis=1) / max(1, rows.shape[1] - 1)
        ranks.append(order.reshape(-1))
    change, whole, rank = (np.concatenate(each) for each in (changes, wholes, ranks))
    changed = change != 0
    return {
        "share of elements that change": float(changed.mean()),
        "of the smallest fifth of a row": float(changed[rank < 0.2].mean()),
        "of the largest fifth of a row": float(changed[rank > 0.8].mean()),
        "mean magnitude of a change": float(np.abs(change).mean()),
        "mean square of a change": float(np.square(change).mean()),
        "share of the whole change": float(change @ whole / max(whole @ whole, 1e-30)),
    }
