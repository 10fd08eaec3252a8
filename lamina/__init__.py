"""Lamina merges language models layer by layer: exact, streamed, in bounded memory.

import lamina
lamina.merge("recipe.yml", "out")           # a published folder
plan = lamina.plan("recipe.yml")            # what that would do, from headers alone
"""

from __future__ import annotations

from lamina.api import Result, merge, plan
from lamina.version import VERSION as __version__

__all__ = ["Result", "__version__", "merge", "plan"]
