"""Names that are too long for their column."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lamina.cli.runs_names import shortened

WORDS = st.lists(st.sampled_from(["skills.yml", "models[0]", "models[1]", "weight=0.1", "weight=0.3", "t"]), min_size=1)


def test_a_name_that_fits_stays_and_a_long_one_keeps_its_end() -> None:
    assert shortened(["a.yml", "a_long_name.yml t=0.3"], 8) == ["a.yml", "…l t=0.3"]


def test_names_of_one_end_keep_the_parts_that_differ() -> None:
    names = ["a.yml models[0].parameters.weight=0.1", "a.yml models[1].parameters.weight=0.1"]
    assert shortened(names, 15) == ["…0]….weight=0.1", "…1]….weight=0.1"]


def test_names_that_differ_in_numbers_alone_keep_all_of_them() -> None:
    names = [
        f"a.yml models[0].parameters.weight={a} models[1].parameters.weight={b}" for a, b in ((0.5, 0.7), (0.9, 0.8))
    ]
    short = shortened(names, 16)
    assert ["0.5" in short[0], "0.7" in short[0], "0.9" in short[1], "0.8" in short[1]] == [True] * 4


def test_names_of_one_end_and_other_lengths_are_told_apart() -> None:
    names = ["a.yml models[0].parameters.weight=0.1", "a.yml seed=3 models[0].parameters.weight=0.1"]
    assert len({*shortened(names, 20)}) == 2


def test_a_single_word_is_cut_at_its_end() -> None:
    assert shortened(["a" * 30, "b" + "a" * 30], 12) == ["…" + "a" * 11] * 2  # no part fits


@given(st.lists(WORDS.map(" ".join), min_size=1), st.integers(12, 40))
def test_no_name_is_longer_than_the_column_and_equal_names_stay_equal(names: list[str], width: int) -> None:
    short = dict(zip(names, shortened(names, width), strict=True))
    assert all(len(each) <= width for each in short.values())
    assert shortened(names, width) == [short[name] for name in names]
    assert all(short[name] == name for name in names if len(name) <= width)
