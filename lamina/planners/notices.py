"""What a user should know of a merge that can be carried out: nothing wrong, nothing silent."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from lamina.expressions.inspect import shares
from lamina.planners.request import Findings, Request
from lamina.planners.slices import Jobs
from lamina.recipe.settings import START, Position, setting_at

_LAYER = re.compile(r"\.(\d+)\.")


def tell_of_blends(jobs: Jobs, findings: Findings) -> None:
    """Averaging layers that lie at different depths averages different functions: it may ruin a model."""
    distances: dict[int, set[int]] = defaultdict(set)
    for job in jobs.all:
        if job.layer is not None:
            depths = {int(found[1]) for share in shares(job.expr) if (found := _LAYER.search(share.read.name))}
            distances[job.layer] |= {max(depths) - depth for depth in depths} - {0}
    blended = {layer: apart for layer, apart in distances.items() if apart}
    if blended:
        apart = sorted(set().union(*blended.values()))
        advice = " `overlap: cut` blends nothing." if findings.recipe.schema.stack is not None else ""
        findings.notice(
            "unlike-depths",
            f"output layer{'s' if len(blended) > 1 else ''} {spans(sorted(blended))}: layers are blended that lie "
            f"{', '.join(map(str, apart))} apart: "
            f"different functions, so expect a loss until it is trained.{advice}",
        )


def tell_of_ends(request: Request, jobs: Jobs, findings: Findings) -> None:
    """What happens to norm and head where one would not guess it."""
    if jobs.sources_tied and not jobs.tied:
        head = jobs.all[-1]
        findings.notice(
            "untied",
            f"the head is no longer the embedding: {head.name} is written ({head.expr.spec.nbytes / 1e6:.1f} MB), "
            "and config.json says so.",
        )
    last = request.slices[-1]
    if request.gradient_ends == "first" and request.recipe.schema.norm is None:
        end = Position(last.depth - 1, last.depth)
        levels = [last.parameters, request.parameters, *(source.parameters for source in last.sources)]
        settings = [setting for level in levels for setting in level.values()]
        if any(setting_at(setting, "", START) != setting_at(setting, "", end) for setting in settings):
            findings.notice(
                "gradient-ends",
                "final norm and head take the first value of their gradients, as in MergeKit; "
                "`gradient_ends: own` gives them the last layer's.",
            )


def spans(numbers: Sequence[int]) -> str:
    """Sorted whole numbers in words: `0-7, 9, 12-14`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
