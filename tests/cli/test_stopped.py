"""Ctrl-C ends a merge at once, with one sentence; the same command goes on; `lamina clean` removes what is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lamina.checkpoints import files, writer

from .conftest import Lamina

# A quarter of a second a tensor: a merge of ten seconds, stopped in the middle of it.
SLOWLY = """
import os, sys, time
from lamina.checkpoints import writer
from lamina.cli.main import main
pwrite = os.pwrite
def slow(*arguments):
    time.sleep(0.25)
    return pwrite(*arguments)
os.pwrite, writer.BATCH_BYTES = slow, 1
main()
"""
SENTENCE = r"^stopped at (\d+)%\. Nothing is visible at out yet; the same command goes on from here\.$"


def stopped(folder: Path) -> tuple[int, str, float]:
    """Exit code, what was said, and how long it took to stop."""
    run = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, "merge", "average.yml", "out"],
        cwd=folder, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    journal = folder / ".out.lamina" / "journal"
    while run.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 4):
        time.sleep(0.01)
    begun = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    return run.returncode, err, time.monotonic() - begun


def test_ctrl_c_ends_with_one_sentence_and_the_same_command_goes_on(lamina: Lamina, folder: Path) -> None:
    code, err, seconds = stopped(folder)
    assert code == 130
    found = re.fullmatch(SENTENCE, err.strip(), re.M)
    assert found, err
    assert seconds < 3  # one, on a machine that does nothing else
    assert not (folder / "out").exists()
    data = lamina("merge", "average.yml", "out", "--json").data
    assert 0 < data["resumed"] < data["bytes"]
    assert abs(100 * data["resumed"] / data["bytes"] - int(found[1])) < 30
    lamina("merge", "average.yml", "whole")
    assert {p.name: p.read_bytes() for p in (folder / "out").iterdir()} == {
        p.name: p.read_bytes() for p in (folder / "whole").iterdir()
    }


@pytest.fixture
def left(lamina: Lamina, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, with what a merge left that was stopped after its first tensors."""
    monkeypatch.setattr(writer, "BATCH_BYTES", 1)
    real, puts = writer.CheckpointWriter.put, []

    def put(sink: writer.CheckpointWriter, name: str, first_byte: int, block: memoryview) -> None:
        puts.append(name)
        if len(puts) == 8:
            raise KeyboardInterrupt
        real(sink, name, first_byte, block)

    with monkeypatch.context() as patched:
        patched.setattr(writer.CheckpointWriter, "put", put)
        run = lamina("merge", "average.yml", "out", "-j", "1")
    assert run.code == 130
    assert re.fullmatch(SENTENCE, run.err.strip(), re.M), run.err
    return folder


def test_a_merge_that_goes_on_says_how_much_was_there(lamina: Lamina, left: Path) -> None:
    assert re.search(r"merged in [\d.]+ s \(\d+% was there\)", lamina("merge", "average.yml", "out").out)
    assert (left / "out" / "config.json").exists()


def test_another_recipe_for_the_same_output_begins_anew_and_says_so(lamina: Lamina, left: Path) -> None:
    run = lamina("merge", "stack.yml", "out")
    assert run.code == 0
    assert "an earlier run had begun something else at out" in run.err
    assert not (left / ".out.lamina").exists()


def test_clean_lists_what_is_left_and_removes_it(lamina: Lamina, left: Path) -> None:
    shown = lamina("clean", "--dry-run")
    assert re.search(r"^found +\.out\.lamina · \d+ tensors finished of a merge into out · ", shown.out, re.M)
    assert (left / ".out.lamina").exists()
    assert re.search(r"^removed +\.out\.lamina", lamina("clean").out, re.M)
    assert not (left / ".out.lamina").exists()
    assert lamina("clean", left).out == f"nothing is left of earlier merges in {left}\n"
    assert lamina("merge", "average.yml", "out", "--json").data["resumed"] == 0


def test_clean_leaves_what_is_in_use_and_what_is_complete(lamina: Lamina, folder: Path) -> None:
    lamina("merge", "average.yml", "whole")
    with writer.CheckpointWriter(writer_layout(), folder / "out") as sink:
        run = lamina("clean")
        assert run.out.startswith("in use   .out.lamina")
        assert (folder / ".out.lamina").exists()
        assert not sink.done()
    assert (folder / "whole" / "config.json").exists()


def test_clean_gives_back_an_output_that_had_been_moved_aside(lamina: Lamina, folder: Path) -> None:
    replaced = folder / ".out.lamina" / "replaced"
    replaced.mkdir(parents=True)
    (replaced / "thesis.txt").write_text("years of work")
    (folder / ".out.lamina" / "lock").touch()
    lamina("clean")
    assert (folder / "out" / "thesis.txt").read_text() == "years of work"
    assert not (folder / ".out.lamina").exists()


def test_ctrl_c_while_it_tidies_up_says_that_the_output_is_complete(
    lamina: Lamina, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_lock: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files.FolderLock, "remove_folder", interrupted)
        run = lamina("merge", "average.yml", "out")
    assert run.code == 130
    assert run.err.strip() == "stopped. out is complete; `lamina clean` removes what it grew in."
    assert "removed" in lamina("clean").out
    assert lamina("merge", "average.yml", "out").out.startswith("already there")


def writer_layout() -> writer.Layout:
    from lamina.checkpoints.layout import lay_out
    from lamina.tensor_spec import F32, TensorSpec

    return lay_out({"a": TensorSpec((4,), F32)})


# Ctrl-C at the moment at which a module is looked for, in text that is compiled, as where a dataclass is made. Run as
# `python -m`, where Python remembers that, and would end by the signal.
AT_IMPORT = """
import os, signal, sys
module = sys.argv.pop(1)
class Interrupts:
    def find_spec(name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(Interrupts)
            exec("os.kill(os.getpid(), signal.SIGINT)")
sys.meta_path.insert(0, Interrupts)
from lamina.cli.start import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="there a signal to oneself kills")
@pytest.mark.parametrize("module", ["lamina.cli.main", "click", "lamina.cli.plan", "yaml", "numpy", "lamina.api"])
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_ctrl_c_while_it_starts_is_one_sentence_too(folder: Path, module: str, as_json: bool) -> None:
    (folder / "interrupted.py").write_text(AT_IMPORT)
    flags = ["--json"] if as_json else []
    command = [sys.executable, "-m", "interrupted", module, "plan", "average.yml", *flags]
    run = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert run.returncode == 130, run.stderr
    sentence = "stopped; the same command can be given again."
    if as_json:
        assert run.stderr == ""
        assert [each["message"] for each in json.loads(run.stdout)["problems"]] == [sentence]
    else:
        assert (run.stdout, run.stderr) == ("", f"\n{sentence}\n")


@pytest.mark.usefixtures("left")
def test_a_plan_says_at_what_share_its_merge_would_go_on(lamina: Lamina) -> None:
    told = lamina("plan", "average.yml", "out").out
    found = re.search(r"^no errors; (\d+)% is made already, and a merge goes on from there$", told, re.M)
    assert found, told
    staged = lamina("plan", "average.yml", "out", "--json").data["staged"]
    assert staged["bytes"] > 0
    assert round(100 * staged["share"]) == int(found[1])
    assert lamina("plan", "stack.yml", "out", "--json").data["staged"] == {"bytes": 0, "share": 0.0}
    assert lamina("merge", "average.yml", "out", "--json").data["resumed"] == staged["bytes"]
