"""Stacks: layers in words, and what lies where when entries cross."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from lamina.errors import Problem
from lamina.recipe.layer_words import parse_layers
from lamina.recipe.load import parse_recipe
from lamina.recipe.settings import Position, setting_at
from lamina.recipe.slices import Slice
from lamina.recipe.stack import slices_of_stack

# Layers in words


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("7", [7]),
        (7, [7]),
        ("8-", [8, 9, 10, 11]),
        ("11-", [11]),
        ("0-11:4", [0, 4, 8]),
        ("0-10:5", [0, 5, 10]),
        ("6-:2", [6, 8, 10]),
        ("3-3", [3]),
        (" 0-1 ", [0, 1]),
        (["0-1", 5, "10-"], [0, 1, 5, 10, 11]),
        (["3", "3"], [3, 3]),
        (["5-6", "0-1"], [5, 6, 0, 1]),
    ],
    ids=str,
)
def test_layers_of_a_model_of_twelve(words: object, layers: list[int]) -> None:
    assert list(parse_layers(words, 12)) == layers


@pytest.mark.parametrize(
    ("words", "letter"),
    [
        ("0-12", r"beyond the model, which has 12 layers \(0 to 11 is valid\)"),
        ("12", "beyond the model"),
        ("12-", "beyond the model"),
        ("99-", "beyond the model"),
        ("8:12", r"write `layers: 8-11`, or .*`layer_range: \[8, 12\]`"),
        ("5-3", "runs backwards"),
        ("0-3:0", "steps of 0"),
        ("", "the forms are"),
        ("-3", "the forms are"),
        ("0-3-6", "the forms are"),
        ("all", "the forms are"),
        ("1.0", "the forms are"),
        (1.0, "the forms are"),
        (-1, "the forms are"),
        (True, "the forms are"),
        (None, "the forms are"),
        ({}, "the forms are"),
        ([], "places no layer"),
        (["0-3", "9-12"], "beyond the model"),
        ("9" * 5000, "."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_range_of_layers_is_told_what_is(words: object, letter: str) -> None:
    with pytest.raises(ValueError, match=letter):
        parse_layers(words, 12)


@given(st.text(alphabet="0123456789-:, ", max_size=8) | st.integers(-3, 20) | st.booleans() | st.none())
def test_any_words_are_layers_of_the_model_or_a_value_error(words: object) -> None:
    try:
        layers = parse_layers(words, 12)
    except ValueError:
        return
    assert layers
    assert set(layers) <= set(range(12))


# Stacks by hand


def test_solar_is_two_copies_with_a_jump() -> None:
    assert drawn("stack: [{model: x, layers: [0-7, 4-11]}]") == ["0-7 x0", "8-15 x4"]
    assert drawn("stack: [{model: x, layers: 0-7}, {model: x, layers: 4-11}]") == ["0-7 x0", "8-15 x4"]


CROSSING = "stack: [{{model: x, layers: 0-5}}, {{model: y, layers: 0-5, at: 2}}]\noverlap: {}\n"


def test_cut_gives_the_first_half_to_the_earlier_entry() -> None:
    assert drawn(CROSSING.format("cut")) == ["0-3 x0", "4-7 y2"]


def test_cut_gives_the_middle_layer_to_the_earlier_entry() -> None:
    assert drawn("stack: [{model: x, layers: 0-4}, {model: y, layers: 0-4, at: 2}]\noverlap: cut") == [
        "0-3 x0",
        "4-6 y2",
    ]


def test_average_halves() -> None:
    assert drawn(CROSSING.format("average")) == ["0-1 x0", "2-5 x2*1 + y0*1", "6-7 y4"]


def test_a_ramp_goes_from_one_to_the_other() -> None:
    (_, blend, _) = stacked(CROSSING.format("ramp"))
    assert weights_of(blend) == [[1.0, 0.0], pytest.approx([2 / 3, 1 / 3]), pytest.approx([1 / 3, 2 / 3]), [0.0, 1.0]]


def test_a_ramp_over_one_layer_is_a_half() -> None:
    (_, blend, _) = stacked("stack: [{model: x, layers: 0-3}, {model: y, layers: 0-3, at: 3}]\noverlap: ramp")
    assert weights_of(blend) == [[0.5, 0.5]]


def test_a_ramp_is_written_as_mergekit_would_have_it() -> None:
    (_, blend, _) = stacked(CROSSING.format("ramp"))
    assert [source.parameters["weight"][0].values for source in blend.sources] == [(1.0, 0.0), (0.0, 1.0)]


def test_own_weights_say_how_entries_are_blended() -> None:
    text = "stack: [{model: x, layers: 0-3, weight: 0.3}, {model: y, layers: 0-3, at: 0, weight: 0.7}]"
    (blend,) = stacked(text)
    assert weights_of(blend) == [[0.3, 0.7]] * 4


GRADIENT = "stack: [{{model: x, layers: 0-4, weight: [{}, 1]}}, {{model: y, layers: 0-2, at: 1, weight: 1}}]"


def test_a_gradient_of_an_entry_runs_over_the_whole_entry() -> None:
    (_, blend, _) = stacked(GRADIENT.format(0))
    assert weights_of(blend) == [[0.25, 1.0], [0.5, 1.0], [0.75, 1.0]]


def test_a_number_that_yaml_takes_for_text_is_on_a_gradient_what_it_is() -> None:
    """YAML 1.1 reads `1e-3` as text."""
    for written in ("0.001", "1e-3"):
        (_, blend, _) = stacked(GRADIENT.format(written))
        assert [float(weight) for weight, _ in weights_of(blend)] == pytest.approx([0.25075, 0.5005, 0.75025])


def test_the_place_of_an_entry_defaults_to_the_end_of_the_one_before() -> None:
    text = "stack: [{model: x, layers: 0-3}, {model: y, layers: 0-1}, {model: x, layers: 8-}]"
    assert drawn(text) == ["0-3 x0", "4-5 y0", "6-9 x8"]


def test_a_model_may_feed_one_layer_twice() -> None:
    text = "stack: [{model: x, layers: 0-3}, {model: x, layers: 4-7, at: 0}]\noverlap: average"
    assert drawn(text) == ["0-3 x0*1 + x4*1"]


def test_every_second_layer_is_a_slice_of_its_own() -> None:
    assert drawn("stack: [{model: x, layers: 0-5:2}]") == ["0-0 x0", "1-1 x2", "2-2 x4"]


def test_a_layer_range_says_the_same_as_layers() -> None:
    assert drawn("stack: [{model: x, layer_range: [4, 12]}]") == drawn("stack: [{model: x, layers: 4-11}]")


# Stacks at fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stack: [{model: x, layers: 0-3}, {model: x, layers: 0-3, at: 6}]", "no entry covers output layers 4-5"),
        ("stack: [{model: x, layers: 0-3, at: 1}]", "no entry covers output layers? 0"),
        ("stack: [{model: x, layers: 0-3}, {model: x, layers: 0-3, at: 2}]", "cross on output layers 2-3. Say how"),
        ("stack: [{model: x, layers: 0-12}]", "beyond the model"),
        ("stack: [{model: x, layers: 8:12}]", "write `layers: 8-11`"),
        ("stack: [{model: x}]", "either `layers: 8-31` or `layer_range"),
        ("stack: [{model: x, layers: 0-3, layer_range: [0, 4]}]", "either `layers: 8-31` or `layer_range"),
        ("stack: [{model: x, layer_range: [4, 4]}]", "holds no layer"),
        ("stack: [{model: x, layer_range: [0, 13]}]", "beyond the model"),
        ("stack: [{model: x, layers: 0-3, weight: 1}, {model: x, layers: 0-3, at: 2}]", "entry 2 .* has no weight"),
        ("stack: [{model: x, layers: 0-3, weight: 1, parameters: {weight: 1}}]", "given twice"),
        (
            "overlap: ramp\nstack: [{model: x, layers: 0-5}, {model: x, layers: 1-2, at: 2}]",
            "one lies within the other.*`overlap: average`, or a `weight`",
        ),
        (
            "overlap: cut\n"
            "stack: [{model: x, layers: 0-5}, {model: x, layers: 0-5, at: 2}, {model: x, layers: 0-5, at: 4}]",
            "third entry|3 entries meet",
        ),
        (
            "merge_method: passthrough\noverlap: average\n"
            "stack: [{model: x, layers: 0-3}, {model: x, layers: 0-3, at: 2}]",
            "passthrough blends nothing",
        ),
    ],
)
def test_a_stack_that_cannot_be_made_is_a_letter(text: str, words: str) -> None:
    _, problems = stack_and_problems(text)
    assert re.search(words, " ".join(problem.message for problem in problems))
    assert all(problem.line for problem in problems)


def test_all_faults_of_a_stack_come_together() -> None:
    text = """\
