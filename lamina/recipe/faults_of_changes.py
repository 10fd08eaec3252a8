"""The faults of one recipe under many changes, each told once, with the changes that have it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamina.errors import Problem

_SET = "--set"  # what one recipe calls the change that a fault lies in

Change = Sequence[str]  # `PATH=VALUE`, one for each path that varies


def faults_of_changes(faults: Sequence[tuple[Change, Sequence[Problem]]], changes: Sequence[Change]) -> list[Problem]:
    """The faults of those of `changes` that have some, as faults of the `--vary` that they came of.

    One that all values of a path have is of that path; others name their values. What does not lie in a value itself is
    told only of changes without such a fault: it may follow from what is put in the place of a value that is none.
    """
    found: dict[tuple[str, Problem], list[Change]] = {}
    for change, problems in faults:
        in_value = [problem for problem in problems if problem.file.startswith(_SET)]
        for problem in in_value or problems:
            path = _path_of(problem, change)
            told = replace(problem, file="") if problem.file.startswith(_SET) else problem
            found.setdefault((path, told), []).append(change)
    return [_told(path, problem, having, changes) for (path, problem), having in found.items()]


def _path_of(problem: Problem, change: Change) -> str:
    """The path of the change that a fault lies in; empty where it lies elsewhere."""
    if not problem.file.startswith(_SET):
        return ""
    flag = problem.file.removeprefix(_SET).strip()
    paths = [each.partition("=")[0] for each in change]
    if flag:
        return flag.partition("=")[0]
    return next((path for path in paths if f"`{path}`" in problem.message), "")


def _told(path: str, problem: Problem, having: Sequence[Change], changes: Sequence[Change]) -> Problem:
    named = [each for each in _varied(having, changes) if not path or each.partition("=")[0] == path]
    if not problem.file:
        return replace(problem, file=f"--vary {' '.join(named) or path}".strip())
    if not named:
        return problem
    first, *more = problem.message.split("\n")
    return replace(problem, message="\n".join([f"{first} This is so under --vary {' '.join(named)}.", *more]))


def _varied(having: Sequence[Change], changes: Sequence[Change]) -> list[str]:
    """`PATH=VALUES` for each path of which not all values have a fault, or which has one value only."""
    told = []
    for ours, all_ in zip(zip(*having, strict=True), zip(*changes, strict=True), strict=True):
        values = list(dict.fromkeys(ours))
        if len(values) < len({*all_}) or len({*all_}) == 1:
            path = values[0].partition("=")[0]
            told.append(f"{path}={','.join(value.partition('=')[2] for value in values)}")
    return told
