"""Killed at any moment, the same command goes on, and nothing that could be taken for a model exists before."""

from __future__ import annotations

import ast
import inspect
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.checkpoints import files
from lamina.checkpoints.staging import staging_of, stagings_in

from .world import RECIPES, STEPS, World, content_of, could_be_a_model, in_child, killed_before, remove, steps_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a child is a fork")
KILLED_OR_DONE = (-9, 0)  # the journal is kept by a thread of its own: a run may take fewer steps
KILLS = int(os.environ.get("LAMINA_KILLS", "20"))


def test_every_step_that_changes_the_disk_is_one_of_those_at_which_runs_are_killed() -> None:
    """All of them are calls of os or pathlib in files.py, and pathlib's are calls of os."""
    called = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(files)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    harmless = {
        "preadv", "path", "fstat", "access", "name", "close", "walk", "getpid", "strerror", "SEEK_END", "O_RDONLY",
        "W_OK", "X_OK",
    }  # fmt: skip
    assert called - harmless <= {*STEPS}


@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_at_every_step_the_same_command_finishes(world: World, place: Path, recipe: str) -> None:
    out = place / "out"

    def merge() -> None:
        world.merge(recipe, out)

    steps = in_child_steps(merge, out)
    assert {"open", "mkdir", "pwrite", "write", "fdatasync", "fsync", "rename", "unlink", "rmdir"} <= set(steps)
    resumed = 0
    for number in range(1, len(steps) + 1):
        assert in_child(killed_before(number, merge)).code in KILLED_OR_DONE
        where = f"before step {number}, {steps[number - 1]}"
        assert not out.exists() or content_of(out) == world.expected[recipe], where
        resumed += any(staging.finished() for staging in stagings_in(place))
        end = in_child(merge)
        assert end.code == 0, f"{where}: {end.letter}"
        assert content_of(out) == world.expected[recipe], where
        assert [path.name for path in place.iterdir()] == ["out"], where
        remove(out)
    # How many depends on how soon the thread that keeps the journal has its turn: about a third.
    assert resumed > len(steps) // 6, "hardly any run had something to go on from"


def test_killed_at_every_step_of_replacing_the_old_output_or_the_new_one_is_there(world: World, place: Path) -> None:
    """Between the two renames, where neither is, the next run makes it so."""
    out, old = place / "out", world.expected["gram"]

    def prepare() -> None:
        remove(out)
        world.merge("gram", out)

    def merge() -> None:
        world.merge("plain", out, force=True)

    in_child(prepare)
    steps = in_child_steps(merge, out, keep=prepare)
    for number in range(1, len(steps) + 1):
        in_child(prepare)
        assert in_child(killed_before(number, merge)).code in KILLED_OR_DONE
        where = f"before step {number}, {steps[number - 1]}"
        if out.exists():
            assert content_of(out) in (old, world.expected["plain"]), where
        else:
            assert not could_be_a_model(out)
        assert in_child(merge).code == 0
        assert content_of(out) == world.expected["plain"], where
        assert [path.name for path in place.iterdir()] == ["out"], where


def test_killed_between_the_renames_another_command_gives_the_old_output_back(world: World, place: Path) -> None:
    out = place / "out"
    in_child(lambda: world.merge("gram", out))
    in_child(killed_before(2, lambda: world.merge("plain", out, force=True), step="rename"))
    assert not out.exists()
    end = in_child(lambda: world.merge("select", out))
    assert end.code == 2
    assert "--force" in end.letter
    assert content_of(out) == world.expected["gram"]


@pytest.mark.parametrize("replacing", [False, True], ids=["empty", "replacing"])
def test_killed_at_every_step_inside_the_working_directory_the_same_command_finishes(
    world: World, place: Path, replacing: bool
) -> None:
    """Files are moved out one by one: config.json, without which nothing is a model, is first to go, last to come."""
    out = place / "out"
    old = {**world.expected["gram"], "notes/more.txt": b"to be replaced"} if replacing else {}

    def prepare() -> None:
        remove(out)
        out.mkdir()
        for name, content in old.items():
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_bytes(content)

    def merge() -> None:
        os.chdir(out)
        world.merge("plain", Path(), force=replacing)

    prepare()
    steps = in_child_steps(merge, out, keep=prepare)
    for number in range(1, len(steps) + 1):
        prepare()
        assert in_child(killed_before(number, merge)).code in KILLED_OR_DONE
        where = f"before step {number}, {steps[number - 1]}"
        if could_be_a_model(out):
            visible = {name: raw for name, raw in content_of(out).items() if not name.startswith(".lamina/")}
            assert visible in (old, world.expected["plain"]), where
        end = in_child(merge)
        assert end.code == 0, f"{where}: {end.letter}"
        assert content_of(out) == world.expected["plain"], where


def test_killed_at_random_times_again_and_again_the_same_command_finishes(world: World, place: Path) -> None:
    """As a user would: the command line, a real kill, at any time. LAMINA_KILLS says how often."""
    rng = random.Random(KILLS)
    out = place / "out"

    def started(recipe: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SLOWLY, "merge", str(world.folder / f"{recipe}.yml"), str(out), "-q"]
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})

    run = started("plain")
    while not _is_at_work(out):
        time.sleep(0.002)
    begun = time.monotonic()
    assert run.wait() == 0
    as_long = time.monotonic() - begun  # from the first step that changes the disk
    kills, resumed = 0, 0
    while kills < KILLS:
        recipe = rng.choice(sorted(RECIPES))
        remove(out)
        for _ in range(3):
            run = started(recipe)
            while run.poll() is None and not _is_at_work(out):
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 1) * as_long)
            run.send_signal(signal.SIGKILL)
            if run.wait() != -signal.SIGKILL:
                break
            kills += 1
            resumed += any(staging.finished() for staging in stagings_in(place))
            assert not out.exists() or content_of(out) == world.expected[recipe]
        in_child(lambda recipe=recipe: world.merge(recipe, out))  # type: ignore[misc]
        assert content_of(out) == world.expected[recipe]
        assert [path.name for path in place.iterdir()] == ["out"]
    assert resumed > KILLS // 4, "hardly any run had something to go on from"
    print(f"{kills} kills, {resumed} of them with tensors to go on from")


def _is_at_work(out: Path) -> bool:
    """True while a process holds the lock of the output's staging folder."""
    import fcntl  # Windows, where these tests are skipped, has none

    lock = staging_of(out).lock
    if not lock.exists():
        return False
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# Some milliseconds a tensor, so that there is a while to be killed in.
SLOWLY = """
import os, sys, time
from lamina.checkpoints import writer
from lamina.cli.main import main
pwrite = os.pwrite
def slow(*arguments):
    time.sleep(0.06)
    return pwrite(*arguments)
os.pwrite, writer.BATCH_BYTES = slow, 1
main()
"""


def in_child_steps(merge: Callable[[], None], out: Path, keep: Callable[[], None] | None = None) -> list[str]:
    """The steps of a merge that goes well; what it has made is taken away, or what was there before put back."""
    told = out.parent / "steps"

    def note() -> None:
        steps = steps_of(merge)
        told.write_text("\n".join(steps))

    assert in_child(note).code == 0
    steps = told.read_text().splitlines()
    told.unlink()
    remove(out)
    if keep is not None:
        in_child(keep)
    return steps
