"""What lies in the published folder, when it appears, and when it does not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import lamina
from lamina.errors import LaminaError

from .checkpoints import SIDE_FILES, Checkpoint, all_bits, read_checkpoint, write_checkpoint, write_llama
from .conftest import ENVIRONMENT, command

RECIPE = """\
# a comment, and spaces that   mean nothing: kept all the same
models:
  - {model: x, parameters: {weight: 0.3}}
  - {model: y, parameters: {weight: 0.7}}   # y weighs more

merge_method: linear
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with two small models and the recipe of their mean."""
    write_llama(tmp_path / "x", 2)
    write_llama(tmp_path / "y", 2)
    (tmp_path / "recipe.yml").write_text(RECIPE)
    return tmp_path


def merged(desk: Path, **options: bool) -> Checkpoint:
    lamina.merge(desk / "recipe.yml", desk / "out", **options)
    return read_checkpoint(desk / "out")


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"x", "y", "recipe.yml", "other.yml"}


# Files beside the tensors


@pytest.mark.parametrize("name", SIDE_FILES)
def test_side_files_of_the_first_model_are_carried(desk: Path, name: str) -> None:
    merged(desk)
    assert (desk / "out" / name).read_bytes() == (desk / "x" / name).read_bytes()


def test_older_tokenizer_files_are_carried_too(desk: Path) -> None:
    files = {
        "tokenizer.model": b"\x0a\x00binary",
        "added_tokens.json": b"{}",
        "merges.txt": b"a b\n",
        "vocab.json": b'{"a": 0}',
    }
    for name, content in files.items():
        (desk / "x" / name).write_bytes(content)
    merged(desk)
    assert {name: (desk / "out" / name).read_bytes() for name in files} == files


def test_weights_and_notes_of_the_donor_are_not_carried(desk: Path) -> None:
    for name in ("README.md", "pytorch_model.bin", "training_args.bin", "optimizer.pt", "consolidated.00.pth"):
        (desk / "x" / name).write_bytes(b"not yours")
    merged(desk)
    carried = [path.name for path in (desk / "out").iterdir() if path.read_bytes() == b"not yours"]
    assert carried == []


def test_the_recipe_is_kept_byte_for_byte(desk: Path) -> None:
    merged(desk)
    assert (desk / "out" / "mergekit_config.yml").read_bytes() == RECIPE.encode()


def test_a_recipe_with_windows_line_ends_is_kept_byte_for_byte(desk: Path) -> None:
    text = RECIPE.replace("\n", "\r\n").encode()
    (desk / "recipe.yml").write_bytes(text)
    merged(desk)
    assert (desk / "out" / "mergekit_config.yml").read_bytes() == text


def test_the_card_names_the_method_and_the_models(desk: Path) -> None:
    merged(desk)
    card = (desk / "out" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "library_name: transformers" in card
    assert "linear" in card.lower()
    assert str(desk) not in card


def test_lamina_json_is_valid_and_free_of_absolute_paths(desk: Path) -> None:
    text = RECIPE.replace("model: x", f"model: {desk / 'x'}")
    (desk / "recipe.yml").write_text(text)
    merged(desk)
    record = (desk / "out" / "lamina.json").read_text()
    assert isinstance(json.loads(record), dict)
    assert str(desk) not in record


def test_nothing_of_the_run_is_left_beside_the_output(desk: Path) -> None:
    merged(desk)
    assert visible(desk) == {"out"}


def test_output_files_have_the_permissions_of_ordinary_files(desk: Path) -> None:
    before = os.umask(0o022)
    try:
        merged(desk)
    finally:
        os.umask(before)
    for path in (desk / "out").iterdir():
        assert path.stat().st_mode & 0o777 == 0o644, path.name
    assert (desk / "out").stat().st_mode & 0o777 == 0o755


# Where models are looked for


def test_models_are_found_beside_the_recipe_from_any_working_directory(
    desk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert merged(desk).depth == 2


def test_models_are_found_in_the_working_directory_where_the_recipe_has_none(
    desk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = tmp_path_factory.mktemp("recipes") / "recipe.yml"
    recipe.write_text(RECIPE)
    monkeypatch.chdir(desk)
    lamina.merge(recipe, desk / "out")
    from_here = read_checkpoint(desk / "out")
    assert from_here.depth == 2


def test_the_folder_of_the_recipe_comes_before_the_working_directory(
    desk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = all_bits(merged(desk))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("x", "y"):
        write_llama(elsewhere / "three" / name, 3)
        (elsewhere / "three" / name).rename(elsewhere / name)
    monkeypatch.chdir(elsewhere)
    lamina.merge(desk / "recipe.yml", elsewhere / "out")
    assert all_bits(read_checkpoint(elsewhere / "out")) == expected


@pytest.mark.parametrize("spelling", ["./x", "x/", "../{desk}/x", "{absolute}/x"])
def test_a_model_may_be_spelled_as_any_path(desk: Path, spelling: str) -> None:
    expected = all_bits(merged(desk))
    spelled = spelling.format(desk=desk.name, absolute=desk)
    (desk / "other.yml").write_text(RECIPE.replace("model: x", f"model: {spelled}"))
    lamina.merge(desk / "other.yml", desk / "second")
    assert all_bits(read_checkpoint(desk / "second")) == expected


def test_shards_may_be_links_as_in_the_cache_of_the_hub(desk: Path) -> None:
    expected = all_bits(merged(desk))
    blobs = desk / "blobs"
    blobs.mkdir()
    (desk / "x" / "model.safetensors").rename(blobs / "4c0ffee")
    (desk / "x" / "model.safetensors").symlink_to("../blobs/4c0ffee")
    lamina.merge(desk / "recipe.yml", desk / "second")
    assert all_bits(read_checkpoint(desk / "second")) == expected


# An output that exists


def test_the_same_command_again_says_already_there(desk: Path) -> None:
    first = command("merge", "recipe.yml", "out", cwd=desk)
    assert first.code == 0, first.text
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (desk / "out").iterdir()}
    second = command("merge", "recipe.yml", "out", cwd=desk)
    assert second.code == 0, second.text
    assert "already there" in second.text
    after = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (desk / "out").iterdir()}
    assert after == before


def test_another_recipe_on_an_existing_output_is_refused_and_force_replaces_it(desk: Path) -> None:
    before = all_bits(merged(desk))
    (desk / "other.yml").write_text(RECIPE.replace("0.3", "0.5"))
    refused = command("merge", "other.yml", "out", cwd=desk)
    assert refused.code == 2, refused.text
    assert "--force" in refused.text
    assert all_bits(read_checkpoint(desk / "out")) == before

    forced = command("merge", "other.yml", "out", "--force", cwd=desk)
    assert forced.code == 0, forced.text
    assert all_bits(read_checkpoint(desk / "out")) != before
    assert (desk / "out" / "mergekit_config.yml").read_text() == RECIPE.replace("0.3", "0.5")
    assert visible(desk) == {"out"}


def test_a_folder_of_somebody_elses_is_refused_and_left_alone(desk: Path) -> None:
    (desk / "out").mkdir()
    (desk / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(LaminaError):
        lamina.merge(desk / "recipe.yml", desk / "out")
    assert [path.name for path in (desk / "out").iterdir()] == ["thesis.txt"]


def test_an_input_model_is_no_output(desk: Path) -> None:
    before = all_bits(read_checkpoint(desk / "x"))
    with pytest.raises(LaminaError):
        lamina.merge(desk / "recipe.yml", desk / "x")
    assert all_bits(read_checkpoint(desk / "x")) == before


@pytest.mark.parametrize("out", ["x", "."], ids=["an input", "the folder of inputs and recipe"])
def test_force_does_not_destroy_what_the_merge_is_made_of(desk: Path, out: str) -> None:
    before = all_bits(read_checkpoint(desk / "x"))
    with pytest.raises(LaminaError):
        lamina.merge(desk / "recipe.yml", desk / out, force=True)
    assert (desk / "recipe.yml").read_text() == RECIPE
    assert all_bits(read_checkpoint(desk / "x")) == before
    assert visible(desk) == set()


def test_an_output_that_lost_its_weights_is_not_already_there(desk: Path) -> None:
    expected = all_bits(merged(desk))
    (desk / "out" / "model.safetensors").unlink()
    with contextlib.suppress(LaminaError):
        lamina.merge(desk / "recipe.yml", desk / "out")
        assert all_bits(read_checkpoint(desk / "out")) == expected


def test_inputs_that_changed_are_not_already_there(desk: Path) -> None:
    merged(desk)
    tensors = {name: tensor + 1 for name, tensor in read_checkpoint(desk / "x").tensors.items()}
    save_file(tensors, desk / "x" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LaminaError):
        lamina.merge(desk / "recipe.yml", desk / "out")


def test_two_merges_into_one_folder_do_not_mix(desk: Path) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "lamina", "merge", "recipe.yml", "out"],
            cwd=desk,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    codes = [run.wait(timeout=60) for run in runs]
    assert 0 in codes
    assert set(codes) <= {0, 2}
    ours = all_bits(read_checkpoint(desk / "out"))
    lamina.merge(desk / "recipe.yml", desk / "second")
    assert ours == all_bits(read_checkpoint(desk / "second"))


def test_an_empty_folder_is_filled(desk: Path) -> None:
    (desk / "out").mkdir()
    assert merged(desk).depth == 2


def test_a_file_in_the_place_of_the_output_is_refused(desk: Path) -> None:
    (desk / "out").write_text("a file")
    with pytest.raises(LaminaError):
        lamina.merge(desk / "recipe.yml", desk / "out")
    assert (desk / "out").read_text() == "a file"


def test_missing_parents_of_the_output_are_made(desk: Path) -> None:
    lamina.merge(desk / "recipe.yml", desk / "deep" / "er" / "out")
    assert read_checkpoint(desk / "deep" / "er" / "out").depth == 2


# Failures leave nothing


def test_a_truncated_shard_leaves_no_output(desk: Path) -> None:
    shard = desk / "y" / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    run = command("merge", "recipe.yml", "out", cwd=desk)
    assert run.code in (1, 2), run.text
    assert "model.safetensors" in run.text
    assert not (desk / "out").exists()


def test_an_overflow_that_no_input_explains_is_an_error_and_leaves_no_output(desk: Path) -> None:
    for name in ("x", "y"):
        write_llama(desk / "half" / name, 2, dtype=torch.float16)
    (desk / "other.yml").write_text("""
