"""`lamina methods`: what there is, and what each parameter does."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lamina.cli.answer import json_option, print_json
from lamina.merge_methods import METHODS, MergeMethod
from lamina.planners.own_code import method_named, offered_methods


@click.command()
@click.argument("name", required=False)
@json_option
def methods(name: str | None, as_json: bool) -> None:
    """List the merge methods, or explain the one called NAME.

    NAME may be one of your own, as a recipe names it: `mine.py:magmax`. Its file is run for that.

    Example: lamina methods linear
    """
    found = list(METHODS.values()) if name is None else [method_named(name, Path())]
    if as_json:
        print_json([_as_data(method) for method in found])
    elif name is not None:
        click.echo(explained(found[0]))
    else:
        width = max(map(len, METHODS))
        for method in found:
            click.echo(f"{method.name:<{width}}  {method.summary}")
        for other, entry in offered_methods().items():
            click.echo(f"{other:<{width}}  of the package {entry.dist.name if entry.dist else entry.value}")


def explained(method: MergeMethod) -> str:
    """One method in full: formula, parameters, laws, source, and a recipe."""
    lines = [f"{method.name} · {method.title} · {method.counted}{_BASES[method.base]}", ""]
    lines += [f"  {line}".rstrip() for line in inspect.cleandoc(method.function.__doc__ or "").splitlines()]
    lines.append("")
    width = max(map(len, method.parameters), default=0)
    for parameter in method.parameters.values():
        meaning = parameter.meaning
        default = "required" if parameter.default is None else f"default {str(parameter.default).lower()}"
        scope = "each model" if meaning.per_model else "all"
        told = f"{meaning.effect} ({meaning.valid}; {scope}; {default})".lstrip()
        lines += textwrap.wrap(
            told, 112, initial_indent=f"  {parameter.name:<{width}}  ", subsequent_indent=" " * (width + 4)
        )
    if method.laws:
        lines += ["", f"  laws: {', '.join(method.laws)}"]
    lines += ["", f"  {method.reference}"] if method.reference else []
    lines.append("")
    return "\n".join([*lines, *(f"  {line}" for line in example_recipe(method).splitlines())])


_BASES = {
    "ordinary": "",
    "first": ", of two one is the base",
    "optional": ", and a base if wanted",
    "required": " and a base",
}


def example_recipe(method: MergeMethod) -> str:
    """A recipe that runs in the folder of the example models."""
    names = ("rev", "sort")[: method.inputs[1] or 2]
    if method.base == "first":
        names = ("base", "rev")
    own: dict[str, object] = {"weight": 0.5} if "weight" in method.parameters else {}
    for_each = [name for name in method.example if method.parameters[name].meaning.per_model]
    own = {**own, **{name: method.example[name] for name in for_each}}
    given = {name: value for name, value in method.example.items() if name not in for_each}
    lines = ["models:"]
    lines += [f"  - {{model: {name}{_parameters(own, ', ')}}}" for name in names]
    lines.append(f"merge_method: {method.name}")
    if method.base in ("first", "required"):
        lines.append("base_model: base")
    if given:
        lines.append(_parameters(given, ""))
    return "\n".join(lines)


def _parameters(values: Mapping[str, object], before: str) -> str:
    inner = ", ".join(f"{name}: {str(value).lower()}" for name, value in values.items())
    return f"{before}parameters: {{{inner}}}" if values else ""


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
        "needs_base": method.base in ("first", "required"),
        "models": list(method.inputs),
        "parameters": parameters,
        "laws": list(method.laws),
        "reference": method.reference,
        "example": example_recipe(method),
    }
