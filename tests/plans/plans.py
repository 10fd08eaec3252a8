"""Plans small enough to be read off by eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamina.expressions.inspect import reads
from lamina.expressions.nodes import Expr, Merge, Read
from lamina.plans.plan import Input, Job, Plan
from lamina.tensor_spec import BF16, TensorSpec

SPEC = TensorSpec((2, 2), BF16)
Recipe = Sequence[tuple[str, int, float]]  # what a layer is made of: model, its layer, factor


def read(model: str, layer: int, tensor: str = "w") -> Read:
    return Read(model, f"model.layers.{layer}.{tensor}", SPEC)


def merged(recipe: Recipe, tensor: str = "w") -> Expr:
    """A layer's one tensor: read as it is where one source counts 1, else a weighted sum."""
    if len(recipe) == 1 and recipe[0][2] == 1:
        return read(recipe[0][0], recipe[0][1], tensor)
    inputs = tuple(read(model, layer, tensor) for model, layer, _ in recipe)
    return Merge("linear", inputs, tuple(factor for _, _, factor in recipe), None, SPEC)


def delta(base: str, tuned: str, layer: int, factor: float) -> Expr:
    """A base and a delta on it."""
    return Merge("task_arithmetic", (read(tuned, layer),), (factor,), read(base, layer), SPEC)


def job(name: str, expr: Expr) -> Job:
    return Job(name, expr, int(name.split(".")[2]))


def end(name: str, *models: tuple[str, float]) -> Job:
    """A tensor outside the layers."""
    inputs = tuple(Read(model, name, SPEC) for model, _ in models)
    if len(models) == 1 and models[0][1] == 1:
        return Job(name, inputs[0], None)
    return Job(name, Merge("linear", inputs, tuple(factor for _, factor in models), None, SPEC), None)


def plan_of(content: Sequence[Any]) -> Plan:
    """A plan of jobs, or of layers with one tensor each."""
    jobs = [
        item if isinstance(item, Job) else job(f"model.layers.{number}.w", merged(item))
        for number, item in enumerate(content)
    ]
    models = dict.fromkeys(source.model for each in jobs for source in reads(each.expr))
    return Plan("recipe.yml", "linear", tuple(jobs), (), tuple(Input(name, "") for name in models))
