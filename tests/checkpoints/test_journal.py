"""The journal: whatever the end of the file looks like, what it tells was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.checkpoints.journal import Finished, Past, Undertaking, lines_of, open_journal, read_journal

UNDERTAKING = Undertaking("4d7a", "1a70", {"base/model.safetensors": (10, 20, 30, "f00d")})
FINISHED = [
    Finished("a", "d1", (("base", "a", "e1"),), ((0.25, 0.75),)),
    Finished("b", "d2", finite=False),
    Finished("ä", "d3", coefficients=((1e-300, 0.1),)),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def write(path: Path, finished: list[Finished] = FINISHED) -> bytes:
    path.unlink(missing_ok=True)
    log = open_journal(path, None, UNDERTAKING)
    log.append(lines_of(finished))
    log.close()
    return path.read_bytes()


def test_what_was_written_is_read(path: Path) -> None:
    size = len(write(path))
    assert read_journal(path) == Past(UNDERTAKING, {made.name: made for made in FINISHED}, size)


def test_a_journal_that_is_not_there_or_empty_tells_nothing(path: Path) -> None:
    assert read_journal(path) is None
    path.touch()
    assert read_journal(path) is None


@given(cut=st.integers(0, 2000), tail=st.sampled_from([b"", b"\0" * 100, b"\n", b"{}\n", b"0" * 16 + b" {}\n"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_a_torn_journal_whole_lines_count_and_it_goes_on_after_them(path: Path, cut: int, tail: bytes) -> None:
    whole = write(path)
    path.write_bytes(whole[: min(cut, len(whole))] + tail)
    past = read_journal(path)
    if past is None:
        assert cut < whole.index(b"\n") + 1
        return
    assert list(past.finished.values()) == FINISHED[: len(past.finished)]
    assert past.size <= cut
    log = open_journal(path, past, UNDERTAKING)
    log.append(lines_of(FINISHED[len(past.finished) :]))
    log.close()
    assert path.read_bytes() == whole


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bit_that_fell_over_ends_what_counts(path: Path, at: int, bit: int) -> None:
    raw = bytearray(write(path))
    at %= len(raw)
    raw[at] ^= 1 << bit
    path.write_bytes(raw)
    past = read_journal(path)
    told = [] if past is None else list(past.finished.values())
    assert told == FINISHED[: len(told)]
    assert past is None or past.size <= at


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_without_a_crash(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    assert read_journal(path) is None


@pytest.mark.parametrize("line", [{"name": 3}, {"name": "a"}, {"name": "a", "digest": "d", "inputs": [[1]],
                                  "coefficients": [], "finite": True}], ids=range(3))  # fmt: skip
def test_a_line_of_another_form_ends_what_counts(path: Path, line: dict[str, object]) -> None:
    from lamina.checkpoints.journal import _line

    path.write_bytes(write(path, FINISHED[:1]) + _line(line) + lines_of(FINISHED[1:]))
    past = read_journal(path)
    assert past is not None
    assert list(past.finished) == ["a"]


def test_the_files_that_changed_are_named() -> None:
    now = {"base/model.safetensors": (10, 21, 30, "f00d")}
    assert UNDERTAKING.changed(now) == ["base/model.safetensors"]
    assert UNDERTAKING.changed({}) == ["base/model.safetensors"]
    assert UNDERTAKING.changed(UNDERTAKING.inputs) == []
