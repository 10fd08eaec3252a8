"""Measure `lamina merge` as a whole process, beside the machine's limit and, if there is one, a peer.

    python benchmarks/merge_speed.py --preset 1b --work bench --runs 5 --report speed.md
    python benchmarks/merge_speed.py --preset 1b --work bench --peer other-env/bin/mergekit-yaml

The contenders take turns (A B C A B C ...), so that a machine that slows down slows all of them; ratios are
taken within a turn. README.md beside this file says what is measured, and what not to conclude.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import yaml
from make_synthetic import PRESETS, make_models

from lamina import api
from lamina.checkpoints.checkpoint import open_checkpoint
from lamina.checkpoints.formats import open_tensors
from lamina.checkpoints.layout import lay_out
from lamina.evaluate.tiny_llama import read_fp32
from lamina.expressions.inspect import reads
from lamina.plans.plan import Plan
from lamina.version import VERSION

HERE = Path(__file__).parent
MODELS = ("base", "A", "B")
WITHOUT_NETWORK = {"HF_HUB_OFFLINE": "1"}  # a model card must not wait for the Hub
LIMIT_THREADS = 8  # at most, and one a CPU: more threads do not make a disk faster
LIMIT, OURS, PEER = "limit", "Lamina", "MergeKit"


@dataclass(frozen=True)
class Job:
    """One recipe that is measured."""

    name: str
    title: str
    recipe: Mapping[str, object]


@dataclass(frozen=True)
class Cost:
    """What one run took. Seconds and bytes."""

    wall: float
    on_disk: float  # wall, and what it takes to sync the output after it
    cpu: float  # user + system, all threads and children
    peak_bytes: int
    disk_bytes_read: int  # what the page cache did not have
    load: float  # one-minute load average just before


Turn = Mapping[str, Cost]  # by contender


@dataclass(frozen=True)
class Measured:
    """A job, its plan and its turns; `agreement` says how the peer's output compares to ours."""

    job: Job
    plan: Plan
    turns: Sequence[Turn]
    agreement: str


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure `lamina merge` beside the machine's limit and a peer.")
    parser.add_argument("--preset", choices=PRESETS, default="1b", help="size of the models; default: 1b")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and outputs; models are kept")
    parser.add_argument("--runs", type=int, default=5, help="measured turns a job; default: 5")
    parser.add_argument("--jobs", nargs="+", choices=["linear", "stack", "task_arithmetic"], help="default: all")
    parser.add_argument("--peer", type=Path, help="`mergekit-yaml` in its own environment")
    parser.add_argument("--peer-options", default="", help="its options, e.g. '--async-write --write-threads 2'")
    parser.add_argument("--report", type=Path, help="write the report here, as Markdown")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs: at least one turn must be measured")

    work = arguments.work.resolve() / arguments.preset
    models = {name: work / name for name in MODELS}
    if not all(folder.is_dir() for folder in models.values()):
        tell(f"making {len(models)} models")
        make_models(PRESETS[arguments.preset], list(models.values()), seed=0, threads=os.cpu_count() or 1)
    peer = [str(arguments.peer.absolute()), *shlex.split(arguments.peer_options)] if arguments.peer else []
    jobs = [job for job in jobs_of(models, arguments.preset) if job.name in (arguments.jobs or [job.name])]
    load_at_start = os.getloadavg()[0]
    measured = [measure_job(job, work, peer, arguments.runs) for job in jobs]
    report = "\n".join(
        [
            f"# Merge speed, preset `{arguments.preset}`",
            "",
            *conditions(measured, load_at_start, arguments.peer, arguments.peer_options),
            *(line for each in measured for line in section(each)),
        ]
    )
    print(report, end="")
    if arguments.report:
        arguments.report.write_text(report, encoding="utf-8")


def jobs_of(models: Mapping[str, Path], preset: str) -> list[Job]:
    """The recipes, in words that Lamina and MergeKit both read."""
    base, *tuned = (str(models[name]) for name in MODELS)
    weighted = [
        {"model": model, "parameters": {"weight": weight}} for model, weight in zip(tuned, (0.4, 0.6), strict=True)
    ]
    depth = PRESETS[preset].layers
    cut = depth // 4  # SOLAR leaves out the last quarter of one copy and the first of the other: arXiv 2312.15166
    ranges = ([0, depth - cut], [cut, depth])
    stack = [{"sources": [{"model": base, "layer_range": layers}]} for layers in ranges]
    return [
        Job(
            "linear",
            "linear: two models, weights 0.4 and 0.6",
            {"merge_method": "linear", "models": weighted, "dtype": "bfloat16"},
        ),
        Job(
            "stack",
            f"passthrough: layers {ranges[0]} and {ranges[1]} of one model",
            {"merge_method": "passthrough", "slices": stack, "dtype": "bfloat16"},
        ),
        Job(
            "task_arithmetic",
            "task_arithmetic: two models on their base, weights 0.4 and 0.6",
            {"merge_method": "task_arithmetic", "base_model": base, "models": weighted, "dtype": "bfloat16"},
        ),
    ]


