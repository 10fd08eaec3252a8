"""`lamina methods`: what there is, and what each parameter does."""

from __future__ import annotations

import click

from lamina.errors import Problem, RecipeError, did_you_mean
from lamina.merge_methods import METHODS, MergeMethod


@click.command()
@click.argument("name", required=False)
def methods(name: str | None) -> None:
    """List the merge methods, or explain the one called NAME.

    Example: lamina methods linear
    """
    if name is None:
        width = max(map(len, METHODS))
        for method in METHODS.values():
            click.echo(f"{method.name:<{width}}  {method.summary}")
        return
    if name not in METHODS:
        raise RecipeError([Problem("unknown-method", f"unknown method `{name}`.{did_you_mean(name, list(METHODS))}")])
    click.echo(explained(METHODS[name]))


def explained(method: MergeMethod) -> str:
    """One method in full: formula, parameters, laws, source."""
    least, most = method.inputs
    models = "one model" if most == 1 else f"{least} or more models" if least else "any number of models"
    lines = [
        f"{method.name} · {method.title} · {models}{' and a base' if method.space == 'deltas' else ''}",
        "",
        f"  {method.summary}",
        "",
    ]
    width = max(map(len, method.parameters), default=0)
    for parameter in method.parameters.values():
        meaning = parameter.meaning
        default = "required" if parameter.default is None else f"default {str(parameter.default).lower()}"
        scope = "each model" if meaning.per_model else "all"
        lines.append(f"  {parameter.name:<{width}}  {meaning.effect} ({meaning.valid}; {scope}; {default})")
    if method.laws:
        lines += ["", f"  laws: {', '.join(method.laws)}"]
    return "\n".join([*lines, "", f"  {method.reference}"])
