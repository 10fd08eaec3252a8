"""Lamina merges language models layer by layer: exact, streamed, in bounded memory.

import lamina
lamina.merge("recipe.yml", "out")           # a published folder
plan = lamina.plan("recipe.yml")            # what that would do, from headers alone
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamina.version import VERSION as __version__

if TYPE_CHECKING:
    from lamina.api import Result, as_slices, merge, plan

__all__ = ["Result", "__version__", "as_slices", "merge", "plan"]


def __getattr__(name: str) -> Any:
    """Import the API when it is first used: `lamina --help` needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module 'lamina' has no attribute {name!r}")
    from lamina import api

    return getattr(api, name)
