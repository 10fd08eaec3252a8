"""Which rows speak of one merge: by plan and recipe, by the folder that it was merged into, by its content."""

from __future__ import annotations

from lamina.ledger.merges import by_merge, newest_scores, recipes_of, verdicts
from lamina.ledger.runs import Run, Score


def merged(number: int, recipe: str, output: str = "/out", plan: str = "p") -> Run:
    return Run("merge", "m", recipe=recipe, plan=plan, output=output, number=number)


def checked(number: int, verdict: str, output: str = "/out", plan: str = "p") -> Run:
    return Run("check", "m", plan=plan, output=output, verdict=verdict, number=number)


def scored(
    number: int, *scores: Score, recipe: str = "", output: str = "/out", plan: str = "p", digest: str = ""
) -> Run:
    details = {"digest": digest} if digest else {}
    return Run("eval", "m", recipe=recipe, plan=plan, output=output, scores=scores, details=details, number=number)


def ids(groups: list[list[Run]]) -> list[list[str]]:
    return [[run.id for run in each] for each in groups]


def test_a_folder_that_was_scored_is_the_merge_into_it() -> None:
    merges = [merged(number, f"t: {number}", f"/out{number}") for number in (2, 1)]
    swept = Run("sweep", "a", recipe="t: 1", plan="p", number=3)
    found = [scored(number, output=folder) for number, folder in ((6, "/elsewhere"), (5, "/out2"), (4, "/out1"))]
    assert ids(by_merge([*found, swept, *merges])) == [["r6"], ["r5", "r2"], ["r4", "r3", "r1"]]


def test_what_lies_where_no_merge_is_noted_belongs_to_the_only_recipe_of_its_plan() -> None:
    moved = checked(2, "healthy", "/moved")
    assert ids(by_merge([moved, merged(1, "t: 1")])) == [["r2", "r1"]]
    assert ids(by_merge([moved, merged(1, "t: 1"), merged(0, "t: 0")])) == [["r2"], ["r1"], ["r0"]]


def test_a_check_speaks_of_the_merge_that_lay_in_its_folder_then() -> None:
    rows = [merged(3, "t: 1"), checked(2, "broken"), merged(1, "t: 0")]  # fine-tunes of one shape plan alike
    assert verdicts(rows) == {"r2": "broken", "r1": "broken"}
    assert recipes_of(rows) == {"r3": "t: 1", "r2": "t: 0", "r1": "t: 0"}
    assert verdicts([checked(4, "healthy"), *rows])["r3"] == "healthy"


def test_recipes_that_say_the_same_in_other_words_are_one_merge() -> None:
    rows = [scored(3, recipe="t: 0.5  # again\n"), checked(2, "healthy"), merged(1, '{"t": 0.5}\n')]
    assert verdicts(rows)["r3"] == "healthy"
    assert "r3" not in verdicts([scored(3, recipe="t: 0.50001\n"), *rows[1:]])


def test_recipes_are_read_as_a_merge_reads_them() -> None:
    words = [merged(2, "model: 2026-13-45\nlayers: 8:32"), merged(1, "model: 2026-13-45\nlayers: 512")]  # YAML's 8:32
    assert ids(by_merge(words)) == [["r2"], ["r1"]]


def test_the_newest_check_counts() -> None:
    rows = [checked(3, "healthy"), checked(2, "broken"), merged(1, "t: 1")]
    assert set(verdicts(rows).values()) == {"healthy"}


def test_a_check_of_a_model_that_is_no_merge_speaks_of_what_was_scored_there() -> None:
    checks = [checked(4, "healthy", "/rev", plan=""), checked(3, "broken", "/sort", plan="")]
    rows = [*checks, scored(2, output="/rev", plan="", digest="new"), scored(1, output="/rev", plan="", digest="old")]
    assert verdicts(rows) == {"r4": "healthy", "r2": "healthy", "r3": "broken"}


WHOLE, OLDER = Score("arc", 0.6, 0.1, 100), Score("arc", 0.2, 0.1, 100)
LIMITED = Score("arc", 0.9, 0.1, 10, limited=True)


def test_a_limited_score_never_stands_in_for_a_whole_one() -> None:
    rows = [scored(3, LIMITED, Score("boolq", 0.5)), scored(2, WHOLE), scored(1, OLDER)]
    found = newest_scores(rows)
    assert [(run.number, score.name, score.value) for run, score in found] == [(2, "arc", 0.6), (3, "boolq", 0.5)]
    assert newest_scores(rows[:1])[0][1] is LIMITED  # marked as such wherever it is shown