def measure_job(job: Job, work: Path, peer: Sequence[str], runs: int) -> Measured:
    """A turn that is not counted, in which outputs are compared and programs get into the cache; then `runs`."""
    recipe = work / f"{job.name}.yml"
    recipe.write_text(yaml.safe_dump(job.recipe, sort_keys=False), encoding="utf-8")
    plan = api.plan(recipe)
    work_list = work / f"{job.name}.io.json"
    work_list.write_text(json.dumps(io_work(plan)), encoding="utf-8")
    contenders = {
        OURS: [sys.executable, "-m", "lamina", "merge", str(recipe)],
        LIMIT: [sys.executable, "-I", "-S", str(HERE / "io_limit.py"), str(work_list)],
    }
    if peer:
        contenders[PEER] = [peer[0], *peer[1:], str(recipe)]
    outs = {name: work / f"{job.name}.out.{name.lower()}" for name in contenders}

    def turn(*, remove: bool) -> Turn:
        costs = {}
        for name, command in contenders.items():
            tell(f"  {name}")
            remove_output(outs[name])
            costs[name] = run([*command, str(outs[name])], outs[name])
            if remove:
                remove_output(outs[name])
        return costs

    tell(f"{job.name}: a turn that is not counted")
    turn(remove=False)
    agreement = compared(outs[OURS], outs[PEER]) if peer else ""
    for out in outs.values():
        remove_output(out)
    warm(Path(source.name) for source in plan.inputs)
    turns = []
    for number in range(runs):
        tell(f"{job.name}: turn {number + 1} of {runs}")
        turns.append(turn(remove=True))
    return Measured(job, plan, turns, agreement)


def io_work(plan: Plan) -> Mapping[str, object]:
    """What io_limit.py has to do for a plan: every read and every write, by file and offset."""
    found = {
        (source.name, tensor): (path, entry.offset)
        for source in plan.inputs
        for path in sorted(Path(source.name).glob("*.safetensors"))
        for tensor, entry in open_tensors(path).items()
    }
    inputs = list(dict.fromkeys(path for path, _ in found.values()))
    layout = lay_out(plan.specs)
    tensors = []
    for job in plan.jobs:
        places = [found[read.model, read.name] for read in reads(job.expr)]
        place = layout.places[job.name]
        tensors.append(
            {
                "shard": place.shard,
                "offset": place.offset,
                "nbytes": place.nbytes,  # of each input as well: these recipes have one dtype
                "reads": [(inputs.index(path), offset) for path, offset in places],
            }
        )
    return {
        "threads": min(os.cpu_count() or 1, LIMIT_THREADS),
        "inputs": [str(path) for path in inputs],
        "shards": [{"file": shard.file_name, "size": shard.size} for shard in layout.shards],
        "tensors": tensors,
    }


def run(command: Sequence[str], out: Path) -> Cost:
    """Run a command that makes the folder `out`. Leaves this program where the command fails."""
    load = os.getloadavg()[0]
    launcher = [sys.executable, "-I", "-S", str(HERE / "measure.py")]
    finished = subprocess.run(
        [*launcher, *command], capture_output=True, text=True, env=os.environ | WITHOUT_NETWORK, check=False
    )
    cost = json.loads(finished.stdout) if finished.returncode == 0 else {"exit_code": finished.returncode}
    if cost["exit_code"] != 0:
        sys.exit(f"{finished.stderr}\n{shlex.join(command)}: exit code {cost['exit_code']}")
    started = time.perf_counter()
    for path in out.iterdir():
        with path.open("rb") as file:
            os.fsync(file)
    flush = time.perf_counter() - started
    return Cost(cost["wall"], cost["wall"] + flush, cost["cpu"], cost["peak_bytes"], cost["disk_bytes_read"], load)


def remove_output(out: Path) -> None:
    """Remove what a run wrote, and wait until the disk is quiet: the next run must not pay for it."""
    if out.exists():
        shutil.rmtree(out)
    os.sync()


