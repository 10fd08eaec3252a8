"""Whatever a file holds, there is a plan or there are letters: never another exception, and never a long wait."""

from __future__ import annotations

import copy
import datetime
import os
import re
import time
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import lamina
from lamina.errors import Problem, RecipeError

from .pages import PAGES, Mistake, letters, mistakes, write_models

EXAMPLES = os.environ.get("MISTAKES_EXAMPLES")  # a number: so many, and others each time
QUICK = settings(
    max_examples=int(EXAMPLES or 60),
    deadline=None,
    derandomize=EXAMPLES is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
MORE = settings(QUICK, max_examples=int(EXAMPLES or 250))
SECONDS = 10.0  # of processor time; the hardest takes about one
RECIPES = [mistake.recipe for mistake in mistakes()]
RECIPES += [path.read_text() for path in sorted((PAGES.parent / "corpus").rglob("*.yml"))]

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
MODELS = st.sampled_from(["a", "b", "eight", "wide", "gelu", "words", "nowhere", "a@main", "a+b", "", 7, None])
NUMBERS = st.one_of(st.integers(-3, 12), st.floats(-2, 2), st.sampled_from([10**400, True, "1e-5", "8:32"]))
WORDS = (
    "merge_method models slices stack modules base_model parameters dtype out_dtype overlap gradient_ends embed norm "
    "head sources model layer_range layers at weight density t filter value normalize scale lora path revision "
    "modles wieght layer_rnge <<"
)
KEYS = st.sampled_from(WORDS.split())
LEAVES = st.one_of(
    MODELS,
    NUMBERS,
    st.sampled_from(["linear", "passthrough", "task_arithmetic", "ramp", "bf16", "0-3", "4-", "0-7:2", "mlp", "*"]),
    st.lists(NUMBERS, max_size=3),
)
NEAR_A_RECIPE = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(KEYS, TEXT), inner, max_size=4)),
    max_leaves=20,
)
TOP = st.fixed_dictionaries(
    {},
    optional={
        "merge_method": st.sampled_from(["linear", "passthrough", "task_arithmetic", "liner", "", 5, ["linear"]]),
        "models": NEAR_A_RECIPE,
        "slices": st.one_of(NEAR_A_RECIPE, st.lists(st.fixed_dictionaries({"sources": NEAR_A_RECIPE}), max_size=3)),
        "stack": NEAR_A_RECIPE,
        "parameters": NEAR_A_RECIPE,
        "base_model": NEAR_A_RECIPE,
        "overlap": st.sampled_from(["cut", "ramp", "average", "cuts", 4]),
        "head": NEAR_A_RECIPE,
        "modules": NEAR_A_RECIPE,
        "dtype": LEAVES,
    },
)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("any")
    write_models(folder)
    return folder


