"""What `lamina sweep` prints: the picture, and what is said of the best."""

from __future__ import annotations

import re

from .conftest import Lamina
from .test_sweep_verb import recipe

__all__ = ["recipe"]


def test_a_curve_shows_every_point_and_the_best_is_told_with_its_interval(lamina: Lamina, recipe: str) -> None:
    run = lamina("sweep", recipe, "--vary", "parameters.t=0.1,0.9")
    assert run.code == 0
    lines = run.out.splitlines()
    assert lines[0].startswith("skills on 2 x 400 questions (dev) · 2 points")
    scores = [line.split("±")[0].split()[-1] for line in lines[3:6]]
    assert lines[2].split()[-3:] == [min(scores), "…", max(scores)]  # the ends of the bars
    assert lines[3].startswith("  as written ")
    assert lines[4].endswith("best")
    assert lines[4].count("█") == 24  # the best of all
    assert lines[5].count("█") == 1  # the worst
    assert "best        parameters.t=0.1 · 89.9 ± 1.0 · r2" in lines
    assert any(line.endswith("for all points at once: beyond chance") for line in lines)
    assert any(line.startswith("test        91.6 ± 1.0 against 86.4 ± 1.2") for line in lines)
    assert max(map(len, lines)) <= 110


def test_two_axes_are_a_heat_map(lamina: Lamina, recipe: str) -> None:
    lines = lamina(
        "sweep", recipe, "--vary", "parameters.t=0.1,0.9", "--vary", "dtype=float32,bfloat16", "--limit", "20"
    ).out.splitlines()
    assert lines[2].split() == ["parameters.t", "dtype"]
    assert lines[3].split() == ["float32", "bfloat16"]
    assert [line.split()[0] for line in lines[4:6]] == ["0.1", "0.9"]
    assert lines[4].count("*") == 1
    assert "Of a part of the items only" in lines[-1]


def test_where_nothing_is_better_the_recipe_as_it_is_written_is_the_best(lamina: Lamina, recipe: str) -> None:
    varied = ("sweep", recipe, "--vary", "parameters.t=0.8,0.9", "--limit", "60")
    lines = lamina(*varied).out.splitlines()
    assert lines[3].startswith("  as written ")
    assert lines[3].endswith("best")
    best = next(number for number, line in enumerate(lines) if line.startswith("best        as written · "))
    assert lines[best + 1] == "            Nothing here is better than the recipe as it is written."
    data = lamina(*varied, "--json").data
    assert data["best"] == data["as_written"]
    assert (data["test"], data["beyond_chance"]) == (None, False)
    grid = lamina(*varied, "--vary", "dtype=float32,bfloat16").out
    assert re.search(r"skills-dev, shaded [\d.]+ … [\d.]+; as written is the best, ~ within chance of it", grid)


def test_nothing_is_drawn_where_all_points_are_equal(lamina: Lamina, recipe: str) -> None:
    lines = lamina("sweep", recipe, "--vary", "parameters.t=0.5,0.50", "--limit", "20").out.splitlines()
    assert lines[2].split() == ["parameters.t", "skills-dev", "over", "as", "written"]
    assert not [line for line in lines if "█" in line]


def test_near_counts_points_by_what_was_measured_and_not_by_their_plans(lamina: Lamina, recipe: str) -> None:
    varied = ("sweep", recipe, "--vary", "parameters.t=0,1", "--limit", "6")
    data = lamina(*varied, "--json").data
    plans, scores = [each["plan"] for each in data["points"]], [each["scores"][0]["value"] for each in data["points"]]
    assert plans[0] == plans[1]  # of one shape
    assert scores[0] != scores[1]
    assert [each["near_best"] for each in data["points"]] == [True, True]
    lines = lamina(*varied).out.splitlines()
    assert "near        1 other point of 2 within chance of the best (~)" in lines
