"""The writer: an output appears whole or not at all, whatever dies, fails or stands in the way."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from lamina.checkpoints import files, staging
from lamina.checkpoints.journal import Finished
from lamina.checkpoints.layout import INDEX_NAME, Layout, lay_out
from lamina.checkpoints.staging import staging_of
from lamina.checkpoints.writer import CheckpointWriter, check_output, damage, made_by
from lamina.errors import LaminaError, OutputError, WriteFailed
from lamina.tensor_spec import DTYPES, TensorSpec

U8 = DTYPES["U8"]
WRITES_ALREADY = "another process is" if os.name == "nt" else rf"another process \({os.getpid()}\) is writing"
LAYOUT = lay_out({"a": TensorSpec((4,), U8), "b": TensorSpec((3,), U8)}, shard_size=4)  # two files


# What is published


def test_tensors_appear_with_what_was_put_in_any_order(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with CheckpointWriter(LAYOUT, out) as sink:
        sink.put("b", 0, memoryview(b"xyz"))
        sink.put("a", 2, memoryview(b"cd"))
        sink.put("a", 0, memoryview(b"ab"))
        finish_all(sink)
        sink.publish({"config.json": b"{}"})
    assert content_of(out) == {"a": b"abcd", "b": b"xyz"}
    assert names_in(out) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        INDEX_NAME,
    ]
    assert (out / INDEX_NAME).read_bytes() == LAYOUT.index_json


def test_a_single_file_has_no_index(tmp_path: Path) -> None:
    publish(tmp_path / "out", lay_out({"a": TensorSpec((4,), U8)}))
    assert names_in(tmp_path / "out") == ["model.safetensors"]


def test_many_threads_put_at_once(tmp_path: Path) -> None:
    layout = lay_out({f"t{number}": TensorSpec((1000,), U8) for number in range(16)}, shard_size=3000)
    with CheckpointWriter(layout, tmp_path / "out") as sink:

        def put(number: int) -> None:
            for first in range(0, 1000, 100):
                sink.put(f"t{number}", first, memoryview(bytes([number]) * 100))

        threads = [threading.Thread(target=put, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        finish_all(sink)
        sink.publish({})
    assert content_of(tmp_path / "out") == {f"t{number}": bytes([number]) * 1000 for number in range(16)}


def test_folders_above_the_output_are_made(tmp_path: Path) -> None:
    publish(tmp_path / "new" / "deep" / "out")
    assert names_in(tmp_path / "new" / "deep") == ["out"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    publish(tmp_path / "out")
    assert content_of(tmp_path / "out") == {"a": b"aaaa", "b": b"bbb"}
    assert names_in(tmp_path) == ["out"]


def test_what_stood_there_is_replaced_whole(tmp_path: Path) -> None:
    old_output(tmp_path / "out")
    publish(tmp_path / "out")
    assert "precious.txt" not in names_in(tmp_path / "out")
    assert names_in(tmp_path) == ["out"]


# What is visible before, and without, publishing


def test_nothing_is_visible_before_it_is_published(tmp_path: Path) -> None:
    with CheckpointWriter(LAYOUT, tmp_path / "out") as sink:
        put_all(sink)
        assert names_in(tmp_path) == [".out.lamina"]
        sink.publish({})
        assert "out" in names_in(tmp_path)


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), CheckpointWriter(LAYOUT, tmp_path / "out") as sink:
        sink.put("no such tensor", 0, memoryview(b"abcd"))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, SystemExit])
def test_a_run_that_is_stopped_leaves_what_stood_there(stopped_by: type[BaseException], tmp_path: Path) -> None:
    old_output(tmp_path / "out")
    with pytest.raises(stopped_by), CheckpointWriter(LAYOUT, tmp_path / "out"):
        raise stopped_by
    assert names_in(tmp_path) == ["out"]
    assert names_in(tmp_path / "out") == ["precious.txt"]


# When the disk refuses. Each call that reaches the disk fails in turn; `tmp_path` is looked at afterwards.


def failing(number: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, which the disk refuses the `number`-th time."""
    calls = 0

    def refused(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return call(*arguments, **named)

    return refused


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("call", ["open", "fsync", "pwrite", "posix_fallocate"])
def test_a_disk_that_refuses_is_a_letter_and_leaves_what_stood_there(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors = open_descriptors()
    old_output(tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(files.os, call, failing(number, getattr(os, call)))
        try:
            publish(tmp_path / "out")
        except WriteFailed as error:
            assert "no space left" in str(error)  # noqa: PT017 (some numbers are never reached)
        else:
            assert number > 3, f"{call} was called fewer than {number} times"
            return
    kept = names_in(tmp_path / "out") == ["precious.txt"]
    assert kept or content_of(tmp_path / "out") == {"a": b"aaaa", "b": b"bbb"}
    assert open_descriptors() == descriptors, "files or the lock were left open"
    publish(tmp_path / "out")  # and the next run is free to go
    assert content_of(tmp_path / "out") == {"a": b"aaaa", "b": b"bbb"}
    assert names_in(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_rename_that_fails_gives_back_what_stood_there(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_output(tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing(number, Path.rename))
        with pytest.raises(WriteFailed):
            publish(tmp_path / "out")
    assert names_in(tmp_path / "out") == ["precious.txt"]
    publish(tmp_path / "out")
    assert names_in(tmp_path) == ["out"]


def test_ctrl_c_between_the_two_renames_gives_back_what_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_output(tmp_path / "out")
    move, moves = staging.move, []

    def interrupted(source: Path, target: Path) -> None:
        moves.append(target)
        if len(moves) == 2:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(staging, "move", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "out")
    assert names_in(tmp_path / "out") == ["precious.txt"]


# A run that died


def test_half_made_files_of_a_dead_run_are_removed(tmp_path: Path) -> None:
    staging = staging_of(tmp_path / "out").folder
    (staging / "content").mkdir(parents=True)
    (staging / "content" / "left-over.bin").write_bytes(b"half")
    (staging / "lock").touch()
    publish(tmp_path / "out")
    assert "left-over.bin" not in names_in(tmp_path / "out")
    assert names_in(tmp_path) == ["out"]


def test_an_output_moved_aside_by_a_dead_run_comes_back(tmp_path: Path) -> None:
    """The run died between the two renames, and the next one is stopped: the user's folder is where it was."""
    old_output(staging_of(tmp_path / "out").folder / "replaced")
    with pytest.raises(KeyboardInterrupt), CheckpointWriter(LAYOUT, tmp_path / "out"):
        raise KeyboardInterrupt
    assert names_in(tmp_path) == ["out"]
    assert names_in(tmp_path / "out") == ["precious.txt"]


def test_an_old_output_that_a_dead_run_had_replaced_is_removed(tmp_path: Path) -> None:
    """The run died after the second rename: the new folder is whole, the old one is in the way."""
    publish(tmp_path / "out")
    old_output(staging_of(tmp_path / "out").folder / "replaced")
    with pytest.raises(KeyboardInterrupt), CheckpointWriter(LAYOUT, tmp_path / "out"):
        raise KeyboardInterrupt
    assert names_in(tmp_path) == ["out"]
    assert content_of(tmp_path / "out") == {"a": b"aaaa", "b": b"bbb"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_place_that_holds_no_files_is_not_told_to_be_a_full_disk() -> None:
    with pytest.raises(OutputError, match=r"^/proc/out cannot be made: what is mounted there holds no files"):
        check_output(Path("/proc/out"), 10, [])


def test_a_killed_process_leaves_an_output_that_can_be_written_again(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from lamina.checkpoints.layout import lay_out\n"
        "from lamina.checkpoints.writer import CheckpointWriter\n"
        "from lamina.tensor_spec import DTYPES, TensorSpec\n"
        "sink = CheckpointWriter(lay_out({'a': TensorSpec((4,), DTYPES['U8'])}), Path(sys.argv[1]))\n"
        "sink.put('a', 0, memoryview(b'half'))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], check=False)
    assert died.returncode == -9
    assert names_in(tmp_path) == [".out.lamina"]
    publish(tmp_path / "out")
    assert content_of(tmp_path / "out") == {"a": b"aaaa", "b": b"bbb"}
    assert names_in(tmp_path) == ["out"]


# Two at once


def test_a_second_writer_is_refused_and_does_not_disturb_the_first(tmp_path: Path) -> None:
    with CheckpointWriter(LAYOUT, tmp_path / "out") as sink:
        put_all(sink)
        with pytest.raises(OutputError, match=WRITES_ALREADY):
            CheckpointWriter(LAYOUT, tmp_path / "out")
        with CheckpointWriter(LAYOUT, tmp_path / "other") as other:
            put_all(other)
            other.publish({})
        sink.publish({})
    assert content_of(tmp_path / "out") == {"a": b"aaaa", "b": b"bbb"}


# The door


@pytest.mark.parametrize("name", ["absent", "empty", "full", "deep/down"])
def test_a_folder_in_any_state_can_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    old_output(tmp_path / "full")
    check_output(tmp_path / name, 10, [])


def test_an_output_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file", "link", "dangling"):
        with pytest.raises(OutputError, match="not a folder"):
            check_output(tmp_path / name, 10, [])


def test_an_output_that_holds_an_input_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "models" / "base"
    model.mkdir(parents=True)
    for out in (model, tmp_path / "models"):
        with pytest.raises(OutputError, match="of which the merge is made"):
            check_output(out, 10, [model])
    check_output(model / "merged", 10, [model])


def test_more_than_the_disk_holds_is_refused_with_both_figures(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"needs 1000000000\.0 GB and [\d.]+ [KMG]B are free"):
        check_output(tmp_path / "out", 10**18, [])


def test_a_parent_that_cannot_hold_a_folder_is_a_letter(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaminaError):
        CheckpointWriter(LAYOUT, tmp_path / "file" / "out")


# What made a folder


def test_a_folder_says_what_it_was_made_by(tmp_path: Path) -> None:
    (tmp_path / "lamina.json").write_text(json.dumps({"plan": "4d7a"}))
    assert made_by(tmp_path) == {"plan": "4d7a"}


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff", b"[" * 100_000, b"9" * 5000], ids=range(6))
def test_any_other_folder_was_made_by_nobody(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "lamina.json").write_bytes(content)
    assert made_by(tmp_path) == {}


def test_a_file_that_is_missing_or_cut_off_is_damage(tmp_path: Path) -> None:
    (tmp_path / "lamina.json").write_text(json.dumps({"files": {"a.bin": 3, "b.bin": 2}}))
    (tmp_path / "a.bin").write_bytes(b"abc")
    assert damage(tmp_path) == ["b.bin"]
    (tmp_path / "b.bin").write_bytes(b"ab")
    assert damage(tmp_path) == []
    (tmp_path / "a.bin").write_bytes(b"ab")
    assert damage(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("content", [{"files": 3}, {"files": ["a.bin"]}, {"files": None}, {"plan": "4d7a"}], ids=str)
def test_a_record_that_lists_no_files_is_looked_at_without_a_crash(content: object, tmp_path: Path) -> None:
    (tmp_path / "lamina.json").write_text(json.dumps(content))
    damage(tmp_path)


# Helpers


def put_all(sink: CheckpointWriter) -> None:
    for name, place in sink._layout.places.items():
        sink.put(name, 0, memoryview(name.encode() * place.nbytes))
    finish_all(sink)


def finish_all(sink: CheckpointWriter) -> None:
    for name in sink._layout.places:
        sink.finish(Finished(name, digest=""))


def publish(out: Path, layout: Layout = LAYOUT) -> None:
    with CheckpointWriter(layout, out) as sink:
        put_all(sink)
        sink.publish({})


def old_output(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "precious.txt").write_text("of the user")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content_of(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            found |= {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118 (not a mapping)
    return found


def open_descriptors() -> set[str]:
    """What this process has open, where the system tells."""
    listing = Path("/proc/self/fd")
    return {path.name for path in listing.iterdir() if path.exists()} if listing.exists() else set()
