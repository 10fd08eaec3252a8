"""What a published folder says of itself: `lamina.json`, described in docs/provenance.md.

It holds no path and no time: the same merge writes the same record wherever and whenever it is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from lamina.checkpoints.journal import Finished
from lamina.checkpoints.layout import Layout
from lamina.plans.plan import Input, Plan, SideFile
from lamina.version import VERSION

SCHEMA = 1

# Each key of lamina.json.
RECORD_FIELDS: Mapping[str, str] = {
    "schema": f"of this record: {SCHEMA}",
    "lamina": "the version that made the folder",
    "plan": "the plan's digest, equal for every recipe that makes the same folder",
    "method": "of the recipe",
    "seed": "of the random draws",
    "options": "what else was asked for beside the recipe: `border`, `unlike_models`, `copy_tokenizer`, "
    "`assume_per_layer`",
    "inputs": "each model that was read: `model` (its name without a place), `headers` (a digest of names, dtypes and "
    "shapes), `sample` (a digest of a few KB of each tensor), `tensors` (a digest of each tensor that was read whole)",
    "commits": "of models of the Hub, by the name in the recipe",
    "tensors": "the digest of each tensor of the folder",
    "coefficients": "where tensors decided them (slerp, model_stock, ...): what each model counted for, a list for "
    "each merge in the tensor's expression",
    "files": "the size in bytes of each file",
    "file_digests": "the xxh3-128 of each file beside the tensors that is part of the model",
}


def what_is_read(plan: Plan, samples: Mapping[str, str]) -> list[dict[str, Any]]:
    """The models of a plan, told apart by their content alone. `samples` has a digest for each."""
    return [
        {"model": base_name(source), "headers": source.fingerprint, "sample": samples[source.name]}
        for source in plan.inputs
    ]


def record(
    plan: Plan,
    layout: Layout,
    inputs: Iterable[Mapping[str, Any]],
    options: Mapping[str, Any],
    finished: Mapping[str, Finished],
    digests: Mapping[tuple[str, str], str],
) -> bytes:
    """`lamina.json` of a folder whose tensors are `finished`; `digests` are those of the tensors that were read."""
    commits = {source.name: source.commit for source in plan.inputs if source.commit}
    read = [
        {**known, "tensors": {name: digests[source.name, name] for name in _read_whole(plan, source, digests)}}
        for known, source in zip(inputs, plan.inputs, strict=True)
    ]
    files = own_files(plan.files)
    content = {
        "schema": SCHEMA,
        "lamina": VERSION,
        "plan": plan.digest,
        "method": plan.method.rpartition("/")[2],
        "seed": plan.seed,
        "options": options,
        "inputs": read,
        **({"commits": commits} if commits else {}),
        "tensors": {job.name: finished[job.name].digest for job in plan.jobs},
        "coefficients": {
            job.name: finished[job.name].coefficients for job in plan.jobs if finished[job.name].coefficients
        },
        "files": {shard.file_name: shard.size for shard in layout.shards} | {x.name: len(x.content) for x in files},
        "file_digests": {file.name: xxhash.xxh3_128_hexdigest(file.content) for file in files},
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def own_files(files: Iterable[SideFile]) -> list[SideFile]:
    """The files that are part of the model, and do not only tell of the merge."""
    return [file for file in files if not file.about_the_merge]


def base_name(source: Input) -> str:
    """A model's name without a place on this machine."""
    path = Path(source.name).expanduser()
    return path.name or path.resolve().name


def _read_whole(plan: Plan, source: Input, digests: Mapping[tuple[str, str], str]) -> list[str]:
    return sorted(name for name in plan.reads_of(source.name) if (source.name, name) in digests)
