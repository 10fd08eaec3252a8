"""What to write where a recipe cannot be carried out as it stands."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.merge_methods import MergeMethod
from lamina.merge_methods.parameters import Parameter
from lamina.recipe.settings import Setting
from lamina.recipe.slices import Slice


def missing_form(parameter: Parameter, settings: Sequence[Setting]) -> str:
    """For a parameter without a value: how it is given, or that none of its filters matched."""
    if any(settings):
        return "no filter of it matches; `{value: ...}` as the last condition holds for all others"
    return f"`parameters: {{{parameter.name}: ...}}`"


def inputs_advice(method: MergeMethod, entry: Slice) -> str:
    """For a slice with more sources than passthrough takes."""
    if method.name != "passthrough":
        return ""
    if len(entry.sources) == 2 and entry.sources[-1].way == ("base_model",):
        return " Leave `base_model` out."
    return " To stack models, give each a slice of its own; to average them, write `merge_method: linear`."
