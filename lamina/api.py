"""The program's story, top to bottom: a recipe is read, planned, laid out, computed, published."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamina.checkpoints.checkpoint import Checkpoint
from lamina.checkpoints.layout import DEFAULT_SHARD_SIZE, Layout, lay_out
from lamina.checkpoints.writer import MADE_BY, CheckpointWriter, check_output, damage, made_by
from lamina.errors import CheckpointError, OutputError
from lamina.execute.memory import peak_memory, workers_that_fit
from lamina.execute.run import Progress, run
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel, open_model
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


def plan(recipe: str | Path) -> Plan:
    """What merging the recipe in this file would do. Reads configs and headers only. Raises RecipeError."""
    return _planned(load_recipe(Path(recipe)))[0]


def merge(
    recipe: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    memory: int = DEFAULT_MEMORY,
    shard_size: int = DEFAULT_SHARD_SIZE,
    force: bool = False,
    on_plan: Callable[[Plan], None] = lambda _plan: None,
    progress: Progress = lambda _name, _nbytes: None,
) -> Result:
    """Merge the recipe in a file into the folder `out`, which appears whole or not at all.

    `memory` bounds the whole process and `shard_size` the files, in bytes. The bytes of the tensors depend
    on neither, nor on `workers` (default: the machine's cores). What the same plan made before is left as it
    is; any other content of `out` is refused unless `force`. `on_plan` is called before anything is read.
    Raises LaminaError, and KeyboardInterrupt when stopped; then nothing is visible at `out`.
    """
    started, recipe, out = time.monotonic(), Path(recipe), Path(out)
    found, models = _planned(load_recipe(recipe))
    checkpoints = {model.name: model.checkpoint for model in models.values()}
    layout = lay_out(found.specs, shard_size)
    workers_that_fit(found, workers, memory)
    try:
        check_output(out, layout.size, [recipe, *(c.folder for c in checkpoints.values())])
        provenance = _provenance(found, checkpoints)
        if not force and _is_there(out, provenance):
            return Result(out, found, layout, time.monotonic() - started, peak_memory(), already_there=True)
        on_plan(found)
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


def _planned(recipe: Recipe) -> tuple[Plan, Mapping[ModelRef, PlainModel]]:
    """The plan of a recipe, and its models."""
    opened: dict[ModelRef, PlainModel] = {}

    def open_once(ref: ModelRef) -> PlainModel:
        if ref not in opened:
            opened[ref] = open_model(str(ref), folder_of(ref, recipe.folder))
        return opened[ref]

    return plan_merge(recipe, open_once), opened


def as_slices(recipe: str | Path) -> str:
    """The recipe in this file with its layers spelled as `slices`, as YAML: it plans to the same digest."""
    loaded = load_recipe(Path(recipe))
    _, models = _planned(loaded)
    return as_yaml(loaded, slices_of(loaded, models, Findings(loaded)))


def folder_of(ref: ModelRef, beside: Path) -> Path:
    """The folder that a recipe means: looked for beside the recipe, then in the working directory.

    Raises CheckpointError where it is in neither.
    """
    path = Path(ref.path).expanduser()
    for folder in dict.fromkeys((beside / path, path)):
        if folder.is_dir():
            return folder
    looked = f"{beside / path}" if path.is_absolute() or beside == Path() else f"{beside / path} or {path}"
    advice = ""
    if ref.path.count("/") == 1 and not path.is_absolute():
        advice = (
            f" Models of the Hub are not fetched yet: `hf download {ref.path} --local-dir {ref.path}` brings it here."
        )
    raise CheckpointError(f"there is no folder {looked}.{advice}")


def _provenance(found: Plan, checkpoints: Mapping[str, Checkpoint]) -> dict[str, Any]:
    """What made a folder, for its `lamina.json`: no path of this machine, the same wherever it is made."""
    models = [
        {
            "model": source.name.rstrip("/").rpartition("/")[2],
            "headers": source.fingerprint,
            "sample": checkpoints[source.name].sample(),
        }
        for source in found.inputs
    ]
    return {"lamina": VERSION, "plan": found.digest, "method": found.method, "seed": found.seed, "inputs": models}


def _is_there(out: Path, provenance: Mapping[str, Any]) -> bool:
    """True when the same plan made `out` before from the same models, and all of it is still there.

    Raises OutputError for anything else than an absent or empty folder.
    """
    if not out.is_dir() or not any(out.iterdir()):
        return False
    before = made_by(out)
    if before.get("plan") != provenance["plan"]:
        reason = "exists and was not made by this recipe"
    elif before.get("inputs") != provenance["inputs"]:
        reason = "was made by this recipe, and since then a model of it has changed"
    elif damaged := damage(out):
        reason = f"was made by this recipe, and is no longer whole ({', '.join(damaged[:3])})"
    else:
        return True
    raise OutputError(f"{out} {reason}; name another output, or replace it: --force")
