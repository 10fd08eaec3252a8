"""The templates we bring, rendered as transformers renders them, and the check of a recipe's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lamina.tokenizers.chat_templates import BUILT_IN, built_in_template, check_template, template_of, without_template

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Why?"},
]

RENDERED = {
    "alpaca": (
        "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello.</s>\n\n### Instruction:\nWhy?\n\n### Response:\n"
    ),
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello."
        "<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "exaone": (
        "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]Hello.[|endofturn|]\n[|user|]Why?\n[|assistant|]"
    ),
    "llama3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>"
        "\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "mistral": "<s>[INST] Be brief.\n\nHi [/INST] Hello.</s>[INST] Why? [/INST]",
}


def rendered(template: str, messages: list[dict[str, str]], *, prompt: bool = True) -> str:
    sandbox = pytest.importorskip("jinja2.sandbox")
    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def raise_exception(message: str) -> None:
        raise ValueError(message)

    environment.globals["raise_exception"] = raise_exception
    text: Any = environment.from_string(template).render(
        messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=prompt
    )
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_chat_of_four_turns_is_written_in_the_known_format(name: str) -> None:
    assert rendered(built_in_template(name), CHAT) == RENDERED[name]


@pytest.mark.parametrize("name", BUILT_IN)
def test_our_own_templates_pass_our_own_check(name: str) -> None:
    check_template(built_in_template(name))


def test_exaone_begins_with_an_empty_system_turn_where_there_is_none() -> None:
    assert rendered(built_in_template("exaone"), CHAT[1:2], prompt=False) == "[|system|][|endofturn|]\n[|user|]Hi\n"


def test_mistral_refuses_roles_that_do_not_alternate() -> None:
    with pytest.raises(ValueError, match="alternate"):
        rendered(built_in_template("mistral"), [CHAT[1], CHAT[1]])


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content }}",
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        "{{ '}}' }}{{ {'a': {'b': 1}}.a }}",
        "{# {{ #}{{ x }}",
        "{% raw %}{{ {% endraw %}{{ x }}",
        "{%- if tools -%}{{- '{\"a\": {}}' -}}{%- elif x -%}{%- else -%}{%- endif -%}",
        "{% set x = 1 %}{{ x }}",
    ],
)
def test_sound_jinja_passes(template: str) -> None:
    check_template(template)
    pytest.importorskip("jinja2").Environment().parse(template)


@pytest.mark.parametrize(
    ("template", "letter"),
    [
        ("hello there", "neither `{{ ... }}` nor `{% ... %}`"),
        ("a { b }", "neither"),
        ("x\n{{ m.content", "`{{` in line 2 of the template is never closed by `}}`"),
        ("{{ 'never }}", "never closed"),
        ("{% for m in messages }{{ m }}", "never closed by `%}`"),
        ("{{ x }}{# a", "never closed by `#}`"),
        ("{% for m in messages %}{{ m }}", "`{% for %}` in line 1 of the template is never ended by `{% endfor %}`"),
        ("{{ x }}\n{% endif %}", "`{% endif %}` in line 2 of the template ends nothing"),
        ("{% if a %}{% for b in c %}\n{% endif %}", "comes before `{% endfor %}`, which line 1 needs"),
        ("{% raw %}{{ x }}", "`{% raw %}` in line 1 of the template is never ended"),
    ],
)
def test_a_slip_of_the_pen_is_told_with_its_line(template: str, letter: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        check_template(template)
    assert letter in str(caught.value)


def config(template: Any) -> dict[str, bytes]:
    return {"tokenizer_config.json": json.dumps({"chat_template": template, "eos_token": "é"}).encode()}


def test_a_models_template_is_its_own_file_before_the_one_in_tokenizer_config() -> None:
    assert template_of(config("{{ a }}")) == "{{ a }}"
    assert template_of(config("{{ a }}") | {"chat_template.jinja": b"{{ b }}"}) == "{{ b }}"
    assert template_of({"chat_template.json": b'{"chat_template": "{{ c }}"}'}) == "{{ c }}"
    assert template_of({"tokenizer_config.json": b"{}"}) is None


def test_of_several_named_templates_the_default_counts() -> None:
    named = [{"name": "tool_use", "template": "{{ t }}"}, {"name": "default", "template": "{{ d }}"}]
    assert template_of(config(named)) == "{{ d }}"


def test_a_template_is_taken_out_and_all_else_is_left() -> None:
    kept = without_template(config("{{ a }}") | {"chat_template.jinja": b"x", "tokenizer.json": b"{}"})
    assert kept.keys() == {"tokenizer_config.json", "tokenizer.json"}
    assert json.loads(kept["tokenizer_config.json"]) == {"eos_token": "é"}


def test_a_config_without_a_template_keeps_its_bytes() -> None:
    files = {"tokenizer_config.json": b'{"eos_token":   "x"}'}
    assert without_template(files) == files
