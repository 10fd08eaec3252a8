"""Measure what memory each merge method takes on a checkpoint with a 131072 x 4096 embedding, under --memory 400M.

    python benchmarks/memory_methods.py --work build/bench --report benchmarks/results-memory.md

Three models and a base where a method takes so many (4.5 GB in all, made once and kept, and 1.1 GB for an output).
Exit code 1 where a method takes more than it may, or fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from make_synthetic import make_models, preset
from merge_speed import HERE, processor, remove_output, tell

from lamina.merge_methods import METHODS, MergeMethod
from lamina.version import VERSION

SHAPE = replace(preset(layers=1, hidden=4096, mlp=1024, heads=32, kv_heads=2, vocabulary=131072), tied=True)
LIMIT = 400_000_000
MODELS = ("A", "B", "C")
# Where a method has another way of working, that way as well.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "nuslerp": [{}, {"nuslerp_flatten": False}, {"nuslerp_flatten": False, "nuslerp_row_wise": True}],
    "model_stock": [{}, {"filter_wise": True}],
    "ties": [{}, {"rescale": True}],
}


@dataclass(frozen=True)
class Cost:
    """What one merge took, as a whole process. Seconds of all cores, bytes."""

    title: str
    models: int
    cpu: float
    wall: float
    peak_bytes: int


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for models and outputs; models are kept")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    parser.add_argument("--jobs", type=int, default=1, help="merges at once, each a process of its own; default: 1")
    parser.add_argument("--report", type=Path, help="write the report here, as Markdown")
    arguments = parser.parse_args()
    work = arguments.work.resolve() / "embedding"
    if not (work / "base").is_dir():
        tell("making four models")
        make_models(SHAPE, [work / name for name in ("base", *MODELS)], seed=0, threads=os.cpu_count() or 1)
    merges = [(METHODS[name], variant) for name in arguments.methods for variant in VARIANTS.get(name, [{}])]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        costs = list(pool.map(lambda merge: measured(merge[0], merge[1], work), merges))
    text = report(costs)
    print(text, end="")
    if arguments.report:
        arguments.report.write_text(text, encoding="utf-8")
    return 1 if any(cost.peak_bytes > LIMIT for cost in costs) else 0


def measured(method: MergeMethod, variant: dict[str, Any], work: Path) -> Cost:
    """Merge once. Leaves this program where that fails."""
    title = " ".join([method.name, *(f"{name}: {str(value).lower()}" for name, value in variant.items())])
    tell(title)
    name = title.replace(" ", "-").replace(":", "")
    recipe, out = work / f"{name}.yml", work / f"{name}.out"
    document = recipe_of(method, variant)
    recipe.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    remove_output(out)
    launcher = [sys.executable, "-I", "-S", str(HERE / "measure.py")]
    command = [sys.executable, "-m", "lamina", "merge", str(recipe), str(out), "--memory", "400M"]
    finished = subprocess.run([*launcher, *command], capture_output=True, text=True, check=True)
    cost = json.loads(finished.stdout)
    remove_output(out)
    if cost["exit_code"]:
        sys.exit(f"{title}: exit code {cost['exit_code']}\n{finished.stderr}")
    return Cost(title, len(document["models"]), cost["cpu"], cost["wall"], cost["peak_bytes"])


def recipe_of(method: MergeMethod, variant: dict[str, Any]) -> dict[str, Any]:
    """As many of the models as the method takes, with its example's parameters; every measure is needed."""
    based = method.base in ("first", "required")
    names = MODELS[: (method.inputs[1] or len(MODELS)) - (method.base == "first")]
    parameters = {**method.example, **({"weight": 0.4} if "weight" in method.parameters else {}), **variant}
    recipe: dict[str, Any] = {"merge_method": method.name, "models": [{"model": name} for name in names]}
    if based:
        recipe["base_model"] = "base"
    return recipe | ({"parameters": parameters} if parameters else {})


def report(costs: Sequence[Cost]) -> str:
    elements = SHAPE.vocabulary * SHAPE.hidden  # beside which nothing else of the models counts
    most = max(costs, key=lambda cost: cost.peak_bytes)
    lines = [
        "# Memory of every method",
        "",
        f"`make memory`: bfloat16 models with an embedding of {SHAPE.vocabulary} x {SHAPE.hidden}, which is tied "
        f"({elements / 1e9:.2f} billion elements), and a base where the method has one; `lamina merge --memory 400M`, "
        "the whole process as Linux counts it.",
        "",
        f"- Lamina {VERSION}; {os.cpu_count()} CPUs ({processor()}); load average {os.getloadavg()[0]:.1f} at the end",
        f"- the most: {most.peak_bytes / 1e6:.0f} MB ({most.title}); allowed: {LIMIT / 1e6:.0f} MB",
        "",
        "| method | models | peak MB | CPU ns an element | wall s |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {cost.title} | {cost.models} | {cost.peak_bytes / 1e6:.0f} | {cost.cpu / elements * 1e9:.1f} | "
            f"{cost.wall:.0f} |"
            for cost in costs
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
