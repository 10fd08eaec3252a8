"""docs/skills.md has every method, and its rows are what the code gives now."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from lamina.merge_methods import METHODS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "skills.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (rev.*?)\n(.*?)(?=^## )", PAGE, re.M | re.S))


@pytest.fixture
def skill_table(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import skill_table

    yield skill_table
    sys.modules.pop("skill_table", None)


def rows(section: str) -> list[list[str]]:
    lines = re.findall(r"^\| (?!merge)(.+) \|$", SECTIONS[section], re.M)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def numbers(cells: list[str]) -> list[float]:
    return [float(number) for cell in cells[2:] for number in re.findall(r"[-+]?\d+\.\d+", cell)]


def test_every_method_is_there_with_defaults_and_tuned_or_the_page_says_why_not(skill_table: Any) -> None:
    assert list(SECTIONS) == ["rev and sort", "rev, sort and max"]
    for section, parents in zip(SECTIONS, skill_table.FAMILIES, strict=True):
        found = [row[0] for row in rows(section)]
        assert found[: len(parents) + 1] == ["*base*", *(f"*{parent}*" for parent in parents)]
        for method in METHODS:
            tried = skill_table.candidates(method, parents)
            assert found.count(method) == min(len(tried), 2)
            if not tried:
                left_out = re.search(r"^Not here, as they take two models: (.*)\.$", SECTIONS[section], re.M)
                assert left_out is not None
                assert method in left_out[1].split(", ")
    assert {row[0] for row in rows("rev and sort")} >= set(METHODS)


def test_what_a_row_says_was_chosen_is_among_what_is_tried(skill_table: Any) -> None:
    for section, parents in zip(SECTIONS, skill_table.FAMILIES, strict=True):
        for method, told, *_ in rows(section):
            if method in METHODS:
                tried = [each.told for each in skill_table.candidates(method, parents)]
                chosen = told.removeprefix(f"tuned ({len(tried)}): ")
                assert chosen in ("default", *tried)


@pytest.mark.parametrize(("section", "family"), [("rev and sort", 0), ("rev, sort and max", 1)])
def test_a_row_is_what_the_code_gives_now(skill_table: Any, section: str, family: int) -> None:
    parents = skill_table.FAMILIES[family]
    [row] = [row for row in rows(section) if row[0] == "task_arithmetic" and row[1].startswith("tuned")]
    chosen = float(re.findall(r"lambda ([\d.]+)", row[1])[0])
    [candidate] = [
        each
        for each in skill_table.candidates("task_arithmetic", parents)
        if each.recipe["parameters"]["lambda"] == chosen
    ]
    found = skill_table.Row("task_arithmetic", True, candidate.told, 12, skill_table.answers(candidate.recipe, "test"))
    *_, line = skill_table.table(parents, [found])
    now = [cell.strip() for cell in line.strip("| ").split("|")]
    assert now[:2] == row[:2]
    # On another processor a sum may round otherwise, and one answer of 400 turn out otherwise: a quarter of a point.
    assert numbers(now) == pytest.approx(numbers(row), abs=0.6)


def test_what_was_tuned_is_chosen_on_dev_and_not_on_test(skill_table: Any) -> None:
    parents = ("rev", "sort")
    [_, tuned] = skill_table.rows_of("model_stock", parents)
    best = max(
        (skill_table.mean_score(skill_table.answers(each.recipe, "dev", parents), parents), each.told)
        for each in skill_table.candidates("model_stock", parents)
    )
    assert (tuned.told, tuned.tried) == (best[1], 2)
    [row] = [row for row in rows("rev and sort") if row[0] == "model_stock" and row[1].startswith("tuned")]
    assert row[1] == f"tuned (2): {best[1]}"


def test_the_words_around_the_tables_are_those_of_the_program(skill_table: Any) -> None:
    assert PAGE.startswith(skill_table.INTRODUCTION)
    compared = sum(row[0] in METHODS for section in SECTIONS for row in rows(section))
    assert f"Of {compared} rows compared with a parent at 95%, {round(compared / 20)} would" in PAGE
    assert "{" not in PAGE
