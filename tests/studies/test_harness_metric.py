"""Tasks of the harness as a sweep's metric: the scores of `lamina eval`, item by item; letters; resumed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

import lamina
from lamina.errors import TaskError
from lamina.evaluate.evaluation import evaluate
from lamina.evaluate.harness import Harness
from lamina.ledger.ledger import Ledger
from lamina.ledger.notebook import Notebook
from lamina.studies.grid import parse_axes
from lamina.studies.harness_metric import HarnessTasks, harness_tasks
from lamina.studies.sweep import sweep

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPE = """\
merge_method: slerp
base_model: examples/models/rev
models: [{model: examples/models/rev}, {model: examples/models/sort}]
parameters: {t: 0.5}
"""
BITS = """\
task: read
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: {kind}
doc_to_text: ""
doc_to_target: "{{{{prompt}}}}{{{{answer}}}}"
metric_list: [{{metric: {metric}}}]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with slerp.yml and 40 questions of each kind."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    (tmp_path / "slerp.yml").write_text(RECIPE)
    for kind in ("rev", "sort"):
        lines = (EXAMPLES / "questions" / f"{kind}.test.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / f"{kind}.jsonl").write_text("".join(lines[:40]))
    for name, kind, metric in (
        ("bits", "loglikelihood_rolling", "bits_per_byte"),
        ("surprise", "loglikelihood", "perplexity"),
    ):
        text = BITS.format(file=(tmp_path / "rev.jsonl").as_posix(), kind=kind, metric=metric)
        (tmp_path / f"{name}.yml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def metric_of(names: str, *, batch: int = 8, few_shot: int | None = None, limit: int | None = None, **how: Any) -> Any:
    harness = Harness(batch=batch, device="cpu", few_shot=few_shot, limit=limit, allow_own_code=True)
    return harness_tasks(names, harness, allow_own_code=True, **how)


@pytest.mark.parametrize(("names", "dtype"), [("rev.jsonl", "auto"), ("skills", "float32")])
def test_items_of_both_halves_have_the_scores_that_an_evaluation_of_the_written_merge_gives_them(
    names: str, dtype: str
) -> None:
    metric = metric_of(names, dtype=dtype)
    point = "parameters.t=0.3"
    lamina.merge("slerp.yml", "out", set_values=[point])
    [row] = evaluate(["out"], [names], Path("kept"), dtype=dtype).rows
    with lamina.api.variations("slerp.yml", [[point]]) as (variation,):
        metric = metric.ready([variation.tensors.plan])
        dev, test = metric.scores(variation.tensors, "dev"), metric.scores(variation.tensors, "test")
    for task, whole in row.scores.items():
        halves = [score for score in (*dev, *test) if score.name in (f"{task}-dev", f"{task}-test")]
        assert len(halves) == 2
        assert sum(len(score.items) for score in halves) == len(whole.items)
        assert sorted(item for score in halves for item in score.items) == sorted(whole.scores.tolist())
        assert 0 < whole.value < 1
    assert dev[0].value == pytest.approx(np.mean(dev[0].items))
    assert dev[0].value == pytest.approx(np.mean([part.value for part in dev[1:] or dev]))


def test_several_tasks_are_their_mean_and_each_and_the_test_halves_are_asked_of_the_best_alone() -> None:
    found = sweep("slerp.yml", parse_axes(["parameters.t=0.1,0.9"]), metric_of("rev.jsonl,sort.jsonl"))
    assert [score.name for score in found.best.scores] == ["rev,sort-dev", "rev-dev", "sort-dev"]
    assert found.measured == 5
    assert found.best.set_values == ("parameters.t=0.1",)
    assert found.test is not None
    assert [score.name for score in found.test] == ["rev,sort-test"] * 2
    assert found.written.scores[0].n == found.best.scores[1].n + found.best.scores[2].n  # type: ignore[operator]


def test_how_it_is_asked_is_in_the_digest_and_in_the_row(ledger_file: Path) -> None:
    ways: list[dict[str, Any]] = [
        {}, {"limit": 4}, {"few_shot": 1}, {"batch": 2}, {"dtype": "float32"}, {"template": "off"}
    ]  # fmt: skip
    digests = {metric_of("rev.jsonl", **way).digest("dev") for way in ways} | {metric_of("rev.jsonl").digest("test")}
    assert len(digests) == len(ways) + 1
    before = metric_of("rev.jsonl").digest("dev")
    Path("rev.jsonl").write_text(Path("sort.jsonl").read_text())
    assert metric_of("rev.jsonl").digest("dev") != before
    axes = parse_axes(["parameters.t=0.5"])
    assert sweep("slerp.yml", axes, metric_of("rev.jsonl", limit=4), notebook=Notebook(ledger_file)).measured == 1
    assert sweep("slerp.yml", axes, metric_of("rev.jsonl", limit=4), notebook=Notebook(ledger_file)).measured == 0
    assert sweep("slerp.yml", axes, metric_of("rev.jsonl", limit=5), notebook=Notebook(ledger_file)).measured == 1
    with Ledger(ledger_file) as ledger:
        rows = ledger.runs(kind="sweep")
    assert [row.details["settings"]["limit"] for row in rows] == [5, 4]
    assert rows[0].details["settings"]["template"] == "off"
    assert rows[0].scores[0].limited


def test_a_template_is_for_all_points_or_for_none() -> None:
    changes = [[f"chat_template={name}"] for name in ("chatml", "llama3")]
    with lamina.api.variations("slerp.yml", [[], *changes]) as variations:
        plans = [each.tensors.plan for each in variations]
        assert metric_of("rev.jsonl").ready(plans[1:]).settings["template"] == "on"
        assert metric_of("rev.jsonl").ready(plans).settings["template"] == "off"
        with pytest.raises(TaskError, match="at 1 of 3 points; `auto` or `off` leaves it out"):
            metric_of("rev.jsonl", template="on").ready(plans)


def test_a_function_is_asked_whole_and_its_items_are_halved(folder: Path) -> None:
    (folder / "own.py").write_text(
        "def surprise(model):\n"
        "    asked = [(f'rev: {a} b c d =', f' d c b {a}') for a in 'efghijklmn']\n"
        "    return [likelihood for likelihood, _ in model.likelihoods(asked)]\n"
    )
    found = sweep("slerp.yml", parse_axes(["parameters.t=0.1"]), metric_of("own.py:surprise"))
    assert found.test is not None
    assert found.best.scores[0].n + found.test[0].n == 10  # type: ignore[operator]
    assert found.best.scores[0].unit == ""
    assert found.best.over.difference > 0


@pytest.mark.parametrize("names", ["bits.yml", "surprise.yml"])
def test_a_figure_of_all_items_together_is_a_letter(names: str) -> None:
    with pytest.raises(TaskError, match=r"a figure of all items together.*--metric loss --text FILE"):
        sweep("slerp.yml", parse_axes(["parameters.t=0.1"]), metric_of(names))


def test_what_is_no_share_has_no_mean_with_others(folder: Path) -> None:
    (folder / "own.py").write_text("def tens(model):\n    return [10.0] * 12\n")
    metric = metric_of("rev.jsonl,own.py:tens")
    with pytest.raises(TaskError, match=r"`tens` is scored by score, which is no share .* sweep it alone"):
        sweep("slerp.yml", parse_axes(["parameters.t=0.1"]), metric)


def test_the_name_is_that_of_the_tasks_wherever_their_files_lie() -> None:
    known: HarnessTasks = metric_of("./rev.jsonl,arc_easy")
    assert known.name == "rev,arc_easy"
    assert metric_of("quick").name == "quick"


def test_a_sweep_that_is_killed_goes_on_where_it_was(ledger_file: Path) -> None:
    asked = ["--vary", "parameters.t=0.1:0.9:0.1", "--metric", "rev.jsonl", "--limit", "5"]
    command = [sys.executable, "-m", "lamina", "sweep", "slerp.yml", *asked]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment())
    until = time.monotonic() + 200
    while noted(ledger_file) < 2 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = noted(ledger_file)
    assert 2 <= before < 9
    axes = parse_axes([asked[1]])
    found = sweep("slerp.yml", axes, metric_of("rev.jsonl", limit=5), notebook=Notebook(ledger_file))
    assert found.measured == noted(ledger_file) - before
    whole = sweep("slerp.yml", axes, metric_of("rev.jsonl", limit=5))
    assert [point.scores for point in found.points] == [point.scores for point in whole.points]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}


def noted(file: Path) -> int:
    if not file.exists():
        return 0
    with Ledger(file) as ledger:
        return len(ledger.runs(kind="sweep"))
