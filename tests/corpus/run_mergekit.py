"""What MergeKit makes of the corpus, as `mergekit.csv` beside this file:

    pip install mergekit==0.1.5
    python -m tests.corpus.run_mergekit

runs: it wrote a model. finite: every number of it is. loads: transformers finds every tensor that the config
asks for, no other, and computes finite logits. note: how it failed.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.corpus.tiny_models import write_models

CORPUS = Path(__file__).resolve().parent
TABLE = CORPUS / "mergekit.csv"


def run(recipe: Path, out: Path) -> dict[str, str]:
    """One row of the table."""
    row = {"recipe": recipe.relative_to(CORPUS).with_suffix("").as_posix(), "runs": "no", "finite": "", "loads": ""}
    try:
        config = MergeConfiguration.model_validate(yaml.safe_load(recipe.read_text()))
        run_merge(config, str(out), MergeOptions(random_seed=0, write_model_card=False, quiet=True))
    except Exception as error:
        return row | {"note": _first_line(error)}
    row["runs"] = "yes"
    weights = [load_file(file) for file in out.glob("*.safetensors")]
    finite = all(tensor.isfinite().all() for shard in weights for tensor in shard.values())
    row["finite"] = "yes" if finite else "no"
    try:
        note = _what_fails_to_load(out)
    except Exception as error:
        note = _first_line(error)
    return row | {"loads": "no" if note else "yes", "note": note}


def _what_fails_to_load(out: Path) -> str:
    model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[what]:
            return f"{what}: {sorted(map(str, info[what]))[0]}"
    with torch.no_grad():
        logits = model.float()(torch.arange(3, 20)[None]).logits
    return "" if logits.isfinite().all() else "logits are not finite"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)}"[:150]


def main() -> None:
    """Run every recipe of the corpus, and write the table."""
    recipes = sorted(CORPUS.rglob("*.yml"))
    with tempfile.TemporaryDirectory() as world, TABLE.open("w", newline="") as file:
        write_models(Path(world))
        os.chdir(world)
        table = csv.DictWriter(file, ["recipe", "runs", "finite", "loads", "note"], lineterminator="\n")
        table.writeheader()
        for recipe in recipes:
            out = Path(world) / "out"
            row = run(recipe, out)
            table.writerow({key: value.replace(world, "") for key, value in row.items()})
            file.flush()
            shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main()
