"""What a plan says of memory is what is measured, within -10% and +30%. `benchmarks/memory.py` does it for all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import memory as benchmark

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("base", "a", "b"):
        benchmark.write_model(folder / name, 1024, 3000)
    return folder


@pytest.mark.parametrize("name", ["passthrough", "linear", "slerp", "nuslerp by rows", "ties"])
def test_the_prediction_holds(models: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = models / "recipe.yml"
    recipe.write_text(benchmark.RECIPES[name])
    assert benchmark.row(name, "test", recipe, budget=200_000_000, workers=2), capsys.readouterr().out
