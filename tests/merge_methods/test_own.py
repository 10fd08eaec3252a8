"""Methods of one's own give what they say, streamed or whole; what they do wrong is told with file, line and tensor."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import lamina
from lamina.errors import LaminaError, OwnMethodFailed, RecipeError, UnmergeableTensor
from lamina.merge_methods import slerp as slerp_module
from lamina.merge_methods import ties as ties_module

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
MATRIX = "model.layers.1.mlp.up_proj.weight"
HEAD = """\
import math
from collections.abc import Sequence
from typing import Annotated
import numpy as np
import lamina
from lamina.merge_methods import *

"""


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the models, which is the working directory."""
    for model in MODELS.iterdir():
        (tmp_path / model.name).symlink_to(model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(code: str, parameters: str = "", base: str = "base_model: base\n", models: str = "rev, sort") -> Path:
    """mine.py, and a recipe by its one method."""
    code = dedent(code)
    Path("mine.py").write_text(HEAD + code)
    [name] = re.findall(r"@lamina.merge_method.*?\ndef (\w+)", code, re.S)
    entries = ", ".join(f"{{model: {model}}}" for model in models.split(", "))
    text = f"models: [{entries}]\nmerge_method: mine.py:{name}\n{base}parameters: {{{parameters}}}\n"
    Path("recipe.yml").write_text(text)
    return Path("recipe.yml")


def made(recipe: Any, tensor: str = MATRIX, **options: Any) -> np.ndarray[Any, Any]:
    with lamina.tensors(recipe, **options) as tensors:
        return tensors[tensor]


def of_model(name: str, tensor: str = MATRIX) -> np.ndarray[Any, Any]:
    return made({"models": [{"model": f"{MODELS / name}"}], "merge_method": "passthrough"}, tensor)


def rounded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As bfloat16 has them, ties to even."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000).astype(np.uint32).view(np.float32)


MEAN = """\
@lamina.merge_method(base="{base}")
def mean(tile: Tile) -> Block:
    '''The mean.'''
    return sum(tile.deltas) / len(tile.deltas)
"""


# What it gives


@pytest.mark.parametrize("base", ["optional", "required"])
def test_with_a_base_the_result_is_added_to_it(base: str) -> None:
    expected = of_model("base") + sum(of_model(name) - of_model("base") for name in ("rev", "sort")) / np.float32(2)
    assert np.array_equal(made(write(MEAN.format(base=base))), rounded(expected))


def test_without_a_base_the_models_themselves_are_meant() -> None:
    expected = (of_model("rev") + of_model("sort")) / np.float32(2)
    assert np.array_equal(made(write(MEAN.format(base="optional"), base="")), rounded(expected))


def test_an_ordinary_base_that_is_not_listed_is_one_of_the_models() -> None:
    expected = (of_model("rev") + of_model("sort") + of_model("base")) / np.float32(3)
    assert np.array_equal(made(write(MEAN.format(base="ordinary"))), rounded(expected))


def test_whole_rows_are_handed_to_a_method_that_looks_at_rows() -> None:
    code = """\
    @lamina.merge_method(scope="row")
    def by_row(tile: Tile) -> Block:
        '''The model whose row is the longer.'''
        lengths = np.stack([np.square(tile.rows(part)).sum(axis=1) for part in tile.inputs])
        rows = np.stack([tile.rows(part) for part in tile.inputs])
        longest = lengths.argmax(axis=0)
        return rows[longest, np.arange(len(longest))].reshape(-1)
    """
    rows = np.stack([of_model("rev"), of_model("sort")])
    longest = np.square(rows).sum(axis=2).argmax(axis=0)
    assert np.array_equal(made(write(code, base="")), rows[longest, np.arange(rows.shape[1])])


def test_coefficients_are_known_to_the_plan_and_run_in_the_engines_kernel() -> None:
    code = """\
    @lamina.merge_method(inputs=(2, 2))
    def between(*, t: float) -> Coefficients:
        '''One minus t, and t.'''
        return [1 - t, t]
    """
    recipe = write(code, "t: 0.25", base="")
    shown = repr(lamina.explain(recipe, MATRIX))
    assert "0.75 ×  rev" in shown
    assert "0.25 ×  sort" in shown
    linear = {"models": [{"model": "rev", "parameters": {"weight": 3}}, {"model": "sort", "parameters": {"weight": 1}}]}
    assert np.array_equal(made(recipe), made({**linear, "merge_method": "linear"}))


@pytest.mark.parametrize(
    ("module", "function", "parameters", "base"),
    [
        (slerp_module, "slerp", "t: 0.3", "rev"),
        (ties_module, "ties", "weight: 0.7, density: 0.3, rescale: true", "base"),
    ],
)
def test_a_method_of_lamina_in_ones_own_file_gives_the_same_bytes(
    module: Any, function: str, parameters: str, base: str
) -> None:
    source = inspect.getsource(module).replace("from __future__ import annotations\n", "")
    declared = re.search(r'base="(\w+)",\n    inputs=(\(.*?\))', source)
    assert declared is not None
    source = re.sub(
        r"@merge_method\(.*?\n\)\n",
        f'@lamina.merge_method(base="{declared[1]}", inputs={declared[2]})\n',
        source,
        flags=re.S,
    )
    recipe = write(source, parameters, base=f"base_model: {base}\n")
    expected = recipe.read_text().replace(f"mine.py:{function}", function)
    own, ours = (lamina.tensors(text) for text in (recipe, expected))
    assert all(own.stored(name) == ours.stored(name) for name in own)


LOW_RANK = """\
import torch

@lamina.merge_method(base="required")
def low_rank(tensors: Tensors, *, rank: int = 4) -> torch.Tensor:
    '''The nearest matrix of a rank to the sum of the deltas.'''
    total = sum(tensors.deltas)
    if total.ndim < 2:
        return total
    u, s, v = torch.linalg.svd(total, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]
"""


def test_a_whole_tensor_comes_in_its_shape_and_goes_back_so() -> None:
    found = made(write(LOW_RANK, "rank: 3"))
    base = of_model("base")
    total = sum(of_model(name) - base for name in ("rev", "sort"))
    u, s, v = np.linalg.svd(total.astype(np.float64), full_matrices=False)
    expected = base + (u[:, :3] * s[:3]) @ v[:3]
    assert np.abs(found - expected).max() <= 2.0**-8 * np.abs(expected).max()
    assert np.linalg.matrix_rank(expected - base, tol=1e-6) == 3


@pytest.mark.parametrize("code", [LOW_RANK, MEAN.format(base="required")], ids=["whole", "streamed"])
def test_neither_workers_nor_memory_are_seen_in_the_bytes(code: str) -> None:
    recipe = write(code)
    results = set()
    for workers, memory in ((1, 600_000_000), (2, 800_000_000), (5, 2_000_000_000)):
        lamina.merge(recipe, f"out-{workers}", workers=workers, memory=memory)
        results.add(Path(f"out-{workers}/model.safetensors").read_bytes())
    assert len(results) == 1


def test_draws_are_addressed_by_the_seed() -> None:
    code = """\
    import torch

    @lamina.merge_method
    def noisy(tensors: Tensors, *, keys: Annotated[Sequence[int], draw_keys()]) -> torch.Tensor:
        '''The first model and a little noise.'''
        generator = torch.Generator().manual_seed(keys[0] % (1 << 63))
        return tensors.inputs[0] + 0.1 * torch.randn(tensors.shape, generator=generator)
    """
    recipe = write(code, base="")
    first, again, other = (made(recipe, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_float64_of_a_recipe_reaches_the_method() -> None:
    code = """\
    @lamina.merge_method
    def first(tile: Tile) -> Block:
        '''The first model, if it comes in float64.'''
        assert tile.inputs[0].dtype == np.float64
        return tile.inputs[0]
    """
    assert made(write(code, base="dtype: float64\n")).dtype == np.float64


# What it does wrong


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return tile.inputs[0][:-1]", r"returns float32 \[\d+\] where the tile's arrays are float32 \[\d+\]"),
        ("return tile.inputs[0].astype('float16')", r"returns float16 \[\d+\] where the tile's arrays are float32"),
        ("return 3", "returns int, and a merge method returns a numpy array"),
        ("return tile.inputs[0] / 0", "gives NaN or infinity, although every input is finite"),
        ("tile.inputs[0][0] = 1", r"changes what it was given; make new arrays"),
        ("tile.base[:] += 1", r"changes what it was given; make new arrays"),
        ("return [][0]", "raised IndexError: list index out of range"),
        ("return lamina.nothing", "raised AttributeError: module 'lamina' has no attribute 'nothing'"),
    ],
)
def test_what_a_streamed_method_does_wrong_is_told_with_line_and_tensor(body: str, said: str) -> None:
    recipe = write(f"@lamina.merge_method\ndef bad(tile: Tile) -> Block:\n    '''Bad.'''\n    {body}\n")
    with pytest.raises(OwnMethodFailed, match=rf"^while making [\w.]+\.weight: mine.py:(8|11): bad {said}") as error:
        lamina.merge(recipe, "out")
    assert error.value.exit_code == 1
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return tensors.inputs[0][:-1]", r"returns float32 \[.*\] where the tensors are float32 \["),
        ("return tensors.inputs[0].double()", r"returns float64 \[.*\] where the tensors are float32 \["),
        ("return tensors.inputs[0].numpy()", "returns ndarray, and a merge method returns a tensor"),
        ("return tensors.inputs[0] / 0", "gives NaN or infinity, although every input is finite"),
        ("return tensors.inputs[0].add_(1)", r"changes the tensors that it was given; make new ones"),
        ("return tensors.inputs[0] @ tensors.inputs[0]", "raised RuntimeError: "),
    ],
)
def test_what_a_whole_tensor_method_does_wrong_is_told_with_line_and_tensor(body: str, said: str) -> None:
    recipe = write(f"@lamina.merge_method\ndef bad(tensors: Tensors):\n    '''Bad.'''\n    {body}\n")
    with pytest.raises(OwnMethodFailed, match=rf"^while making [\w.]+\.weight: mine.py:(8|11): bad {said}"):
        lamina.merge(recipe, "out")
    assert not Path("out").exists()


