"""`lamina methods`: what there is, and what each parameter does."""

from __future__ import annotations

from typing import Any

import click

from lamina.cli.answer import json_option, print_json
from lamina.errors import Problem, RecipeError, did_you_mean, nearest
from lamina.merge_methods import METHODS, MergeMethod


@click.command()
@click.argument("name", required=False)
@json_option
def methods(name: str | None, as_json: bool) -> None:
    """List the merge methods, or explain the one called NAME.

    Example: lamina methods linear
    """
    if name is not None and name not in METHODS:
        message = f"unknown method `{name}`.{did_you_mean(name, list(METHODS))}"
        raise RecipeError([Problem("unknown-method", message, suggestion=nearest(name, list(METHODS)) or "")])
    if as_json:
        print_json([_as_data(method) for method in METHODS.values() if name in (None, method.name)])
        return
    if name is None:
        width = max(map(len, METHODS))
        for method in METHODS.values():
            click.echo(f"{method.name:<{width}}  {method.summary}")
        return
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


def _as_data(method: MergeMethod) -> dict[str, Any]:
    parameters = [
        {
            "name": parameter.name,
            "effect": parameter.meaning.effect,
            "valid": parameter.meaning.valid,
            "per_model": parameter.meaning.per_model,
            "default": parameter.default,
        }
        for parameter in method.parameters.values()
    ]
    return {
        "name": method.name,
        "title": method.title,
        "summary": method.summary,
        "needs_base": method.space == "deltas",
        "models": list(method.inputs),
        "parameters": parameters,
        "laws": list(method.laws),
        "reference": method.reference,
    }
