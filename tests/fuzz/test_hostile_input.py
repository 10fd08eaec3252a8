"""The fuzz targets, as far as a test run has time: what once went wrong, and inputs near right ones.

`make fuzz` runs them for long, led by coverage. The targets and the guard are in `fuzz/`.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lamina
from fuzz.guard import Escape, guarded
from fuzz.targets import CORPUS, TARGETS
from fuzz.world import world
from lamina.errors import LaminaError

EXAMPLES = os.environ.get("FUZZ_EXAMPLES")  # a number: so many, and others each time
SOME = settings(
    max_examples=int(EXAMPLES or 40),
    deadline=None,
    derandomize=EXAMPLES is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SECONDS = 10.0  # of processor time, for one input
WORDS = [b"-1", b"1e999", b"null", b"[]", b"{}", b'""', b"9" * 30, b"true", b"\xff\xff\xff\xff", b"../x"]
PAST = [path for path in sorted(CORPUS.rglob("*")) if path.is_file()]


def run(name: str, raw: bytes) -> None:
    started = time.process_time()
    TARGETS[name](raw)
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("path", PAST, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_went_wrong_is_a_letter_or_is_right(path: Path) -> None:
    run(path.parent.name, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_starts_from_something_that_is_right(name: str) -> None:
    right = 0
    for seed in seeds(name):
        run(name, seed)
        try:
            TARGETS[name].run(seed)
        except LaminaError:
            continue
        right += 1
    assert right


@cache
def seeds(name: str) -> list[bytes]:
    return list(TARGETS[name].seeds())


@st.composite
def near(draw: st.DrawFn, name: str) -> bytes:
    """A right input after some changes: bytes lost, doubled, swapped, replaced, or others put in."""
    raw = draw(st.sampled_from(seeds(name)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + draw(st.sampled_from([1, 4, 20, 1000])))))
        match draw(st.integers(0, 4)):
            case 0:
                raw = raw[:start] + raw[end:]
            case 1:
                raw = raw[:end] + raw[start:]
            case 2:
                raw = raw[:start] + raw[start:end][::-1] + raw[end:]
            case 3:
                raw = raw[:start] + draw(st.binary(min_size=1, max_size=9)) + raw[end:]
            case _:
                words = [
                    b"-1",
                    b"1e999",
                    b"null",
                    b"[]",
                    b"{}",
                    b'""',
                    b"9" * 30,
                    b"true",
                    b"\xff\xff\xff\xff",
                    b"../x",
                ]
                raw = raw[:start] + draw(st.sampled_from(words)) + raw[end:]
    return raw


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_near_a_right_input_is_a_letter_or_is_right(name: str) -> None:
    @SOME
    @given(near(name))
    def each(raw: bytes) -> None:
        run(name, raw)

    each()


# The guard itself: these tests would not fail without it


class Opens:
    """Code for a pickle to run."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return OrderedDict, ()


REACHING: dict[str, Callable[[Path], object]] = {
    "a command": lambda _: os.system("true"),
    "a process": lambda _: subprocess.run(["true"]),
    "an unpickled class": lambda _: pickle.loads(pickle.dumps(Opens())),
    "a connection": lambda _: socket.create_connection(("127.0.0.1", 9), timeout=1),
    "a file elsewhere": lambda elsewhere: (elsewhere / "secret").read_text(),
    "a new file elsewhere": lambda elsewhere: (elsewhere / "new").write_text(""),
    "a file that is removed": lambda elsewhere: (elsewhere / "secret").unlink(),
    "a folder that is made": lambda elsewhere: (elsewhere / "new").mkdir(),
    "a file that is moved out": lambda elsewhere: (elsewhere.parent / "inside" / "file").rename(elsewhere / "new"),
    "a file that is moved in": lambda elsewhere: (elsewhere / "secret").rename(elsewhere.parent / "inside" / "new"),
    "a second name": lambda elsewhere: (elsewhere / "new").hardlink_to(elsewhere.parent / "inside" / "file"),
}


@pytest.mark.parametrize("what", REACHING)
def test_the_guard_sees_what_reaches_out(what: str, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "file").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("untouched")
    with pytest.raises(Escape), guarded(tmp_path / "inside"):
        REACHING[what](tmp_path / "elsewhere")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["secret"]


def test_code_that_a_carried_recipe_names_would_be_seen_if_it_were_run() -> None:
    named = next(seed for seed in seeds("carried") if b"own.py" in seed)
    with pytest.raises(LaminaError, match="own-code"):
        TARGETS["carried"].run(named)
    with pytest.raises(Escape):
        lamina.plan(world() / "carried", allow_own_code=True)


def test_the_guard_lets_files_inside_be(tmp_path: Path) -> None:
    with guarded(tmp_path):
        (tmp_path / "file").write_text("words")
        assert (tmp_path / "file").read_text() == "words"
        (tmp_path / "file").unlink()
    subprocess.run(["true"], check=True)