models:
  - {model: half/x, parameters: {weight: 100000}}
  - {model: half/y, parameters: {weight: 1}}
merge_method: linear
parameters: {normalize: false}
""")
    run = command("merge", "other.yml", "out", cwd=desk)
    assert run.code == 1, run.text
    assert not (desk / "out").exists()


def test_a_failed_merge_goes_through_when_its_cause_is_gone(desk: Path) -> None:
    broken = dict(read_checkpoint(desk / "x").tensors)
    config = read_checkpoint(desk / "x").config
    expected = all_bits(merged(desk))
    poisoned = {name: torch.full_like(tensor, 3e38) for name, tensor in broken.items()}
    write_checkpoint(desk / "z", poisoned, config)
    (desk / "other.yml").write_text(
        RECIPE.replace("model: x", "model: z").replace("0.3", "9") + "parameters: {normalize: false}\n"
    )
    with pytest.raises(LaminaError):
        lamina.merge(desk / "other.yml", desk / "second")
    assert not (desk / "second").exists()
    lamina.merge(desk / "recipe.yml", desk / "second")
    assert all_bits(read_checkpoint(desk / "second")) == expected


def test_a_nan_in_an_input_is_passed_on(desk: Path) -> None:
    source = read_checkpoint(desk / "x")
    name = "model.layers.0.mlp.up_proj.weight"
    damaged = {n: tensor.clone() for n, tensor in source.tensors.items()}
    damaged[name][1, 2] = float("nan")
    write_checkpoint(desk / "damaged", damaged, source.config)
    (desk / "other.yml").write_text(RECIPE.replace("model: x", "model: damaged"))
    lamina.merge(desk / "other.yml", desk / "out")
    result = read_checkpoint(desk / "out")
    assert torch.isnan(result.tensors[name]).nonzero().tolist() == [[1, 2]]
    assert not any(torch.isnan(tensor).any() for n, tensor in result.tensors.items() if n != name)


@pytest.mark.skipif(os.name == "nt", reason="there no signal is sent to another process")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_an_interrupted_merge_shows_nothing_and_the_same_command_goes_on(desk: Path, how: str) -> None:
    for name in ("x", "y"):
        write_llama(desk / "big" / name, 2, vocabulary=400_000, dtype=torch.float32)
    (desk / "other.yml").write_text(RECIPE.replace("model: ", "model: big/"))
    run = subprocess.Popen(
        [sys.executable, "-m", "lamina", "merge", "other.yml", "out", "--workers", "1"],
        cwd=desk,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while run.poll() is None and not (desk / ".out.lamina").exists():
        time.sleep(0.001)
    time.sleep(0.01)
    run.send_signal(signal.Signals[how])
    code = run.wait(timeout=30)
    if code == 0:  # it was faster than the signal
        assert (desk / "out" / "config.json").exists()
    else:
        assert code == (130 if how == "SIGINT" else -signal.SIGKILL)
        assert not (desk / "out").exists()

    lamina.merge(desk / "other.yml", desk / "out")
    lamina.merge(desk / "other.yml", desk / "second")
    assert all_bits(read_checkpoint(desk / "out")) == all_bits(read_checkpoint(desk / "second"))
    assert not (desk / ".out.lamina").exists()
