"""Lamina, as a user has it: a recipe in a file, a folder out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import lamina
from conformance.models import read_checkpoint
from conformance.peer import Outcome
from lamina.errors import LaminaError


def merge(recipe: Mapping[str, Any], world: Path, *, seed: int = 0) -> Outcome:
    """The outcome of a recipe, carried out in the folder of the models."""
    out = world / "ours"
    shutil.rmtree(out, ignore_errors=True)
    file = world / "recipe.yml"
    file.write_text(yaml.safe_dump(dict(recipe), sort_keys=False))
    try:
        lamina.merge(file, out, seed=seed, workers=1)
    except LaminaError as error:
        return Outcome(None, f"{type(error).__name__}: {str(error).splitlines()[0]}"[:200])
    return Outcome(read_checkpoint(out))


def digest(outcome: Outcome) -> str:
    """Of every tensor's name, dtype, shape and values: sixteen hexadecimal digits."""
    assert outcome.checkpoint is not None
    hashed = hashlib.sha256()
    for name, values in sorted(outcome.checkpoint.tensors.items()):
        hashed.update(f"{name} {outcome.checkpoint.dtypes[name]} {values.shape}".encode())
        hashed.update(np.ascontiguousarray(values).tobytes())
    return hashed.hexdigest()[:16]
