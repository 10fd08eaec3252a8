"""The program's story, top to bottom: a recipe is read, planned, laid out, computed, published."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamina.checkpoints.checkpoint import Checkpoint, FetchProgress
from lamina.checkpoints.hub_client import HubOptions
from lamina.checkpoints.layout import DEFAULT_SHARD_SIZE, Layout, lay_out
from lamina.checkpoints.writer import MADE_BY, CheckpointWriter, check_output, damage, made_by
from lamina.errors import OutputError
from lamina.execute.memory import peak_memory, workers_that_fit
from lamina.execute.run import Progress, run
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel, files_of, open_model
from lamina.planners.merge import plan_merge, slices_of
from lamina.planners.request import Findings
from lamina.plans.plan import Plan
from lamina.recipe.load import Recipe, load_recipe
from lamina.recipe.slices import as_yaml
from lamina.version import VERSION

DEFAULT_MEMORY = 200_000_000


@dataclass(frozen=True)
class Result:
    """What a merge did. `seconds` of wall time; `peak_memory` of the whole process, in bytes."""

    out: Path
    plan: Plan
    layout: Layout
    seconds: float
    peak_memory: int
    already_there: bool = False
    non_finite: tuple[str, ...] = ()


def plan(
    recipe: str | Path, *, cache_dir: str | Path | None = None, token: str | None = None, offline: bool = False
) -> Plan:
    """What merging the recipe in this file would do. Reads configs and headers only. Raises RecipeError.

    `cache_dir`, `token` and `offline` are for models of the Hub; by default as huggingface_hub is set up.
    """
    return _planned(load_recipe(Path(recipe)), _hub_options(cache_dir, token, offline))[0]


def merge(
    recipe: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    memory: int = DEFAULT_MEMORY,
    shard_size: int = DEFAULT_SHARD_SIZE,
    force: bool = False,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    offline: bool = False,
    on_plan: Callable[[Plan], None] = lambda _plan: None,
    fetching: FetchProgress = lambda _file, _nbytes: None,
    progress: Progress = lambda _name, _nbytes: None,
) -> Result:
    """Merge the recipe in a file into the folder `out`, which appears whole or not at all.

    `memory` bounds the whole process and `shard_size` the files, in bytes. The bytes of the tensors depend
    on neither, nor on `workers` (default: the machine's cores). What the same plan made before is left as it
    is; any other content of `out` is refused unless `force`. `on_plan` is called before anything is read.
    What the plan reads of models of the Hub is fetched first (`fetching`), into `cache_dir`.
    Raises LaminaError, and KeyboardInterrupt when stopped; then nothing is visible at `out`.
    """
    started, recipe, out = time.monotonic(), Path(recipe), Path(out)
    found, models = _planned(load_recipe(recipe), _hub_options(cache_dir, token, offline))
    checkpoints = {model.name: model.checkpoint for model in models.values()}
    layout = lay_out(found.specs, shard_size)
    workers_that_fit(found, workers, memory)
    try:
        fetched = [(checkpoints[source.name].folder, source.bytes_to_fetch) for source in found.inputs]
        check_output(out, layout.size, [recipe, *(folder for folder, _ in fetched)], beside=fetched)
        already_there = not force and _is_there(out, found)
        if not already_there:
            on_plan(found)
        for name, checkpoint in checkpoints.items():
            checkpoint.fetch(found.reads_of(name), fetching)
        provenance = _provenance(found, checkpoints)
        if already_there:
            _check_unchanged(out, provenance)
            return Result(out, found, layout, time.monotonic() - started, peak_memory(), already_there=True)
        with CheckpointWriter(layout, out) as sink:
            report = run(found, checkpoints, sink, workers=workers, memory=memory, progress=progress)
            for file in found.files:
                sink.put_file(file.name, file.content)
            sizes = {shard.file_name: shard.size for shard in layout.shards}
            sizes |= {file.name: len(file.content) for file in found.files if not file.about_the_merge}
            sink.put_file(MADE_BY, json.dumps({**provenance, "files": sizes}, indent=2).encode() + b"\n")
            sink.publish()
    finally:
        for checkpoint in checkpoints.values():
            checkpoint.close()
    return Result(
        out, found, layout, time.monotonic() - started, peak_memory(), non_finite=tuple(sorted(report.non_finite))
    )


def _planned(recipe: Recipe, hub: HubOptions) -> tuple[Plan, Mapping[ModelRef, PlainModel]]:
    """The plan of a recipe, and its models."""
    opened: dict[ModelRef, PlainModel] = {}

    def open_once(ref: ModelRef) -> PlainModel:
        if ref not in opened:
            opened[ref] = open_model(str(ref), files_of(ref, recipe.folder, hub))
        return opened[ref]

    return plan_merge(recipe, open_once), opened


def _hub_options(cache_dir: str | Path | None, token: str | None, offline: bool) -> HubOptions:
    return HubOptions(None if cache_dir is None else Path(cache_dir), token, offline)


def as_slices(
    recipe: str | Path, *, cache_dir: str | Path | None = None, token: str | None = None, offline: bool = False
) -> str:
    """The recipe in this file with its layers spelled as `slices`, as YAML: it plans to the same digest."""
    loaded = load_recipe(Path(recipe))
    _, models = _planned(loaded, _hub_options(cache_dir, token, offline))
    return as_yaml(loaded, slices_of(loaded, models, Findings(loaded)))


def _provenance(found: Plan, checkpoints: Mapping[str, Checkpoint]) -> dict[str, Any]:
    """What made a folder, for its `lamina.json`: no path of this machine, the same wherever it is made."""
    models = [
        {
            "model": source.name.rstrip("/").rpartition("/")[2],
            "headers": source.fingerprint,
            "sample": checkpoints[source.name].sample(found.reads_of(source.name)),
        }
        for source in found.inputs
    ]
    commits = {source.name: source.commit for source in found.inputs if source.commit}
    return {
        "lamina": VERSION,
        "plan": found.digest,
        "method": found.method,
        "seed": found.seed,
        "inputs": models,
        **({"commits": commits} if commits else {}),
    }


def _is_there(out: Path, found: Plan) -> bool:
    """True when the same plan made `out` before. Raises OutputError for what is not absent, empty or that."""
    if not out.is_dir() or not any(out.iterdir()):
        return False
    if made_by(out).get("plan") != found.digest:
        raise _refused(out, "exists and was not made by this recipe")
    return True


def _check_unchanged(out: Path, provenance: Mapping[str, Any]) -> None:
    """Raises OutputError where `out` is not whole, or other models went into it."""
    if made_by(out).get("inputs") != provenance["inputs"]:
        raise _refused(out, "was made by this recipe, and since then a model of it has changed")
    if damaged := damage(out):
        raise _refused(out, f"was made by this recipe, and is no longer whole ({', '.join(damaged[:3])})")


def _refused(out: Path, reason: str) -> OutputError:
    return OutputError(f"{out} {reason}; name another output, or replace it: --force")
