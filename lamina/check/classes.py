"""Tensors in the few classes that people speak of, and where they stand."""

from __future__ import annotations

from lamina.architectures.roles import Role, end_role_of, role_of
from lamina.models.plain import PlainModel
from lamina.plans.explain import layer_of

NORMS = "norms"

_CLASSES = {
    Role.NORM: NORMS,
    Role.ATTENTION_QUERY: "attention",
    Role.ATTENTION_KEY: "attention",
    Role.ATTENTION_VALUE: "attention",
    Role.ATTENTION_OTHER: "attention",
    Role.ATTENTION_OUTPUT: "attention",
    Role.MLP_INPUT: "MLP",
    Role.MLP_OUTPUT: "MLP",
    Role.MIXER_OUTPUT: "mixer",
    Role.OUTPUT_BIAS: "biases",
}


def placed(model: PlainModel, name: str) -> tuple[int | None, str]:
    """The layer of a tensor, None outside of them, and its class: attention, MLP, norms ..., embedding, head."""
    architecture = model.architecture
    if name.startswith(f"{architecture.prefix}."):
        role = role_of(name.removeprefix(f"{architecture.prefix}.").partition(".")[2])
        return layer_of(name), _CLASSES.get(role, str(role))
    return None, str(end_role_of(name))
