"""Tensors in the few classes that people speak of, and where they stand."""

from __future__ import annotations

import re

from lamina.models.plain import PlainModel
from lamina.plans.explain import layer_of

NORMS = "norms"

_WITHIN = (
    (NORMS, r"norm|\bln_|layernorm"),
    ("attention", r"attn|attention"),
    ("MLP", r"mlp|feed_forward|ffn|experts?|moe|\bfc\d?\b"),
)


def placed(model: PlainModel, name: str) -> tuple[int | None, str]:
    """The layer of a tensor, None outside of them, and its class: attention, MLP, norms ..., embedding, head."""
    architecture = model.architecture
    if name.startswith(f"{architecture.prefix}."):
        suffix = name.removeprefix(f"{architecture.prefix}.").partition(".")[2]
        return layer_of(name), next((kind for kind, pattern in _WITHIN if re.search(pattern, suffix)), "other")
    if name == architecture.embedding:
        return None, "embedding"
    if name == architecture.head:
        return None, "head"
    return None, "final norm" if "norm" in name or "ln_f" in name else "other"
