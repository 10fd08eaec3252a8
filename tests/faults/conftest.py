"""The world, made once. It lies in memory where that is possible: what is tested is order, not a disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .world import World

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="lamina-faults-", dir=MEMORY if MEMORY.is_dir() else None))
    folder.chmod(0o755)
    yield World(folder)
    shutil.rmtree(folder)


@pytest.fixture
def place(world: World) -> Iterator[Path]:
    """An empty folder for outputs, on the disk of the world."""
    folder = Path(tempfile.mkdtemp(dir=world.folder))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