def test_a_fault_in_ones_own_measure_is_told_with_its_line() -> None:
    code = """\
    def measured(facts, values):
        def fold(tile):
            tile.inputs[9]
        yield fold
        return 1.0

    @lamina.merge_method
    def bad(tile: Tile, *, one: Annotated[float, Measure(measured)]) -> Block:
        '''Bad.'''
        return tile.inputs[0]
    """
    with pytest.raises(OwnMethodFailed, match=r"mine.py:10: bad raised IndexError: tuple index out of range"):
        made(write(code))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [1.0]", "mine.py:8: bad returns 1 coefficient for 2 models"),
        ("return [1 / t, 0.5]", "mine.py:11: bad raised ZeroDivisionError"),
        ("raise UndefinedMerge('t is too small')", "t is too small"),
        ("return [float('nan'), 1.0]", "the weights are too large, or their sum is too small to divide by"),
    ],
)
def test_coefficients_that_are_none_are_told_before_anything_is_read(body: str, said: str) -> None:
    code = f"@lamina.merge_method\ndef bad(*, t: float = 0.0) -> Coefficients:\n    '''Bad.'''\n    {body}\n"
    with pytest.raises(RecipeError) as error:
        lamina.plan(write(code))
    assert said in str(error.value)
    assert {problem.code for problem in error.value.problems} == {"undefined"}


