"""Recipes as text: every fault with its line and column, and never anything but a recipe or a letter."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamina.errors import Problem, RecipeError
from lamina.model_ref import AdapterRef, ModelRef
from lamina.recipe.load import Recipe, load_recipe, parse_recipe
from lamina.tensor_spec import BF16, F32

LINEAR = "merge_method: linear\nmodels:\n  - model: a\n    parameters: {weight: 1}\n  - model: b\n"


def faults(text: str) -> tuple[Problem, ...]:
    """What is wrong with the form of a recipe: told beside what could be read of it, or in its place."""
    try:
        return parse_recipe(text, "r.yml").problems
    except RecipeError as error:
        return error.problems or (Problem("silent", ""),)


def placed(text: str) -> list[tuple[int, int, str]]:
    """Line, column and code of each fault, in the order of the file."""
    return sorted((problem.line, problem.column, problem.code) for problem in faults(text))


def read(text: str) -> Recipe:
    recipe = parse_recipe(text, "r.yml")
    assert recipe.problems == ()
    return recipe


# What is read


def test_a_recipe() -> None:
    schema = read("merge_method: linear\nmodels: [{model: a}, {model: org/b@main+lora}]\ndtype: bfloat16").schema
    assert schema.merge_method == "linear"
    assert [entry.model for entry in schema.models or ()] == [
        ModelRef("a"),
        ModelRef("org/b", "main", (AdapterRef("lora"),)),
    ]
    assert schema.dtype is BF16


def test_a_model_may_be_spelled_as_mergekit_writes_it_out() -> None:
    text = "base_model: {model: {path: org/b, revision: main}, lora: {path: tuned}}"
    assert read(text).schema.base_model == ModelRef("org/b", "main", (AdapterRef("tuned"),))


def test_a_number_is_a_name_of_a_model() -> None:
    assert read("base_model: 7").schema.base_model == ModelRef("7")


@pytest.mark.parametrize("name", ["float32", "torch.float32"])
def test_a_dtype_may_be_spelled_as_torch_does(name: str) -> None:
    assert read(f"out_dtype: {name}").schema.out_dtype is F32


def test_keys_without_a_value_are_as_good_as_absent() -> None:
    schema = read("merge_method: linear\nparameters:\nbase_model:\nmodels:\n  - model: a\n    parameters:\n").schema
    assert (schema.parameters, schema.base_model) == ({}, None)
    assert [entry.parameters for entry in schema.models or ()] == [{}]


def test_words_that_yaml_takes_for_truth_values_are_keys_as_they_are_written() -> None:
    recipe = parse_recipe("merge_method: linear\non: {y: 1}\nno: 2", "r.yml")
    assert [problem.message.split(".")[0] for problem in recipe.slips] == ["unknown key `on`", "unknown key `no`"]
    assert list(read("parameters: {on: 1, yes: 0, 1: 2}").schema.parameters) == ["on", "yes", "1"]


def test_a_merge_key_brings_what_is_not_given() -> None:
    text = "stack:\n  - &first {model: a, layers: 0-3}\n  - {<<: *first, model: b}\n"
    entries = read(text).schema.stack or []
    assert [(str(entry.model), entry.layers) for entry in entries] == [("a", "0-3"), ("b", "0-3")]


def test_an_entry_with_a_merge_key_may_be_used_again() -> None:
    text = "stack:\n  - &a {model: a, layers: 0-3}\n  - &b {<<: *a, model: b}\n  - *b\n"
    assert [str(entry.model) for entry in read(text).schema.stack or []] == ["a", "b", "b"]


def test_an_alias_is_read_as_if_it_were_written_out() -> None:
    text = "models:\n  - {model: a, parameters: &p {weight: 0.5}}\n  - {model: b, parameters: *p}\n"
    first, second = read(text).schema.models or []
    assert first.parameters == second.parameters


def test_the_recipe_keeps_the_text_as_the_user_wrote_it() -> None:
    assert read("# mine\nmerge_method:   linear\n").text == "# mine\nmerge_method:   linear\n"


def test_what_yaml_would_make_of_letters_is_undone_or_told() -> None:
    entries = read("stack: [{model: 1.10, layers: 8:32}, {model: 010, layers: [0-3, 7]}]").schema.stack or []
    assert [str(entry.model) for entry in entries] == ["1.10", "010"]  # not 1.1 and 8
    assert [entry.layers for entry in entries] == ["8:32", ["0-3", 7]]  # not 512, which is 8 x 60 + 32
    (problem,) = faults("stack: [{model: a, layers: 010}]")
    assert "`010` is 8 to YAML" in problem.message


def test_a_place_that_the_text_does_not_show_is_that_of_what_is_around_it() -> None:
    recipe = read(LINEAR)
    assert recipe.problem("x", "", ("models", 1, "model")).line == 5
    assert recipe.problem("x", "", ("models", 1, "parameters", "weight")).line == 5
    assert recipe.problem("x", "", ("models", 0, "parameters", "weight", "<key>")).column == 18
    assert (recipe.problem("x", "", ("models", 0, "parameters", "weight")).line, recipe.file) == (4, "r.yml")


# Faults and their places


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("merge_methud: linear\n", [(1, 1, "unknown-key")]),
        ("merge_method: linear\ndtype: bfloat17\n", [(2, 8, "wrong-value")]),
        ("models:\n  - modle: a\n", [(2, 5, "unknown-key")]),
        ("models:\n  - model: a\n    weight: 0.5\n", [(3, 5, "unknown-key")]),
        ("slices:\n  - sources:\n    - {model: a, layer_range: [0]}\n", [(3, 31, "wrong-value")]),
        ("slices:\n  - sources:\n    - model: a\n", [(3, 7, "missing-key")]),
        ("models:\n  - {parameters: {weight: 1}}\n", [(2, 5, "missing-key")]),
        ("models: {model: a}\n", [(1, 9, "wrong-value")]),
        ("models: []\n", [(1, 9, "wrong-value")]),
        ("base_model: a@b@c\n", [(1, 13, "wrong-value")]),
        ("stack:\n- {model: a, layers: 0-3, at: -1}\n", [(2, 31, "wrong-value")]),
        ("overlap: blend\n", [(1, 10, "wrong-value")]),
        ("models:\n- model: a\n  parameters:\n    weight: {filter: mlp}\n", [(4, 13, "wrong-value")]),
        ("dtype: float32\nmodels: [{model: a}]\ndtype: float32\n", [(3, 1, "duplicate-key")]),
        ("models:\n- model: a\n  model: b\n", [(3, 3, "duplicate-key")]),
    ],
)
def test_a_fault_stands_at_its_line_and_column(text: str, expected: list[tuple[int, int, str]]) -> None:
    assert placed(text) == expected


def test_all_faults_come_together_in_the_order_of_the_file() -> None:
    text = "overlap: blend\ndtype: bfloat17\nmodels:\n  - model: a@b@c\n  - model: b\n    parametrs: {}\n"
    assert [line for line, _, _ in placed(text)] == [1, 2, 4, 6]


def test_a_key_given_again_and_again_is_told_at_each_place() -> None:
    text = "models:\n- {model: a, parameters: {weight: 1, weight: 2, weight: 3}}\n"
    assert placed(text) == [(2, 38, "duplicate-key"), (2, 49, "duplicate-key")]


def test_a_key_may_stand_in_two_mappings() -> None:
    assert placed("models: [{model: a}, {model: b}]\nbase_model: {model: {path: c}}\n") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("merge_methud: linear", "Did you mean `merge_method`?"),
        ("models: [{model: a, layer_range: [0, 1]}]", "layers of them go into `slices`"),
        ("models: [{model: a, weight: 1}]", "belongs under `parameters`: `parameters: {weight: 1}`"),
        ("dtype: bfloat17", "did you mean `bfloat16`"),
        ("overlap: avrage", "did you mean `average`"),
        ("slices: [{sources: [{model: a, layer_range: 3}]}]", r"`\[start, end\]`, the end not included; this is `3`"),
        ("base_model: ''", "the form is `path"),
    ],
)
def test_a_letter_says_what_is_valid(text: str, words: str) -> None:
    assert re.search(words, " ".join(problem.message for problem in faults(text)), re.IGNORECASE)


def test_a_key_that_is_foreign_everywhere_has_no_effect_and_is_told() -> None:
    recipe = parse_recipe("merge_method: linear\nauthor: me\nmodels: [{model: a, colour: red}]\n", "r.yml")
    assert sorted((problem.line, problem.column, problem.code) for problem in recipe.slips) == [
        (2, 1, "unknown-key"),
        (3, 21, "unknown-key"),
    ]
    assert recipe.problems == ()


# Text that is no recipe


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null", "~"])
def test_an_empty_file_is_a_letter(text: str) -> None:
    with pytest.raises(RecipeError, match=r"empty|mapping"):
        parse_recipe(text, "r.yml")


@pytest.mark.parametrize("text", ["linear", "- a\n- b", "3", "[]", "2001-12-14"])
def test_what_is_no_mapping_is_told_the_form(text: str) -> None:
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        parse_recipe(text, "r.yml")


def test_several_documents_are_not_run_yet_and_the_second_is_pointed_at() -> None:
    assert placed("merge_method: linear\n---\nmerge_method: slerp\n") == [(3, 1, "not-yet")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1, 2", 1),
        ("a: 1\n b: 2\n", 2),
        ("a:\n\t- b\n", 2),
        ("a: *missing\n", 1),
        ("a: b: c\n", 1),
        ('a: "open\n', 2),
        ("a: %x\n@b: c\n", 1),
        ('a: "\\uD800"\n', 1),
    ],
)
def test_what_is_not_yaml_is_a_letter_with_its_line(text: str, line: int) -> None:
    (problem,) = faults(text)
    assert problem.code == "yaml"
    assert abs(problem.line - line) <= 1  # the scanner may point at where it gave up


@pytest.mark.parametrize(
    "text",
    [
        "a: !!bool maybe",
        "a: !!int ''",
        "a: !!int x",
        "a: !!float x",
        "a: !!python/object:os.system x",
        "a: !!binary §",
        f"a: {'9' * 5000}",
        "<<: 3",
        "<<: [3]",
        "a: {<<: text}",
        "? [1, 2]\n: 3",
        "? {a: 1}\n: 3",
    ],
    ids=lambda text: text[:24],
)
def test_a_value_that_yaml_cannot_make_is_a_letter(text: str) -> None:
    problems = faults(f"merge_method: linear\n{text}\n")
    assert [problem.code for problem in problems] == ["yaml"]
    assert problems[0].line in (1, 2)


@pytest.mark.parametrize("value", ["2001-12-14", "2001-99-99", "!!timestamp foo", f"1{':00' * 200}.0", "8:32"])
def test_dates_and_times_stay_the_letters_that_they_are(value: str) -> None:
    assert read(f"name: {value}").schema.name == value.removeprefix("!!timestamp ")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: &a {<<: *a, b: 1}",
        "&a [*a]",
    ],
)
def test_a_text_that_holds_itself_is_a_recipe_or_a_letter(text: str) -> None:
    faults(text)


@pytest.mark.parametrize("depth", [100, 500, 1000, 10_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_nesting_without_end_is_a_recipe_or_a_letter(opening: str, closing: str, depth: int) -> None:
    faults(f"a: {opening * depth}{closing * depth}")


def test_nesting_deeper_than_a_stack_of_calls_is_a_letter_and_no_crash() -> None:
    """In a process of its own: what composes the tree is compiled, and would take the tests down with it."""
    code = (
        "from lamina.errors import RecipeError\n"
        "from lamina.recipe.load import parse_recipe\n"
        "try:\n"
        "    parse_recipe('a: ' + '[' * 200_000 + ']' * 200_000, 'r.yml')\n"
        "except RecipeError:\n"
        "    print('a letter')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (0, "a letter\n"), run.stderr[-300:]


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"], ids=["lists", "merge keys"])
def test_a_bomb_of_aliases_is_refused_before_it_unfolds(form: str) -> None:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for level in range(1, 8):
        lines.append(f"a{level}: &a{level} {form.format(', '.join([f'*a{level - 1}'] * 10))}")
    started = time.process_time()
    assert [problem.message for problem in faults("\n".join(lines))] == [
        "the text refers to itself too often to be a recipe."
    ]
    assert time.process_time() - started < 5  # of this process: beside others it waits, which is no work


def test_a_bomb_within_one_value_is_refused_before_it_unfolds() -> None:
    """Nothing of it has been seen before all of it is merged."""
    inner = "&a0 {x: 1, y: 2}"
    for level in range(9):
        inner = f"&a{level + 1} {{<<: [{inner}{f', *a{level}' * 10}]}}"
    started = time.process_time()
    assert [problem.message for problem in faults(f"top: {inner}")] == [
        "the text refers to itself too often to be a recipe."
    ]
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("p: &p {weight: 1}\nparameters: {<<: *p}", 1.0),
        ("p: &p {weight: 1}\nparameters: {<<: *p, weight: 2}", 2.0),
        ("p: &p {weight: 1}\nparameters: {weight: 2, <<: *p}", 2.0),
        ("p: [&p {weight: 1}, &q {weight: 3}]\nparameters: {<<: [*p, *q]}", 1.0),
        ("p: &p {<<: &q {weight: 1}, weight: 4}\nparameters: {<<: [*q, *p]}", 1.0),
        ("parameters: {<<: [&p {<<: {weight: 1}, weight: 2}, *p]}", 2.0),
        ("parameters: &p {<<: *p, weight: 2}", 2.0),
    ],
)
def test_merge_keys_bring_what_is_not_given_beside_them(text: str, weight: float) -> None:
    recipe = parse_recipe(f"{text}\nmerge_method: linear\nmodels: [{{model: a}}]\n", "r.yml")
    assert recipe.schema.parameters["weight"][0].values == (weight,)
    assert not [problem for problem in recipe.problems if problem.code != "unknown-key"]


def test_a_mapping_that_was_merged_before_it_is_read_has_its_own_keys_once() -> None:
    text = "parameters: {<<: [&p {<<: {weight: 1}, weight: 2}]}\nz: *p\nmerge_method: linear\n"
    assert "duplicate-key" not in [problem.code for problem in faults(text)]


def test_tags_build_no_objects() -> None:
    text = "merge_method: !!python/object/apply:os.system [exit 3]\nx: !!python/name:os.system\n"
    assert all(problem.code in ("yaml", "wrong-value") for problem in faults(text))


# Values of the wrong kind, at every key

ODD = [None, True, -1, 0, 3, 10**400, 1.5, float("inf"), float("nan"), "", "x", "a@b@c", [], [None], [[]], {}, {"x": 1}]
PLACES = {
    "top": lambda key, value: {key: value},
    "models": lambda key, value: {"models": [{"model": "a", key: value}]},
    "sources": lambda key, value: {"slices": [{"sources": [{"model": "a", "layer_range": [0, 1], key: value}]}]},
    "slices": lambda key, value: {"slices": [{"sources": [{"model": "a", "layer_range": [0, 1]}], key: value}]},
    "stack": lambda key, value: {"stack": [{"model": "a", "layers": "0-3", key: value}]},
    "head": lambda key, value: {"head": [{"model": "a", key: value}]},
}  # fmt: skip
KEYS = [
    "merge_method", "models", "slices", "stack", "modules", "base_model", "parameters", "dtype", "out_dtype", "overlap",
    "gradient_ends", "embed", "norm", "head", "tokenizer", "chat_template", "name", "model", "layer_range", "layers",
    "at", "weight", "sources", "residual_weight", "xyzzy",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_any_kind_at_any_key_is_a_recipe_or_a_letter(key: str, place: str) -> None:
    for value in ODD:
        text = yaml.safe_dump(PLACES[place](key, value))
        for problem in faults(text):
            assert problem.message
            assert problem.line > 0, f"{text!r}: {problem}"


@pytest.mark.parametrize("ends", ["[0, .inf]", "[.nan, 1]", "[0.5, 1]", "[0, 1, 2]", "[a, b]", "0-3", "[[0], 1]"])
def test_the_ends_of_a_range_are_whole_numbers(ends: str) -> None:
    problems = faults(f"slices: [{{sources: [{{model: a, layer_range: {ends}}}]}}]")
    assert any("`[start, end]`" in problem.message for problem in problems)


def test_an_end_of_a_range_may_be_a_number_of_any_length() -> None:
    text = f"slices: [{{sources: [{{model: a, layer_range: [1{'0' * 400}, x]}}]}}]"
    assert any("`[start, end]`" in problem.message for problem in faults(text))
    assert read(f"slices: [{{sources: [{{model: a, layer_range: [0, 1{'0' * 400}]}}]}}]").schema.slices


@pytest.mark.parametrize("parameters", ["[x]", "x", "3", "null", "{t: 1}"])
def test_a_list_of_models_is_told_whatever_their_parameters_are(parameters: str) -> None:
    [problem] = faults(f"- model: a\n- model: b\n  parameters: {parameters}\n")
    assert "this list stands under `models`" in problem.message
    assert problem.changes


def test_bytes_are_told_as_a_tag_without_a_meaning() -> None:
    [problem] = faults("models: [{model: a}]\nmerge_method: linear\ndtype: !!binary aGk=")[:1]
    assert (problem.line, problem.code) == (3, "yaml")
    assert "the tag `!!binary` has no meaning" in problem.message


@pytest.mark.parametrize("revision", ["[1]", "{a: 1}"])
def test_a_revision_is_text(revision: str) -> None:
    assert faults(f"base_model: {{model: {{path: a, revision: {revision}}}}}")


def test_references_of_a_recipe_can_be_told_apart() -> None:
    """The planner keeps models by their reference: whatever is accepted can be hashed."""
    for value in ODD:
        for form in (
            {"path": "a", "revision": value},
            {"path": value},
            {"model": value},
            {"model": "a", "lora": value},
        ):
            try:
                recipe = parse_recipe(yaml.safe_dump({"base_model": {"model": form}}), "r.yml")
            except RecipeError:
                continue
            hash(recipe.schema.base_model)


# Files


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text("merge_method: linear\n")
    recipe = load_recipe(tmp_path / "r.yml")
    assert (recipe.schema.merge_method, recipe.folder) == ("linear", tmp_path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_bytes(b"\xef\xbb\xbfmerge_method: linear\n")
    recipe = load_recipe(tmp_path / "r.yml")
    assert (recipe.schema.merge_method, recipe.slips) == ("linear", ())


def test_a_file_with_windows_line_ends_is_read_and_its_lines_counted(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_bytes(b"merge_method: linear\r\nstack:\r\n- {model: a, layers: 8:32}\r\n")
    recipe = load_recipe(tmp_path / "r.yml")
    assert [entry.layers for entry in recipe.schema.stack or []] == ["8:32"]
    problem = recipe.problem("x", "", ("stack", 0, "layers"))
    assert (problem.line, problem.column, problem.excerpt) == (3, 22, "- {model: a, layers: 8:32}")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", "models: café".encode("latin-1"), b"\x80"], ids=range(3))
def test_a_file_that_is_not_utf_8_is_a_letter(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"r\.yml is not text in UTF-8"):
        load_recipe(tmp_path / "r.yml")


@pytest.mark.parametrize("content", [b"\x00", b"\x01a: 1", b"a: \x1b[0m"], ids=range(3))
def test_a_file_of_control_characters_is_a_letter(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_bytes(content)
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(tmp_path / "r.yml")


@pytest.mark.parametrize("name", ["absent.yml", "."])
def test_a_file_that_cannot_be_read_is_a_letter(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no such file|without a recipe"):
        load_recipe(tmp_path / name)


@pytest.mark.parametrize("name", ["recpie.yml", "recipe", "recipe.yaml", "Recipe.ymll"])
def test_a_name_near_a_recipe_s_gets_that_recipe_s_name(name: str, tmp_path: Path) -> None:
    for each in ("recipe.yml", "other.yml", "recipe.txt"):
        (tmp_path / each).write_text("")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / name)
    [problem] = caught.value.problems
    assert problem.message == f"{tmp_path / name}: no such file. Did you mean `{tmp_path / 'recipe.yml'}`?"
    assert problem.suggestion == str(tmp_path / "recipe.yml")


def test_a_name_near_nothing_gets_no_other_and_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.yml").write_text("")
    with pytest.raises(RecipeError, match=r"average\.yml: no such file\.\n"):
        load_recipe(tmp_path / "average.yml")
    with pytest.raises(RecipeError, match=rf"no such file, and no folder {tmp_path / 'recipes'}\.\n"):
        load_recipe(tmp_path / "recipes" / "recipe.yml")


# Whatever the text


@given(st.text(max_size=60))
@settings(max_examples=200)
@example("a: \u2028b")
@example("\ufeff")
@example("? ")
@example("<<: ")
@example("0: &a\n<<: *a")
def test_any_text_is_a_recipe_or_a_letter(text: str) -> None:
    faults(text)


@given(st.text(alphabet="ab:-[]{}&*<!|>'\"#,? \n0.", max_size=40))
@settings(max_examples=400)
def test_any_punctuation_is_a_recipe_or_a_letter(text: str) -> None:
    faults(text)


scalars = st.sampled_from([value for value in ODD if not isinstance(value, list | dict)]) | st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=5))
@settings(max_examples=300)
def test_any_yaml_is_a_recipe_or_a_letter(content: dict[str, Any]) -> None:
    text = yaml.safe_dump(content, sort_keys=False)
    lines = len(text.splitlines())
    for problem in faults(text):
        assert 1 <= problem.line <= lines
        assert problem.column >= 1


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("models: [{model: a, parameters: {weight: 1, normalize}}]\nmerge_method: linear\n", (1, 45)),
        ("models: [{model: a}]\nmerge_method: linear\ntokeniser:\n", (3, 1)),
    ],
)
def test_a_key_without_a_value_is_told(text: str, place: tuple[int, int]) -> None:
    recipe = parse_recipe(text, "r.yml")
    assert [(slip.code, slip.line, slip.column) for slip in recipe.slips] == [("no-effect", *place)]
    assert "has no value" in recipe.slips[0].message
    assert parse_recipe(text, "r.yml", border="strict").problems == recipe.slips


def test_what_a_template_leaves_open_is_silent() -> None:
    text = "models:\n- model: a\n  parameters:\nbase_model:\nmerge_method: linear\nparameters:\ndtype:\n"
    recipe = parse_recipe(text, "r.yml")
    assert (recipe.slips, recipe.problems) == ((), ())


@pytest.mark.parametrize("braces", ["{weight: 0, 5}", "{weight: 0,x}", "{weight: '0','5'}", "{weight: 0,5: 1}"])
def test_other_second_keys_are_no_decimals(braces: str) -> None:
    text = f"models: [{{model: a, parameters: {braces}}}]\nmerge_method: linear\n"
    assert all(problem.code != "decimal-comma" for problem in faults(text))


def test_override_architecture_is_read_and_told_to_have_no_effect() -> None:
    text = "models:\n  - model: {model: a, override_architecture: LlamaForCausalLM}\nmerge_method: passthrough\n"
    recipe = parse_recipe(text, "r.yml")
    assert not recipe.problems
    assert [(slip.code, slip.line) for slip in recipe.slips] == [("no-effect", 2)]
    strict = parse_recipe(text, "r.yml", "strict").problems
    assert [problem.changes[0].new for problem in strict] == [("  - model: {model: a}",)]


def test_what_moved_up_since_an_entry_was_left_out_is_mended_where_it_stands() -> None:
    text = "models:\n  - 5\n  - {model: b, parameter: {weight: 1}}\n  - {model: c, wieght: 1}\nmerge_method: linear\n"
    changes = [problem.changes for problem in faults(text) if problem.code == "unknown-key"]
    assert [(change.line, change.new) for (change,) in changes] == [
        (3, ("  - {model: b, parameters: {weight: 1}}",)),
        (4, ("  - {model: c, parameters: {weight: 1}}",)),
    ]
