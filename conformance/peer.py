"""MergeKit in its own environment: made where there is none, and one process that carries out many recipes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.models import Checkpoint, read_checkpoint

ROOT = Path(__file__).parents[1]
VERSION = "0.1.5"
DRIVER = Path(__file__).with_name("mergekit_driver.py")


def make_environment(folder: Path) -> Path:
    """The Python of an environment with MergeKit, which is made below `folder` unless it is there. About 1.2 GB."""
    python = folder / "bin" / "python"
    done = folder / f".mergekit-{VERSION}"
    if not done.exists():
        print(f"making an environment for MergeKit {VERSION} in {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # torch pinned as for our own tests, so that no build of another size is chosen
        subprocess.run([*pip, "--constraint", str(ROOT / "constraints.txt"), f"mergekit=={VERSION}"], check=True)
        done.touch()
    return python


@dataclass(frozen=True)
class Outcome:
    """What became of a recipe: the checkpoint that was written, or why none was."""

    checkpoint: Checkpoint | None
    error: str = ""


class MergeKit:
    """A process that carries out recipes in the folder `world`. Use in a `with`."""

    def __init__(self, python: Path, world: Path) -> None:
        self._world, self._count = world, 0
        self._process = subprocess.Popen(
            [str(python), str(DRIVER)],
            cwd=world,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=_environment(),
        )
        self._answer()

    def merge(self, recipe: Mapping[str, Any], seed: int = 0) -> Outcome:
        """The outcome of a recipe."""
        self._count += 1
        out = self._world / "theirs" / str(self._count)
        assert self._process.stdin is not None
        print(json.dumps({"recipe": recipe, "out": str(out), "seed": seed}), file=self._process.stdin, flush=True)
        answer = self._answer()
        if not answer["ok"]:
            return Outcome(None, answer["error"])
        found = read_checkpoint(out)
        shutil.rmtree(out)
        return Outcome(found)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"MergeKit's process ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> MergeKit:
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