def check(world: Path, text: str, *flags: str) -> None:
    """Plan a text; anything but a plan or letters is raised."""
    started = time.process_time()
    error = letters(Mistake("", flags, text, ()), world)
    assert time.process_time() - started < SECONDS
    if error is not None:
        assert error.problems, "a letter without a word in it"
        lines = len(text.splitlines()) + 1
        assert all(0 <= problem.line <= lines for problem in error.problems)
        for problem in error.problems[:: 1 + len(error.problems) // 50]:  # of a thousand some
            check_changes(text, problem)


def check_changes(text: str, problem: Problem) -> None:
    """What goes out is in the text, and with what comes in it is YAML."""
    lines = text.splitlines()
    for change in reversed(problem.changes):
        start = change.line - 1
        assert tuple(lines[start : start + len(change.old)]) == change.old, problem
        lines[start : start + len(change.old)] = change.new
    if problem.changes:
        yaml.compose("\n".join(lines), Loader=yaml.CSafeLoader)


@QUICK
@given(text=TEXT)
def test_any_text(world: Path, text: str) -> None:
    check(world, text)


@QUICK
@given(content=TOP, strict=st.sampled_from(["--strict", "--lenient", ""]))
def test_what_is_near_a_recipe(world: Path, content: Any, strict: str) -> None:
    check(world, yaml.safe_dump(content, sort_keys=False), *filter(None, [strict]))


@QUICK
@given(content=NEAR_A_RECIPE)
def test_what_has_the_words_of_a_recipe(world: Path, content: Any) -> None:
    check(world, yaml.safe_dump(content, sort_keys=False))


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """A recipe of the pages or the corpus after some slips: signs lost, doubled, swapped; lines moved or indented."""
    text = draw(st.sampled_from(RECIPES))
    for _ in range(draw(st.integers(1, 4))):
        lines = text.split("\n")
        line = draw(st.integers(0, len(lines) - 1))
        place = draw(st.integers(0, max(len(text) - 1, 0)))
        match draw(st.integers(0, 7)):
            case 0:
                text = text[:place] + text[place + 1 :]
            case 1:
                text = text[:place] + draw(st.sampled_from(list(":-[]{},#&*!|>'\"%@`? \t\n0189x"))) + text[place:]
            case 2:
                text = text[:place] + text[place : place + 2][::-1] + text[place + 2 :]
            case 3:
                text = "\n".join(lines[:line] + lines[line + 1 :])
            case 4:
                text = "\n".join([*lines[: line + 1], *lines[line:]])
            case 5:
                text = "\n".join([*lines[:line], "  " + lines[line], *lines[line + 1 :]])
            case 6:
                other = draw(st.integers(0, len(lines) - 1))
                lines[line], lines[other] = lines[other], lines[line]
                text = "\n".join(lines)
            case _:
                words = re.findall(r"[\w.]+", text) or ["x"]
                old, new = draw(st.sampled_from(words)), draw(st.sampled_from([*words, "-1", "[]", "null", "{}"]))
                text = text.replace(old, new, 1)
    return text


@MORE
@given(text=mutations())
def test_recipes_with_slips_in_them(world: Path, text: str) -> None:
    check(world, text)


ODD = [
    None, True, -1, 10**400, 1.5, float("nan"), "", "~", "<<", "a@b@c", "\0", "\x85", "\U0001f600", "1e-5", "x" * 500,
    [], {}, [None], [[]], {None: None}, {"filter": None, "value": None}, [{"value": {}}], b"bytes",
    datetime.date(2020, 1, 1), "one\ntwo\n",
]  # fmt: skip


def ways(value: Any, way: tuple[Any, ...] = (), around: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value that stands in a list or a mapping; one that holds itself is entered once."""
    if not isinstance(value, (dict, list)) or any(value is outer for outer in around):
        return []
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    return [each for key, part in inside for each in ((*way, key), *ways(part, (*way, key), (*around, value)))]


def at(value: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        value = value[key]
    return value


@st.composite
def misplaced(draw: st.DrawFn) -> str:
    """A recipe some of whose values went out, became odd, or stand elsewhere: twice, in a list, under another key."""
    content = copy.deepcopy(draw(st.sampled_from(contents())))
    for _ in range(draw(st.integers(1, 4))):
        if not (there := ways(content)):
            break
        way = draw(st.sampled_from(there))
        around, key, value = at(content, way[:-1]), way[-1], at(content, way)
        match draw(st.integers(0, 6)):
            case 0:
                del around[key]
            case 1:
                around[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
            case 2:
                around[key] = copy.deepcopy(at(content, draw(st.sampled_from(there))))
            case 3:
                around[key] = [copy.deepcopy(value)] * draw(st.integers(1, 2))  # twice: an anchor and an alias
            case 4:
                around[key] = {draw(KEYS): value}
            case 5 if isinstance(around, dict):
                around[draw(KEYS)] = around.pop(key)
            case _:
                around[key] = None
    style = draw(st.sampled_from([None, True, False]))
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=style, allow_unicode=draw(st.booleans()))


@cache
def contents() -> list[dict[str, Any]]:
    """What the recipes say, as far as they are YAML."""
    found = []
    for text in RECIPES:
        with suppress(yaml.YAMLError, ValueError):
            found.append(yaml.load(text, Loader=yaml.CSafeLoader))
    return [content for content in found if isinstance(content, dict)]


@MORE
@given(text=misplaced())
def test_recipes_with_values_that_stand_elsewhere(world: Path, text: str) -> None:
    check(world, text)


def linear(weight: str) -> str:
    return f"models: [{{model: a, parameters: {{weight: {weight}}}}}]\nmerge_method: linear\n"


def passthrough(model: str) -> str:
    return f"models: [{{model: {model}}}]\nmerge_method: passthrough\n"


def sliced(source: str) -> str:
    return f"slices: [{{sources: [{{{source}}}]}}]\nmerge_method: passthrough\n"


LETTERS = "abcdefghijklmnopqrstuvw"
HARD = {
    "brackets without end": "[" * 5000,
    "brackets to some depth": "models: " + "[" * 300 + "]" * 300,
    "mappings to some depth": "parameters: " + "{weight: " * 300 + "1" + "}" * 300,
    "settings to some depth": linear("[" * 90 + "]" * 90),
    "aliases that multiply": "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise(LETTERS)),
    "a mapping in itself": "models: &a\n  - {model: a, parameters: {weight: *a}}\n",
    "layers without end": "stack: [{model: nowhere, layers: 0-99999999999}]",
    "layers without end of a model": "stack: [{model: a, layers: 0-99999999999}]",
    "a place without end": "stack: [{model: a, layers: 0-3}, {model: a, layers: 0-3, at: 99999999999}]",
    "a range without end": sliced("model: a, layer_range: [0, 99999999999]"),
    "a range without end of no model": sliced("model: x, layer_range: [0, 99999999999]"),
    "a range to infinity": sliced("model: a, layer_range: [0, .inf]"),
    "a number of 400 digits": linear("1" * 400),
    "a number of 9000 digits": linear("9" * 9000),
    "a name of 9000 letters": passthrough("x" * 9000),
    "a name with a zero byte": passthrough('"a\\0b"'),
    "a name of somebody's home": passthrough("~nobody-of-this-name/a"),
    "a line of 100,000 signs": "x" * 100_000,
    "a key of 9000 letters": f"{'k' * 9000}: 1",
    "a thousand unknown keys": "".join(f"wieght{number}: 1\n" for number in range(1000)),
    "a thousand broken entries": "models:\n" + "  - {modle: 1, model: [a]}\n" * 1000 + "merge_method: linear\n",
    "many slices": "slices:\n" + "- sources: [{model: a, layer_range: [0, 4]}]\n" * 200 + "merge_method: passthrough\n",
    "numbers as keys": "1: 2\n? 3.5\n: [4]\n",
    "other ends of lines": "models: [{model: a}]\r\nmerge_method: passthrough\rdtype: bf16\u2028out_dtype: x\x85",
}


@pytest.mark.parametrize("what", HARD)
def test_what_is_hard_to_read(world: Path, what: str) -> None:
    check(world, HARD[what])


@st.composite
def stacks(draw: st.DrawFn) -> dict[str, Any]:
    """Stacks that may be planned: every output layer is covered."""
    entries: list[dict[str, Any]] = []
    end = 0
    weighted = draw(st.booleans())
    for _ in range(draw(st.integers(1, 4))):
        model = draw(st.sampled_from(["a", "b", "eight"]))
        depth = 8 if model == "eight" else 4
        first = draw(st.integers(0, depth - 1))
        last = draw(st.integers(first, depth - 1))
        step = draw(st.sampled_from([1, 1, 1, 2]))
        written = f"{first}-{last}" + (f":{step}" if step > 1 else "")
        layers: Any = draw(st.sampled_from([written, [written, 0], [written, f"{first}-"]]))
        entry: dict[str, Any] = {"model": model, "layers": layers}
        if draw(st.booleans()):
            entry["at"] = draw(st.integers(0, end))
        if weighted:
            weights = st.sampled_from([0.5, 2, [0.25, 1], [1, 0.5, 2], {"filter": "mlp", "value": 0.5}])
            weight = draw(weights)
            entry["weight"] = [weight, {"value": [0.5, 1]}] if isinstance(weight, dict) else weight
        if draw(st.integers(0, 3)) == 0:
            entry["parameters"] = {"scale": draw(st.sampled_from([0.5, [1, 0.5], [{"filter": "o_proj", "value": 0}]]))}
        entries.append(entry)
        end = max(end, entry.get("at", end) + last - first + 1)
    if below := draw(st.sampled_from([0, 0, 2])):  # the first entry need not be the lowest
        entries[0]["at"] = below
        entries.append({"model": "eight", "layers": f"0-{below - 1}", "at": 0} | ({"weight": 1} if weighted else {}))
    recipe: dict[str, Any] = {"stack": entries, "overlap": draw(st.sampled_from(["average", "ramp", "cut"]))}
    recipe |= draw(st.sampled_from([{}, {"head": "a"}, {"embed": [{"model": "a", "weight": 3}, {"model": "b"}]}]))
    return recipe | draw(st.sampled_from([{}, {"dtype": "float32"}, {"base_model": "b"}, {"out_dtype": "float16"}]))


@QUICK
@given(recipe=stacks())
def test_a_stack_and_the_slices_it_stands_for_have_one_digest(world: Path, recipe: dict[str, Any]) -> None:
    file = world / "stack.yml"
    file.write_text(yaml.safe_dump(recipe))
    try:
        plan = lamina.plan(file)
    except RecipeError as error:
        assume(all(problem.code in ("overlap", "undefined", "gap") for problem in error.problems))
        assume(False)
    (world / "slices.yml").write_text(lamina.as_slices(file))
    assert lamina.plan(world / "slices.yml").digest == plan.digest
