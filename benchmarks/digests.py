"""What the digests cost: merges with and without them, and `lamina reproduce --digests-only` beside a plain read.

    python benchmarks/digests.py --work bench --runs 5

Two models of 0.53 GB of zeros with holes are merged; with and without take turns. Their figures are of whole
processes, start-up and all; those of reading are not. Prints a Markdown table of medians.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

from memory import RECIPES, write_model

from lamina.api import reproduce

HERE = Path(__file__).resolve().parent
WITHOUT = """
from lamina.checkpoints.digests import PieceDigests
def pass_by(self, first_byte, data):
    if first_byte == self.reached:
        self.reached += len(data)
PieceDigests.take = pass_by
"""
LAMINA = "from lamina.cli.start import main\nmain()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/bench-digests"))
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    for name in ("a", "b"):
        if not (given.work / name).exists():
            write_model(given.work / name, 4096, 24_000)
    size = (given.work / "a" / "model.safetensors").stat().st_size
    out = given.work / "out"
    print("| what | wall s | CPU s |\n|---|--:|--:|")
    for recipe in ("linear", "passthrough"):
        path = given.work / f"{recipe}.yml"
        path.write_text(RECIPES[recipe])
        merge = ["merge", str(path), str(out), "-q", "-j", "2"]
        turns: Mapping[str, Callable[[], Mapping[str, float]]] = {
            f"{recipe}, with digests": partial(cost, LAMINA, *merge),
            f"{recipe}, without": partial(cost, WITHOUT + LAMINA, *merge),
        }
        show(turns, given.runs, before=lambda: shutil.rmtree(out, ignore_errors=True))
    assert cost(LAMINA, "merge", str(given.work / "linear.yml"), str(out), "-q", "--force")["exit_code"] == 0
    turns = {
        f"`lamina.reproduce(digests_only=True)` of {size / 1e9:.2f} GB": partial(
            cost_here, partial(reproduce, out, digests_only=True)
        ),
        "a plain read of the same file": partial(cost_here, partial(read, out / "model.safetensors")),
    }
    show(turns, given.runs)
    shutil.rmtree(out)


def show(
    turns: Mapping[str, Callable[[], Mapping[str, float]]], runs: int, before: Callable[[], object] = lambda: None
) -> None:
    """Let all take turns, and print a line for each."""
    costs: dict[str, list[Mapping[str, float]]] = {name: [] for name in turns}
    for run in range(runs + 1):
        for name, turn in turns.items():
            before()
            found = turn()
            assert found["exit_code"] == 0, name
            if run:  # the first brings files into the cache
                costs[name].append(found)
    for name, all_costs in costs.items():
        wall, cpu = (median(each[what] for each in all_costs) for what in ("wall", "cpu"))
        print(f"| {name} | {wall:.3f} | {cpu:.3f} |", flush=True)


def cost(code: str, *arguments: str) -> Mapping[str, float]:
    """What measure.py says of a process that runs this."""
    command = [sys.executable, "-I", "-S", str(HERE / "measure.py"), sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found: Mapping[str, float] = json.loads(run.stdout)
    return found


def cost_here(action: Callable[[], object]) -> Mapping[str, float]:
    """The same of what is done in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return {"exit_code": 0, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def read(path: Path) -> None:
    """All bytes of a file, 1 MB at a time."""
    buffer = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


if __name__ == "__main__":
    main()
