"""Verbs that run no model import no framework: importing one costs more than a small merge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import save_file

HEAVY = ("torch", "transformers", "safetensors", "tokenizers", "scipy", "pandas")
PROBE = f"""
import sys
from lamina.cli.main import main
try:
    main(sys.argv[1:])
finally:
    found = sorted(set({HEAVY!r}) & {{name.partition(".")[0] for name in sys.modules}})
    print("imported:", *found, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["methods"],
        ["plan", "recipe.yml"],
        ["explain", "recipe.yml", "lm_head.weight"],
        ["merge", "recipe.yml", "out"],
        ["runs"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_verb_that_runs_no_model_imports_no_framework(arguments: list[str], tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    (tmp_path / "recipe.yml").write_text("stack: [{model: model, layers: [0, 0]}]\n")
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines()[-1].split() == ["imported:"]
    assert (tmp_path / "out").exists() == (arguments[0] == "merge")


def test_help_does_not_even_import_numpy() -> None:
    code = "import sys, lamina.cli.main; print({'numpy', 'pydantic', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def write_model(folder: Path) -> None:
    """One layer of nearly nothing."""
    import numpy as np

    folder.mkdir()
    names = ("model.embed_tokens.weight", "model.layers.0.mlp.weight", "model.norm.weight", "lm_head.weight")
    save_file({name: np.ones((2, 2), np.float16) for name in names}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"num_hidden_layers": 1, "vocab_size": 2, "tie_word_embeddings": false}')
