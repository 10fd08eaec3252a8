"""Every method from a recipe to a checkpoint, on the bundled models."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import lamina
from lamina.api import as_slices
from lamina.checkpoints.checkpoint import open_checkpoint
from lamina.cli.main import cli
from lamina.cli.methods import example_recipe
from lamina.errors import RecipeError
from lamina.merge_methods import METHODS
from lamina.plans.explain import end_rows, layer_map, layer_rows

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"


@pytest.fixture(autouse=True)
def among_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MODELS)


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.yml"
    path.write_text(text)
    return path


def tensors(folder: Path) -> dict[str, bytes]:
    checkpoint = open_checkpoint(folder)
    return {name: checkpoint.read(name) for name in checkpoint.specs}


def merge(folder: Path, text: str, **options: int) -> dict[str, bytes]:
    out = folder / f"out-{len(list(folder.iterdir()))}"
    lamina.merge(recipe(folder, text), out, **options)
    return tensors(out)


@pytest.mark.parametrize("name", METHODS)
def test_the_example_of_a_method_runs(name: str, tmp_path: Path) -> None:
    text = example_recipe(METHODS[name])
    made = merge(tmp_path, text)
    assert set(made) == set(tensors(MODELS / "base"))
    if name != "passthrough":
        assert all(made != tensors(MODELS / model) for model in ("base", "rev", "sort"))


@pytest.mark.parametrize("name", METHODS)
def test_the_plan_of_an_example_can_be_shown(name: str, tmp_path: Path) -> None:
    path = recipe(tmp_path, example_recipe(METHODS[name]))
    plan = lamina.plan(path)
    assert len(layer_rows(plan)) == 1
    assert layer_map(plan)
    assert end_rows(plan)
    shown = CliRunner().invoke(cli, ["plan", str(path)])
    assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize("name", METHODS)
def test_the_bytes_of_an_example_do_not_depend_on_the_workers(name: str, tmp_path: Path) -> None:
    text = example_recipe(METHODS[name])
    alone = merge(tmp_path, text, workers=1)
    for workers in range(2, 9):
        assert merge(tmp_path, text, workers=workers, memory=10**9) == alone


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.draws])
def test_the_seed_decides_the_draws(name: str, tmp_path: Path) -> None:
    text = example_recipe(METHODS[name])
    first, again, other = (merge(tmp_path, text, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert all(first[tensor] != other[tensor] for tensor in first)


def test_every_tensor_and_every_model_has_draws_of_its_own(tmp_path: Path) -> None:
    plan = lamina.plan(recipe(tmp_path, example_recipe(METHODS["dare_ties"])))
    keys = [key for job in plan.jobs for key in job.expr.draw_keys]
    assert len(set(keys)) == len(keys) == 2 * len(plan.jobs)


STACK = """
stack:
  - {model: rev, layers: 0-3}
  - {model: sort, layers: 0-3, at: 2}
"""


@pytest.mark.parametrize("overlap", ["average", "ramp", "cut"])
def test_a_stack_by_slerp_is_what_its_slices_say(tmp_path: Path, overlap: str) -> None:
    text = f"{STACK}merge_method: slerp\noverlap: {overlap}\n"
    path = recipe(tmp_path, text)
    spelled = as_slices(path)
    assert {entry.get("base_model") for entry in yaml.safe_load(spelled)["slices"]} <= {None, "rev"}
    assert merge(tmp_path, spelled) == merge(tmp_path, text)


def test_a_stack_by_slerp_copies_what_one_entry_covers(tmp_path: Path) -> None:
    made = merge(tmp_path, f"{STACK}merge_method: slerp\noverlap: average\n")
    rev, sort = tensors(MODELS / "rev"), tensors(MODELS / "sort")
    name = "model.layers.{}.mlp.up_proj.weight"
    assert made[name.format(0)] == rev[name.format(0)]
    assert made[name.format(5)] == sort[name.format(3)]
    assert made[name.format(2)] not in (rev[name.format(2)], sort[name.format(0)])


def test_a_ramp_by_slerp_is_slerp_at_i_of_n(tmp_path: Path) -> None:
    ramp = merge(tmp_path, "stack: [{model: rev, layers: 0-3}, {model: sort, layers: 0-3, at: 0}]\n"
                 "merge_method: slerp\noverlap: ramp\n")  # fmt: skip
    slices = merge(tmp_path, "models: [{model: rev}, {model: sort}]\nbase_model: rev\nmerge_method: slerp\n"
                   "gradient_ends: own\nparameters: {t: [0, 1]}\n")  # fmt: skip
    assert ramp == slices


def test_one_model_may_meet_itself_by_slerp(tmp_path: Path) -> None:
    text = "stack: [{model: rev, layers: 0-3}, {model: rev, layers: 0-3, at: 2}]\nmerge_method: slerp\noverlap: ramp\n"
    path = recipe(tmp_path, text)
    assert merge(tmp_path, as_slices(path)) == merge(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (STACK + "merge_method: slerp\n", "overlap"),
        (STACK.replace("at: 2}", "at: 2, weight: 1}").replace("0-3}", "0-3, weight: 1}") + "merge_method: slerp\n",
         "no weights"),
        (STACK + "  - {model: max, layers: 0-3, at: 3}\noverlap: average\nmerge_method: slerp\n", "blends two"),
        ("models: [{model: rev}, {model: sort}]\nmerge_method: slerp\nparameters: {t: 0.5}", "base_model"),
        ("models: [{model: rev}, {model: max}]\nbase_model: base\nmerge_method: slerp\nparameters: {t: 0.5}", "1 or 2"),
        ("models: [{model: rev}]\nbase_model: rev\nmerge_method: nearswap\nparameters: {t: 0.5}", "one model"),
        ("models: [{model: rev}, {model: sort}]\nmerge_method: sce", "base_model"),
        ("models: [{model: rev}]\nbase_model: base\nmerge_method: model_stock", "2 or more"),
        ("models: [{model: rev, parameters: {weight: 1}}]\nbase_model: base\nmerge_method: nuslerp", "2 models"),
        ("models: [{model: rev, parameters: {weight: 1, density: 0.9}}]\nbase_model: base\nmerge_method: della",
         "probabilities"),
        ("models: [{model: rev, parameters: {weight: 1, density: 0.1}}]\nbase_model: base\nmerge_method: della_linear",
         "probabilities"),
        ("models: [{model: rev, parameters: {weight: 1, density: 1.5}}]\nbase_model: base\nmerge_method: ties",
         "from 0 to 1"),
        ("models: [{model: rev, parameters: {weight: 1}}]\nbase_model: base\nmerge_method: ties\n"
         "parameters: {rescale: inverse}", "l1"),
        ("models: [{model: rev}, {model: sort}]\nmerge_method: karcher\nparameters: {max_iter: 2.5}", "whole number"),
        ("models: [{model: rev}, {model: sort}]\nmerge_method: karcher\nparameters: {max_iter: [1, 4, 2]}",
         "whole number"),
        ("models: [{model: rev, parameters: {weight: 1}}, {model: sort, parameters: {weight: -1}}]\n"
         "merge_method: multislerp", "sum to zero"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused_when_it_is_planned(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        lamina.plan(recipe(tmp_path, text))
    assert said in str(caught.value)
