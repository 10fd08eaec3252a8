"""How many questions a model answers right, and the questions that come with Lamina."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
from hashlib import sha1
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lamina.errors import MissingExtra
from lamina.evaluate.skills import (
    Question,
    Score,
    accuracy,
    answered,
    load_questions,
    load_tokenizer,
)
from lamina.evaluate.tiny_llama import load_tiny_llama

REPOSITORY = Path(__file__).parents[2]
MODELS = REPOSITORY / "examples" / "models"
QUESTIONS = REPOSITORY / "examples" / "questions"


class Digits:
    """A tokenizer of digits: "12" is [1, 2], and 9 is its bos."""

    def encode(self, text: str, add_special_tokens: bool = True) -> Any:
        return SimpleNamespace(ids=[9] * add_special_tokens + [int(digit) for digit in text])


class Counts:
    """A language model that knows one thing: after n comes n + 1."""

    def logits(self, tokens: Any) -> Any:
        return np.eye(11, dtype=np.float32)[tokens + 1]


def ask(*questions: Question) -> Score:
    return accuracy(Counts(), Digits(), questions)


def test_a_right_answer_counts() -> None:
    assert ask(Question("12", "345")) == Score(right=1, asked=1)


def test_one_wrong_token_makes_an_answer_wrong() -> None:
    assert ask(Question("12", "346")) == Score(right=0, asked=1)


def test_a_wrong_first_token_is_not_repaired_by_what_follows() -> None:
    assert ask(Question("12", "567")) == Score(right=0, asked=1)


def test_prompts_are_not_scored() -> None:
    assert ask(Question("7412", "3")) == Score(right=1, asked=1)


def test_questions_of_unequal_length_share_a_batch() -> None:
    assert ask(Question("1", "2"), Question("1234", "5678"), Question("1", "1")) == Score(right=2, asked=3)


def test_more_questions_than_a_batch_holds_are_all_asked() -> None:
    assert ask(*[Question("1", "2")] * 150, *[Question("1", "3")] * 60) == Score(right=150, asked=210)


def test_a_score_prints_as_percent_with_its_standard_error() -> None:
    score = Score(right=364, asked=400)
    assert score.share == 0.91
    assert score.standard_error == pytest.approx((0.91 * 0.09 / 400) ** 0.5)
    assert str(score) == "91.0 ± 1.4"


def test_questions_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "two.jsonl"
    file.write_text('{"prompt": "b", "answer": " 1"}\n{"prompt": "a", "answer": " 2"}\n')
    assert load_questions(file) == [Question("b", " 1"), Question("a", " 2")]


def test_a_line_that_is_no_question_is_named(tmp_path: Path) -> None:
    file = tmp_path / "two.jsonl"
    file.write_text('{"prompt": "b", "answer": " 1"}\n{"prompt": "a"}\n')
    with pytest.raises(ValueError, match=r'two.jsonl:2 is not .*: {"prompt": "a"}'):
        load_questions(file)


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(ValueError, match=r"none.jsonl holds no questions"):
        load_questions(tmp_path / "none.jsonl")


def test_without_tokenizers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lamina\[demo\]'"):
        load_tokenizer(MODELS / "base")


# The bundled models and questions. Margins, not digits: another numpy may round a near tie the other way.


@pytest.mark.parametrize(
    ("model", "skill", "least", "most"),
    [
        ("base", "rev", 0.15, 0.30),
        ("rev", "rev", 0.94, 0.99),
        ("base", "sort", 0.74, 0.84),
        ("sort", "sort", 0.95, 1.00),
    ],
)
def test_a_bundled_model_has_the_skill_it_is_named_after(model: str, skill: str, least: float, most: float) -> None:
    pytest.importorskip("tokenizers")
    folder = MODELS / model
    questions = load_questions(QUESTIONS / f"{skill}.dev.jsonl")
    score = accuracy(load_tiny_llama(folder), load_tokenizer(folder), questions)
    assert score.asked == 400
    assert least < score.share < most


def test_a_bundled_tokenizer_puts_bos_before_a_prompt() -> None:
    pytest.importorskip("tokenizers")
    assert load_tokenizer(MODELS / "base").encode("rev: k a q d =").tokens[0] == "<s>"


def test_no_question_was_trained_on_and_none_is_in_both_splits() -> None:
    def first_bytes(split: str) -> list[int]:
        files = sorted(QUESTIONS.glob(f"*.{split}.jsonl"))
        prompts = [question.prompt for file in files for question in load_questions(file)]
        assert len(set(prompts)) == 1200
        return [sha1(prompt.encode()).digest()[0] for prompt in prompts]

    assert all(byte < 16 for byte in first_bytes("dev"))
    assert all(16 <= byte < 32 for byte in first_bytes("test"))  # training took those from 32 on


def test_every_answer_is_right() -> None:
    solve = {"rev": lambda items: items[::-1], "sort": sorted, "max": lambda items: [max(items, key=int)]}
    for file in QUESTIONS.glob("*.jsonl"):
        for question in load_questions(file):
            skill, items = question.prompt.removesuffix(" =").split(": ")
            assert question.answer == " " + " ".join(solve[skill](items.split()))


def test_the_committed_questions_are_what_the_tool_makes(tmp_path: Path) -> None:
    tool = REPOSITORY / "tools" / "make_questions.py"
    subprocess.run([sys.executable, tool, "--out", tmp_path], check=True)
    made = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert made == {file.name: file.read_bytes() for file in QUESTIONS.glob("*.jsonl")}


def test_training_draws_no_held_out_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    draw = importlib.import_module("make_questions").draw_training_question
    rng = random.Random(0)
    for skill in ("rev", "sort", "max"):
        prompts = [draw(skill, rng).prompt for _ in range(300)]
        assert all(sha1(prompt.encode()).digest()[0] >= 32 for prompt in prompts)


def test_answers_are_told_question_by_question() -> None:
    asked = [Question("12", "345"), Question("12", "346"), Question("7", "8")]
    assert answered(Counts(), Digits(), asked).tolist() == [True, False, True]
