"""Input folders: found as transformers finds them, read at offsets, refused with a letter."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lamina.checkpoints.checkpoint import (
    MAX_SAMPLES,
    Checkpoint,
    FetchProgress,
    LocalFiles,
    open_checkpoint,
    read_json,
)
from lamina.checkpoints.entries import Entry
from lamina.checkpoints.layout import INDEX_NAME
from lamina.errors import CheckpointError, InputChanged
from lamina.tensor_spec import BF16, F32, TensorSpec


def test_a_single_file_is_opened(tmp_path: Path) -> None:
    save(tmp_path, {"a": torch.tensor([1.0, 2.0]), "b": torch.zeros(2, 3, dtype=torch.bfloat16)})
    assert open_checkpoint(tmp_path).specs == {"a": TensorSpec((2,), F32), "b": TensorSpec((2, 3), BF16)}


def test_bytes_are_read_from_anywhere_in_a_tensor(tmp_path: Path) -> None:
    save(tmp_path, {"before": torch.zeros(3), "a": torch.arange(10, dtype=torch.uint8)})
    checkpoint = open_checkpoint(tmp_path)
    buffer = bytearray(4)
    checkpoint.read_into("a", 3, memoryview(buffer))
    assert list(buffer) == [3, 4, 5, 6]
    assert list(checkpoint.read("a")) == list(range(10))


def test_an_index_comes_before_a_single_file(tmp_path: Path) -> None:
    save(tmp_path, {"old": torch.zeros(1)})
    save_sharded(tmp_path, {"x.safetensors": {"new": torch.ones(1)}})
    assert set(open_checkpoint(tmp_path).specs) == {"new"}


def test_safetensors_come_before_pickles_and_an_index_before_a_single_file(tmp_path: Path) -> None:
    homes = [
        ("model.pt", "pt"),
        ("pytorch_model.bin", "single pickle"),
        ("pytorch_model.bin.index.json", "indexed pickle"),
        ("model.safetensors", "single"),
        (INDEX_NAME, "indexed"),
    ]
    for file, name in homes:
        tensors = {name: torch.zeros(1)}
        if file.endswith("index.json"):
            shard = f"{name}.safetensors" if name == "indexed" else f"{name}.bin"
            (tmp_path / file).write_text(json.dumps({"weight_map": {name: shard}}))
            file = shard
        save_file(tensors, tmp_path / file) if file.endswith("safetensors") else torch.save(tensors, tmp_path / file)
        assert set(open_checkpoint(tmp_path).specs) == {name}


def test_shards_are_read_as_one_model(tmp_path: Path) -> None:
    save_sharded(tmp_path, {"1.safetensors": {"a": torch.tensor([1.0])}, "2.safetensors": {"b": torch.tensor([2.0])}})
    checkpoint = open_checkpoint(tmp_path)
    assert {name: values(checkpoint, name) for name in checkpoint.specs} == {"a": [1.0], "b": [2.0]}


def test_a_tensor_in_two_shards_is_taken_from_the_one_that_the_index_names(tmp_path: Path) -> None:
    shards = {"1.safetensors": {"a": torch.tensor([1.0])}, "2.safetensors": {"a": torch.tensor([2.0])}}
    for home, expected in (("1.safetensors", [1.0]), ("2.safetensors", [2.0])):
        save_sharded(tmp_path, shards)
        write_index(tmp_path, {"a": home})
        assert values(open_checkpoint(tmp_path), "a") == expected


def test_a_tensor_that_the_index_forgets_is_there_all_the_same(tmp_path: Path) -> None:
    save(tmp_path, {"a": torch.zeros(1), "forgotten": torch.ones(1)}, "1.safetensors")
    write_index(tmp_path, {"a": "1.safetensors"})
    assert set(open_checkpoint(tmp_path).specs) == {"a", "forgotten"}


def test_a_shard_may_be_a_link_as_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    save(tmp_path / "blobs", {"a": torch.tensor([7.0])}, "4d7a")
    (tmp_path / "snapshot" / "model.safetensors").symlink_to("../blobs/4d7a")
    assert values(open_checkpoint(tmp_path / "snapshot"), "a") == [7.0]


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    tensors = {f"t{number}": torch.full((1000,), number, dtype=torch.uint8) for number in range(20)}
    save(tmp_path, tensors)
    checkpoint = open_checkpoint(tmp_path)
    found: dict[str, set[int]] = {}

    def read(name: str) -> None:
        found[name] = {byte for _ in range(50) for byte in checkpoint.read(name)}

    threads = [threading.Thread(target=read, args=(name,)) for name in tensors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {f"t{number}": {number} for number in range(20)}


def test_pickled_shards_are_read_as_one_model(tmp_path: Path) -> None:
    both = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    torch.save({"a": both, "tied": both}, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save({"b": both.t()}, tmp_path / "pytorch_model-00002-of-00002.bin")
    weight_map = {name: f"pytorch_model-0000{number}-of-00002.bin" for name, number in (("a", 1), ("b", 2))}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = open_checkpoint(tmp_path)
    assert {name: values(checkpoint, name) for name in checkpoint.specs} == {
        "a": [1, 2, 3, 4],
        "tied": [1, 2, 3, 4],
        "b": [1, 3, 2, 4],
    }


# Faults


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "gone.safetensors"}, "files that are not there: gone.safetensors"),
        ({"a": "../model.safetensors"}, "outside its folder"),
        ({"a": "/etc/passwd"}, "outside its folder"),
        ({"a": "sub/model.safetensors"}, "outside its folder"),
        ({"a": ".."}, "not there|outside"),
        ({"a": ""}, "not there|outside"),
        ({"a": "nul\0.safetensors"}, "not there"),
        ({"a": "n" * 300}, "not there|too long"),
        ({"elsewhere": "here.safetensors"}, "files that do not hold them: elsewhere"),
        ({"a": 1}, "no `weight_map`"),
        ([], "no `weight_map`"),
        (None, "no `weight_map`"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_index_that_leads_astray_is_a_letter(weight_map: Any, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save(folder, {"a": torch.zeros(1)}, "here.safetensors")
    save(tmp_path, {"a": torch.zeros(1)})
    write_index(folder, weight_map)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(folder)


def test_every_broken_shard_is_told_at_once(tmp_path: Path) -> None:
    for name in ("1.safetensors", "2.safetensors"):
        (tmp_path / name).write_bytes(b"short")
    write_index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    with pytest.raises(CheckpointError, match=r"(?s)1\.safetensors.*2\.safetensors"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("adapter.bin", r"It holds adapter\.bin: if that is the model's state dict.*name it pytorch_model\.bin"),
        ("epoch=3.ckpt", r"It holds epoch=3\.ckpt: if that is"),
        ("consolidated.00.pth", r"It holds consolidated\.00\.pth: if that is"),
        ("model-q4.gguf", r"It holds model-q4\.gguf, which is no model as"),
        ("notes.txt", r"and no pytorch_model\.bin\.$"),
    ],
)
def test_a_folder_without_tensors_says_what_it_holds_instead(there: str, words: str, tmp_path: Path) -> None:
    (tmp_path / there).write_bytes(b"")
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path)


def test_a_folder_that_is_not_there_is_a_letter(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        open_checkpoint(tmp_path / "absent")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"], ids=range(7)
)
def test_json_that_holds_no_mapping_is_a_letter_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_json(tmp_path / "config.json")


def test_a_missing_json_file_is_a_letter(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        read_json(tmp_path / "config.json")


def test_a_file_that_became_shorter_is_a_letter(tmp_path: Path) -> None:
    save(tmp_path, {"a": torch.zeros(100)})
    checkpoint = open_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputChanged, match="became shorter"):
        checkpoint.read("a")


def test_a_file_that_vanished_is_a_letter(tmp_path: Path) -> None:
    save(tmp_path, {"a": torch.zeros(100)})
    checkpoint = open_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputChanged, match="was there when the merge was planned"):
        checkpoint.read("a")


class Away(LocalFiles):
    """Files that are elsewhere until they are fetched, as far as their headers can tell."""

    is_here = False

    def headers(self, names: Sequence[str]) -> dict[str, dict[str, Entry]]:
        found = super().headers(names)
        if self.is_here:
            return found
        return {
            file: {name: replace(entry, offset=None) for name, entry in header.items()}
            for file, header in found.items()
        }

    def fetch(self, names: Iterable[str], progress: FetchProgress) -> None:  # noqa: ARG002
        self.is_here = True


def test_places_are_found_when_the_file_has_come(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1.0, 2.0]), "b": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    checkpoint = open_checkpoint(Away(tmp_path))
    checkpoint.fetch(["a"])
    assert values(checkpoint, "a") == [1, 2]
    assert values(checkpoint, "b") == [1]


@pytest.mark.parametrize("other", [{"a": torch.zeros(3)}, {"b": torch.zeros(2)}], ids=["shape", "name"])
def test_a_file_that_comes_with_other_tensors_is_a_letter(other: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    checkpoint = open_checkpoint(Away(tmp_path))
    torch.save(other, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputChanged, match=r"pytorch_model\.bin holds other tensors"):
        checkpoint.fetch(["a"])


# Digests


def test_the_fingerprint_covers_names_dtypes_and_shapes_and_not_files_or_values(tmp_path: Path) -> None:
    def fingerprint(name: str, tensors: dict[str, torch.Tensor]) -> str:
        (tmp_path / name).mkdir()
        save(tmp_path / name, tensors)
        return open_checkpoint(tmp_path / name).fingerprint

    a, b = torch.zeros(2, 3), torch.zeros(4)
    first = fingerprint("first", {"a": a, "b": b})
    (tmp_path / "sharded").mkdir()
    save_sharded(tmp_path / "sharded", {"2.safetensors": {"b": b + 1}, "1.safetensors": {"a": a}})
    assert open_checkpoint(tmp_path / "sharded").fingerprint == first
    others = [
        fingerprint("shape", {"a": a.reshape(3, 2), "b": b}),
        fingerprint("dtype", {"a": a.half(), "b": b}),
        fingerprint("name", {"a": a, "c": b}),
        fingerprint("fewer", {"a": a}),
    ]
    assert len({first, *others}) == 5


def test_a_sample_sees_a_change_in_the_middle_of_any_tensor(tmp_path: Path) -> None:
    def sample(**tensors: torch.Tensor) -> str:
        save(tmp_path, tensors)
        return open_checkpoint(tmp_path).sample()

    large, small = torch.zeros(10_000), torch.zeros(1)
    before = sample(large=large, small=small)
    assert sample(large=large, small=small) == before
    assert sample(large=large, small=small + 1) != before
    large[5000] = 1
    assert sample(large=large, small=small) != before


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 2047, 5000])
def test_a_sample_reads_at_most_1024_tensors(count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save(tmp_path, {f"t{number:04}": torch.zeros(1) for number in range(count)})
    checkpoint = open_checkpoint(tmp_path)
    reads: list[str] = []
    monkeypatch.setattr(Checkpoint, "read_into", lambda _self, name, _first, _buffer: reads.append(name))
    checkpoint.sample()
    assert min(count, MAX_SAMPLES // 2) <= len(reads) <= MAX_SAMPLES


# Helpers


def save(folder: Path, tensors: dict[str, torch.Tensor], file: str = "model.safetensors") -> None:
    save_file(tensors, folder / file)


def save_sharded(folder: Path, shards: dict[str, dict[str, torch.Tensor]]) -> None:
    for file, tensors in shards.items():
        save(folder, tensors, file)
    write_index(folder, {name: file for file, tensors in shards.items() for name in tensors})


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))


def values(checkpoint: Checkpoint, name: str) -> list[float]:
    return list(torch.frombuffer(bytearray(checkpoint.read(name)), dtype=torch.float32).tolist())
