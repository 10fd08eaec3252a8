"""Recipes that cannot be meant: every one is a letter with its place, and all letters come together."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

import lamina
from lamina.errors import LaminaError, RecipeError

from .checkpoints import write_llama
from .conftest import Bench

BAD = {  # what is wrong -> (the recipe, a word the letter must hold, the line it must name, counted from 1)
    "a typo in a top-level key": (
        """
        models: [{model: a, parameters: {weight: 1}}]
        merge_metod: linear
        """,
        "merge_method",
        2,
    ),
    "a typo in a parameter": (
        """
        models:
          - model: a
            parameters:
              weight: 1
          - model: b
            parameters:
              wieght: 1
        merge_method: linear
        """,
        "weight",
        7,
    ),
    "a typo in a shared parameter": (
        """
        models: [{model: a, parameters: {weight: 1}}]
        merge_method: linear
        parameters:
          normalise: true
        """,
        "normalize",
        4,
    ),
    "a typo in a key of a source": (
        """
        slices:
          - sources:
              - model: a
                layer_rnge: [0, 4]
        merge_method: passthrough
        """,
        "layer_range",
        4,
    ),
    "a typo in a key of an entry": (
        """
        stack:
          - model: a
            layer: 0-3
        """,
        "layers",
        3,
    ),
    "a parameter beside its model": (
        """
        models:
          - model: a
            weight: 0.5
          - model: b
            parameters: {weight: 0.5}
        merge_method: linear
        """,
        "parameters",
        3,
    ),
    "an unknown method": (
        """
        models: [{model: a, parameters: {weight: 1}}]
        merge_method: liner
        """,
        "linear",
        2,
    ),
    "no method": ("models: [{model: a, parameters: {weight: 1}}]", "merge_method", None),
    "a missing weight": (
        """
        models:
          - model: a
            parameters: {weight: 0.5}
          - model: b
        merge_method: linear
        """,
        "weight",
        4,
    ),
    "a reversed range": (
        """
        slices:
          - sources:
              - model: a
                layer_range: [3, 1]
        merge_method: passthrough
        """,
        "layer_range",
        4,
    ),
    "a range beyond the model": (
        """
        slices:
          - sources:
              - model: a
                layer_range: [2, 9]
        merge_method: passthrough
        """,
        "4",
        4,
    ),
    "a negative range": (
        """
        slices:
          - sources:
              - model: a
                layer_range: [-1, 2]
        merge_method: passthrough
        """,
        "layer_range",
        4,
    ),
    "a range of three numbers": (
        """
        slices:
          - sources:
              - model: a
                layer_range: [0, 1, 2]
        merge_method: passthrough
        """,
        "layer_range",
        4,
    ),
    "a range of text": (
        """
        slices:
          - sources:
              - model: a
                layer_range: 0-3
        merge_method: passthrough
        """,
        "layer_range",
        4,
    ),
    "a range that is no whole number": (
        """
        slices:
          - sources:
              - model: a
                layer_range: [0, 2.5]
        merge_method: passthrough
        """,
        "layer_range",
        4,
    ),
    "sources of unequal length": (
        """
        slices:
          - sources:
              - {model: a, layer_range: [0, 4], parameters: {weight: 1}}
              - {model: b, layer_range: [0, 3], parameters: {weight: 1}}
        merge_method: linear
        """,
        "layer",
        None,
    ),
    "models of unequal depth": (
        """
        models:
          - {model: a, parameters: {weight: 1}}
          - {model: eight, parameters: {weight: 1}}
        merge_method: linear
        """,
        "eight",
        None,
    ),
    "a model that does not exist": (
        """
        models:
          - {model: ./a, parameters: {weight: 1}}
          - {model: ./nowhere, parameters: {weight: 1}}
        merge_method: linear
        """,
        "nowhere",
        3,
    ),
    "models and slices": (
        """
        models: [{model: a}]
        slices: [{sources: [{model: a, layer_range: [0, 4]}]}]
        merge_method: passthrough
        """,
        "slices",
        None,
    ),
    "slices and stack": (
        """
        slices: [{sources: [{model: a, layer_range: [0, 4]}]}]
        stack: [{model: a, layers: 0-3}]
        merge_method: linear
        """,
        "stack",
        None,
    ),
    "no models at all": ("merge_method: linear", "models", None),
    "an empty list of models": ("models: []\nmerge_method: linear", "models", None),
    "an empty stack": ("stack: []", "stack", None),
    "an empty slice": ("slices: [{sources: []}]\nmerge_method: linear", "sources", 1),
    "a model without a name": ("models: [{parameters: {weight: 1}}]\nmerge_method: linear", "model", 1),
    "text in the place of a list": ("models: a\nmerge_method: linear", "models", 1),
    "parameters that are no map": (
        "models: [{model: a, parameters: [weight]}]\nmerge_method: linear",
        "parameters",
        1,
    ),
    "a filter without a value": (
        """
        models:
          - model: a
            parameters:
              weight:
                - {filter: mlp, valu: 1}
                - {value: 1}
        merge_method: linear
        """,
        "value",
        5,
    ),
    "a weight that is no number": (
        """
        models:
          - model: a
            parameters: {weight: much}
        merge_method: linear
        """,
        "weight",
        3,
    ),
    "a weight that is not finite": (
        """
        models:
          - model: a
            parameters: {weight: .nan}
        merge_method: linear
        """,
        "weight",
        3,
    ),
    "a truth value that is none": (
        """
        models: [{model: a, parameters: {weight: 1}}]
        merge_method: linear
        parameters: {normalize: perhaps}
        """,
        "normalize",
        3,
    ),
    "an unknown dtype": (
        """
        models: [{model: a, parameters: {weight: 1}}]
        merge_method: linear
        dtype: float17
        """,
        "float16",
        3,
    ),
    "task_arithmetic without a base": (
        """
        models: [{model: a, parameters: {weight: 1}}]
        merge_method: task_arithmetic
        """,
        "base_model",
        None,
    ),
    "a base that is not among the sources": (
        """
        slices: [{sources: [{model: a, layer_range: [0, 4], parameters: {weight: 1}}]}]
        merge_method: task_arithmetic
        base_model: b
        """,
        "b",
        None,
    ),
    "a stack without a model": ("stack: [{layers: 0-3}]", "model", 1),
    "layers and layer_range": (
        """
        stack:
          - {model: a, layers: 0-3, layer_range: [0, 4]}
        """,
        "layer_range",
        2,
    ),
}


@pytest.mark.parametrize("wrong", BAD)
def test_a_bad_recipe_gets_a_letter_with_its_place(bench: Bench, wrong: str) -> None:
    recipe, word, line = BAD[wrong]
    refusal = bench.refused(textwrap.dedent(recipe).lstrip("\n"))
    assert word in refusal.text
    assert isinstance(refusal.error, RecipeError), type(refusal.error)
    assert refusal.error.problems
    for problem in refusal.error.problems:
        assert problem.code
        assert problem.message
        assert problem.line is None or (problem.line >= 1 and problem.column >= 1)
    if line is not None:
        assert line in refusal.lines


def test_all_mistakes_come_together_in_file_order(bench: Bench) -> None:
    refusal = bench.refused("""\
        slices:
          - sources:
              - model: a
                layer_range: [0, 9]
                parameters: {wieght: 1}
              - model: ./nowhere
                layer_range: [0, 9]
                parameters: {weight: 1}
        merge_method: linear
        dtpye: bfloat16
        """)
    assert {4, 5, 6, 10} <= set(refusal.lines)
    assert refusal.lines == sorted(refusal.lines)


def test_a_typo_and_a_broken_checkpoint_are_reported_together(tmp_path: Path) -> None:
    write_llama(tmp_path / "x", 2)
    broken = write_llama(tmp_path / "y", 2).folder / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:20])
    (tmp_path / "recipe.yml").write_text(
        "models:\n"
        "  - {model: x, parameters: {weight: 1, normalze: 2}}\n"
        "  - {model: y, parameters: {weight: 1}}\n"
        "merge_method: linear\n"
    )
    with pytest.raises(RecipeError) as caught:
        lamina.plan(tmp_path / "recipe.yml")
    told = " ".join(problem.message for problem in caught.value.problems)
    assert "normalze" in told
    assert "model.safetensors" in told


def test_two_models_that_do_not_exist_are_both_named(bench: Bench) -> None:
    refusal = bench.refused("stack: [{model: ./here, layers: 0-1}, {model: ./there, layers: 0-1}]")
    assert "here" in refusal.text
    assert "there" in refusal.text


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"# only a comment\n",
        b"just text",
        b"- a\n- list\n",
        b"models: [unclosed\n",
        b"models:\n\t- tabs\n",
        b"a: b: c\n",
        b"\xff\xfe\x00nonsense",
        b"models: !!python/object/apply:os.system ['touch pwned']\n",
        b"--- {merge_method: linear}\n--- {merge_method: linear}\n",
        b"1: 2\n",
        b"models: [{model: {}}]\nmerge_method: linear\n",
        b"models: [{model: 5, parameters: {weight: 1}}]\nmerge_method: linear\n",
        b"models: [null]\nmerge_method: linear\n",
        b"models: [{model: null}]\nmerge_method: [linear]\n",
        b"stack: {model: a}\n",
        b"stack: [a]\n",
        b"? [complex, key]\n: value\n",
        b"merge_method: linear\nmodels: &a [*a]\n",
    ],
)
def test_what_is_no_recipe_gets_a_letter_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yml").write_bytes(text)
    with pytest.raises(LaminaError):
        lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yml"]


def test_a_yaml_error_names_its_line(bench: Bench) -> None:
    refusal = bench.refused("models:\n  - {model: a\nmerge_method: linear\n")
    assert any(line in (2, 3) for line in refusal.lines)


def test_a_folder_in_the_place_of_a_recipe_gets_a_letter(tmp_path: Path) -> None:
    with pytest.raises(LaminaError):
        lamina.plan(tmp_path)


def test_a_recipe_that_does_not_exist_gets_a_letter(tmp_path: Path) -> None:
    with pytest.raises(LaminaError, match=r"nowhere\.yml"):
        lamina.plan(tmp_path / "nowhere.yml")
