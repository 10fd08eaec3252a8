"""Peak memory, predicted and measured: a merge of every family, of models of three sizes, within three budgets.

    python benchmarks/memory.py --work bench

The models are files of zeros with holes, so that no disk is needed to read them; outputs are written and removed.
Prints a Markdown table; exits with 1 where a prediction is more than 10% below or 30% above what was measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import lamina.api
from lamina.checkpoints.safetensors import format_header
from lamina.errors import MemoryBudgetError
from lamina.tensor_spec import BF16, TensorSpec

PAIR = "models: [{model: a, parameters: {weight: 0.3}}, {model: b, parameters: {weight: 0.7}}]\n"
RECIPES = {
    "passthrough": "slices: [{sources: [{model: a, layer_range: [0, 2]}]}]\nmerge_method: passthrough\n",
    "linear": PAIR + "merge_method: linear\n",
    "task_arithmetic": PAIR + "merge_method: task_arithmetic\nbase_model: base\n",
    "slerp": "models: [{model: a}, {model: b}]\nmerge_method: slerp\nbase_model: a\nparameters: {t: 0.3}\n",
    "nuslerp by rows": PAIR + "merge_method: nuslerp\nparameters: {nuslerp_row_wise: true}\n",
    "model_stock": "models: [{model: a}, {model: b}]\nmerge_method: model_stock\nbase_model: base\n",
    "ties": PAIR + "merge_method: ties\nbase_model: base\nparameters: {density: 0.5}\n",
    "dare_ties": PAIR + "merge_method: dare_ties\nbase_model: base\nparameters: {density: 0.5}\n",
    "della": PAIR + "merge_method: della\nbase_model: base\nparameters: {density: 0.5, epsilon: 0.1}\n",
    "sce": PAIR + "merge_method: sce\nbase_model: base\nparameters: {select_topk: 0.5}\n",
}
# Columns and rows of the largest tensor: 0.2 MB, 17 MB, 131 MB.
SIZES = {"small": (256, 400), "medium": (2048, 4096), "large": (4096, 16_000)}
BUDGETS = (130_000_000, 200_000_000, 600_000_000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/bench-memory"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=sorted(RECIPES), help="recipes")
    given = parser.parse_args()
    print("| recipe | model | budget | predicted | measured | ratio |\n|---|---|--:|--:|--:|--:|")
    wrong = 0
    for size, (columns, rows) in SIZES.items():
        folder = given.work / size
        for name in ("base", "a", "b"):
            if not (folder / name).exists():
                write_model(folder / name, columns, rows)
        for name in given.only:
            recipe = folder / f"{name.replace(' ', '-')}.yml"
            recipe.write_text(RECIPES[name])
            for budget in BUDGETS:
                wrong += not row(name, size, recipe, budget, given.workers)
    return 1 if wrong else 0


def row(name: str, size: str, recipe: Path, budget: int, workers: int) -> bool:
    """Print one line of the table; true when the prediction holds."""
    try:
        predicted = lamina.api.forecast(recipe, memory=budget, workers=workers).memory
    except MemoryBudgetError as error:
        print(f"| {name} | {size} | {budget / 1e6:.0f} | {error} | | |", flush=True)
        return True
    out = recipe.parent / "out"
    command = ["merge", str(recipe), str(out), "--json", "--memory", str(budget), "-j", str(workers), "--force"]
    run = subprocess.run([sys.executable, "-m", "lamina", *command], capture_output=True, text=True, check=True)
    shutil.rmtree(out)
    measured = int(json.loads(run.stdout)["peak_memory"])
    holds = 0.9 <= predicted / measured <= 1.3 and measured <= budget
    figures = f"{budget / 1e6:.0f} | {predicted / 1e6:.0f} | {measured / 1e6:.0f} | {predicted / measured:.2f}"
    print(f"| {name} | {size} | {figures}{'' if holds else ' (no)'} |", flush=True)
    return holds


def write_model(folder: Path, columns: int, rows: int) -> None:
    """A Llama-like model of two layers of zeros."""
    specs = {"model.embed_tokens.weight": TensorSpec((rows, columns), BF16)}
    for layer in range(2):
        specs[f"model.layers.{layer}.mlp.up_proj.weight"] = TensorSpec((columns * 2, columns), BF16)
        specs[f"model.layers.{layer}.input_layernorm.weight"] = TensorSpec((columns,), BF16)
    specs["model.norm.weight"] = TensorSpec((columns,), BF16)
    specs["lm_head.weight"] = TensorSpec((rows, columns), BF16)
    folder.mkdir(parents=True)
    header = format_header(specs)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(spec.nbytes for spec in specs.values()))
    config = {"model_type": "llama", "num_hidden_layers": 2, "vocab_size": rows, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    sys.exit(main())
