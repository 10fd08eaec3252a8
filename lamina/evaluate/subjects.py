"""What is scored: a folder, a model of the Hub, or a recipe that nobody has written out. Opened by headers first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import xxhash

from lamina import api
from lamina.check.models import opened
from lamina.checkpoints.hub_client import HubOptions
from lamina.checkpoints.writer import made_by
from lamina.errors import CheckpointError
from lamina.evaluate.harness import Harness
from lamina.execute.live_model import live_model, live_tokenizer
from lamina.planners.side_files import OTHER_FILES, TOKENIZER_FILES
from lamina.planners.small_files import small_files
from lamina.recipe.load import load_recipe, names_a_recipe
from lamina.tokenizers.chat_templates import template_of


@dataclass(frozen=True)
class Subject:
    """A model to be scored. `name` is what tables call it; `digest` is the same for the same content.

    `recipe` is the text of one, `parents` the folders of the models that it names, by their names there; `plan` the
    digest of the plan that makes the model, or made it; `seed` that of a recipe's draws. `running` loads it.
    """

    name: str
    source: str
    digest: str
    has_template: bool
    recipe: str = ""
    plan: str = ""
    seed: int | None = None
    parents: Mapping[str, Path] = field(default_factory=dict)
    is_parent: bool = False
    running: Callable[[Harness, str], Any] = field(repr=False, compare=False, default=lambda _harness, _dtype: None)


def subject(source: str, hub: HubOptions, options: api.Options) -> Subject:
    """A model or recipe as it is named. Fetches what it is made of, reads headers and samples.

    `options` are for recipes. Raises the letters of a recipe or a checkpoint.
    """
    path = Path(source)
    if names_a_recipe(path):
        return _of_recipe(path, options)
    return _of_folder(source, hub)


def parents_of(subjects: Sequence[Subject], hub: HubOptions) -> Iterator[Subject]:
    """The models that the recipes among them are made of."""
    for each in subjects:
        for name, folder in each.parents.items():
            yield replace(_of_folder(str(folder), hub), name=Path(name).name, is_parent=True)


def _of_folder(source: str, hub: HubOptions) -> Subject:
    with opened(source, hub) as model:
        files = dict(small_files(model, (*TOKENIZER_FILES, *OTHER_FILES)))  # those of the Hub come here by this
        known = [model.checkpoint.fingerprint, model.checkpoint.sample(), json.dumps(model.config, sort_keys=True)]
        folder = model.checkpoint.folder
    name = source if not Path(source).exists() else Path(source).name or source
    return Subject(
        name,
        source,
        xxhash.xxh3_128_hexdigest(json.dumps([*known, _digests(files)]).encode()),
        _has_template(files, source),
        plan=str(made_by(folder).get("plan", "")),
        running=lambda harness, dtype: harness.running(str(folder), dtype=dtype),
    )


def _of_recipe(path: Path, options: api.Options) -> Subject:
    with api.tensors(path, **options) as merged:
        files = {
            file.name: file.content
            for file in merged.plan.files
            if any(fnmatch(file.name, each) for each in TOKENIZER_FILES)
        }
        plan, digest, parents = merged.plan, merged.fingerprint(), merged.folders

    def running(harness: Harness, dtype: str) -> Any:
        with harness.quiet(), api.tensors(path, **options) as merged:
            model = live_model(merged, harness.device, dtype)
            return harness.running(model, live_tokenizer(merged.plan))

    recipe = load_recipe(path, set_values=options.get("set_values", ()))
    return Subject(
        " ".join([path.name, *recipe.overrides.values()]), str(path), digest, _has_template(files, str(path)),
        recipe=recipe.text, plan=plan.digest, seed=plan.seed, parents=parents, running=running,
    )  # fmt: skip


def _has_template(files: Mapping[str, bytes], source: str) -> bool:
    try:
        return template_of(files) is not None
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}.") from error


def _digests(files: Mapping[str, bytes]) -> list[list[str]]:
    return [[name, xxhash.xxh3_64_hexdigest(content)] for name, content in files.items()]
