"""Faults of a recipe under many changes."""

from __future__ import annotations

import itertools

from lamina.errors import Problem
from lamina.recipe.faults_of_changes import faults_of_changes

GRID = [*itertools.product(("t=1", "t=2", "t=3"), ("m=a", "m=b"))]


def having(problem: Problem, *values: str) -> list[tuple[tuple[str, ...], list[Problem]]]:
    return [(change, [problem]) for change in GRID if not values or any(value in change for value in values)]


def test_a_fault_of_all_points_is_told_as_it_is() -> None:
    everywhere = Problem("base", "no base.", 2, 1, "r.yml")
    assert faults_of_changes(having(everywhere), GRID) == [everywhere]


def test_a_fault_elsewhere_in_the_recipe_names_the_values_under_which_it_is() -> None:
    (told,) = faults_of_changes(having(Problem("base", "no base.", 2, 1, "r.yml"), "t=1", "t=3"), GRID)
    assert told.message == "no base. This is so under --vary t=1,3."
    assert told.place == "r.yml:2:1"


def test_a_fault_of_a_value_names_it_and_one_of_all_values_the_path() -> None:
    (told,) = faults_of_changes(having(Problem("x", "no.", file="--set t=2"), "t=2"), GRID)
    assert str(told) == "--vary t=2  [x] no."
    faults = [(change, [Problem("x", "no.", file=f"--set {change[0]}")]) for change in GRID]
    assert [*map(str, faults_of_changes(faults, GRID))] == ["--vary t  [x] no."]


def test_what_may_follow_from_a_value_that_is_none_is_not_told() -> None:
    of_value, of_recipe = Problem("method", "no method.", file="--set m=b"), Problem("base", "no base.", 2, 1, "r.yml")
    faults = [(change, [of_value, of_recipe]) for change in GRID if "m=b" in change]
    assert [*map(str, faults_of_changes(faults, GRID))] == ["--vary m=b  [method] no method."]
