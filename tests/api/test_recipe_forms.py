"""One recipe in all its forms, and what a plan shows of itself."""

from __future__ import annotations

import pickle
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lamina
from lamina.errors import RecipeError

MODELS = Path(__file__).parents[2] / "examples" / "models"
TEXT = f"""\
models:
  - model: {MODELS}/rev
    parameters: {{weight: 0.5}}
  - model: {MODELS}/sort
    parameters: {{weight: 0.5}}
merge_method: linear
"""
MAPPING = {
    "models": [{"model": f"{MODELS}/{name}", "parameters": {"weight": 0.5}} for name in ("rev", "sort")],
    "merge_method": "linear",
}


def test_a_path_a_text_a_mapping_a_recipe_and_a_published_folder_are_one_plan(tmp_path: Path) -> None:
    path = tmp_path / "average.yml"
    path.write_text(TEXT)
    lamina.merge(MAPPING, tmp_path / "out")
    forms: list[Any] = [path, str(path), TEXT, MAPPING, lamina.load_recipe(path), tmp_path / "out"]
    assert len({lamina.plan(form).digest for form in forms}) == 1


def test_every_function_takes_a_mapping(tmp_path: Path) -> None:
    assert lamina.as_slices(MAPPING).startswith("slices:")
    assert lamina.explain(MAPPING, "model.norm.weight").job.name == "model.norm.weight"
    assert len(lamina.tensors(MAPPING)) == len(lamina.plan(MAPPING).jobs)
    assert lamina.merge(MAPPING, tmp_path / "out").plan.digest == lamina.plan(MAPPING).digest


class Colour(Enum):
    RED = 1


def test_a_mapping_may_hold_paths_numbers_of_numpy_and_tuples() -> None:
    half = {"weight": np.float32(0.5)}
    models = tuple({"model": MODELS / name, "parameters": half} for name in ("rev", "sort"))
    other = {"models": models, "merge_method": np.str_("linear")}
    assert lamina.plan(other).digest == lamina.plan(MAPPING).digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": Colour.RED}, "`dtype` is a Colour, and a recipe holds text, numbers, lists and mappings."),
        ({"models": [{"model": {1, 2}}]}, "`models[0].model` is a set"),
        ({"parameters": {"weight": print}}, "`parameters.weight` is a function"),
        ({"parameters": {1: 2}}, "a key is a word, and here is `1` within `parameters`."),
        ({b"x": 2}, "a key is a word, and here is `b'x'`."),
        ({"merge_method": lambda: None}, "is no merge method yet"),
    ],
)
def test_what_no_recipe_can_hold_gets_a_letter(change: dict[Any, Any], said: str) -> None:
    with pytest.raises(lamina.RecipeError) as caught:
        lamina.plan({**MAPPING, **change})
    [problem] = caught.value.problems
    assert said in problem.message


def test_a_mapping_in_itself_gets_a_letter() -> None:
    endless: dict[str, Any] = dict(MAPPING)
    endless["parameters"] = endless
    with pytest.raises(lamina.RecipeError, match="nested too deep"):
        lamina.plan(endless)


def test_what_is_given_stays_as_it_was() -> None:
    before = repr(MAPPING)
    lamina.plan(MAPPING, set_values=["dtype=float32"])
    assert repr(MAPPING) == before


def test_a_recipe_is_read_anew_where_something_is_set() -> None:
    recipe = lamina.load_recipe(TEXT)
    changed = lamina.plan(recipe, set_values=["dtype=float32"])
    assert {str(spec.dtype) for spec in changed.specs.values()} == {"float32"}
    assert lamina.plan(recipe).digest != changed.digest


def test_the_seed_is_the_plans() -> None:
    assert lamina.plan(MAPPING, seed=7).seed == 7
    assert lamina.plan(MAPPING, seed=7).digest != lamina.plan(MAPPING).digest


def test_the_plan_shows_itself_as_its_table() -> None:
    plan = lamina.plan(MAPPING)
    assert repr(plan) == str(plan)
    assert "0-3                          rev 0-3  +  sort 0-3  0.5  +  0.5" in repr(plan)


def test_the_table_of_a_notebook_is_small_and_escaped(tmp_path: Path) -> None:
    evil = tmp_path / "<b>&model"
    evil.symlink_to(MODELS / "rev")
    stack = {"stack": [{"model": str(evil), "layers": "0-3"}, {"model": str(evil), "layers": "0-3", "at": 1}]}
    html = lamina.plan({**stack, "overlap": "ramp"})._repr_html_()
    assert "&lt;b&gt;&amp;model 0-1" in html
    assert "<b>" not in html
    assert html.startswith("<div>")
    assert "notice: output layer 2" in html
    assert len(html) < 3000


def test_a_plan_travels_to_another_process() -> None:
    plan = lamina.plan(MAPPING)
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_errors_carry_their_problems_to_another_process_too() -> None:
    with pytest.raises(lamina.RecipeError) as caught:
        lamina.plan(TEXT.replace("linear", "lineer") + "dtpye: float32\n")
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert [(each.code, each.line) for each in error.problems] == [("unknown-method", 6), ("unknown-key", 7)]


def test_every_error_has_problems(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "something").write_text("")
    with pytest.raises(lamina.LaminaError) as caught:
        lamina.merge(MAPPING, tmp_path / "out")
    [problem] = caught.value.problems
    assert problem.code == "output"
    assert problem.message == str(caught.value)


def test_what_is_public_is_what_is_listed() -> None:
    for name in lamina.__all__:
        assert getattr(lamina, name) is not None
    with pytest.raises(AttributeError):
        _ = lamina.merg  # type: ignore[attr-defined]


def test_a_name_in_a_folder_that_is_near_a_recipe_is_no_model_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "skills.yml").write_text("merge_method: linear\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"recipes/skils: no such file. Did you mean `recipes/skills.yml`\?"):
        lamina.plan("recipes/skils")
