"""The power goes, the disk is full, errs or is read-only: a letter or the right bytes, never a broken output."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lamina
from lamina.api import forecast
from lamina.checkpoints import files, writer
from lamina.errors import InputChanged, OutputError, WriteFailed

from .power import power_cut_before
from .test_kills import KILLED_OR_DONE, in_child_steps
from .world import READS, RECIPES, STEPS, World, content_of, in_child, interfering, remove

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a child is a fork")
ERRORS = int(os.environ.get("LAMINA_ERRORS", "100"))

Call = Callable[..., Any]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the disk is watched by way of /proc")
@pytest.mark.parametrize("luck", [0, 0.5, 1])
@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing"])
def test_when_the_power_goes_at_any_step_the_same_command_finishes(
    world: World, place: Path, luck: float, replacing: bool
) -> None:
    out = place / "out"

    def prepare() -> None:
        for path in place.iterdir():
            remove(path)
        if replacing:
            shutil.copytree(world.folder / "expected" / "gram", out)

    def merge() -> None:
        world.merge("plain", out, force=replacing)

    prepare()
    steps = in_child_steps(merge, out, keep=prepare)
    for number in range(1, len(steps) + 1):
        prepare()
        assert in_child(power_cut_before(number, place, luck, merge)).code in KILLED_OR_DONE
        where = f"before step {number}, {steps[number - 1]}"
        if out.exists():
            assert content_of(out) in (world.expected["plain"], world.expected["gram"] if replacing else None), where
        end = in_child(merge)
        assert end.code == 0, f"{where}: {end.letter}"
        assert content_of(out) == world.expected["plain"], where
        assert [path.name for path in place.iterdir()] == ["out"], where


def test_any_call_that_errs_is_a_letter_or_does_no_harm(world: World, place: Path) -> None:
    """LAMINA_ERRORS of them, each at a call of its own: of those that change the disk and of those that read."""
    rng = random.Random(0)
    out, letters = place / "out", 0
    for _ in range(ERRORS):
        recipe, number = rng.choice(sorted(RECIPES)), rng.randrange(1, 110)
        code = rng.choice([errno.EIO, errno.ENOSPC, errno.EROFS])
        taken = 0

        def err(name: str, call: Call, arguments: tuple[Any, ...], number: int = number, code: int = code) -> Any:
            nonlocal taken
            taken += 1
            if taken == number:
                raise OSError(errno.EIO if name in READS else code, os.strerror(code))
            return call(*arguments)

        def merge(recipe: str = recipe, err: Call = err) -> None:
            with interfering(err, STEPS + READS):
                world.merge(recipe, out)

        end = in_child(merge)
        assert end.code in (0, 1, 2), f"{recipe}, call {number}: {end}"
        assert (end.code == 0) == (end.letter == "")
        assert not out.exists() or content_of(out) == world.expected[recipe]
        letters += end.code != 0
        again = in_child(lambda recipe=recipe: world.merge(recipe, out))  # type: ignore[misc]
        assert again.code == 0, f"{recipe}, call {number}: {end} and then {again}"
        assert content_of(out) == world.expected[recipe]
        assert [path.name for path in place.iterdir()] == ["out"]
        remove(out)
    assert letters > ERRORS // 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_reads_and_writes_that_do_less_than_asked_are_gone_on_with(world: World, place: Path, recipe: str) -> None:
    rng = random.Random(1)

    def less(name: str, call: Call, arguments: tuple[Any, ...]) -> Any:
        if name == "preadv":
            descriptor, (buffer,), offset = arguments
            return call(descriptor, [buffer[: rng.randint(1, len(buffer))]], offset)
        descriptor, data, *offset = arguments
        return call(descriptor, data[: rng.randint(1, len(data))], *offset)

    def merge() -> None:
        with interfering(less, ("preadv", "pwrite", "write")):
            world.merge(recipe, place / "out")

    assert in_child(merge).code == 0
    assert content_of(place / "out") == world.expected[recipe]


def test_a_sync_that_fails_is_not_believed_afterwards(world: World, place: Path) -> None:
    """After an error Linux forgets what it could not write: what was to be synced is made again."""
    out = place / "out"
    failed = threading.Event()

    def err(name: str, call: Call, arguments: tuple[Any, ...]) -> Any:
        if name == "fdatasync" and not failed.is_set() and _is_shard(arguments[0]):
            failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(*arguments)

    def merge() -> None:
        with interfering(err):
            world.merge("plain", out)

    end = in_child(merge)
    assert end.code == 1
    assert "model.safetensors: input/output error" in end.letter
    assert not out.exists()


def _is_shard(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".safetensors"


# Inputs that do not stay as they are


@pytest.fixture
def own(world: World, place: Path) -> Path:
    """A folder with models of its own, which may be spoilt."""
    for name in ("base", "a", "b"):
        shutil.copytree(world.folder / name, place / name)
    for name, text in RECIPES.items():
        (place / f"{name}.yml").write_text(text)
    return place


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("how", ["grows", "shrinks", "is touched", "is replaced", "vanishes"])
@pytest.mark.parametrize("when", [-5, 1, 12], ids=["sampled", "begun", "underway"])
def test_an_input_that_changes_while_it_is_read_is_a_letter(own: Path, recipe: str, how: str, when: int) -> None:
    shard = own / "b" / "model.safetensors"
    reads = 0

    def spoil(_name: str, call: Call, arguments: tuple[Any, ...]) -> Any:
        nonlocal reads
        reads += 1
        if reads == SAMPLED[recipe] + when:
            if how == "grows":
                with shard.open("ab") as file:
                    file.write(b"more")
            elif how == "shrinks":
                os.truncate(shard, shard.stat().st_size - 1)
            elif how == "is touched":
                os.utime(shard, ns=(1, 1))
            elif how == "is replaced":
                (own / "new").write_bytes(shard.read_bytes())
                (own / "new").rename(shard)
            else:
                shard.unlink()
        return call(*arguments)

    def merge() -> None:
        with interfering(spoil, READS):
            lamina.merge(own / f"{recipe}.yml", own / "out", workers=1)

    end = in_child(merge)
    assert end.code == 1, end
    assert "model.safetensors" in end.letter
    assert not (own / "out").exists()


# Reads of a sample, one a tensor and model, before the first block is read.
SAMPLED = {"plain": 2 * 9, "gram": 2 * 9, "select": 3 * 9}


def test_an_input_that_changed_since_a_run_was_stopped_is_a_letter_with_the_ways_out(own: Path) -> None:
    out, shard = own / "out", own / "b" / "model.safetensors"
    _stop_halfway(own, out)
    before, times = shard.read_bytes(), shard.stat()
    os.utime(shard, ns=(1, 1))
    with pytest.raises(InputChanged) as caught:
        lamina.merge(own / "plain.yml", out)
    assert "b/model.safetensors: changed since this merge was begun" in str(caught.value)
    assert "lamina clean" in str(caught.value)
    assert "--force" in str(caught.value)
    assert str(forecast(own / "plain.yml", out).refusal) == str(caught.value)
    assert forecast(own / "plain.yml", out, force=True).refusal is None

    assert shard.read_bytes() == before
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))  # the old state
    assert lamina.merge(own / "plain.yml", out).resumed > 0


def test_an_input_that_changed_since_a_run_was_stopped_is_merged_as_it_is_with_force(own: Path) -> None:
    _stop_halfway(own, own / "out")
    os.utime(own / "b" / "model.safetensors", ns=(1, 1))
    assert lamina.merge(own / "plain.yml", own / "out", force=True).resumed == 0


def test_another_recipe_begins_anew_and_tells_how_much_was_discarded(own: Path) -> None:
    _stop_halfway(own, own / "out")
    told: list[tuple[int, int]] = []
    lamina.merge(own / "gram.yml", own / "out", resuming=lambda *given: told.append(given))
    [(kept, discarded)] = told
    assert kept == 0
    assert discarded > 0


def _stop_halfway(own: Path, out: Path) -> None:
    """Leave a merge of which some tensors are finished."""
    seen: list[str] = []

    def stop(name: str, _nbytes: int) -> None:
        seen.append(name)
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lamina.merge(own / "plain.yml", out, workers=1, progress=stop)
    assert not out.exists()


# Folders that cannot be written, and disks that are full


def test_a_folder_that_may_not_be_written_is_a_letter_that_names_it(world: World, place: Path) -> None:
    place.chmod(0o555)

    def merge() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write anywhere
        world.merge("plain", place / "out")

    end = in_child(merge)
    assert end.code == OutputError.exit_code
    assert "is not writable" in end.letter
    assert list(place.iterdir()) == []


def test_an_output_in_a_folder_that_may_not_be_written_is_filled_from_inside(world: World, place: Path) -> None:
    out = place / "out"
    out.mkdir()
    out.chmod(0o777)
    place.chmod(0o555)

    def merge() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        world.merge("plain", out)

    assert in_child(merge).code == 0
    assert content_of(out) == world.expected["plain"]


def _may_mount() -> bool:
    try:
        tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    except OSError:
        return False
    return tried.returncode == 0


needs_mount = pytest.mark.skipif(not _may_mount(), reason="mounting a small disk is not permitted here")


def _on_a_disk(place: Path, kilobytes: int, recipe: Path, world: World) -> subprocess.CompletedProcess[str]:
    """Merge into a mount point, in a mount namespace of its own; what it holds at the end is printed."""
    out = place / "out"
    out.mkdir()
    script = (
        f"mount -t tmpfs -o size={kilobytes}k lamina {out} && "
        f"{sys.executable} -m lamina merge {recipe} {out} -q; code=$?; ls -A {out}; "
        f"diff -r {out} {world.folder}/expected/plain >&2; exit $code"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, env=environment)


@needs_mount
def test_a_mount_point_is_filled_from_inside(world: World, place: Path) -> None:
    run = _on_a_disk(place, 1000, world.folder / "plain.yml", world)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == sorted(world.expected["plain"])
    assert run.stderr == ""


@needs_mount
def test_a_disk_without_room_is_a_letter_before_anything_is_read(world: World, place: Path) -> None:
    run = _on_a_disk(place, 8, world.folder / "plain.yml", world)
    assert run.returncode == 2
    assert "are free there" in run.stderr
    assert run.stdout == ""


@needs_mount
@pytest.mark.parametrize("kilobytes", [20, 24, 28, 32])
def test_a_disk_that_runs_full_is_a_letter_and_leaves_no_model(world: World, place: Path, kilobytes: int) -> None:
    """The tensors are reserved at the start; the last small files meet the end of the disk."""
    run = _on_a_disk(place, kilobytes, world.folder / "plain.yml", world)
    if run.returncode == 0:
        assert run.stdout.split() == sorted(world.expected["plain"])
    else:
        assert "no space left" in run.stderr or "are free there" in run.stderr
        assert "config.json" not in run.stdout


# Systems that cannot read and write at an offset, or lock as POSIX does


@pytest.mark.parametrize("recipe", RECIPES)
def test_without_reading_and_writing_at_an_offset_the_bytes_are_the_same(
    world: World, place: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_AT_OFFSETS", False)
    with interfering(_never, ("preadv", "pwrite")):
        lamina.merge(world.folder / f"{recipe}.yml", place / "out", workers=4)
    assert content_of(place / "out") == world.expected[recipe]


def _never(name: str, _call: Call, _arguments: tuple[Any, ...]) -> Any:
    raise AssertionError(f"{name} was called")


class _LocksOfWindows:
    """The part of msvcrt that is used: a file is known by what it is, not by who opened it."""

    LK_NBLCK = 1
    held: dict[int, int] = {}  # noqa: RUF012 (inode -> descriptor)

    @classmethod
    def locking(cls, descriptor: int, _mode: int, _nbytes: int) -> None:
        inode = os.fstat(descriptor).st_ino
        if inode in cls.held and _is_open(cls.held[inode], inode):
            raise PermissionError(errno.EACCES, "permission denied")
        cls.held[inode] = descriptor


def _is_open(descriptor: int, inode: int) -> bool:
    try:
        return os.fstat(descriptor).st_ino == inode
    except OSError:
        return False


def test_where_locks_are_those_of_windows_a_second_writer_is_refused(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", _LocksOfWindows)
    refused = []

    def again(_name: str, _nbytes: int) -> None:
        if not refused:
            with pytest.raises(OutputError, match=r"another process .*is writing"):
                lamina.merge(world.folder / "gram.yml", place / "out")
            refused.append(True)

    lamina.merge(world.folder / "plain.yml", place / "out", workers=1, progress=again)
    assert refused
    assert content_of(place / "out") == world.expected["plain"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="what is open is read from /proc")
def test_nothing_that_is_renamed_is_open(world: World, place: Path) -> None:
    """Windows would refuse."""
    renamed: list[str] = []

    def look(name: str, call: Call, arguments: tuple[Any, ...]) -> Any:
        if name == "rename":
            source = str(arguments[0])
            renamed.append(source)
            links = [Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]  # noqa: PTH208
            assert not [link for link in links if link.is_symlink() and os.readlink(link).startswith(source)]  # noqa: PTH115
        return call(*arguments)

    with interfering(look):
        lamina.merge(world.folder / "plain.yml", place / "out")
    assert renamed


def test_a_fault_of_the_disk_in_the_journal_stops_the_merge(world: World, place: Path) -> None:
    def err(name: str, call: Call, arguments: tuple[Any, ...]) -> Any:
        if name == "write" and len(arguments[1]) and b'"digest"' in bytes(arguments[1]):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(*arguments)

    def merge() -> None:
        with interfering(err):
            world.merge("plain", place / "out")

    end = in_child(merge)
    assert end.code == WriteFailed.exit_code
    assert "journal: input/output error" in end.letter
    assert list(place.iterdir()) == [], "nothing was finished"


def test_the_batches_are_as_large_as_promised() -> None:
    assert (writer.BATCH_BYTES, writer.BATCH_SECONDS) == (1_000_000_000, 5)