stack:
- {model: x, layers: 0-99}
- {model: x, layers: 8:12}
- {model: x, layers: 0-1, weight: 1, parameters: {weight: 1}}
"""
    _, problems = stack_and_problems(text)
    assert [problem.line for problem in problems] == [2, 3, 4]


@pytest.mark.parametrize(
    "entry",
    ["{model: x, layers: 0-3, at: 1000000000000}", "{model: absent, layers: 0-1000000000000}"],
    ids=["at", "layers"],
)
def test_a_slip_of_a_few_digits_is_told_and_takes_no_memory(entry: str) -> None:
    """In a process of its own that may take 400 MB: the layers up to a trillion are not to be listed."""
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000))\n"
        "from lamina.recipe.load import parse_recipe\n"
        "from lamina.recipe.stack import slices_of_stack\n"
        "problems = []\n"
        f"recipe = parse_recipe('stack: [{{model: x, layers: 0-3}}, {entry}]', 'r.yml')\n"
        "slices_of_stack(recipe, lambda ref: 12 if ref.path == 'x' else None, problems)\n"
        "print('told')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (0, "told\n"), run.stderr[-300:]


# Laws


@dataclass(frozen=True)
class Entry:
    """Layers first to last of a model, from output layer `at` on."""

    model: str
    first: int
    count: int
    at: int

    def covers(self, output: int) -> bool:
        return self.at <= output < self.at + self.count


@st.composite
def stacks(draw: Any) -> list[Entry]:
    """Entries without a gap; any number of them may cross."""
    entries: list[Entry] = []
    reached = 0
    for _ in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 8))
        at = draw(st.integers(0, reached))
        entries.append(Entry(draw(st.sampled_from("xy")), draw(st.integers(0, 12 - count)), count, at))
        reached = max(reached, at + count)
    return entries


@st.composite
def chains(draw: Any) -> list[Entry]:
    """Entries each of which crosses at most the one before: where `cut` and `ramp` have an order."""
    entries = [Entry("x", draw(st.integers(0, 4)), draw(st.integers(1, 8)), 0)]
    for _ in range(draw(st.integers(1, 3))):
        before = entries[-1]
        end = before.at + before.count
        free = max(before.at, entries[-2].at + entries[-2].count if len(entries) > 1 else 0)
        at = draw(st.integers(free, end))
        least = max(1, end - at)
        count = draw(st.integers(least, max(least, 8)))
        entries.append(Entry(draw(st.sampled_from("xy")), draw(st.integers(0, 12 - count)), count, at))
    return entries


def as_text(entries: Sequence[Entry], **more: Any) -> str:
    stack = [
        {"model": entry.model, "layers": f"{entry.first}-{entry.first + entry.count - 1}", "at": entry.at}
        for entry in entries
    ]
    return yaml.safe_dump({"stack": stack, **more})


Made = list[list[tuple[str, int, float]]]  # for each output layer: model, its layer, weight


def made(slices: Sequence[Slice]) -> Made:
    """What each output layer is made of, sources of weight 0 left out."""
    layers: Made = []
    for entry in slices:
        for index, weights in enumerate(weights_of(entry)):
            sources = zip(entry.sources, weights, strict=True)
            layers.append([(str(s.ref), s.start + index, weight) for s, weight in sources if weight])
    return layers


def depth_of(entries: Sequence[Entry]) -> int:
    return max(entry.at + entry.count for entry in entries)


@given(stacks())
def test_average_makes_each_layer_of_all_entries_that_cover_it(entries: list[Entry]) -> None:
    assert made(stacked(as_text(entries, overlap="average"))) == [
        [(entry.model, entry.first + output - entry.at, 1.0) for entry in entries if entry.covers(output)]
        for output in range(depth_of(entries))
    ]


@given(chains())
def test_cut_blends_nothing_and_jumps_once_a_crossing(entries: list[Entry]) -> None:
    slices = stacked(as_text(entries, overlap="cut"))
    assert all(len(entry.sources) == 1 for entry in slices)
    expected = []
    for output in range(depth_of(entries)):
        covering = [entry for entry in entries if entry.covers(output)]
        if len(covering) == 2:
            count = covering[0].at + covering[0].count - covering[1].at
            covering = [covering[output - covering[1].at >= math.ceil(count / 2)]]
        (entry,) = covering
        expected.append([(entry.model, entry.first + output - entry.at, 1.0)])
    assert made(slices) == expected


@given(chains())
def test_a_ramp_gives_the_later_entry_i_of_n_minus_one(entries: list[Entry]) -> None:
    expected = []
    for output in range(depth_of(entries)):
        covering = [entry for entry in entries if entry.covers(output)]
        weights = [1.0]
        if len(covering) == 2:
            count = covering[0].at + covering[0].count - covering[1].at
            later = (output - covering[1].at) / (count - 1) if count > 1 else 0.5
            weights = [1 - later, later]
        layer = [
            (e.model, e.first + output - e.at, pytest.approx(w)) for e, w in zip(covering, weights, strict=True) if w
        ]
        expected.append(layer)
    assert made(stacked(as_text(entries, overlap="ramp"))) == expected


@given(stacks(), st.sampled_from(["cut", "average", "ramp", None]))
def test_a_stack_is_as_deep_as_its_entries_reach_or_a_letter(entries: list[Entry], overlap: str | None) -> None:
    slices, problems = stack_and_problems(as_text(entries, **({"overlap": overlap} if overlap else {})))
    assert bool(slices) != bool(problems)
    if slices:
        assert sum(entry.depth for entry in slices) == depth_of(entries)
        assert all(source.stop - source.start == entry.depth for entry in slices for source in entry.sources)


@given(stacks())
def test_slices_are_as_long_as_they_can_be(entries: list[Entry]) -> None:
    """Two neighbours made of the same entries would have been one."""
    slices = stacked(as_text(entries, overlap="average"))
    for before, after in pairwise(slices):
        on = [(s.ref, s.stop, s.way) for s in before.sources] == [(s.ref, s.start, s.way) for s in after.sources]
        assert not on


@given(stacks())
def test_entries_that_do_not_cross_need_no_overlap(entries: list[Entry]) -> None:
    assume(all(sum(entry.covers(output) for entry in entries) == 1 for output in range(depth_of(entries))))
    assert made(stacked(as_text(entries))) == made(stacked(as_text(entries, overlap="average")))


# Helpers


def stack_and_problems(text: str) -> tuple[list[Slice], list[Problem]]:
    """Of models that have twelve layers each."""
    recipe = parse_recipe(text, "r.yml")
    problems = [*recipe.problems]
    slices = slices_of_stack(recipe, lambda _ref: 12, problems)
    return slices, problems


def stacked(text: str) -> list[Slice]:
    slices, problems = stack_and_problems(text)
    assert problems == []
    return slices


def weights_of(entry: Slice) -> list[list[Any]]:
    """For each output layer of a slice, the weight of each source."""
    return [
        [
            setting_at(source.parameters["weight"], "any.weight", Position(index, entry.depth))
            for source in entry.sources
        ]
        for index in range(entry.depth)
    ]


def drawn(text: str) -> list[str]:
    """`2-5 x2*1 + y0*1`: output layers, and each source with its first layer; weights of blends, of the first layer."""
    lines, first = [], 0
    for entry in stacked(text):
        weights = weights_of(entry)[0]
        names = [f"{source.ref}{source.start}" for source in entry.sources]
        if len(names) > 1:
            names = [f"{name}*{weight:g}" for name, weight in zip(names, weights, strict=True)]
        lines.append(f"{first}-{first + entry.depth - 1} {' + '.join(names)}")
        first += entry.depth
    return lines
