"""Peak resident memory, libraries included, stays under `--memory`, whatever the size of a tensor."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .checkpoints import HIDDEN, llama_config, llama_shapes
from .conftest import ENVIRONMENT

VOCABULARY = 10_000_000  # a tied embedding of 160 MB in each of two models: with the result more than the limit

PROBE = """
import re, runpy, sys
sys.argv = ["lamina", *sys.argv[1:]]
try:
    runpy.run_module("lamina", run_name="__main__")
except SystemExit as exit:
    assert not exit.code, exit.code
print(re.search(r"VmHWM:.*", open("/proc/self/status").read()).group(), file=sys.stderr)
"""


def write_zeros(folder: Path) -> None:
    """A model of zeros, as a sparse file: large to read, and nothing on the disk."""
    folder.mkdir()
    header, offset = {}, 0
    for name, shape in llama_shapes(1, tied=True, vocabulary=VOCABULARY):
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    config = llama_config(1, torch.bfloat16, tied=True, vocabulary=VOCABULARY)
    (folder / "config.json").write_text(json.dumps(config))


LINEAR = """
models:
  - {model: x, parameters: {weight: 0.3}}
  - {model: y, parameters: {weight: 0.7}}
merge_method: linear
"""
# Where all is equal every measure is needed: for bits and for keys, and sums to match.
MEASURED = """
models:
  - {model: y, parameters: {weight: 0.7, density: 0.5}}
merge_method: ties
base_model: x
parameters: {rescale: true}
"""


@pytest.mark.parametrize("recipe", [LINEAR, MEASURED], ids=["linear", "measured"])
def test_a_merge_stays_under_200_megabytes_by_default(tmp_path: Path, recipe: str) -> None:
    assert VOCABULARY * HIDDEN * 2 == 160_000_000
    for name in ("x", "y"):
        write_zeros(tmp_path / name)
    (tmp_path / "recipe.yml").write_text(recipe)
    run = subprocess.run(
        [sys.executable, "-c", PROBE, "merge", "recipe.yml", "out"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    peak = re.search(r"VmHWM:\s+(\d+) kB", run.stderr)
    assert peak is not None, run.stderr
    assert int(peak.group(1)) * 1024 < 200_000_000

    # What the command says of itself is its own peak, not that of the process that started it.
    told = re.search(r"peak memory (\d+) MB", run.stdout + run.stderr)
    assert told is not None, run.stdout + run.stderr
    assert int(told.group(1)) < 200
