"""What a sweep varies."""

from __future__ import annotations

import pytest

from lamina.errors import RecipeError
from lamina.studies.grid import Axis, parse_axes, points


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("t=0:1:0.25", ("0.00", "0.25", "0.50", "0.75", "1.00")),
        ("t=0:0.3:0.1", ("0.0", "0.1", "0.2", "0.3")),
        ("t=4:24:4", ("4", "8", "12", "16", "20", "24")),
        ("t=1:0:-0.5", ("1.0", "0.5", "0.0")),
        ("t=0:1:0.4", ("0.0", "0.4", "0.8")),
        ("t=-1:1:1", ("-1", "0", "1")),
        ("t=cut,ramp", ("cut", "ramp")),
        ("t=0,0.5:1:0.5", ("0", "0.5", "1.0")),
        ("t=[1, 0],[0, 1]", ("[1, 0]", "[0, 1]")),
        ("t=org/name@rev", ("org/name@rev",)),
    ],
)
def test_values_are_a_list_or_a_range_with_its_end(text: str, values: tuple[str, ...]) -> None:
    assert parse_axes([text]) == (Axis("t", values),)


def test_a_path_is_that_of_set() -> None:
    assert parse_axes(["stack[1].at=4,8"])[0].path == "stack[1].at"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("t", "the form is PATH=VALUES"),
        ("t=", "the form is PATH=VALUES"),
        ("t=1:2", "a range without a step; write `1:2:STEP`"),
        ("t=0:1:0", "holds no value"),
        ("t=0:1:-1", "holds no value"),
        ("t=1,1", "`1` is given twice"),
        ("t=1,,2", "missing between two commas"),
        ("t=0:1:0.00001", "100001 values"),
        ("a.0=1", r"Did you mean `a\[0\]`"),
    ],
)
def test_a_slip_is_a_letter(text: str, letter: str) -> None:
    with pytest.raises(RecipeError, match=letter):
        parse_axes([text])


def test_all_slips_come_together_and_a_path_is_varied_once() -> None:
    with pytest.raises(RecipeError) as raised:
        parse_axes(["a=1:2", "b=1", "b=2", "c"])
    assert len(raised.value.problems) == 3


def test_a_grid_runs_through_its_last_axis_fastest() -> None:
    assert points([Axis("a", ("1", "2")), Axis("b", ("x", "y"))]) == [
        ("a=1", "b=x"),
        ("a=1", "b=y"),
        ("a=2", "b=x"),
        ("a=2", "b=y"),
    ]