def warm(folders: Iterable[Path]) -> None:
    """Read every tensor file once, so that the page cache has it."""
    buffer = bytearray(8 << 20)
    for folder in folders:
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def compared(ours: Path, theirs: Path) -> str:
    """How far two outputs are apart. Leaves this program where they hold different tensors."""
    with closing(open_checkpoint(ours)) as one, closing(open_checkpoint(theirs)) as other:
        if dict(one.specs) != dict(other.specs):
            sys.exit(f"{ours} and {theirs} hold different tensors: they did not do the same work.")
        count = differing = 0
        largest = 0.0
        for name in one.specs:
            distance = np.abs(read_fp32(one, name) - read_fp32(other, name))
            count += distance.size
            differing += int(np.count_nonzero(distance))
            largest = max(largest, float(distance.max()))
    if differing == 0:
        return f"{PEER}'s tensors are equal to Lamina's, every value."
    return f"{PEER}'s tensors differ from Lamina's in {differing / count:.2%} of the values, by {largest:.1e} at most."


def conditions(measured: Sequence[Measured], load_at_start: float, peer: Path | None, options: str) -> list[str]:
    """Programs, machine and procedure: what a reader needs to judge the numbers. No names, no paths."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    loads = [cost.load for each in measured for turn in each.turns for cost in turn.values()]
    lines = [
        f"- Programs: Lamina {VERSION} (Python {platform.python_version()}, numpy {np.__version__}), default options",
        f"- Machine: {os.cpu_count()} CPUs, {usable} usable ({processor()}), {memory / 1e9:.0f} GB of memory, "
        f"{platform.system()} on {platform.machine()}",
        f"- Load average: {load_at_start:.1f} before the first run, {min(loads):.1f} to {max(loads):.1f} before single "
        "runs (which includes the runs before them)",
        f"- Turns: {len(measured[0].turns)} a job, contenders interleaved, after one that is not counted; models in "
        "the page cache; outputs removed and the disk synced between runs",
        "",
        "`limit` reads the same bytes and writes as many, and computes nothing. `on disk` is the wall time and a sync "
        "of the output after it, which Lamina and the limit have in their wall time already. Cells are minimum / "
        "median / maximum.",
        "",
    ]
    if peer:
        chosen = f"options `{options}`" if options else "default options"
        lines[0] += f"; {peer_versions(peer)}, {chosen}"
    return lines


def processor() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def peer_versions(peer: Path) -> str:
    """Asked of the Python beside the peer's command."""
    query = "import importlib.metadata as m, platform as p; print(m.version('mergekit'), p.python_version(), "
    query += "m.version('torch'))"
    asked = subprocess.run([str(peer.parent / "python"), "-c", query], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        return f"{PEER} of unknown version"
    version, python, torch = asked.stdout.split()
    return f"{PEER} {version} (Python {python}, torch {torch})"


def section(measured: Measured) -> list[str]:
    """The tables of one job."""
    plan, turns = measured.plan, measured.turns
    columns: dict[str, Callable[[Cost], float]] = {
        "wall s": lambda cost: cost.wall,
        "on disk s": lambda cost: cost.on_disk,
        "CPU s": lambda cost: cost.cpu,
        "peak MB": lambda cost: cost.peak_bytes / 1e6,
        "read from disk MB": lambda cost: cost.disk_bytes_read / 1e6,
    }
    lines = [
        f"## {measured.job.title}",
        "",
        f"Reads {megabytes(plan.bytes_read)}, writes {megabytes(plan.bytes_written)}. {measured.agreement}".rstrip(),
        "",
        *heading(["", *columns]),
    ]
    for name in turns[0]:
        cells = [spread([value(turn[name]) for turn in turns]) for value in columns.values()]
        lines.append(row([name, *cells]))
    lines += ["", *heading(["ratio", *(f"turn {number + 1}" for number in range(len(turns))), "median"])]
    pairs = [(OURS, LIMIT), *([(PEER, OURS)] if PEER in turns[0] else [])]
    for above, below in pairs:
        for column in ("wall s", "on disk s", "CPU s"):
            value = columns[column]
            ratios = [value(turn[above]) / value(turn[below]) for turn in turns]
            title = f"{above} / {below}, {column.removesuffix(' s')}"
            lines.append(row([title, *(f"{ratio:.2f}" for ratio in [*ratios, median(ratios)])]))
    return [*lines, ""]


def spread(values: Sequence[float]) -> str:
    """Minimum / median / maximum, to three digits or so."""
    digits = 0 if max(values) >= 100 else 1 if max(values) >= 10 else 2
    return " / ".join(f"{value:,.{digits}f}" for value in (min(values), median(values), max(values)))


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.{0 if size >= 1e8 else 1}f} MB"


def heading(cells: Sequence[str]) -> list[str]:
    return [row(cells), "|---|" + "---:|" * (len(cells) - 1)]


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
