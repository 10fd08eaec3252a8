"""`layers` is text: inclusive ranges, open ends, steps, lists; and letters where it cannot be meant."""

from __future__ import annotations

import pytest

from .checkpoints import depth_map
from .conftest import Bench


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("7", [7]),
        ('"7"', [7]),
        ("0", [0]),
        ("2-4", [2, 3, 4]),
        ("3-3", [3]),
        ("5-", [5, 6, 7]),
        ("7-", [7]),
        ("0-", list(range(8))),
        ('"0-7:2"', [0, 2, 4, 6]),
        ('"1-7:3"', [1, 4, 7]),
        ('"1-6:3"', [1, 4]),
        ("[6-7, 0-1]", [6, 7, 0, 1]),
        ("[0-2, 2-3, 7]", [0, 1, 2, 2, 3, 7]),
        ('["0-7:4", "5-", 1]', [0, 4, 5, 6, 7, 1]),
        ("[3]", [3]),
    ],
)
def test_layers_are_read_as_written(bench: Bench, layers: str, expected: list[int]) -> None:
    merged = bench.merge(f"stack: [{{model: eight, layers: {layers}}}]")
    assert depth_map(merged, [bench["eight"]]) == [f"eight:{i}" for i in expected]
    assert merged.config["num_hidden_layers"] == len(expected)


def test_a_step_is_read_without_quotes(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - model: eight
            layers: 0-7:2
        """)
    assert depth_map(merged, [bench["eight"]]) == ["eight:0", "eight:2", "eight:4", "eight:6"]


def test_an_entry_may_say_layer_range_instead(bench: Bench) -> None:
    merged = bench.merge("stack: [{model: eight, layer_range: [5, 8]}]")
    assert depth_map(merged, [bench["eight"]]) == ["eight:5", "eight:6", "eight:7"]


@pytest.mark.parametrize("text", ["8:32", '"8:32"'])
def test_a_range_with_a_colon_gets_a_letter_with_both_right_spellings(bench: Bench, text: str) -> None:
    # YAML 1.1 reads the bare 8:32 as the number 512.
    refusal = bench.refused(f"stack: [{{model: deep, layers: {text}}}]")
    assert "8-31" in refusal.text
    assert "layer_range: [8, 32]" in refusal.text


@pytest.mark.parametrize("layers", ["24-40", "32", "31-32", "40-", "[0-3, 30-33]"])
def test_layers_beyond_the_model_get_a_letter_with_the_valid_range(bench: Bench, layers: str) -> None:
    refusal = bench.refused(f"stack: [{{model: deep, layers: {layers}}}]")
    assert "0-31" in refusal.text or "0 to 31" in refusal.text
    assert "deep" in refusal.text


def test_a_layer_beyond_a_one_layer_model_is_refused(bench: Bench) -> None:
    assert "one_a" in bench.refused("stack: [{model: one_a, layers: 0-1}]").text


@pytest.mark.parametrize(
    "layers",
    ["5-2", "-1", "-2-3", "a-b", '""', "1.5", "true", "{}", "[]", '"0-7:0"', '"0-7:-1"', "1-2-3"],
)
def test_layers_that_are_no_range_are_refused(bench: Bench, layers: str) -> None:
    assert bench.refused(f"stack: [{{model: eight, layers: {layers}}}]").lines == [1]


@pytest.mark.parametrize("at", ["-1", "1.5", "x", "[0]", "true"])
def test_at_counts_output_layers_from_zero(bench: Bench, at: str) -> None:
    recipe = f"stack: [{{model: eight, layers: 0-7}}, {{model: eight, layers: 0-7, at: {at}}}]\noverlap: average"
    assert bench.refused(recipe).lines == [1]


def test_the_letter_points_at_the_line_of_the_bad_layers(bench: Bench) -> None:
    refusal = bench.refused("""\
        stack:
          - model: eight
            layers: 0-7
          - model: eight
            layers: 4-9
        """)
    assert refusal.lines == [5]
