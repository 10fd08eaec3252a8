"""`lamina explain`: one output tensor, and where everything in it comes from."""

from __future__ import annotations

import click

from lamina import api
from lamina.cli.answer import json_option, print_json
from lamina.cli.options import recipe_options, refuse_swapped
from lamina.recipe.load import RecipeLike


@click.command()
@recipe_options
@click.argument("tensor")
@json_option
def explain(recipe: RecipeLike, options: api.Options, tensor: str, as_json: bool) -> None:
    """Explain one output TENSOR of RECIPE: what it is made of, and where each value in it was set.

    Example: lamina explain solar.yml model.layers.9.mlp.up_proj.weight
    """
    refuse_swapped("explain", recipe, tensor)
    found = api.explain(recipe, tensor, **options)
    if as_json:
        print_json(found.as_data())
    else:
        click.echo(str(found))
