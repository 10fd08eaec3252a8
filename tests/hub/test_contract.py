"""What every checkpoint promises, whatever its files are. A new kind of files inherits the contract."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lamina.checkpoints.checkpoint import Checkpoint, open_checkpoint
from lamina.checkpoints.formats import open_tensors
from lamina.checkpoints.hub import open_hub_files
from lamina.checkpoints.hub_client import HubOptions
from lamina.errors import CheckpointError

from .models import as_pickles, specs, write_model
from .server import HubServer

NAME = "model.layers.2.mlp.up_proj.weight"


class CheckpointContract:
    """Tests of an open checkpoint that must be the same model as the folder it was made of."""

    @pytest.fixture
    def original(self, tmp_path: Path) -> Path:
        """The model as it was made."""
        return write_model(tmp_path / "original" / "m", layers=4, shards=3)

    @pytest.fixture
    def folder(self, original: Path) -> Path:
        """The same model in the files that the checkpoint is to read."""
        return original

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        raise NotImplementedError

    def test_specs_are_known_before_anything_is_fetched(self, checkpoint: Checkpoint) -> None:
        assert dict(checkpoint.specs) == specs(4)

    def test_bytes_are_those_of_the_files_from_any_offset(self, checkpoint: Checkpoint, original: Path) -> None:
        checkpoint.fetch([NAME])
        entry = open_tensors(original / "model-00003-of-00003.safetensors")[NAME]
        whole = (original / "model-00003-of-00003.safetensors").read_bytes()[entry.offset :][: entry.spec.nbytes]
        assert checkpoint.read(NAME) == whole
        buffer = bytearray(5)
        checkpoint.read_into(NAME, 7, memoryview(buffer))
        assert bytes(buffer) == whole[7:12]

    def test_what_is_fetched_is_counted_before_and_is_no_more_to_fetch_after(self, checkpoint: Checkpoint) -> None:
        announced, arrived = checkpoint.bytes_to_fetch([NAME]), []
        checkpoint.fetch([NAME], lambda _file, nbytes: arrived.append(nbytes))
        assert sum(arrived) == announced
        assert checkpoint.bytes_to_fetch([NAME]) == 0
        checkpoint.fetch([NAME], lambda _file, nbytes: arrived.append(nbytes))
        assert sum(arrived) == announced

    def test_fingerprint_and_sample_are_those_of_the_model(self, checkpoint: Checkpoint, original: Path) -> None:
        local = open_checkpoint(original)
        assert checkpoint.fingerprint == local.fingerprint
        names = [name for name in checkpoint.specs if ".layers.2." in name]
        checkpoint.fetch(names)
        assert checkpoint.sample(names) == local.sample(names)

    def test_files_are_listed_and_read(self, checkpoint: Checkpoint, folder: Path) -> None:
        assert list(checkpoint.files.names()) == sorted(path.name for path in folder.iterdir())
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            assert checkpoint.files.read(name) == (folder / name).read_bytes()

    def test_a_file_that_is_not_there_is_a_letter(self, checkpoint: Checkpoint) -> None:
        with pytest.raises(CheckpointError, match=r"absent\.json"):
            checkpoint.files.read("absent.json")

    def test_it_can_be_closed_twice_and_read_after(self, checkpoint: Checkpoint) -> None:
        checkpoint.fetch([NAME])
        before = checkpoint.read(NAME)
        checkpoint.close()
        checkpoint.close()
        assert checkpoint.read(NAME) == before
        checkpoint.close()


class TestLocalFolder(CheckpointContract):
    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return open_checkpoint(folder)


class TestHub(CheckpointContract):
    @pytest.fixture
    def checkpoint(self, folder: Path, server: HubServer) -> Checkpoint:
        server.add("org/m", folder)
        return open_checkpoint(open_hub_files("org/m", None, HubOptions()))


class TestHubFromTheCacheAlone(CheckpointContract):
    @pytest.fixture
    def checkpoint(self, folder: Path, server: HubServer) -> Checkpoint:
        server.add("org/m", folder)
        filled = open_checkpoint(open_hub_files("org/m", None, HubOptions()))
        filled.fetch(filled.specs)
        for name in filled.files.names():
            filled.files.read(name)
        server.stop()
        return open_checkpoint(open_hub_files("org/m", None, HubOptions(offline=True)))


class Pickled:
    """The same model as pickles."""

    @pytest.fixture
    def folder(self, original: Path, tmp_path: Path) -> Path:
        return as_pickles(Path(shutil.copytree(original, tmp_path / "pickled" / "m")))


class TestPickledLocalFolder(Pickled, TestLocalFolder): ...


class TestPickledHub(Pickled, TestHub): ...


class TestPickledHubFromTheCacheAlone(Pickled, TestHubFromTheCacheAlone): ...
