"""Steps become lines of the user's own text, and nothing else of it changes."""

from __future__ import annotations

import pytest
import yaml

from lamina.errors import Change, Problem
from lamina.recipe.mending import changes_of
from lamina.recipe.steps import END, Move, Put, Remove, Rename, Rewrite, Step
from lamina.recipe.yaml_text import flow

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


def test_an_anchor_that_is_repeated_elsewhere_does_not_go_out() -> None:
    text = "a: &x {b: 1}\nc: *x\n"
    assert changes_of(text, [Put(("a",), 2)]) == ()
    assert changes_of(text, [Remove(("a",))]) == ()
    assert changes_of("a: &x {b: 1}\nc: 2\n", [Put(("a",), 2)]) == (Change(1, ("a: &x {b: 1}",), ("a: 2",)),)


def mended(text: str, *steps: Step) -> str:
    """The text as its reader would have it after the lines that are shown."""
    changes = changes_of(text, steps)
    assert changes
    lines = text.splitlines()
    for change in reversed(changes):
        start = change.line - 1
        assert tuple(lines[start : start + len(change.old)]) == change.old
        lines[start : start + len(change.old)] = change.new
    return "\n".join(lines)


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
@pytest.mark.parametrize("sign", ["|", ">-"])
def test_text_of_many_lines_ends_where_its_last_line_does(sign: str, end: str) -> None:
    text = f"models: [{{model: a}}]\nchat_template: {sign}\n  one\n  two{end}"
    there = yaml.safe_load(f"{text}\n")  # with a line below, the last one has an end
    assert yaml.safe_load(mended(text, Put(("dtype",), "float32"))) == there | {"dtype": "float32"}
    assert yaml.safe_load(mended(text, Put(("chat_template",), "auto"))) == there | {"chat_template": "auto"}
    assert yaml.safe_load(mended(text, Remove(("chat_template",)))) == {"models": there["models"]}
    below = f"models:\n  - model: a\n    note: {sign}\n      one\n{end}dtype: float32\n"
    assert yaml.safe_load(mended(below, Put(("models", END), {"model": "b"})))["models"][1] == {"model": "b"}


LONG = {"models": [{"model": "org/a-long-name", "parameters": {"weight": [0.25, 0.5, 0.75, 1.0]}}] * 3}


@pytest.mark.parametrize(
    "step",
    [
        Put(("a", "b"), LONG),
        Rewrite(("a", "b"), "c", LONG),
        Put(("a", "d", 0), LONG),
        Move(("a", "d"), ("a", "b", "f")),
    ],
)
def test_within_brackets_no_value_is_written_in_lines_of_its_own(step: Step) -> None:
    yaml.safe_load(mended("{a: {b: {x: 1}, d: [{y: 2},\n  {z: 3}]},\n  e: 4}\n", step))


def test_what_is_put_in_place_of_all_that_brackets_held_has_no_comma_before_it() -> None:
    steps = [Remove(("modules",)), Put(("models",), ["a"])]
    assert mended("{modules: {t: 1}}\n", *steps) == "{models: [a]}"


def test_what_stands_for_an_anchor_is_taken_out_whole() -> None:
    assert mended("{a: &x {b: 1}, c: *x}\n", Rewrite(("c",), "d", 2)) == "{a: &x {b: 1}, d: 2}"


def test_a_key_in_the_long_form_without_a_value_ends_in_its_own_line() -> None:
    text = "- ? {a: 1}\n- {b: 2}\n"
    assert yaml.compose(mended(text, Put((0, "c"), 3))).value[1].value[0][0].value == "b"


@pytest.mark.parametrize("end", ["\r\n", "\r", "\x85", "\u2028"])
def test_lines_are_counted_as_yaml_counts_them(end: str) -> None:
    text = f"a: 1{end}b: 2\nc: 3\n"
    assert changes_of(text, [Put(("c",), 4)]) == (Change(3, ("c: 3",), ("c: 4",)),)


@pytest.mark.parametrize("value", ["2020-01-01", "!!binary aGk=", "!!set {b}", "!!omap [b: 1]"])
def test_what_moves_is_written_with_what_yaml_says_in_words(value: str) -> None:
    found = yaml.safe_load(mended(f"z: 0\na:\n  b: {value}\n  c: 1\n", Move(("a",), ("d", "a"))))
    assert found["d"]["a"]["c"] == 1


@pytest.mark.parametrize("value", ["!!int x", "!!bool x", "!!float ''", "1" * 5000])
def test_what_has_no_value_does_not_move(value: str) -> None:
    assert changes_of(f"z: 0\na:\n  b: {value}\n", [Move(("a",), ("d", "a"))]) == ()


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


@pytest.mark.parametrize("text", ["\n\U00010000", "a\nb", "<<", "*", "\x7f\n", "{x: 1}"])
def test_text_that_needs_quotes_reads_as_it_is(text: str) -> None:
    assert yaml.safe_load(f"[{flow(text)}, {{{flow(text)}: 1}}]") == [text, {text: 1}]
