"""What can be asked, by its name; and the letters for what cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.errors import TaskError
from lamina.evaluate.tasks import QUICK, tasks_named

CHOICES = '{"prompt": "a", "choices": [" b", " c"], "answer": " c"}\n'
CODE = "def counts(model):\n    return [1.0]\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "examples").symlink_to(Path(__file__).parents[2] / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*names: str, allow_own_code: bool = False) -> str:
    with pytest.raises(TaskError) as error:
        tasks_named(names, allow_own_code=allow_own_code)
    return str(error.value)


def test_skills_are_the_test_questions_of_both_skills() -> None:
    tasks = tasks_named(["skills"])
    assert [task.name for task in tasks] == ["rev", "sort"]
    assert all("test.jsonl" in str(task.content) for task in tasks)


def test_quick_and_other_names_are_left_to_the_harness() -> None:
    assert [task.name for task in tasks_named(["quick", "arc_easy", "gsm8k"])] == [*QUICK, "gsm8k"]


def test_a_file_of_questions_is_known_by_its_content_and_not_by_its_place(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "mine.jsonl").write_text('{"prompt": "1 + 1 =", "answer": " 2"}\n')
    [first], [second] = tasks_named(["a/mine.jsonl"]), tasks_named(["b/mine.jsonl"])
    assert (first.name, first.digest) == ("mine", second.digest)
    (folder / "b" / "mine.jsonl").write_text('{"prompt": "1 + 1 =", "answer": " 3"}\n')
    assert tasks_named(["b/mine.jsonl"])[0].digest != first.digest
    assert "two different tasks are called `mine`" in refusal("a/mine.jsonl", "b/mine.jsonl")


def test_the_first_line_decides_whether_questions_have_choices(folder: Path) -> None:
    (folder / "chosen.jsonl").write_text(CHOICES)
    (folder / "written.jsonl").write_text('{"prompt": "a", "answer": " c"}\n')
    kinds = [task.content["output_type"] for task in tasks_named(["chosen.jsonl", "written.jsonl"])]  # type: ignore[index]
    assert kinds == ["multiple_choice", "loglikelihood"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (CHOICES.replace('" c"}', '" d"}'), "mine.jsonl:2: the answer ' d' is none of its choices, [' b', ' c']"),
        ('{"prompt": "a", "answer": " c"}', 'mine.jsonl:2 is not {"prompt": "...", "choices": ["...", "..."]'),
        ("{", "mine.jsonl:2 is not"),
    ],
    ids=["answer", "form", "json"],
)
def test_a_question_at_fault_is_told_with_its_line(folder: Path, line: str, told: str) -> None:
    (folder / "mine.jsonl").write_text(CHOICES + line)
    assert told in refusal("mine.jsonl")


def test_all_lines_at_fault_are_told_and_a_key_that_is_a_slip(folder: Path) -> None:
    good = '{"prompt": "a", "answer": " c"}'
    (folder / "mine.jsonl").write_text("\n".join([good, '{"prompt": "a", "answr": " c"}', good, "[1]"]) + "\n")
    form = 'is not {"prompt": "...", "answer": "..."}: '
    assert refusal("mine.jsonl").splitlines() == [
        f'mine.jsonl:2 {form}{{"prompt": "a", "answr": " c"}}. `answr`: did you mean `answer`?',
        f"mine.jsonl:4 {form}[1].",
    ]
    (folder / "mine.jsonl").write_text("{}\n" * 25)
    assert refusal("mine.jsonl").splitlines()[20:] == ["and 5 more lines."]
    (folder / "mine.jsonl").write_text("")
    assert refusal("mine.jsonl") == "mine.jsonl holds no questions."


def test_a_file_whose_name_is_a_slip_is_told(folder: Path) -> None:
    (folder / "questions.jsonl").write_text(CHOICES)
    told = "qestions.jsonl: no such file or directory. Did you mean `questions.jsonl`?"
    assert refusal("qestions.jsonl") == told


def test_a_file_that_is_not_there_is_a_letter() -> None:
    assert refusal("mine.jsonl") == "mine.jsonl: no such file or directory."
    assert refusal("mine.yml") == "mine.yml: no such file or directory."
    assert refusal("a task") == "`a task` is neither a task's name nor a file `.yml`, `.jsonl` or `.py:function`."


def test_a_task_file_that_names_code_is_read_only_when_that_is_allowed(folder: Path) -> None:
    (folder / "mine.yml").write_text("task: mine\ndoc_to_text: !function utils.text\n")
    assert "mine.yml names code" in refusal("mine.yml")
    assert tasks_named(["mine.yml"], allow_own_code=True)[0].name == "mine"


def test_so_is_one_that_includes_a_file_which_names_code(folder: Path) -> None:
    (folder / "mine.yml").write_text("task: mine\ninclude: common.yml\n")
    (folder / "common.yml").write_text("include: mine.yml\nunsafe_code: true\n")
    assert "common.yml names code" in refusal("mine.yml")


def test_a_task_file_changes_with_what_it_includes(folder: Path) -> None:
    (folder / "mine.yml").write_text("task: mine\ninclude: common.yml\n")
    (folder / "common.yml").write_text("output_type: loglikelihood\n")
    [before] = tasks_named(["mine.yml"])
    (folder / "common.yml").write_text("output_type: multiple_choice\n")
    assert tasks_named(["mine.yml"])[0].digest != before.digest


def test_a_file_that_is_no_task_is_a_letter(folder: Path) -> None:
    (folder / "mine.yml").write_text("models: []\n")
    assert refusal("mine.yml") == "mine.yml is no task of lm-evaluation-harness: it has no `task: NAME`."
    (folder / "mine.yml").write_text("group: mine\ntask: [a]\n")
    assert refusal("mine.yml").startswith("mine.yml is a group of tasks: name the files of its tasks instead")
    (folder / "mine.yml").write_text("task: [\n")
    assert "mine.yml is no YAML" in refusal("mine.yml")


def test_a_function_is_code_and_runs_only_when_that_is_allowed(folder: Path) -> None:
    (folder / "mine.py").write_text("raise SystemExit\n")
    assert "is code, which is not run unasked" in refusal("mine.py:counts")
    (folder / "mine.py").write_text(CODE)
    [task] = tasks_named(["mine.py:counts"], allow_own_code=True)
    assert task.function is not None
    assert task.function(None) == [1.0]
    assert refusal("mine.py:count", allow_own_code=True).endswith("no function `count`. Did you mean `counts`?")
    assert "there is no file `other.py`" in refusal("other.py:counts", allow_own_code=True)