def test_a_formula_without_a_value_for_a_tensor_is_told_as_such() -> None:
    code = """\
    @lamina.merge_method
    def bad(*, gram: Annotated[Gram, GramMatrix()]) -> Coefficients:
        '''Bad.'''
        raise UndefinedMerge("the deltas cancel")
    """
    with pytest.raises(UnmergeableTensor, match="the deltas cancel"):
        made(write(code))


def test_a_nan_of_an_input_is_the_inputs_and_not_the_methods(desk: Path) -> None:
    from lamina.checkpoints.checkpoint import open_checkpoint

    model = desk / "with-nan"
    model.mkdir()
    for file in (MODELS / "rev").iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    checkpoint = open_checkpoint(model)
    first = next(iter(checkpoint.specs))
    raw = checkpoint.read(first)
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content.replace(bytes(raw), b"\xc0\x7f" + bytes(raw)[2:], 1))
    result = lamina.merge(write(MEAN.format(base="required"), models="with-nan, sort"), "out")
    assert result.non_finite == (first,)


def test_every_error_of_a_method_is_a_letter() -> None:
    assert issubclass(OwnMethodFailed, LaminaError)


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_whole_tensor_method_stays_within_the_memory_it_announces() -> None:
    recipe = write(LOW_RANK)
    code = (
        "import sys, lamina; result = lamina.merge(sys.argv[1], 'out', workers=2); "
        "print(result.peak_memory, lamina.api.forecast(sys.argv[1], workers=2).memory)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(recipe)], capture_output=True, text=True, check=True)
    peak, announced = map(int, run.stdout.split())
    assert peak <= announced <= 600_000_000
