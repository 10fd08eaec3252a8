"""One world of tiny checkpoints for all tests, and a bench on which recipes are run against it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # a name that is no folder must not become a download

import lamina
from lamina.errors import LaminaError, RecipeError

from .checkpoints import Checkpoint, read_checkpoint, write_llama

settings.register_profile(
    "acceptance",
    max_examples=int(os.environ.get("ACCEPTANCE_EXAMPLES", "12")),
    deadline=None,
    derandomize="ACCEPTANCE_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

WORLD: dict[str, dict[str, Any]] = {  # name -> how write_llama makes it; four layers of bf16 unless said otherwise
    "deep": {"layers": 32, "shards": 3},
    "eight": {"layers": 8},
    "a": {"shards": 2},
    "b": {},
    "c": {},
    "one_a": {"layers": 1},
    "one_b": {"layers": 1},
    "half": {"dtype": torch.float16},
    "single": {"dtype": torch.float32},
    "single_b": {"dtype": torch.float32, "shards": 2},
    "double": {"dtype": torch.float64},
    "double_b": {"dtype": torch.float64},
    "tied": {"tied": True},
    "tied_b": {"tied": True},
}


@dataclass
class Bench:
    """Runs recipes that name the world's checkpoints, each in a file of its own beside them."""

    world: Path
    checkpoints: Mapping[str, Checkpoint]
    outputs: Path
    _numbers: Any = field(default_factory=itertools.count)

    def __getitem__(self, name: str) -> Checkpoint:
        return self.checkpoints[name]

    def recipe(self, recipe: str | Mapping[str, Any]) -> Path:
        """The file of a recipe given as YAML text (indented as the test likes) or as data."""
        text = textwrap.dedent(recipe) if isinstance(recipe, str) else yaml.safe_dump(dict(recipe), sort_keys=False)
        path = self.world / f"{self.outputs.name}-{next(self._numbers)}.yml"
        path.write_text(text)
        return path

    def new_folder(self) -> Path:
        return self.outputs / f"out-{next(self._numbers)}"

    def merge(self, recipe: str | Mapping[str, Any], **options: Any) -> Checkpoint:
        out = self.new_folder()
        lamina.merge(self.recipe(recipe), out, **options)
        return read_checkpoint(out)

    def plan(self, recipe: str | Mapping[str, Any]) -> Any:
        return lamina.plan(self.recipe(recipe))

    def notices(self, recipe: str | Mapping[str, Any]) -> str:
        return "\n".join(f"[{notice.code}] {notice.message}" for notice in self.plan(recipe).notices)

    def refused(self, recipe: str | Mapping[str, Any]) -> Refusal:
        """The errors of a recipe that must not be planned; merging it must leave nothing either."""
        path, out = self.recipe(recipe), self.new_folder()
        with pytest.raises(LaminaError) as caught:
            lamina.merge(path, out)
        assert not out.exists()
        assert not list(self.outputs.glob(f".{out.name}*")), "a refused recipe left its staging folder"
        return Refusal(caught.value)


@dataclass(frozen=True)
class Refusal:
    error: LaminaError

    @property
    def text(self) -> str:
        """Every letter in it, in one line."""
        problems = self.error.problems if isinstance(self.error, RecipeError) else ()
        return " ".join("; ".join([str(self.error), *(problem.message for problem in problems)]).split())

    @property
    def lines(self) -> list[int]:
        assert isinstance(self.error, RecipeError), f"a {type(self.error).__name__}: {self.error}"
        return [problem.line for problem in self.error.problems]


@dataclass(frozen=True)
class Run:
    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return " ".join(f"{self.stdout} {self.stderr}".split())


ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    "NO_COLOR": "1",
    "COLUMNS": "250",  # letters come in one line each
    "HF_HUB_OFFLINE": "1",
}


def command(*arguments: str | Path, cwd: Path | None = None) -> Run:
    """`lamina ARGUMENTS` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "lamina", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        timeout=60,
    )
    assert "Traceback (most recent call last)" not in done.stderr, done.stderr
    return Run(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Checkpoint]]:
    folder = tmp_path_factory.mktemp("world")
    return folder, {name: write_llama(folder / name, **({"layers": 4} | how)) for name, how in WORLD.items()}


@pytest.fixture
def bench(world: tuple[Path, dict[str, Checkpoint]], tmp_path: Path) -> Bench:
    return Bench(world[0], world[1], tmp_path)


@pytest.fixture(scope="session")
def session_bench(world: tuple[Path, dict[str, Checkpoint]], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench for property tests, whose examples share one fixture."""
    return Bench(world[0], world[1], tmp_path_factory.mktemp("session"))
