"""What a letter says to write is right: written so, the recipe is planned, or only its other mistakes are told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lamina.errors import RecipeError
from lamina.merge_methods import METHODS

from .pages import Mistake, letters, mended, mistakes, write_models

MISTAKES = [mistake for mistake in mistakes() if mistake.flags[:1] != ("needs",) or mistake.flags[1] in METHODS]

# Where only the user can know what to write, and the letter says what form it has.
NO_ONE_THING = {
    "set without a value", "a dozen mistakes in one go",  # of which one is a model that is not there
    "a folder that is not there", "a name of the Hub that is not here", "a folder that holds no model",
    "a folder of pickled weights", "a base that is not there", "an empty stack", "models is empty",
    "a module with nothing in it", "nothing to merge", "one word", "an empty file",
    "a model of another width", "a model of another width on top", "another activation", "another number of heads",
    "a bias in one of them", "model_stock with one model",
    "several recipes", "an anchor that is not there", "a key that is a list",
}  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mended")
    write_models(folder)
    return folder


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_what_a_letter_says_to_write_mends_the_recipe_and_breaks_nothing(world: Path, mistake: Mistake) -> None:
    for way_out in range(2):
        assert _is_mended(world, mistake, way_out) is (mistake.title not in NO_ONE_THING)


def _is_mended(world: Path, mistake: Mistake, way_out: int) -> bool:
    """Follow letter after letter, always the same way out of those that one shows; false where one shows none."""
    error = letters(mistake, world)
    while error is not None:
        ways = [(problem, mended(mistake.recipe, mistake.flags, problem)) for problem in error.problems]
        problem, outs = next(((problem, outs) for problem, outs in ways if outs), (error.problems[0], []))
        if not outs:
            return False
        recipe, flags = outs[min(way_out, len(outs) - 1)]
        mistake = replace(mistake, recipe=recipe, flags=flags)
        before, error = error, letters(mistake, world)
        told = _told(error)
        told.update([(problem.code, problem.message)])
        assert told <= _told(before), f"{problem.letter()}\n\n{recipe}\n{flags}\n{error}"
    return True


def _told(error: RecipeError | None) -> Counter[tuple[str, str]]:
    return Counter() if error is None else Counter((problem.code, problem.message) for problem in error.problems)
