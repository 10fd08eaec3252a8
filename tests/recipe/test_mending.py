"""Steps become lines of the user's own text, and nothing else of it changes."""

from __future__ import annotations

import pytest

from lamina.errors import Change, Problem
from lamina.recipe.mending import END, Move, Put, Remove, Rename, Rewrite, Step, changes_of

TEXT = """\
models:
  - {model: a, weight: 0.5} # the better one
  - model: b
    weight: 0.5   # half
    parameters:
      normalize: true
merge_method: linear
"""


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (Put(("merge_method",), "ties"), [(7, ["merge_method: linear"], ["merge_method: ties"])]),
        (Put(("base_model",), "a"), [(8, [], ["base_model: a"])]),
        (Put(("models", END), {"model": "c"}), [(7, [], ["  - {model: c}"])]),
        (Put(("models", 1, "parameters", "t"), [0, 0.5]), [(7, [], ["      t: [0, 0.5]"])]),
        (
            Put(("models", 0, "parameters", "t"), 1),
            [(2, ["  - {model: a, weight: 0.5} # the better one"],
              ["  - {model: a, weight: 0.5, parameters: {t: 1}} # the better one"])],
        ),
        (Rename(("models",), "stack"), [(1, ["models:"], ["stack:"])]),
        (
            Rewrite(("models", 1, "weight"), "scale", 2),
            [(4, ["    weight: 0.5   # half"], ["    scale: 2   # half"])],
        ),
        (
            Move(("models", 1, "weight"), ("models", 1, "parameters", "weight")),
            [(4, ["    weight: 0.5   # half"], []), (7, [], ["      weight: 0.5"])],
        ),
        (Remove(("models", 0)), [(2, ["  - {model: a, weight: 0.5} # the better one"], [])]),
        (Remove(("models", 1, "parameters", "normalize")), [(5, ["    parameters:", "      normalize: true"], [])]),
        (
            Remove(("models", 0, "weight")),
            [(2, ["  - {model: a, weight: 0.5} # the better one"], ["  - {model: a} # the better one"])],
        ),
        (Put(("models", 7, "weight"), 1), []),  # a place that the text does not show
    ],
)  # fmt: skip
def test_a_step_changes_its_own_lines_and_keeps_comments(
    step: Step, changes: list[tuple[int, list[str], list[str]]]
) -> None:
    assert changes_of(TEXT, [step]) == tuple(Change(line, tuple(old), tuple(new)) for line, old, new in changes)


def test_of_a_key_that_is_there_twice_the_first_can_go() -> None:
    assert changes_of("dtype: a\ndtype: b\n", [Remove(("dtype",), first=True)]) == (Change(1, ("dtype: a",), ()),)


def test_what_is_repeated_by_an_anchor_is_left_alone() -> None:
    assert changes_of("a: &x {b: 1}\nc: *x\n", [Put(("c",), 2)]) == ()


def test_a_letter_shows_what_goes_out_and_what_comes_in() -> None:
    line = "dtype: bf16"
    problem = Problem(
        "wrong-value", "no dtype.", 3, 8, "r.yml", excerpt=line, changes=(Change(3, (line,), ("dtype: x",)),)
    )
    assert problem.letter().splitlines() == [
        "r.yml:3:8  [wrong-value] no dtype.", "     3 | dtype: bf16", "       |        ^", "     3 + dtype: x",
    ]  # fmt: skip
    before = Problem("gap", "a gap.", 3, 1, "r.yml", excerpt=line, changes=(Change(3, (), ("at: 0",)),))
    assert before.letter().splitlines()[-2:] == ["     3 + at: 0", f"     4 + {line}"]
