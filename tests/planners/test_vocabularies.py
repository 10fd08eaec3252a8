"""Rows stand for tokens: models are blended where they agree, and the letter says where they do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from desk import TOKENS, Desk

import lamina

BOTH = """
    models:
      - {model: a, parameters: {weight: 0.5}}
      - {model: b, parameters: {weight: 0.5}}
    merge_method: linear
"""
STACKED = """
    slices:
      - sources: [{model: a, layer_range: [0, 1]}]
      - sources: [{model: b, layer_range: [0, 1]}]
      - sources: [{model: a, layer_range: [1, 2]}]
    merge_method: passthrough
"""
SWAPPED = ("<unk>", "<s>", "</s>", "a", "c", "b")
MORE = (*TOKENS, "<think>")


def test_models_of_one_vocabulary_are_blended_without_a_word(desk: Desk) -> None:
    desk.model("a")
    desk.model("b")
    assert desk.notices(BOTH) == []


def test_the_same_tokens_in_files_of_another_kind_are_the_same_vocabulary(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", None, files={"vocab.txt": "\n".join(TOKENS)})
    assert desk.notices(BOTH, "vocabulary") == []


def test_blended_rows_of_unlike_tokens_are_a_fault_with_the_ids_and_both_tokens(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", SWAPPED)
    problem = desk.problem(BOTH)
    assert (problem.code, problem.line) == ("vocabulary", 4)
    assert "id 4 is 'b' in `a` and 'c' in `b`, id 5 is 'c' in `a` and 'b' in `b`" in problem.message
    assert "`embed: a` and `head: a`" in problem.message


def test_the_remedy_of_that_letter_works(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", SWAPPED)
    assert len(desk.notices(BOTH + "    embed: a\n    head: a\n", "vocabulary")) == 1


def test_ends_of_two_models_count_as_mixed(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", SWAPPED)
    halves = """
        slices:
          - sources: [{model: a, layer_range: [0, 1]}]
          - sources: [{model: b, layer_range: [1, 2]}]
        merge_method: passthrough
    """
    assert desk.problem(halves).code == "vocabulary"


def test_a_model_that_gives_only_layers_gets_a_notice(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", SWAPPED)
    (told,) = desk.notices(STACKED, "vocabulary")
    assert "Only its layers are used" in told
    assert "id 4 is 'b' in `a` and 'c' in `b`" in told


def test_a_model_that_gives_only_config_needs_the_tokens_of_the_rows(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", SWAPPED)
    problem = desk.problem("""
        slices: [{sources: [{model: b, layer_range: [0, 2]}]}]
        merge_method: passthrough
        base_model: a
    """)
    assert problem.code == "vocabulary"
    assert "`tokenizer_source: b`" in problem.message


def test_that_remedy_works_too(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", SWAPPED)
    made = desk.side_files("""
        slices: [{sources: [{model: b, layer_range: [0, 2]}]}]
        merge_method: passthrough
        base_model: a
        tokenizer_source: b
    """)
    assert made["tokenizer.json"] == (desk.folder / "b" / "tokenizer.json").read_bytes()


def test_more_rows_in_one_model_are_not_merged_yet_and_the_letter_says_what_differs(desk: Desk) -> None:
    desk.model("a", rows=6)
    desk.model("b", MORE, rows=7)
    problem = desk.problem(BOTH)
    assert (problem.code, problem.line) == ("not-yet", 4)
    assert "has 6 rows in `a` and 7 in `b`" in problem.message
    assert "`a` has 6 tokens and `b` 7; only `b` has '<think>' (id 6)" in problem.message


def test_more_rows_of_padding_are_told_as_that(desk: Desk) -> None:
    desk.model("a", rows=6)
    desk.model("b", rows=8)
    assert "Their 6 tokens are the same, the rows beyond are padding." in desk.problem(BOTH).message


def test_a_token_in_the_padding_of_another_model_is_a_notice(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", MORE)
    (told,) = desk.notices(BOTH, "vocabulary")
    assert "only `b` has '<think>' (id 6)" in told
    assert "tokenizer, that of `a`, does not know them" in told
    (told,) = desk.notices(BOTH + "    base_model: b\n", "vocabulary")
    assert "to `a` these rows are padding" in told


def test_rows_that_count_for_nothing_need_not_agree(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", SWAPPED)
    recipe = BOTH.replace("weight: 0.5}}\n    merge", "weight: 0}}\n    merge")
    assert "Only its layers" in desk.notices(recipe, "vocabulary")[0]


def test_a_malformed_tokenizer_is_a_letter_at_its_model(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", files={"tokenizer.json": "{"})
    problem = desk.problem(BOTH)
    assert (problem.code, problem.line) == ("tokenizer", 4)
    assert "`b`: tokenizer.json is not valid JSON" in problem.message


def test_tokens_that_cannot_be_read_are_a_notice(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", None, files={"x.tiktoken": "IQ== 0\n"})
    assert "of a kind whose tokens are not read" in desk.notices(BOTH, "vocabulary")[0]


def test_a_model_without_a_tokenizer_is_a_notice_and_none_anywhere_is_not(desk: Desk) -> None:
    desk.model("a", None)
    desk.model("b", None)
    assert desk.notices(BOTH, "vocabulary") == []
    desk.model("c")
    assert "`a` has no tokenizer files" in desk.notices(BOTH.replace("model: b", "model: c"), "vocabulary")[0]


# tokenizer_source and tokenizer


@pytest.mark.parametrize(
    "key", ["tokenizer_source: base", "tokenizer_source: union", "tokenizer: {source: base}", "tokenizer: {}"]
)
def test_of_equal_vocabularies_base_and_union_are_the_bases_files(desk: Desk, key: str) -> None:
    desk.model("a")
    desk.model("b", files={"special_tokens_map.json": "{}"})
    made = desk.side_files(f"{BOTH}    base_model: b\n    {key}\n")
    assert made["special_tokens_map.json"] == b"{}"
    assert "special_tokens_map.json" not in desk.side_files(f"{BOTH}    {key}\n")


def test_rows_beyond_the_vocabulary_stay(desk: Desk) -> None:
    desk.model("a", rows=8)
    desk.model("b", rows=8)
    plan = desk.plan(BOTH + "    tokenizer_source: union\n")
    assert plan.specs["model.embed_tokens.weight"].shape[0] == 8
    assert json.loads(plan.files[0].content)["vocab_size"] == 8


def test_a_model_gives_its_tokenizer_in_place_of_the_donor(desk: Desk) -> None:
    other = {"tokenizer_config.json": {"eos_token": "c"}, "generation_config.json": '{"top_k": 1}'}
    desk.model("a", files={"merges.txt": "x", "generation_config.json": '{"top_k": 2}'})
    desk.model("b")
    desk.model("c", files=other)
    plan = desk.plan(BOTH + "    tokenizer_source: c\n")
    made = {file.name: file.content for file in plan.files}
    assert json.loads(made["tokenizer_config.json"]) == {"eos_token": "c"}
    assert made["generation_config.json"] == b'{"top_k": 2}'
    assert "merges.txt" not in made
    assert {(each.model, each.reason) for each in plan.dropped} == {("c", "only its tokenizer is used")}


def test_a_model_that_is_named_only_for_its_tokenizer_has_to_be_there(desk: Desk) -> None:
    desk.model("a")
    desk.model("b")
    problem = desk.problem(BOTH + "    tokenizer: {source: nowhere}\n")
    assert (problem.code, problem.line, problem.column) == ("model", 6, 25 - 4)


@pytest.mark.parametrize("source", ["base", "union", "b", "c"])
@pytest.mark.parametrize("other", [SWAPPED, MORE])
def test_rows_that_would_have_to_move_are_not_merged_yet(desk: Desk, source: str, other: tuple[str, ...]) -> None:
    desk.model("a")
    desk.model("b", other)
    desk.model("c", ("<pad>", *TOKENS))
    problems = desk.problems(f"{BOTH}    tokenizer_source: {source}\n")
    assert {problem.code for problem in problems} == {"not-yet"}
    assert {problem.line for problem in problems} == {6}
    assert "id 4 is" in problems[0].message or "<think>" in problems[0].message or "<pad>" in problems[0].message


def test_a_union_asks_for_the_tokens_of_every_model(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", MORE)
    assert desk.problem(STACKED + "    tokenizer_source: union\n").code == "not-yet"
    assert desk.notices(STACKED + "    tokenizer_source: base\n", "vocabulary")


@pytest.mark.parametrize(
    ("keys", "code", "word", "line"),
    [
        ("tokenizer_source: base\n    tokenizer: {source: base}", "tokenizer-twice", "keep one", 6),
        ("tokenizer: {tokens: {<x>: {source: a}}}", "not-yet", "tokens", 6),
        ("tokenizer: {pad_to_multiple_of: 64}", "not-yet", "pad_to_multiple_of", 6),
        ("tokenizer: {pad_to_multiple_of: 0}", "wrong-value", "pad_to_multiple_of", 6),
        ("tokenizer: union", "wrong-value", "tokenizer_source: union", 6),
        ("tokenizer: {sorce: base}", "unknown-key", "source", 6),
        ("tokenizer_source: [a]", "wrong-value", "a folder or `org/name`", 6),
        ("tokenizer: {tokens: [a]}", "wrong-value", "rules by token", 6),
        ("tokenizer: {tokens: {<x>: a}}", "wrong-value", "{source: MODEL, force: false}", 6),
        ("tokenizer: {tokens: {<x>: {forse: true}}}", "wrong-value", "force", 6),
        ("tokenizer: {tokens: {<x>: {force: 3}}}", "wrong-value", "true or false", 6),
        ("tokenizer: {tokens: {<x>: {source: {kind: one}}}}", "wrong-value", "`model_token` or `zero`", 6),
        ("tokenizer: {tokens: {<x>: {source: {kind: model_token, model: a}}}}", "wrong-value", "token_id", 6),
        ("tokenizer: {source: base}\n    source: base", "unknown-key", "under `tokenizer`", 7),
    ],
)
def test_wrong_forms_get_letters(desk: Desk, keys: str, code: str, word: str, line: int) -> None:
    desk.model("a")
    desk.model("b")
    told = [(problem.code, problem.line) for problem in desk.problems(f"{BOTH}    {keys}\n")]
    assert told == [(code, line)]
    assert word in desk.problems(f"{BOTH}    {keys}\n")[0].message


def test_a_stack_printed_as_slices_keeps_its_tokenizer_and_template(desk: Desk) -> None:
    desk.model("a")
    desk.model("b")
    stack = """
        stack: [{model: a, layers: 0-1}, {model: b, layers: 0-1}]
        tokenizer: {source: b}
        chat_template: chatml
    """
    digest = desk.plan(stack).digest
    spelled: Any = lamina.api.as_slices(desk.recipe(stack))
    assert desk.plan(spelled).digest == digest
