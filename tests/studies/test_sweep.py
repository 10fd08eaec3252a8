"""A sweep measures what the written merges would score, once each, and chooses without looking at the test items."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import lamina
from lamina.errors import CheckpointError, RecipeError
from lamina.evaluate.halves import Split
from lamina.evaluate.skills import accuracy, load_questions, load_tokenizer
from lamina.evaluate.tiny_llama import load_tiny_llama
from lamina.execute.tensors import Tensors
from lamina.ledger.ledger import Ledger
from lamina.ledger.notebook import Notebook
from lamina.ledger.runs import Score
from lamina.plans.plan import Plan
from lamina.studies.grid import parse_axes
from lamina.studies.metrics import bundled_skills
from lamina.studies.sweep import standings, sweep

ROOT = Path(__file__).parents[2]
QUESTIONS = ROOT / "examples" / "questions"
RECIPE = f"""\
merge_method: slerp
base_model: {ROOT}/examples/models/rev
models: [{{model: {ROOT}/examples/models/rev}}, {{model: {ROOT}/examples/models/sort}}]
parameters: {{t: 0.5}}
"""


@dataclass
class First:
    """Scores a merge by `values[t]`, four items all alike but for noise; remembers what it was asked."""

    values: dict[str, Sequence[float]]
    name: str = "first"
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        self.measured: list[tuple[str, Split]] = []

    settings: dict[str, str] = field(default_factory=dict)

    def asked(self, items: int) -> str:
        return f"{items} times nothing"

    def digest(self, split: Split) -> str:
        return split

    def ready(self, _plans: Sequence[Plan]) -> First:
        return self

    def scores(self, tensors: Tensors, split: Split) -> tuple[Score, ...]:
        t = point_of(tensors)
        self.measured.append((t, split))
        items = self.values[t]
        return (
            Score(
                "first", float(np.mean(items)), None, len(items), lower_is_better=self.lower_is_better,
                items=tuple(items), items_digest=split,
            ),
        )  # fmt: skip


def point_of(tensors: Tensors) -> str:
    """The t of a merge, by how near its first element is to the second parent's."""
    name = "model.layers.0.mlp.up_proj.weight"
    models = [lamina.tensors(f"models: [{{model: {ROOT}/examples/models/{name}}}]\nmerge_method: passthrough\n")
              for name in ("rev", "sort")]  # fmt: skip
    first, second, here = (each[name].astype(np.float64) for each in (*models, tensors))
    t = ((here - first) * (second - first)).sum() / ((second - first) ** 2).sum()
    return f"{t:.1f}"


@pytest.fixture
def notebook(ledger_file: Path) -> Notebook:
    return Notebook(ledger_file)


def test_a_point_scores_what_the_written_merge_scores(tmp_path: Path) -> None:
    found = sweep(RECIPE, parse_axes(["parameters.t=0.2,0.4"]), bundled_skills("skills", QUESTIONS, 40))
    lamina.merge(RECIPE, tmp_path / "out", set_values=["parameters.t=0.4"])
    model, tokenizer = load_tiny_llama(tmp_path / "out"), load_tokenizer(tmp_path / "out")
    written = [
        accuracy(model, tokenizer, load_questions(QUESTIONS / f"{kind}.dev.jsonl")[:40]) for kind in ("rev", "sort")
    ]
    skills, rev, sort = found.points[1].scores
    assert [rev.value, sort.value] == [score.share for score in written]
    assert rev.stderr == pytest.approx(written[0].standard_error)
    assert skills.value == np.mean([score.share for score in written]) == pytest.approx(np.mean(skills.items))
    assert (skills.name, skills.n, skills.limited) == ("skills-dev", 80, True)


def test_the_best_is_chosen_on_dev_and_only_it_and_the_recipe_are_asked_the_test_items() -> None:
    noise = np.array([0.01, -0.01] * 50)
    metric = First({"0.2": 1 + noise, "0.5": noise, "0.8": 0.5 - noise})
    found = sweep(RECIPE, parse_axes(["parameters.t=0.2,0.8"]), metric)
    assert found.best.set_values == ("parameters.t=0.2",)
    assert found.best.over.difference == pytest.approx(1)
    assert found.best.over.is_beyond_chance
    assert [point.is_near_best for point in found.points] == [True, False]
    assert metric.measured == [("0.5", "dev"), ("0.2", "dev"), ("0.8", "dev"), ("0.2", "test"), ("0.5", "test")]
    assert found.test_over is not None


def test_of_a_loss_the_lowest_is_the_best_and_what_is_gained_is_positive() -> None:
    metric = First({"0.2": [4.0, 4.1], "0.5": [5.0, 5.2], "0.8": [6.0, 6.0]}, lower_is_better=True)
    found = sweep(RECIPE, parse_axes(["parameters.t=0.2,0.8"]), metric)
    assert found.best.set_values == ("parameters.t=0.2",)
    assert found.best.over.difference == pytest.approx(1.05)


def test_a_merge_that_gives_no_number_is_never_the_best() -> None:
    metric = First({"0.2": [np.nan, 1.0], "0.5": [0.1, 0.1], "0.8": [0.5, 0.5]})
    found = sweep(RECIPE, parse_axes(["parameters.t=0.2,0.8"]), metric)
    assert found.best.set_values == ("parameters.t=0.8",)
    assert not found.points[0].is_near_best


def test_points_that_are_the_same_merge_are_measured_once_and_nothing_is_better_than_itself() -> None:
    metric = First({"0.5": [1.0, 0.0]})
    found = sweep(RECIPE, parse_axes(["parameters.t=0.5,0.50"]), metric)
    assert found.measured == len(metric.measured) == 1
    assert found.test is None


