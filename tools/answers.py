"""What a model of transformers answers to a prompt: logits, with and without what it keeps of earlier tokens."""

from __future__ import annotations

from typing import Any

import torch
from shrink import PROMPT

# What classes call that which they give and want back.
CACHES = ("past_key_values", "cache_params", "state", "mems", "past_buckets_states")


def tokens(seed: int = 0) -> torch.Tensor:
    """A prompt: int64 [1, PROMPT], drawn from what no tiny model holds for a special token."""
    return torch.randint(4, 100, (1, PROMPT), generator=torch.Generator().manual_seed(seed))


def logits(model: Any, prompt: torch.Tensor) -> torch.Tensor:
    """fp32 [1, tokens, vocabulary], without a cache."""
    with torch.no_grad():
        return model(prompt, use_cache=False).logits  # type: ignore[no-any-return]


def cached_logits(model: Any, prompt: torch.Tensor) -> torch.Tensor | None:
    """The same with what the model keeps of earlier tokens: half of them at once, then one by one.

    None where it keeps nothing.
    """
    kept: dict[str, Any] = {}
    parts = []
    half = prompt.shape[1] // 2
    with torch.no_grad():
        for part in (prompt[:, :half], *(prompt[:, [place]] for place in range(half, prompt.shape[1]))):
            result = model(part, use_cache=True, **kept)
            parts.append(result.logits)
            kept = {name: result[name] for name in CACHES if result.get(name) is not None}
            if not kept:
                return None
    return torch.cat(parts, dim=1)


def gap(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest distance between two of their elements."""
    return float((found - expected).abs().max())
