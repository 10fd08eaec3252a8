"""What a plan says of memory is what is measured, within -10% and +30%. `benchmarks/memory.py` does it for all."""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import memory as benchmark

import lamina

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


# `ulimit -d`, and the command line.
LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
from lamina.cli.start import main
main()
"""
BUDGET, LIMIT, INPUT = 130_000_000, 160_000_000, 200_000_000  # bytes. Stacks count for the limit, and are not resident


@pytest.mark.skipif(sys.platform != "linux", reason="only there the limit counts all memory that is written to")
@pytest.mark.parametrize("name", ["linear", "slerp"])
def test_inputs_larger_than_all_memory_there_is_are_merged_within_the_budget(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    for model in ("a", "b"):
        benchmark.write_model(tmp_path / model, 1024, INPUT // 2 // 2 // 1024)
        with (tmp_path / model / "model.safetensors").open("r+b") as file:
            for start in range(1_000_000, INPUT, 20_000_000):  # the rest is zeros
                file.seek(start)
                file.write(rng.integers(0, 0x3F, 1_000_000, np.uint8).tobytes())
        assert (tmp_path / model / "model.safetensors").stat().st_size > INPUT > LIMIT
    (tmp_path / "recipe.yml").write_text(benchmark.RECIPES[name])
    merge = ["merge", "recipe.yml", "out", "-j", "2", "--memory", str(BUDGET), "--json"]
    limited = [sys.executable, "-c", LIMITED, str(LIMIT), *merge]
    # Threads of numpy's BLAS, of which nothing here makes use, reserve memory that they never touch.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads(run.stdout)["peak_memory"] <= BUDGET
    lamina.merge(tmp_path / "recipe.yml", tmp_path / "unlimited", workers=1)
    assert filecmp.cmp(tmp_path / "out" / "model.safetensors", tmp_path / "unlimited" / "model.safetensors", False)
