"""Planning and merging import neither torch nor transformers: importing them costs more than a small merge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .checkpoints import write_llama
from .conftest import ENVIRONMENT

PROBE = """
import runpy, sys
sys.argv = ["lamina", *sys.argv[1:]]
try:
    runpy.run_module("lamina", run_name="__main__")
except SystemExit as exit:
    assert not exit.code, exit.code
heavy = {"torch", "transformers", "safetensors", "scipy", "pandas"} & {name.split(".")[0] for name in sys.modules}
print("imported:", sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "recipe.yml"],
        ["merge", "recipe.yml", "out"],
        ["methods"],
        ["--help"],
        ["explain", "recipe.yml", "model.norm.weight"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_verb_that_runs_no_model_imports_neither_torch_nor_transformers(tmp_path: Path, arguments: list[str]) -> None:
    write_llama(tmp_path / "x", 2)
    (tmp_path / "recipe.yml").write_text("stack: [{model: x, layers: [0-1, 0-1]}]")
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert "imported: []" in run.stderr