def test_the_recipe_as_it_is_is_the_best_where_nothing_is_better_and_no_test_item_is_asked() -> None:
    noise = np.array([0.01, -0.01] * 50)
    metric = First({"0.2": 0.9 + noise, "0.5": 1 - noise, "0.8": noise})
    found = sweep(RECIPE, parse_axes(["parameters.t=0.2,0.8"]), metric)
    assert found.best is found.written
    assert (found.best.set_values, found.best.is_best, found.test) == ((), True, None)
    assert [(point.is_best, point.is_near_best) for point in found.points] == [(False, False)] * 2
    assert found.points[0].over.difference == pytest.approx(-0.1)
    assert {split for _, split in metric.measured} == {"dev"}


def test_points_of_one_plan_are_two_merges_where_their_models_are_two() -> None:
    models = [f"{ROOT}/examples/models/{name}" for name in ("rev", "sort")]  # of one shape: their merges plan alike
    recipe = f"models: [{{model: {models[0]}}}]\nmerge_method: passthrough\n"
    metric = First({"0.0": [0.1, 0.2], "1.0": [0.8, 0.9]})
    found = sweep(recipe, parse_axes([f"models[0].model={','.join(models)}"]), metric)
    assert found.points[0].plan == found.points[1].plan
    assert found.best is found.points[1]
    assert found.test_over is not None
    assert found.test_over.difference == pytest.approx(0.7)


def test_merges_stand_by_differences_item_by_item_and_the_first_of_equal_ones_is_the_best() -> None:
    right = [[1.0] * 30 + [0.0] * 10, [0.0] * 10 + [1.0] * 30, [1.0] * 29 + [0.0] * 11, [0.0] * 40]
    scores = [Score("rev", float(np.mean(items)), items=tuple(items), items_digest="d") for items in right]
    found = standings(scores, scores[2])
    assert [each.is_best for each in found] == [True, False, False, False]
    assert [each.is_near_best for each in found] == [True, True, True, False]
    over = [each.over for each in found if each.over is not None]
    assert [each.difference for each in over] == pytest.approx([1 / 40, 1 / 40, 0, -29 / 40])
    assert over[0].margin < over[1].margin  # the same answers but one, and many others
    assert [each.over for each in standings(scores, None)] == [None] * 4


def test_what_is_in_the_ledger_is_not_measured_again(notebook: Notebook) -> None:
    metric = First({"0.2": [1.0, 0.9], "0.5": [0.0, 0.1], "0.8": [0.5, 0.4]})
    first = sweep(RECIPE, parse_axes(["parameters.t=0.2"]), metric, notebook=notebook)
    second = sweep(RECIPE, parse_axes(["parameters.t=0.2,0.8"]), metric, notebook=notebook)
    assert (first.measured, second.measured) == (4, 1)
    assert second.points[0] == first.points[0]


def test_a_model_that_changed_is_measured_again(notebook: Notebook, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(ROOT / "examples" / "models" / "rev")
    recipe = f"models: [{{model: {tmp_path}/a}}]\nmerge_method: passthrough\n"
    metric = bundled_skills("rev", QUESTIONS, 4)
    axes = parse_axes(["dtype=float32"])
    assert sweep(recipe, axes, metric, notebook=notebook).measured > 0
    assert sweep(recipe, axes, metric, notebook=notebook).measured == 0
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to(ROOT / "examples" / "models" / "sort")
    assert sweep(recipe, axes, metric, notebook=notebook).measured > 0


def test_the_faults_of_all_points_come_together_before_anything_is_measured() -> None:
    metric = First({})
    with pytest.raises(RecipeError) as raised:
        sweep(RECIPE, parse_axes(["parameters.t=0.5,a,b"]), metric)
    assert [problem.file for problem in raised.value.problems] == ["--vary parameters.t=a", "--vary parameters.t=b"]
    assert metric.measured == []


def test_a_model_that_the_metric_cannot_run_is_a_letter_with_the_way_out(tmp_path: Path) -> None:
    model = tmp_path / "other"
    model.mkdir()
    for file in (ROOT / "examples" / "models" / "rev").iterdir():
        (model / file.name).write_bytes(file.read_bytes().replace(b'"llama"', b'"mistral"'))
    recipe = f"models: [{{model: {model}}}]\nmerge_method: passthrough\n"
    with pytest.raises(CheckpointError, match="--metric loss"):
        sweep(recipe, parse_axes(["dtype=float32"]), bundled_skills("rev", QUESTIONS, 4))


SWEEPING = ["--vary", "parameters.t=0:1:0.05", "--limit", "20"]


def test_a_sweep_that_is_killed_at_random_goes_on_where_it_was(tmp_path: Path, ledger_file: Path) -> None:
    (tmp_path / "recipe.yml").write_text(RECIPE)
    command = [sys.executable, "-m", "lamina", "sweep", str(tmp_path / "recipe.yml"), *SWEEPING]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    until = time.monotonic() + 120
    while noted(ledger_file) < 3 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = noted(ledger_file)
    assert 3 <= before < 21
    metric = bundled_skills("skills", QUESTIONS, 20)
    found = sweep(tmp_path / "recipe.yml", parse_axes([SWEEPING[1]]), metric, notebook=Notebook(ledger_file))
    assert found.measured == noted(ledger_file) - before
    whole = sweep(tmp_path / "recipe.yml", parse_axes([SWEEPING[1]]), metric)
    assert [point.scores for point in found.points] == [point.scores for point in whole.points]


def noted(file: Path) -> int:
    if not file.exists():
        return 0
    with Ledger(file) as ledger:
        return len(ledger.runs(kind="sweep"))
