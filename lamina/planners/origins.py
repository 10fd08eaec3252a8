"""Where everything in one output tensor comes from, told in the recipe's own places."""

from __future__ import annotations

from lamina.errors import Problem, RecipeError
from lamina.planners.values import Resolved, Trace
from lamina.plans.explain import layer_of, short_names
from lamina.plans.origin import DEFAULT, Explanation, Value
from lamina.plans.plan import Plan
from lamina.recipe.load import Recipe
from lamina.recipe.settings import START


def explanation(plan: Plan, recipe: Recipe, trace: Trace) -> Explanation:
    """What was traced while `plan` was made. Raises RecipeError where the plan makes no such tensor."""
    job = next((job for job in plan.jobs if job.name == trace.tensor), None)
    if job is not None:
        return Explanation(job, tuple(_told(value, recipe) for value in trace.values), short_names(plan))
    message, near = f"the merge has no tensor `{trace.tensor}`.", plan.names_like(trace.tensor)
    if trace.values:
        raise RecipeError([Problem("unknown-tensor", f"{message} The embedding stands for it (tied).")])
    hint = f" Near: {', '.join(near)}." if near else f" It begins with {', '.join(job.name for job in plan.jobs[:3])}."
    depth = 1 + max((job.layer for job in plan.jobs if job.layer is not None), default=-1)
    if depth and (layer_of(trace.tensor) or 0) >= depth:
        message += f" Its layers are 0 to {depth - 1}."
    raise RecipeError([Problem("unknown-tensor", message + hint, suggestion=next(iter(near), ""))])


def _told(resolved: Resolved, recipe: Recipe) -> Value:
    """A resolved value, with its place in words."""
    at = resolved.at
    return Value(
        resolved.parameter,
        resolved.value,
        place=DEFAULT if resolved.way is None else recipe.problem("", "", resolved.way).place,
        model="" if resolved.source is None else str(resolved.source.ref),
        source_layer=resolved.source_layer,
        gradient=resolved.gradient,
        reached="its start" if at == START else f"layer {at.index} of 0-{at.count - 1} in its slice",
    )
