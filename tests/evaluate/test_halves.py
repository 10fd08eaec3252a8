"""The halves of a task's items: each item asked as it is among all, and in one half whatever else there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

lm_eval = pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

from lm_eval.tasks import TaskManager  # noqa: E402

from lamina.errors import TaskError  # noqa: E402
from lamina.evaluate.evaluation import evaluate  # noqa: E402
from lamina.evaluate.halves import Split, split_of  # noqa: E402
from lamina.evaluate.harness import Harness  # noqa: E402
from lamina.evaluate.results import Evaluation, Item  # noqa: E402
from lamina.evaluate.tasks import tasks_named  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"
REV = EXAMPLES / "questions" / "rev.test.jsonl"
WITH_EXAMPLES = """\
task: reversed
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
fewshot_split: test
num_fewshot: 2
doc_to_text: prompt
target_delimiter: ""
output_type: multiple_choice
doc_to_choice: "{{{{[answer, ' ' ~ (prompt[5:12].split() | sort | join(' '))]}}}}"
doc_to_target: 0
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with 40 questions in mine.jsonl, and with two examples before each in shown.yml."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    (tmp_path / "mine.jsonl").write_text("".join(REV.read_text().splitlines(keepends=True)[:40]))
    (tmp_path / "shown.yml").write_text(WITH_EXAMPLES.format(file=(tmp_path / "mine.jsonl").as_posix()))
    (tmp_path / "own.py").write_text(
        "def lengths(model):\n"
        "    return [likelihood for likelihood, _ in model.likelihoods([('rev:', ' a' * n) for n in range(1, 13)])]\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(task: str, split: Split | None, **how: Any) -> list[Evaluation]:
    """What `base` scores on a task, one row at a time, as then nothing depends on who else is in a batch."""
    harness = Harness(batch=1, device="cpu", allow_own_code=True, **how)
    running = harness.running(str(EXAMPLES / "models" / "base"), dtype="float32")
    found = [
        harness.ask(running, harness.load(each), model="base", digest="", template=False, split=split)
        for each in tasks_named([task], allow_own_code=True)
    ]
    return [made for one in found for made in one]


def items(evaluations: list[Evaluation]) -> list[tuple[str, Item]]:
    return sorted(((made.task, item) for made in evaluations for item in made.items), key=repr)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("task", ["mine.jsonl", "shown.yml", "own.py:lengths", "skills"])
def test_both_halves_together_are_what_is_asked_of_all(task: str) -> None:
    dev, test = asked(task, "dev"), asked(task, "test")
    assert items(dev + test) == items(asked(task, None))  # to the bit, and with the same examples before it
    assert all(made.n == len(made.items) for made in dev + test)
    assert 0 < sum(made.n for made in dev) != 0 < sum(made.n for made in test)


def test_a_group_of_tasks_is_asked_in_halves_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = WITH_EXAMPLES.format(file=(folder / "mine.jsonl").as_posix())
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(one.replace("task: reversed", f"task: {name}"))
    aggregate = [{"metric": "acc", "weight_by_size": True}]
    group = {"group": "both", "task": ["one", "two"], "aggregate_metric_list": aggregate}
    (folder / "both.yaml").write_text(json.dumps(group))
    monkeypatch.setattr(Harness, "_known", TaskManager(include_path=str(folder), include_defaults=False))
    dev, test, whole = asked("both", "dev"), asked("both", "test"), asked("both", None)
    assert [made.task for made in dev + test + whole] == ["both"] * 3
    assert items(dev + test) == items(whole)


@pytest.mark.usefixtures("folder")
def test_a_limit_is_of_the_half() -> None:
    whole, part = asked("shown.yml", "test"), asked("shown.yml", "test", limit=3)
    assert part[0].items == whole[0].items[:3]
    assert part[0].limited


def test_an_item_does_not_change_sides_when_others_come_or_their_order_changes(folder: Path) -> None:
    before = {item.digest for item in asked("mine.jsonl", "dev")[0].items}
    lines = REV.read_text().splitlines(keepends=True)
    (folder / "mine.jsonl").write_text("".join(reversed(lines[:60])))
    assert before < {item.digest for item in asked("mine.jsonl", "dev")[0].items}


def test_about_half_of_the_items_are_on_each_side() -> None:
    assert 450 < sum(split_of(str(number)) == "dev" for number in range(1000)) < 550


def test_a_half_without_items_is_a_letter(folder: Path) -> None:
    (folder / "mine.jsonl").write_text(REV.read_text().splitlines(keepends=True)[0])
    splits: tuple[Split, ...] = ("dev", "test")
    for split in splits:
        with pytest.raises(TaskError, match=rf"`mine` has [01] items in its half `{split}`"):
            asked("mine.jsonl", split)


@pytest.mark.usefixtures("folder")
def test_every_model_sees_the_same_examples_before_an_item() -> None:
    found = evaluate(["examples/models/base", "examples/models/rev"], ["shown.yml"], Path("out"))
    first, second = (row.scores["reversed"] for row in found.rows)
    assert [item.digest for item in first.items] == [item.digest for item in second.items]
    assert any(row.over is not None for row in found.rows)  # so that items can be paired
