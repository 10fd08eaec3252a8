"""Weights and ends that a recipe gives beside its layers: `embed`, `norm`, `head`, and `weight` in a stack."""

from __future__ import annotations

from collections.abc import Mapping

from lamina.architectures.infer import text_config
from lamina.merge_methods import METHODS
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel
from lamina.planners.request import Findings
from lamina.recipe.settings import Setting, mapped
from lamina.recipe.steps import Remove
from lamina.recipe.text import Way

WIDTH_KEYS = ("hidden_size", "n_embd")


def check_weights(findings: Findings) -> None:
    """Fault every weight of a stack's entry that is no number."""
    for number, entry in enumerate(findings.recipe.schema.stack or ()):
        _check_weight(entry.weight, ("stack", number, "weight"), findings)


def ends_are_sound(donor: PlainModel, models: Mapping[ModelRef, PlainModel], findings: Findings) -> bool:
    """Fault ends that are not as wide as the donor's layers; false where an end cannot be looked at any further."""
    schema, sound = findings.recipe.schema, True
    for role in ("embed", "norm", "head"):
        for number, source in enumerate(getattr(schema, role) or ()):
            sound = _check_weight(source.weight, (role, number, "weight"), findings) and sound
            if source.model not in models:
                sound = False  # told where it was opened
                continue
            ours, theirs = text_config(donor.config), text_config(models[source.model].config)
            for key in WIDTH_KEYS:
                if key in ours and key in theirs and ours[key] != theirs[key]:
                    message = (
                        f"`{source.model}` has {key} {theirs[key]} and the layers of `{donor.name}` have {ours[key]}: "
                        f"take `{role}` from a model as wide as they are; left out, it comes from the layers' own."
                    )
                    way = (role, number, "model")
                    findings.fault("unlike-models", message, way, steps=[Remove((role,))])
                    sound = False
    return sound


def _check_weight(weight: Setting | None, way: Way, findings: Findings) -> bool:
    try:
        mapped(weight or (), METHODS["linear"].parameters["weight"].coerce)
    except (ValueError, OverflowError) as error:
        findings.fault("parameter-value", str(error), way)
        return False
    return True
