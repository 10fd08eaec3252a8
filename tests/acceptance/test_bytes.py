"""The promise about bytes: they depend on the recipe and the models, and on nothing about the run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lamina

from .checkpoints import Checkpoint, all_bits, read_checkpoint, read_safetensors, same_bits, write_llama
from .conftest import command
from .reference import assert_rounded_once, linear

RECIPE = """\
models:
  - {model: wide_a, parameters: {weight: [0.2, 0.7]}}
  - {model: wide_b, parameters: {weight: 0.6}}
merge_method: linear
dtype: bfloat16
"""
VOCABULARY = (1 << 18) + 3  # 2.1 million values: more than one block of about 2^20 elements, and not a whole number


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two models whose embeddings are several blocks long, and a recipe for their mean."""
    folder = tmp_path_factory.mktemp("wide")
    write_llama(folder / "wide_a", 2, vocabulary=VOCABULARY)
    write_llama(folder / "wide_b", 2, vocabulary=VOCABULARY, dtype=torch.float32)
    (folder / "recipe.yml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def merged(wide: Path) -> Checkpoint:
    lamina.merge(wide / "recipe.yml", wide / "merged")
    return read_checkpoint(wide / "merged")


def test_tensors_of_several_blocks_are_right_from_end_to_end(wide: Path, merged: Checkpoint) -> None:
    inputs = [read_checkpoint(wide / name) for name in ("wide_a", "wide_b")]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors = [checkpoint.tensors[name] for checkpoint in inputs]
        assert_rounded_once(merged.tensors[name], linear(tensors, [0.2, 0.6], dtype=torch.bfloat16), name)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 1},
        {"workers": 2},
        {"workers": 5},
        {"workers": 2, "memory": 120_000_000},
        {"workers": 5, "memory": 2_000_000_000},
    ],
    ids=str,
)
def test_bytes_do_not_depend_on_workers_or_memory(
    wide: Path, merged: Checkpoint, tmp_path: Path, options: dict[str, Any]
) -> None:
    lamina.merge(wide / "recipe.yml", tmp_path / "out", **options)
    for ours in sorted(merged.folder.glob("*.safetensors")):
        assert (tmp_path / "out" / ours.name).read_bytes() == ours.read_bytes()


@pytest.mark.parametrize("shard_size", [1_000, 5_000_000, 8_000_000])
def test_tensors_do_not_depend_on_the_shard_size(
    wide: Path, merged: Checkpoint, tmp_path: Path, shard_size: int
) -> None:
    lamina.merge(wide / "recipe.yml", tmp_path / "out", shard_size=shard_size)
    sharded = read_checkpoint(tmp_path / "out")
    assert all_bits(sharded) == all_bits(merged)
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 1
    assert files == [f"model-{i + 1:05}-of-{len(files):05}.safetensors" for i in range(len(files))]
    assert (tmp_path / "out" / "model.safetensors.index.json").exists()


def test_no_shard_exceeds_the_size_unless_it_is_one_tensor(wide: Path, tmp_path: Path) -> None:
    lamina.merge(wide / "recipe.yml", tmp_path / "out", shard_size=5_000_000)
    sharded = read_checkpoint(tmp_path / "out")
    for file in (tmp_path / "out").glob("*.safetensors"):
        tensors = read_safetensors(file)
        size = sum(sharded.tensors[name].numel() * sharded.tensors[name].element_size() for name in tensors)
        assert size <= 5_000_000 or len(tensors) == 1


def test_the_command_gives_the_bytes_of_the_function(wide: Path, merged: Checkpoint, tmp_path: Path) -> None:
    run = command(
        *("merge", "recipe.yml", tmp_path / "out", "--workers", "2", "--memory", "200MB", "--shard-size", "5GB"),
        cwd=wide,
    )
    assert run.code == 0, run.text
    assert all_bits(read_checkpoint(tmp_path / "out")) == all_bits(merged)


def test_bytes_and_digest_do_not_depend_on_where_the_models_lie(wide: Path, merged: Checkpoint, tmp_path: Path) -> None:
    for name in ("wide_a", "wide_b", "recipe.yml"):
        copy: Callable[..., Any] = shutil.copytree if (wide / name).is_dir() else shutil.copy
        copy(wide / name, tmp_path / name)
    lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    assert all_bits(read_checkpoint(tmp_path / "out")) == all_bits(merged)
    moved, original = lamina.plan(tmp_path / "recipe.yml"), lamina.plan(wide / "recipe.yml")
    assert moved.digest == original.digest
    assert (tmp_path / "out" / "lamina.json").read_text().count(str(tmp_path)) == 0


def test_the_shards_of_the_input_do_not_show_in_the_output(wide: Path, merged: Checkpoint, tmp_path: Path) -> None:
    for name, shards, dtype in (("wide_a", 3, torch.bfloat16), ("wide_b", 2, torch.float32)):
        copy = write_llama(tmp_path / name, 2, vocabulary=VOCABULARY, dtype=dtype, shards=shards)
        assert same_bits(copy.embed, read_checkpoint(wide / name).embed)
    (tmp_path / "recipe.yml").write_text(RECIPE)
    lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    assert all_bits(read_checkpoint(tmp_path / "out")) == all_bits(merged)


def test_another_recipe_has_another_digest(wide: Path) -> None:
    other = wide / "other.yml"
    other.write_text(RECIPE.replace("0.6", "0.5"))
    assert lamina.plan(other).digest != lamina.plan(wide / "recipe.yml").digest


def test_a_recipe_that_is_only_laid_out_differently_has_the_same_digest_of_work(wide: Path) -> None:
    other = wide / "comments.yml"
    other.write_text("# the same request, with a comment\n" + RECIPE)
    ours = {job.name: str(job.expr) for job in lamina.plan(other).jobs}
    theirs = {job.name: str(job.expr) for job in lamina.plan(wide / "recipe.yml").jobs}
    assert ours == theirs
