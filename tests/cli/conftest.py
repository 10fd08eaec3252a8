"""`lamina ...` in this process, in a folder of its own beside the bundled models."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lamina.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"

AVERAGE = """\
models:
  - model: models/rev
    parameters: {weight: 0.5}
  - model: models/sort
    parameters: {weight: 0.5}
merge_method: linear
"""
SPOILT = "model.layers.1.mlp.up_proj.weight"
STACK = """\
stack:
  - {model: models/base, layers: 0-3, at: 0}
  - {model: models/base, layers: 0-3, at: 1}
overlap: ramp
"""
OWN = """
import lamina
from lamina.merge_methods import Block, Lambda, Tile

@lamina.merge_method(base="required")
def part(tile: Tile, *, lambda_: Lambda = 1.0) -> Block:
    \"\"\"The base plus lambda times the first delta.\"\"\"
    return lambda_ * tile.inputs[0]
"""
OWN_RECIPE = """
models: [{model: models/rev}, {model: models/sort}]
merge_method: own.py:part
base_model: models/base
parameters: {lambda: 0.5}
"""
FAULTY = AVERAGE.replace("weight: 0.5", "wieght: 0.5", 1) + "dtpye: bfloat16\n"


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        assert self.err == ""
        return json.loads(self.out)


Lamina = Callable[..., Run]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: average.yml, stack.yml, faulty.yml, and models/."""
    (tmp_path / "models").symlink_to(EXAMPLES / "models")
    for name, text in (("average.yml", AVERAGE), ("stack.yml", STACK), ("faulty.yml", FAULTY)):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


@pytest.fixture
def spoilt(folder: Path) -> Path:
    """rev, with one NaN in layer 1: in a row by which a layer's origin is told."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder / "models" / "rev", folder / "spoilt")
    tensors = load_file(folder / "spoilt" / "model.safetensors")
    tensors[SPOILT].view(-1)[0] = math.nan
    save_file(tensors, folder / "spoilt" / "model.safetensors")
    return folder / "spoilt"


@pytest.fixture
def lamina(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Lamina:
    def run(*arguments: object, stdin: str = "") -> Run:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err, folder
        return Run(int(exit_.value.code or 0), out, err)

    return run
