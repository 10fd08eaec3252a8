"""Somebody's own merge methods from a recipe's point of view: how they are found, what they need, whose code is run."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import lamina
from lamina.errors import MemoryBudgetError, RecipeError
from lamina.plans.plan import Plan

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
HEAD = """\
from typing import Annotated, Literal
import lamina
from lamina.merge_methods import *

"""
MEAN = """\
@lamina.merge_method
def mean(tile: Tile, *, share: float = 1.0) -> Block:
    '''The mean, times a share.'''
    return sum(tile.deltas) / len(tile.deltas) * share
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the models, which is the working directory."""
    for model in MODELS.iterdir():
        (tmp_path / model.name).symlink_to(model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, code: str = MEAN) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(HEAD + dedent(code))
    return path


def recipe(method: str, parameters: str = "", more: str = "") -> str:
    models = "models: [{model: rev}, {model: sort}]\n"
    return f"{models}merge_method: {method}\nbase_model: base\n{more}parameters: {{{parameters}}}\n"


def planned(method: str, parameters: str = "", **options: Any) -> Plan:
    path = Path("recipe.yml")
    path.write_text(recipe(method, parameters))
    return lamina.plan(path, **options)


def letters(method: str, parameters: str = "", **options: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(RecipeError) as error:
        planned(method, parameters, **options)
    return [(problem.code, problem.message, problem.suggestion) for problem in error.value.problems]


# Where a method is looked for


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mine.py", "mine.py:mean"),
        ("mine.py", "./mine.py:mean"),
        ("mine.py", "mine:mean"),
        ("methods/mine.py", "methods/mine.py:mean"),
    ],
)
def test_a_file_is_found_relative_to_the_recipe(desk: Path, file: str, name: str) -> None:
    write(desk / file)
    plan = planned(name)
    assert plan.method == name
    [notice] = [notice for notice in plan.notices if notice.code == "own-code"]
    assert Path(file).name in notice.message
    assert notice.place == "recipe.yml:2:15"


def test_a_file_beside_the_recipe_is_found_from_any_working_directory(
    desk: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(desk / "mine.py")
    (desk / "recipe.yml").write_text(recipe("mine:mean"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert lamina.plan(desk / "recipe.yml").method == "mine:mean"


def mapping(method: Any) -> dict[str, Any]:
    return {"models": [{"model": "rev"}, {"model": "sort"}], "merge_method": method, "base_model": "base"}


def test_in_a_mapping_the_function_itself_stands_for_its_name(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(desk / "mine.py")
    monkeypatch.syspath_prepend(desk)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    imported = importlib.import_module("mine")
    by_name = lamina.plan(mapping("mine.py:mean")).digest
    assert lamina.plan(mapping(imported.mean)).digest == by_name
    assert "mine.py" in {file.name for file in lamina.plan(mapping(imported.mean)).files}
    del sys.modules["mine"]  # now it is a function of no module that is there
    assert lamina.plan(mapping(imported.mean)).digest == by_name


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "`mean` belongs to the program that runs: put it into a file of its own, `mine.py`"),
        ("mean = print", "`print` is no merge method yet"),
        ("mean = len", "`len` is no merge method yet"),
    ],
)
def test_a_function_that_no_recipe_can_name_gets_a_letter(desk: Path, code: str, said: str) -> None:
    write(desk / "program.py", f"{MEAN}{code}\nasked = {mapping('M')!r} | {{'merge_method': mean}}\n")
    with (desk / "program.py").open("a") as file:
        file.write("try:\n    lamina.plan(asked)\nexcept lamina.RecipeError as error:\n    print(error)\n")
    place = {**os.environ, "PYTHONPATH": str(Path(lamina.__file__).parents[1])}
    run = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, env=place, check=True)
    assert "[own-code]" in run.stdout
    assert said in run.stdout


def test_a_module_of_pythons_path_is_found(
    desk: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("path")
    write(folder / "own_lab_package" / "means.py")
    monkeypatch.syspath_prepend(folder)
    assert planned("own_lab_package.means:mean").method == "own_lab_package.means:mean"
    assert not (desk / "out").exists()


@pytest.fixture
def offering(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that offers `lab_mean`, and tries to offer another `linear`."""
    folder = tmp_path_factory.mktemp("site")
    write(folder / "lab_methods_offered.py")
    info = folder / "lab_methods-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-methods\nVersion: 1.0\n")
    offered = "lab_mean = lab_methods_offered:mean\nlinear = lab_methods_offered:mean\n"
    (info / "entry_points.txt").write_text(f"[lamina.merge_methods]\n{offered}")
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.mark.usefixtures("desk", "offering")
def test_an_installed_package_may_offer_a_method_by_a_name_of_its_own() -> None:
    assert planned("lab_mean").method == "lab_mean"
    assert planned("linear", "weight: 1").method == "linear"
    assert not [notice for notice in planned("linear", "weight: 1").notices if notice.code == "own-code"]


