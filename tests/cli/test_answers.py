"""What is wrong is told in a line, or as data; nothing of ours shows a traceback."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.cli import main as entry
from lamina.cli.answer import print_json
from lamina.cli.main import EXIT_CODES

from .conftest import Lamina

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def test_faults_come_as_data_from_every_verb_with_the_same_exit_code(lamina: Lamina) -> None:
    expected = [("unknown-parameter", 3, 18, "weight"), ("unknown-key", 7, 1, "dtype")]
    for verb in (["plan", "faulty.yml"], ["merge", "faulty.yml", "out"], ["explain", "faulty.yml", "lm_head.weight"]):
        run = lamina(*verb, "--json")
        assert run.code == run.data["exit_code"] == 2
        found = run.data["problems"]
        assert [(each["code"], each["line"], each["column"], each["suggestion"]) for each in found] == expected
    run = lamina("methods", "lineer", "--json")
    assert (run.code, run.data["problems"][0]["suggestion"]) == (2, "linear")


def test_what_is_not_finite_comes_as_null_however_deep_it_lies(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"margin": math.inf, "each": [{"score": math.nan}, (-math.inf, 0.5)], "n": 1, "is": True, "of": None})
    found = json.loads(capsys.readouterr().out)
    assert found == {"margin": None, "each": [{"score": None}, [None, 0.5]], "n": 1, "is": True, "of": None}


def test_methods_come_as_data(lamina: Lamina) -> None:
    [linear] = lamina("methods", "linear", "--json").data
    assert linear["parameters"][0]["name"] == "weight"
    assert len(lamina("methods", "--json").data) > 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["merg", "average.yml", "out"], "Did you mean `merge`?"),
        (["average.yml"], "`lamina plan average.yml` shows it"),
        (["merge", "average.yml", "out", "--wokers", "2"], "--workers"),
        (["merge", "average.yml"], "OUT"),
        (["plan", "nowhere.yml"], "nowhere.yml: no such file."),
        (["merge", "averige.yml", "out"], "Did you mean `average.yml`?"),
        (["plan", "./stack"], "Did you mean `stack.yml`?"),
        (["sweep", "averige.yml", "--vary", "dtype=float32,bfloat16"], "Did you mean `average.yml`?"),
        (["plan", "models"], "folder without a recipe"),
        (["merge", "average.yml", "average.yml"], "name another output"),
        (["merge", "average.yml", "models/rev"], "name another output"),
    ],
    ids=lambda part: str(part)[:30],
)
def test_a_slip_on_the_command_line_is_answered_with_what_to_write(
    lamina: Lamina, arguments: list[str], said: str
) -> None:
    run = lamina(*arguments)
    assert run.code == 2
    assert said in run.err
    as_data = lamina(*arguments, "--json")
    assert as_data.code == 2
    assert said in as_data.data["problems"][0]["message"]


def test_a_file_that_may_not_be_read_is_a_line_and_no_traceback(
    lamina: Lamina, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "models/rev")

    monkeypatch.setattr("lamina.api.plan_merge", refuse)
    run = lamina("plan", "average.yml")
    assert (run.code, run.err) == (2, "models/rev: permission denied.\n")


def test_the_reader_of_a_pipe_may_leave(folder: Path) -> None:
    command = [sys.executable, "-m", "lamina", "plan", "stack.yml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=folder) as run:
        assert run.stdout is not None
        run.stdout.close()
        assert run.stderr is not None
        assert run.stderr.read() == b""
    assert run.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_an_output_that_cannot_be_written_is_a_line(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "lamina", "plan", "stack.yml"]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=folder, text=True)
    assert (run.returncode, run.stderr) == (2, "the output: no space left on device.\n")


def test_an_interruption_while_merging_leaves_nothing_and_says_how_far_it_came(
    lamina: Lamina, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lamina.api.run", interrupt)
    run = lamina("merge", "average.yml", "out")
    assert run.code == 130
    assert "stopped at 0%. Nothing is visible at out" in run.err
    assert lamina("merge", "average.yml", "out", "--json").data["problems"][0]["code"] == "interrupted"
    assert not [path.name for path in folder.iterdir() if "out" in path.name]


def test_ctrl_c_while_planning_is_one_line(lamina: Lamina, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lamina.api.open_model", interrupt)
    run = lamina("plan", "average.yml")
    assert (run.code, run.out, run.err) == (130, "", "\nstopped; the same command can be given again.\n")


def test_memory_that_the_system_does_not_give_is_a_letter(lamina: Lamina, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lamina.api.run", refuse)
    run = lamina("merge", "average.yml", "out")
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("the system gave no more memory; `-j 1` and a smaller --memory need less")
    assert [each["code"] for each in lamina("merge", "average.yml", "out", "--json").data["problems"]] == ["memory"]


def test_no_color_takes_colour_away_and_a_terminal_brings_it(folder: Path) -> None:
    pty = pytest.importorskip("pty")
    for no_color, coloured in (("1", False), ("", True)):
        shown = bytearray()
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(folder)
            os.execve(
                sys.executable,
                [sys.executable, "-m", "lamina", "plan", "stack.yml"],
                {**ENVIRONMENT, "NO_COLOR": no_color, "TERM": "xterm"},
            )
        try:
            while block := os.read(terminal, 4096):
                shown += block
        except OSError:
            pass  # the child closed its end
        os.waitpid(child, 0)
        os.close(terminal)
        assert (b"\x1b[33mnotice" in shown) is coloured, shown.decode()
        assert b"no errors" in shown


def test_help_needs_little_time(folder: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import resource, subprocess, sys\n"
         "subprocess.run([sys.executable, '-m', 'lamina', '--help'], check=True, stdout=subprocess.DEVNULL)\n"
         "used = resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(used.ru_utime + used.ru_stime)"],
        capture_output=True, text=True, env=ENVIRONMENT, cwd=folder, check=True,
    )  # fmt: skip
    assert float(run.stdout) < 0.6  # 0.1 s; the rest is for a busy machine


def test_the_shell_completes_verbs_and_flags(folder: Path) -> None:
    for words, number, expected in (("lamina ex", 1, "explain"), ("lamina merge --shard", 2, "--shard-size")):
        environment = {"_LAMINA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        run = subprocess.run(
            [sys.executable, "-m", "lamina"], env=ENVIRONMENT | environment, capture_output=True, text=True, cwd=folder
        )
        assert expected in run.stdout


def test_the_exit_codes_on_the_page_are_those_that_there_are() -> None:
    assert set(EXIT_CODES) == {0, 1, 2, 3, 4, 130, 141}
    assert entry.VERBS


@pytest.mark.parametrize(
    "asked", [("check", "models/rve"), ("diff", "models/rve", "models/rev"), ("chat", "models/rve"),
              ("eval", "models/rve", "--tasks", "skills"), ("reproduce", "models/rve"),
              ("check", "models/rev/model.safetensors")]
)  # fmt: skip
def test_a_folder_that_is_not_there_gets_the_name_of_the_one_near_it(lamina: Lamina, asked: tuple[str, ...]) -> None:
    run = lamina(*asked, "--offline")
    assert run.code == 2
    assert "Did you mean `models/rev`?" in " ".join(run.err.split())


def test_a_recipe_is_no_folder_to_look_at_or_to_make_again(lamina: Lamina) -> None:
    looked, again = lamina("check", "average.yml"), lamina("reproduce", "average.yml")
    assert looked.code == again.code == 2
    assert "average.yml is a recipe, " in looked.err
    assert "`lamina merge average.yml OUT`" in looked.err
    assert "average.yml is a recipe, and what is made again is the folder of a merge" in again.err
    assert "there is no folder nowhere, and what is made again" in lamina("reproduce", "nowhere").err


@pytest.mark.parametrize(
    ("verb", "first"), [("merge", "out"), ("merge", "models"), ("plan", "out"), ("explain", "model.norm.weight")]
)
def test_arguments_that_changed_places_are_told_as_that(lamina: Lamina, folder: Path, verb: str, first: str) -> None:
    before = sorted(folder.iterdir())
    run = lamina(verb, first, "average.yml")
    assert run.code == 2
    assert f"RECIPE comes first, `lamina {verb} average.yml {first}`." in " ".join(run.err.split())
    assert sorted(folder.iterdir()) == before


def test_a_tensor_that_is_called_as_no_file_is_not_taken_for_a_recipe(lamina: Lamina) -> None:
    assert lamina("explain", "average.yml", "model.norm.weight").code == 0
    assert "no such file" in lamina("merge", "absent.yml", "absent-too.yml").err
