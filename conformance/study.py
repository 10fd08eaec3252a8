"""A run: recipes drawn, carried out by both programs, compared; what fails is shrunk."""

from __future__ import annotations

import multiprocessing
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from conformance import ours
from conformance.compare import TOLERANCE, Models, Verdict, compare, expectations, unlike_configs
from conformance.distribution import compare_draws
from conformance.models import FOLDERS, MODELS, Checkpoint, read_checkpoint, write_models
from conformance.peer import MergeKit, Outcome
from conformance.recipes import Drawn, Recipe, draw_recipe
from conformance.records import Record, recipe_digest, samples_of
from conformance.rows import models_of, rows_of
from conformance.shrink import shrunk

DRAWS = (15,)  # the row of what is drawn: such recipes are compared by distribution


@dataclass(frozen=True)
class Compared:
    """One recipe and what came of it. `met` says what became of a recipe that touches a row: MergeKit's part, ours."""

    drawn: Drawn
    verdict: Verdict | None
    met: tuple[str, str] | None = None
    record: Record | None = None
    smallest: Recipe | None = None


def read_models(world: Path) -> Models:
    """Every model of the world, by the name that recipes use."""
    return {
        f"{parent}/{name}": read_checkpoint(world / parent / name) for parent in FOLDERS.values() for name in MODELS
    }


def study(python: Path, seed: int, count: int, jobs: int) -> list[Compared]:
    """All recipes of a seed up to `count`, in so many processes, each with models and a MergeKit of its own."""
    shares = [range(first, count, jobs) for first in range(jobs)]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        found = [each for part in pool.map(partial(_share, python, seed), shares) for each in part]
    return sorted(found, key=lambda each: each.drawn.number)


def _share(python: Path, seed: int, numbers: Sequence[int]) -> list[Compared]:
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder)
        write_models(world)
        with MergeKit(python, world) as peer:
            return list(compared(world, peer, seed, numbers))


def compared(world: Path, peer: MergeKit, seed: int, numbers: Iterable[int]) -> Iterator[Compared]:
    """The recipes of these numbers, one after another."""
    models = read_models(world)
    for number in numbers:
        if number % 50 == 0:
            print(f"recipe {number}", file=sys.stderr, flush=True)
        drawn = draw_recipe(seed, number)
        theirs, mine = peer.merge(drawn.recipe, number), ours.merge(drawn.recipe, world)
        if drawn.rows:
            verdict = None
            if drawn.rows == DRAWS:
                draw = partial(_drawn_anew, drawn.recipe, world)
                verdict = compare_draws(drawn.recipe, models, draw, theirs)
            yield Compared(drawn, verdict, met(theirs, mine, _given(drawn.recipe, models)))
            continue
        verdict = compare(drawn.recipe, models, mine, theirs)
        if verdict.equal:
            yield Compared(drawn, verdict, record=_record(drawn, seed, models, mine, theirs))
        else:
            fails = partial(_fails, models=models, world=world, peer=peer)
            yield Compared(drawn, verdict, smallest=shrunk(drawn.recipe, fails))


def _drawn_anew(recipe: Recipe, world: Path, seed: int) -> Outcome:
    return ours.merge(recipe, world, seed=seed)


def _fails(recipe: Recipe, models: Models, world: Path, peer: MergeKit) -> bool:
    if rows_of(recipe):
        return False  # smaller, and another matter
    theirs, mine = peer.merge(recipe), ours.merge(recipe, world)
    both_refuse = bool(theirs.error and mine.error)
    return not both_refuse and not compare(recipe, models, mine, theirs).equal


def _record(drawn: Drawn, seed: int, models: Models, mine: Outcome, theirs: Outcome) -> Record:
    assert theirs.checkpoint is not None
    settled = {
        part.name: (~wanted.choice & (np.asarray(wanted.slack) == 0))
        for part, wanted in expectations(drawn.recipe, models)
    }
    digest = recipe_digest(drawn.recipe)
    samples = samples_of(theirs.checkpoint, settled, digest)
    return Record(seed, drawn.number, drawn.method, digest, ours.digest(mine), samples)


# What becomes of recipes that touch a row


def _given(recipe: Recipe, models: Models) -> set[str]:
    """The names without a layer's number of all tensors that a recipe's models have."""
    return {re.sub(r"\d+", "N", name) for model in models_of(recipe) for name in models[model].tensors}


def met(theirs: Outcome, mine: Outcome, given: Set[str]) -> tuple[str, str]:
    """What MergeKit made of a recipe, beside what Lamina made of it; and Lamina's answer."""
    answer = "refuses" if mine.checkpoint is None else "merges"
    if theirs.checkpoint is None:
        return "refuses, or breaks off", answer
    if not all(np.isfinite(values).all() for values in theirs.checkpoint.tensors.values()):
        return "writes NaN or infinity", answer
    if contradiction := _contradiction(theirs.checkpoint):
        return contradiction, answer
    if not given <= {re.sub(r"\d+", "N", name) for name in theirs.checkpoint.tensors}:
        return "leaves out tensors of its models", answer
    if mine.checkpoint is None:
        return "merges", answer
    return _difference(mine.checkpoint, theirs.checkpoint), answer


def _contradiction(checkpoint: Checkpoint) -> str:
    """Where config.json and the tensors of one folder disagree."""
    config, names = checkpoint.config, checkpoint.tensors
    layers = {name.split(".")[2] for name in names if name.startswith("model.layers.")}
    if config["num_hidden_layers"] != len(layers):
        return "config.json has another number of layers"
    if config["tie_word_embeddings"] and "lm_head.weight" in names:
        return "config.json says tied, and there is a head"
    if config["vocab_size"] != len(names["model.embed_tokens.weight"]):
        return "config.json has another vocabulary"
    return ""


def _difference(mine: Checkpoint, theirs: Checkpoint) -> str:
    if set(mine.tensors) != set(theirs.tensors):
        return "tensors are missing" if set(mine.tensors) > set(theirs.tensors) else "other tensors"
    if unlike := unlike_configs(mine, theirs):
        return "another config.json" + (f" ({len(unlike)} keys)" if len(unlike) > 1 else "")
    if mine.dtypes != theirs.dtypes:
        return "tensors of another dtype"
    if any(mine.tensors[name].shape != theirs.tensors[name].shape for name in mine.tensors):
        return "tensors of another shape"
    apart = any(
        np.abs(mine.tensors[name] - theirs.tensors[name]).max() > TOLERANCE * np.abs(mine.tensors[name]).max()
        for name in mine.tensors
    )
    return "other values" if apart else "the same"


def failures(found: Sequence[Compared]) -> list[Compared]:
    """Those that differ without a row that says so."""
    return [each for each in found if each.verdict is not None and not each.verdict.equal]


def touched(found: Sequence[Compared]) -> int:
    """How many recipes touch a row."""
    return sum(bool(each.drawn.rows) for each in found)


def describe(problem: Any) -> str:
    """A failure's first lines."""
    return "; ".join(problem.verdict.problems[:2]) if problem.verdict else ""