@pytest.mark.usefixtures("desk", "offering")
def test_what_is_offered_is_listed_without_being_imported() -> None:
    from click.testing import CliRunner

    from lamina.cli.main import cli

    sys.modules.pop("lab_methods_offered", None)
    listed = CliRunner().invoke(cli, ["methods"]).output
    assert re.search(r"^lab_mean +of the package lab-methods$", listed, re.M)
    assert len(re.findall(r"^linear ", listed, re.M)) == 1
    assert "lab_methods_offered" not in sys.modules
    assert "The mean, times a share." in CliRunner().invoke(cli, ["methods", "lab_mean"]).output


# Letters about the code


@pytest.mark.parametrize(
    ("name", "code", "said", "suggestion"),
    [
        ("mine.py", MEAN, "a method of mine.py is named with its function: `mine.py:FUNCTION`", ""),
        ("mien.py:mean", MEAN, "there is no file `mien.py` in", "mine.py"),
        ("nowhere:mean", MEAN, "there is no `nowhere.py` beside the recipe, and Python finds no module `nowhere`", ""),
        ("a b:mean", MEAN, "`a b` is neither a file", ""),
        (f"{'x' * 300}:mean", MEAN, f"`{'x' * 60}...` is neither a file `....py` nor a module.", ""),
        ("~nobody-of-this-name/a.py:mean", MEAN, "`~nobody-of-this-name/a.py` is neither a file", ""),
        ("mine.py:maen", MEAN, "mine.py has no function `maen`. Did you mean `mine.py:mean`?", "mine.py:mean"),
        ("mine.py:other", MEAN, "mine.py has no function `other`. It has mean.", ""),
        ("mine.py:plain", "def plain(tile): pass", "is no merge method yet: put `@lamina.merge_method` above it", ""),
        ("mine.py:mean", "x = (", "mine.py:5 cannot be loaded: SyntaxError: '(' was never closed.", ""),
        ("mine.py:mean", "\nraise KeyError('x')", "mine.py:6 cannot be loaded: KeyError: 'x'.", ""),
        ("mine.py:mean", "import sys; sys.exit(3)", "mine.py:5 cannot be loaded: SystemExit: 3.", ""),
        ("mine.py:mean", "import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'", ""),
    ],
)
def test_code_that_cannot_be_found_or_loaded_gets_a_letter(
    desk: Path, name: str, code: str, said: str, suggestion: str
) -> None:
    write(desk / "mine.py", code)
    [(kind, message, meant)] = letters(name)
    assert kind == "own-code"
    assert said in message
    assert meant == suggestion


