"""Whose template and whose eos a result has, and what a recipe may ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from desk import TOKENS, Desk

from lamina.tokenizers.chat_templates import BUILT_IN, built_in_template

THREE = """
    models:
      - {model: a, parameters: {weight: 1}}
      - {model: b, parameters: {weight: 1}}
      - {model: c, parameters: {weight: 1}}
    merge_method: linear
"""
FIRST, SECOND = "{{ messages[0].content }}", "{{ messages[1].content }}"


def with_template(template: str, **keys: Any) -> dict[str, Any]:
    return {"tokenizer_config.json": {"eos_token": "</s>", "bos_token": "<s>", "chat_template": template} | keys}


def three(desk: Desk, *templates: str | None) -> None:
    for name, template in zip("abc", templates, strict=True):
        desk.model(name, files=with_template(template) if template else {})


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_template_is_written_and_the_old_one_taken_out(desk: Desk, name: str) -> None:
    three(desk, FIRST, None, None)
    (desk.folder / "a" / "chat_template.json").write_text(json.dumps({"chat_template": SECOND}))
    (desk.folder / "a" / "generation_config.json").write_text('{"top_k": 1}')
    made = desk.side_files(THREE + f"    chat_template: {name}\n")
    assert made["chat_template.jinja"].decode() == built_in_template(name)
    assert json.loads(made["tokenizer_config.json"]) == {"eos_token": "</s>", "bos_token": "<s>"}
    assert made["generation_config.json"] == b'{"top_k": 1}'
    assert "chat_template.json" not in made


def test_jinja_text_is_written_as_it_stands(desk: Desk) -> None:
    three(desk, FIRST, None, None)
    made = desk.side_files(THREE + "    chat_template: |-\n      {% for m in messages %}\n      {{ m }}{% endfor %}\n")
    assert made["chat_template.jinja"] == b"{% for m in messages %}\n{{ m }}{% endfor %}"


@pytest.mark.parametrize(
    ("templates", "chosen", "owners"),
    [
        ((FIRST, SECOND, SECOND + "\n"), SECOND, "of `b` and `c`"),
        ((FIRST, SECOND, None), FIRST, "of `a`"),
        ((None, SECOND, FIRST), SECOND, "of `b`"),
    ],
)
def test_auto_takes_the_most_frequent_template_and_of_equals_the_first(
    desk: Desk, templates: tuple[str | None, ...], chosen: str, owners: str
) -> None:
    three(desk, *templates)
    recipe = THREE + "    chat_template: auto\n"
    assert desk.side_files(recipe)["chat_template.jinja"].decode() == chosen
    assert f"the chat template {owners};" in desk.notices(recipe, "chat")[0]


def test_auto_among_models_without_a_template_leaves_none_and_says_so(desk: Desk) -> None:
    three(desk, None, None, None)
    recipe = THREE + "    chat_template: auto\n"
    assert "chat_template.jinja" not in desk.side_files(recipe)
    [told] = desk.notices(recipe, "chat-template")
    assert "none of the models has a chat template" in told


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("chatlm", "Did you mean `chatml`?"),
        ("lama3", "Did you mean `llama3`?"),
        ("vicuna", "Valid here: auto, alpaca, chatml, exaone, llama3, mistral."),
        ("'### Instruction: do it'", "neither `{{ ... }}` nor `{% ... %}`"),
        ("'{{ messages'", "never closed by `}}`"),
        ("'{% for m in messages %}{{ m }}'", "never ended by `{% endfor %}`"),
        ("'{just braces}'", "neither"),
    ],
)
def test_what_is_no_template_is_a_letter_at_its_line(desk: Desk, text: str, word: str) -> None:
    three(desk, None, None, None)
    problem = desk.problem(THREE + f"    chat_template: {text}\n")
    assert (problem.code, problem.line, problem.column) == ("chat-template", 7, 16)
    assert word in problem.message


def test_a_template_is_checked_even_where_a_model_is_missing(desk: Desk) -> None:
    problems = desk.problems(THREE + "    chat_template: chatlm\n")
    assert [problem.code for problem in problems] == ["model", "model", "model", "chat-template"]


def test_parents_that_speak_alike_need_no_word(desk: Desk) -> None:
    three(desk, FIRST, FIRST, None)
    assert desk.notices(THREE, "chat") == []


def test_another_template_and_eos_are_told_with_whose_the_result_has(desk: Desk) -> None:
    three(desk, FIRST, SECOND, None)
    (desk.folder / "c" / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    assert desk.notices(THREE, "chat") == [
        "config.json is of `a`, the tokenizer of `a`, the chat template of `a`; eos '</s>' (id 2) ends a text. "
        "`b` has another chat template. `c` has eos '</s>' (ids 2, 5)."
    ]


def test_a_template_that_only_another_parent_has_is_told(desk: Desk) -> None:
    three(desk, None, SECOND, None)
    assert "the chat template none" in desk.notices(THREE, "chat")[0]
    assert "`b` has a chat template." in desk.notices(THREE, "chat")[0]


def test_another_bos_is_told(desk: Desk) -> None:
    three(desk, FIRST, FIRST, None)
    (desk.folder / "b" / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "a"}}))
    assert "`b` has bos 'a' (id 1), not '<s>' (id 1)" in desk.notices(THREE, "chat")[0]


def test_a_built_in_template_whose_tokens_the_tokenizer_lacks_is_told(desk: Desk) -> None:
    three(desk, None, None, None)
    (told,) = desk.notices(THREE + "    chat_template: chatml\n", "chat-template")
    assert "writes '<|im_start|>', '<|im_end|>'" in told


def test_a_built_in_template_whose_turns_end_with_another_token_than_eos_is_told(desk: Desk) -> None:
    for name in "abc":
        desk.model(name, (*TOKENS, "<|im_start|>", "<|im_end|>"))
    (told,) = desk.notices(THREE + "    chat_template: chatml\n", "chat-template")
    assert "a turn of `chatml` ends with '<|im_end|>', and generation stops at '</s>' (id 2)" in told


def test_an_eos_list_that_holds_the_end_of_a_turn_is_enough(desk: Desk) -> None:
    for name in "abc":
        desk.model(name, (*TOKENS, "<|im_start|>", "<|im_end|>"), config={"eos_token_id": [2, 7]})
    assert desk.notices(THREE + "    chat_template: chatml\n", "chat-template") == []


def test_what_a_parent_leaves_unsaid_is_no_difference(desk: Desk) -> None:
    desk.model("a")
    desk.model("b", None)
    desk.model("c", config={"eos_token_id": [2], "bos_token_id": ...})
    assert desk.notices(THREE, "chat") == []


def test_a_chosen_template_is_told_without_those_it_replaces(desk: Desk) -> None:
    three(desk, FIRST, SECOND, None)
    (told,) = desk.notices(THREE + "    chat_template: alpaca\n", "chat")
    assert told.endswith(
        "config.json is of `a`, the tokenizer of `a`, the chat template the built-in `alpaca`; "
        "eos '</s>' (id 2) ends a text."
    )


def test_malformed_files_of_a_tokenizer_are_letters_where_the_template_is_asked_for(desk: Desk) -> None:
    three(desk, None, None, None)
    (desk.folder / "a" / "tokenizer_config.json").write_text("{")
    for wish in ("auto", "chatml"):
        problems = desk.problems(THREE + f"    chat_template: {wish}\n")
        assert {problem.code for problem in problems} == {"tokenizer"}
        assert "`a`: tokenizer_config.json is not valid JSON" in problems[0].message


def test_the_tokenizer_of_one_model_under_the_config_of_another_is_told(desk: Desk) -> None:
    three(desk, FIRST, None, SECOND)
    (told,) = desk.notices(THREE + "    tokenizer_source: c\n", "chat")
    assert "config.json is of `a`, the tokenizer of `c`, the chat template of `c`" in told
    assert "`a` has another chat template" in told


def test_a_written_template_is_what_transformers_uses(desk: Desk, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {token: number for number, token in enumerate((*TOKENS, "<|im_start|>", "<|im_end|>"))}
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "chat_template": FIRST}
    files = {"tokenizer.json": library.to_str(), "tokenizer_config.json": config}
    for name in "abc":
        desk.model(name, files=files)
    out = tmp_path / "made"
    out.mkdir()
    for name, content in desk.side_files(THREE + "    chat_template: chatml\n").items():
        (out / name).write_bytes(content)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
