"""What models are asked, by the names of the command line. Nothing is run here, and nothing of a model known.

skills                  the questions that come with the bundled models
openllm, quick          six tasks, and three short ones, of the harness
arc_easy                any task or group of lm-evaluation-harness
mine.yml                a task of its kind in a file
questions.jsonl         a prompt and an answer a line, with `choices` or without
mine.py:function        a Python function, which asks what it likes
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
import yaml

from lamina.errors import TaskError, nearest
from lamina.evaluate.skills import SKILLS, examples_folder
from lamina.planners.own_code import NoSuchMethod, function_of_file

QUICK = ("arc_easy", "piqa", "winogrande")  # short questions with few choices, no examples before them
OPENLLM = "openllm"  # a group of the harness, taken apart so that each of its tasks is a row
OWN_NAMES = ("skills", "quick", OPENLLM)  # those that are not the harness's, or mean more here
MOST_FAULTS = 20  # lines of a file that one letter tells
ANY_TASK = re.compile(r"[\w.:-]+")


@dataclass(frozen=True)
class Task:
    """One thing to ask. `content` is what the harness loads it by: its name, a file, or a whole description.

    `digest` is of what is not the harness's own. A task with a `function` is asked by that.
    """

    name: str
    content: str | Mapping[str, Any]
    digest: str = ""
    function: Callable[..., object] | None = None


def tasks_named(names: Sequence[str], *, allow_own_code: bool = False) -> list[Task]:
    """The tasks, each once. Raises TaskError for a file that cannot be asked, with its line."""
    found: dict[str, Task] = {}
    for name in names:
        for task in _tasks_of(name.strip(), allow_own_code):
            if found.setdefault(task.name, task) != task:
                raise TaskError(f"two different tasks are called `{task.name}`; give one of their files another name.")
    if not found:
        raise TaskError("no task is named: `--tasks skills`, for instance.")
    return list(found.values())


def _tasks_of(name: str, allow_own_code: bool) -> Iterator[Task]:
    if name == "skills":
        questions = examples_folder() / "questions"
        yield from (_of_questions(skill, questions / f"{skill}.test.jsonl") for skill in SKILLS)
    elif name == "quick":
        yield from (Task(each, each) for each in QUICK)
    elif name.endswith((".jsonl", ".json")):
        yield _of_questions(Path(name).stem, Path(name))
    elif name.endswith((".yml", ".yaml")):
        yield _of_yaml(name, allow_own_code)
    elif ".py" in name:
        yield _of_function(name, allow_own_code)
    elif ANY_TASK.fullmatch(name):
        yield Task(name, name)
    else:
        raise TaskError(f"`{name}` is neither a task's name nor a file `.yml`, `.jsonl` or `.py:function`.")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TaskError(f"{path}: {(error.strerror or str(error)).lower()}.{_file_like(path)}") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not text in UTF-8 ({error.reason}).") from error


def _file_like(path: Path) -> str:
    """` Did you mean ...?` where its folder has a file of a name like it."""
    try:
        names = sorted(each.name for each in path.parent.iterdir() if each.suffix == path.suffix)
    except OSError:  # a folder that may not be listed, or none: nothing is known to be near
        return ""
    near = nearest(path.name, names)
    return "" if near in (None, path.name) else f" Did you mean `{path.with_name(str(near))}`?"


# Questions


def _of_questions(name: str, path: Path) -> Task:
    """A file of questions as a task of the harness. The first line decides whether there are choices."""
    text = _text(path)
    has_choices = '"choices"' in text.partition("\n")[0]
    _check_questions(path, text, CHOICES if has_choices else PLAIN)
    return Task(name, _described(name, path, CHOSEN if has_choices else WRITTEN), _digest(text))


# A question, as the letter for another one shows it.
PLAIN: Mapping[str, str] = {"prompt": '"..."', "answer": '"..."'}
CHOICES: Mapping[str, str] = {"prompt": '"..."', "choices": '["...", "..."]', "answer": '"..."'}
# The answer counts where greedy decoding would write exactly it: see `skills.answered`.
WRITTEN: Mapping[str, Any] = {
    "output_type": "loglikelihood",
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
# The choice with the largest likelihood counts; for `acc_norm`, the largest for each byte of it.
CHOSEN: Mapping[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_choice": "choices",
    "doc_to_target": "{{choices.index(answer)}}",
    "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
}


def _described(name: str, path: Path, kind: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path.resolve())}},
        "test_split": "test",
        "doc_to_text": "prompt",
        "target_delimiter": "",
        **kind,
        "metadata": {"version": 1},
    }


def _check_questions(path: Path, text: str, form: Mapping[str, str]) -> None:
    """Raises TaskError, with every line that is no question of this form."""
    faults = [
        f"{path}:{number}{fault}"
        for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1)
        if (fault := _fault(line, form))
    ]
    if not text.strip():
        raise TaskError(f"{path} holds no questions.")
    if faults:
        more = [f"and {len(faults) - MOST_FAULTS} more lines."] if len(faults) > MOST_FAULTS else []
        raise TaskError("\n".join([*faults[:MOST_FAULTS], *more]))


def _fault(line: str, form: Mapping[str, str]) -> str:
    """What is wrong with a line of questions; empty where nothing is."""
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    match fields:
        case {"prompt": str(), "choices": [_, _, *_] as choices, "answer": str(answer)} if "choices" in form:
            if not all(isinstance(choice, str) for choice in choices) or answer not in choices:
                return f": the answer {answer!r} is none of its choices, {choices}."
            return ""
        case {"prompt": str(), "answer": str()} if "choices" not in form:
            return ""
    keys = fields if isinstance(fields, dict) else {}
    missing = [key for key in form if key not in keys]
    slips = [(key, near) for key in keys if key not in form and (near := nearest(key, missing))]
    hint = "".join(f" `{key}`: did you mean `{near}`?" for key, near in slips)
    wanted = ", ".join(f'"{key}": {value}' for key, value in form.items())
    return f" is not {{{wanted}}}: {line[:80].strip()}.{hint}"


# Files of the harness's kind


class _TaskLoader(yaml.SafeLoader):
    """Reads a task file and notes whether it names code."""

    names_code = False


def _code(loader: _TaskLoader, node: yaml.Node) -> str:
    loader.names_code = True
    return str(node.value)


_TaskLoader.add_constructor("!function", _code)


def _of_yaml(name: str, allow_own_code: bool) -> Task:
    path = Path(name)
    files = _with_included(path)
    content = files[path].content
    if isinstance(content, dict) and "group" in content:
        raise TaskError(f"{path} is a group of tasks: name the files of its tasks instead, `--tasks a.yml,b.yml`.")
    shown = content.get("task") if isinstance(content, dict) else None
    if not isinstance(shown, str):
        raise TaskError(f"{path} is no task of lm-evaluation-harness: it has no `task: NAME`.")
    coded = [each for each, file in files.items() if file.names_code]
    if coded and not allow_own_code:
        raise TaskError(
            f"{coded[0]} names code (`!function`, `unsafe_code`), which is not run unasked: read what it names, then "
            "give `--allow-own-code`."
        )
    return Task(shown, name, _digest("\0".join(file.text for file in files.values())))


@dataclass(frozen=True)
class _TaskFile:
    text: str
    content: Any
    names_code: bool


def _with_included(path: Path) -> dict[Path, _TaskFile]:
    """A task file, and those that it includes."""
    found: dict[Path, _TaskFile] = {}
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = _loaded(path)
            content = found[path].content
            included = content.get("include", []) if isinstance(content, dict) else []
            waiting += [path.parent / each for each in ([included] if isinstance(included, str) else included)]
    return found


def _loaded(path: Path) -> _TaskFile:
    text = _text(path)
    loader = _TaskLoader(text)
    try:
        content = loader.get_single_data()
    except yaml.YAMLError as error:
        raise TaskError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    unsafe = isinstance(content, dict) and bool(content.get("unsafe_code"))
    return _TaskFile(text, content, loader.names_code or unsafe)


# Functions


def _of_function(name: str, allow_own_code: bool) -> Task:
    if not allow_own_code:
        raise TaskError(f"`{name}` is code, which is not run unasked: read that file, then give `--allow-own-code`.")
    try:
        function, text = function_of_file(name, Path())
    except NoSuchMethod as error:
        raise TaskError(str(error)) from error
    return Task(name.rpartition(":")[2], name, _digest(text), function)


def _digest(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode())
