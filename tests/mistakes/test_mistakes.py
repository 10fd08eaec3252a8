"""Every mistake is told at its place, with its code and what to write instead; and nothing else is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.merge_methods import METHODS

from .pages import Mistake, letters, mistakes, told, write_models

MISTAKES = list(mistakes())


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    write_models(folder)
    return folder


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_a_mistake_is_told_at_its_place_and_nothing_else_is(world: Path, mistake: Mistake) -> None:
    if mistake.flags[:1] == ("needs",) and mistake.flags[1] not in METHODS:
        pytest.skip(f"{mistake.flags[1]} is not built yet")
    error = letters(mistake, world)
    assert told(error) == mistake.expected, str(error)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_a_letter_is_a_sentence_that_says_what_it_suggests(world: Path, mistake: Mistake) -> None:
    error = letters(mistake, world)
    for problem in error.problems if error is not None else ():
        assert problem.message.rstrip()[-1] in ".?)`" or "\n" in problem.message, problem.message
        assert problem.suggestion in problem.message
        assert problem.file
        assert problem.code == problem.code.lower()


def test_there_are_many_mistakes_and_no_two_have_one_title() -> None:
    assert len(MISTAKES) >= 65
    assert len({mistake.title for mistake in MISTAKES}) == len(MISTAKES)


def test_slices_that_do_not_cross_are_told_of_both_forms_with_the_numbers_of_the_recipe(world: Path) -> None:
    mistake = next(mistake for mistake in MISTAKES if mistake.title == "slices that do not cross")
    text = str(letters(mistake, world))
    assert "{model: eight, layer_range: [4, 6], parameters: {weight: [1, 0]}}" in text
    assert "{model: eight, layer_range: [2, 4], parameters: {weight: [0, 1]}}" in text
    assert "{model: eight, layers: 2-7, at: 4}" in text


@pytest.mark.parametrize(
    ("title", "line"),
    [
        ("lenient: the weight beside the model counts for nothing",
         "     2 +   - {model: a, parameters: {weight: 0.5}}"),
        ("a gradient that passes through zero together",
         "     4 +       - {model: b, layer_range: [0, 4], parameters: {weight: [0, 1]}}"),
        ("a negative density", "     1 + models: [{model: b, parameters: {weight: 1, density: 0.5}}]"),
        ("passthrough with two sources", "     4 +   - sources:"),
        ("a list", "     2 +   - {model: a, parameters: {weight: 1}}"),
        ("one model has no weight", "     5 +     parameters: {weight: 0.5}"),
        ("ties without a base, of models of which one has no weight", "     3 + base_model: a"),
        ("a key in the long form, of a list", "     1 + models: [{model: a}]"),
    ],
)  # fmt: skip
def test_the_lines_to_write_are_what_was_most_likely_meant(world: Path, title: str, line: str) -> None:
    mistake = next(mistake for mistake in MISTAKES if mistake.title == title)
    assert line in str(letters(mistake, world)).splitlines()


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("set without a value", "VALUE one of bfloat16, float16"),
        ("no base", "the model that `b` was made from, as `base_model: org/name`"),
        ("another activation", "Leave one of them out"),
        ("layer_range stands in an entry of models", "layers of them go into a `stack`"),
        ("an end that is a number", "`norm` names the model whose final norm the result takes, and left out"),
        ("a gradient within a gradient", "a gradient is one list"),
        ("set a wrong place, and a mistake in the file", "never from the end"),
        ("an anchor that holds itself", "leave it out, or write out"),
    ],
)
def test_a_letter_tells_the_way_out(world: Path, title: str, words: str) -> None:
    mistake = next(mistake for mistake in MISTAKES if mistake.title == title)
    assert words in str(letters(mistake, world))