def test_without_torch_a_file_that_imports_it_names_the_extra(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(desk / "mine.py", "import torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    [(_, message, _)] = letters("mine.py:mean")
    assert "torch" in message
    assert "pip install 'lamina[torch]'" in message


@pytest.mark.parametrize(
    ("declaration", "said"),
    [
        ("tile: Tile, *, rank", "`rank` needs a type: float, int, bool"),
        ("tile: Tile, *, rank: str = 'x'", "`rank` needs a type"),
        ("tile: Tile, *, rank: Annotated[float, 'words'] = 1.0", "`rank` is annotated with what is neither a Meaning"),
        ("tile: Tile, *, rank: Annotated[int, Meaning('', minimum=1)] = 0", "a whole number from 1 on, not `0`"),
        ("tile: Tile, *, weight: Weight = (1.0, 2.0)", "the default of `weight` is one value"),
        ("tile: Tile, **rest", "`**rest` says nothing of the parameters"),
        ("tile: Tile, other: Tile", "it takes one thing by position"),
        ("tile", "it takes one thing by position"),
        ("tile: Nothing", "name 'Nothing' is not defined"),
        ("tile: Tile, *, gram: Annotated[Gram, GramMatrix()]", "a Gram matrix gives coefficients"),
    ],
)
def test_a_declaration_that_says_too_little_gets_a_letter(desk: Path, declaration: str, said: str) -> None:
    head = "from __future__ import annotations\n"  # so that an unknown name is found late
    (desk / "mine.py").write_text(f"{head}{HEAD}@lamina.merge_method\ndef odd({declaration}):\n    'Odd.'\n")
    [(kind, message, _)] = letters("mine.py:odd")
    assert kind == "own-code"
    assert message.startswith("mine.py:6: odd cannot be used: ")
    assert said in message


def test_a_method_without_a_docstring_or_with_an_odd_example_gets_a_letter(desk: Path) -> None:
    write(desk / "mine.py", "@lamina.merge_method(example={'x': 1})\ndef odd(tile: Tile): return tile.inputs[0]\n")
    [(_, message, _)] = letters("mine.py:odd")
    assert "it has no docstring" in message
    assert "its example has x, which it does not take" in message


def test_words_of_the_decorator_that_mean_nothing_get_a_letter(desk: Path) -> None:
    odd = "(tile: Tile):\n    'Odd.'\n"
    write(desk / "mine.py", f"@lamina.merge_method(base='wanted', scope='tensor')\ndef odd{odd}")
    [(_, message, _)] = letters("mine.py:odd")
    assert "its base is one of ordinary, first, optional, required, not `wanted`" in message
    assert "its scope is one of element, row, not `tensor`" in message
    write(desk / "mine.py", f"@lamina.merge_method(bse='required')\ndef odd{odd}")
    [(_, message, _)] = letters("mine.py:odd")
    assert "unexpected keyword argument 'bse'" in message


def test_a_stack_takes_no_method_of_ones_own(desk: Path) -> None:
    write(desk / "mine.py")
    with pytest.raises(RecipeError, match="in `slices`, methods of your own may stand"):
        lamina.plan("stack: [{model: rev, layers: 0-3}]\nmerge_method: mine.py:mean\n")


# Parameters


CHOOSY = """\
@lamina.merge_method(base="required")
def choosy(
    tile: Tile, *, weight: Weight, rank: Annotated[int, Meaning("", minimum=1, maximum=9)] = 2,
    mode: Literal["plus", "minus"] = "plus", exact: bool = False,
) -> Block:
    '''A sum, or a difference.'''
    sign = {"plus": 1.0, "minus": -1.0}[mode]
    return sum(w * delta for w, delta in zip(weight, tile.deltas)) * sign / rank
"""


@pytest.mark.parametrize(
    ("parameters", "code", "said"),
    [
        ("wieght: 1", "unknown-parameter", "unknown parameter `wieght` of mine.py:choosy. Did you mean `weight`?"),
        ("weight: 1, rank: 0", "parameter-value", "`rank` takes a whole number from 1 to 9, not `0`."),
        ("weight: 1, rank: 2.5", "parameter-value", "`rank` takes a whole number from 1 to 9, not `2.5`."),
        ("weight: 1, mode: times", "parameter-value", "`mode` takes plus or minus, not `times`."),
        ("weight: 1, exact: maybe", "parameter-value", "`exact` takes true or false, not `maybe`."),
        ("rank: 2", "missing-parameter", "mine.py:choosy needs `weight` of `rev`: "),
    ],
)
def test_parameters_are_checked_like_those_of_any_method(desk: Path, parameters: str, code: str, said: str) -> None:
    write(desk / "mine.py", CHOOSY)
    found = letters("mine.py:choosy", parameters)
    assert found[0][0] == code
    assert said in found[0][1]


def test_parameters_have_gradients_and_filters(desk: Path) -> None:
    write(desk / "mine.py", CHOOSY)
    path = Path("recipe.yml")
    path.write_text(recipe("mine.py:choosy", "weight: [0, 3], rank: [{filter: mlp, value: 3}, {value: 1}]"))
    told = {value.parameter: value.value for value in lamina.explain(path, "model.layers.1.mlp.up_proj.weight").values}
    assert told == {"weight": 1.0, "rank": 3, "mode": "plus", "exact": False}
    told = {
        value.parameter: value.value for value in lamina.explain(path, "model.layers.2.self_attn.q_proj.weight").values
    }
    assert told == {"weight": 2.0, "rank": 1, "mode": "plus", "exact": False}


def test_a_model_of_weight_zero_is_not_read_where_the_method_promises_that_it_counts_for_nothing(desk: Path) -> None:
    models = "models: [{model: rev, parameters: {weight: 0}}, {model: sort, parameters: {weight: 1}}]\n"
    Path("recipe.yml").write_text(f"{models}merge_method: mine.py:choosy\nbase_model: base\n")
    for declaration, reads in (('base="required"', True), ('base="required", laws=["zero weight is base"]', False)):
        write(desk / "mine.py", CHOOSY.replace('base="required"', declaration))
        assert bool(lamina.plan("recipe.yml").reads_of("rev")) == reads


# Digest


def test_the_digest_covers_the_text_of_the_file_and_not_its_place(desk: Path) -> None:
    write(desk / "mine.py")
    write(desk / "other" / "renamed.py")
    first = planned("mine.py:mean").digest
    assert planned("mine:mean").digest == planned("other/renamed.py:mean").digest == first
    write(desk / "mine.py", MEAN + "\n# a word more\n")
    assert planned("mine.py:mean").digest != first


def test_a_file_that_is_edited_is_read_again_and_an_older_plan_keeps_what_it_had(desk: Path) -> None:
    write(desk / "mine.py")
    name = "model.norm.weight"
    (desk / "recipe.yml").write_text(recipe("mine.py:mean"))
    with lamina.tensors("recipe.yml") as before:
        first = before[name]
        write(desk / "mine.py", MEAN.replace("* share", "* 0"))
        with lamina.tensors("recipe.yml") as after:
            assert not (after[name] == first).all()
        assert (before[name] == first).all()


# Whose code is run


def test_a_published_merge_carries_its_method_and_runs_it_only_when_told(desk: Path) -> None:
    write(desk / "mine.py", MEAN + "\nopen('was-run', 'w').close()\n")
    (desk / "recipe.yml").write_text(recipe("mine.py:mean"))
    result = lamina.merge("recipe.yml", "out")
    assert (desk / "out" / "mine.py").read_bytes() == (desk / "mine.py").read_bytes()
    assert "merge_method: mine.py:mean" in (desk / "out" / "lamina.yml").read_text()
    (desk / "was-run").unlink()
    (desk / "out" / "mine.py").write_text("open('was-run', 'w').close()\n")  # whatever somebody put there
    for carried in ("out", "out/lamina.yml"):
        with pytest.raises(RecipeError, match="which is not run unasked: read that file, then give `--allow-own-code`"):
            lamina.plan(carried)
    assert not (desk / "was-run").exists()
    (desk / "out" / "mine.py").write_bytes((desk / "mine.py").read_bytes())
    assert lamina.plan("out", allow_own_code=True).digest == result.plan.digest


def test_a_method_from_elsewhere_is_not_carried(desk: Path) -> None:
    write(desk / "other" / "mine.py")
    (desk / "recipe.yml").write_text(recipe("other/mine.py:mean"))
    lamina.merge("recipe.yml", "out")
    assert not list((desk / "out").rglob("*.py"))


@pytest.mark.usefixtures("desk", "offering")
def test_what_is_installed_needs_no_flag() -> None:
    (Path("lamina.yml")).write_text(recipe("lab_mean"))
    assert lamina.plan("lamina.yml").method == "lab_mean"


def test_what_a_folder_says_of_its_making_names_no_place(desk: Path) -> None:
    write(desk / "mine.py")
    Path("recipe.yml").write_text(recipe(f"{desk}/mine.py:mean"))
    lamina.merge("recipe.yml", "out", write_model_card=False)
    assert json.loads((desk / "out" / "lamina.json").read_text())["method"] == "mine.py:mean"
    assert str(desk) not in (desk / "out" / "lamina.json").read_text()


def test_a_plan_that_comes_without_its_method_is_told_so(desk: Path) -> None:
    write(desk / "mine.py")
    (desk / "plan").write_bytes(pickle.dumps(planned("mine.py:mean")))
    code = "import pickle, sys; print(pickle.load(open('plan', 'rb')).bytes_per_worker)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "the merge method mean is not loaded here; plan its recipe first." in run.stderr


# Memory


WHOLE = """\
@lamina.merge_method(base="required", temporaries=5)
def whole(tensors: Tensors):
    '''The mean delta.'''
    return sum(tensors.deltas) / len(tensors.deltas)
"""


def test_a_plan_says_what_a_whole_tensor_takes(desk: Path) -> None:
    write(desk / "mine.py", WHOLE)
    whole = planned("mine.py:whole")
    write(desk / "mine.py")
    streamed = planned("mine.py:mean")
    largest = max(job.expr.spec.count for job in whole.jobs)
    assert whole.bytes_per_worker - streamed.bytes_per_worker == largest * 4 * (2 + 2 + 1 + 5)


def test_what_does_not_fit_is_told_with_the_figure(desk: Path) -> None:
    write(desk / "mine.py", WHOLE)
    (desk / "recipe.yml").write_text(recipe("mine.py:whole"))
    with pytest.raises(MemoryBudgetError, match=r"needs 3\d\d MB with one worker, and --memory allows 200 MB"):
        lamina.merge("recipe.yml", "out", memory=200_000_000)
    assert not (desk / "out").exists()


def test_torch_has_a_larger_default(desk: Path) -> None:
    write(desk / "mine.py", WHOLE)
    (desk / "recipe.yml").write_text(recipe("mine.py:whole"))
    assert lamina.api.forecast("recipe.yml").memory_bound == 600_000_000
    write(desk / "mine.py")
    (desk / "recipe.yml").write_text(recipe("mine.py:mean"))
    assert lamina.api.forecast("recipe.yml").memory_bound == 200_000_000
    write(desk / "mine.py", f"import torch\n{MEAN}")  # imported, if not needed: it takes its memory all the same
    assert lamina.api.forecast("recipe.yml").memory_bound == 600_000_000
    write(desk / "mine.py", MEAN.replace("    return", "    import torch\n    return"))
    assert lamina.api.forecast("recipe.yml").memory_bound == 600_000_000
