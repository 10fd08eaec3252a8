"""Lamina merges language models layer by layer: exact, streamed, in bounded memory.

import lamina
plan = lamina.plan("recipe.yml")            # what a merge would do, from headers alone
lamina.merge("recipe.yml", "out")           # a published folder
lamina.tensors("recipe.yml")                # its tensors by name, computed when asked for
lamina.load_model("recipe.yml")             # a live transformers model, nothing written
lamina.upscale("base", "out")               # a deeper model, and its recipe out.yml

A recipe is a file, the folder of a published merge, YAML text, a mapping, or what `load_recipe` gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamina.version import VERSION as __version__

if TYPE_CHECKING:
    from lamina.api import (
        Reproduction,
        Result,
        as_slices,
        check_method,
        explain,
        load_model,
        merge,
        plan,
        reproduce,
        tensors,
    )
    from lamina.errors import LaminaError, RecipeError
    from lamina.ledger.notebook import Notebook
    from lamina.merge_methods import merge_method
    from lamina.recipe.load import Recipe, load_recipe
    from lamina.upscaling import upscale, upscale_recipe

__all__ = [
    "plan", "merge", "tensors", "load_model", "explain", "as_slices", "reproduce", "load_recipe", "upscale",
    "upscale_recipe", "merge_method", "check_method", "Recipe", "Result", "Reproduction", "Notebook", "LaminaError",
    "RecipeError", "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the API when it is first used: `lamina --help` needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module 'lamina' has no attribute {name!r}")
    from lamina import api, errors, merge_methods, upscaling

    home = errors if name.endswith("Error") else upscaling if name.startswith("upscale") else api
    return getattr(merge_methods if name == "merge_method" else home, name)
