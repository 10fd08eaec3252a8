"""Write examples/questions/: what the example models are asked, and never saw in training.

A question is a prompt and the one right answer. Its split follows from its own text, so that no list of
questions has to be kept, and no random number decides what a model has seen:

    first byte of sha1(prompt)    0-15   dev     tune a merge on these
                                 16-31   test    report it on these
                                32-255   train   the fine-tunes were made with these

    python tools/make_questions.py --out examples/questions
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from hashlib import sha1, sha256
from pathlib import Path
from typing import Literal

from lamina.evaluate.skills import Question

Split = Literal["train", "dev", "test"]

SKILLS = ("rev", "max", "sort")
QUESTIONS_PER_FILE = 400  # a standard error of at most 2.5 points


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the dev and test questions of every skill.")
    parser.add_argument("--out", type=Path, required=True, help="the folder, e.g. examples/questions")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for skill in SKILLS:
        questions = list(all_questions(skill))
        for split in ("dev", "test"):
            chosen = choose([question for question in questions if split_of(question.prompt) == split])
            lines = [json.dumps(asdict(question)) + "\n" for question in chosen]
            (out / f"{skill}.{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


def all_questions(skill: str) -> Iterator[Question]:
    """Every question there is: 358,800 of `rev` and of `sort`, 8,100 of `max`."""
    if skill == "max":
        numbers = [str(number) for number in range(10, 100)]
        yield from (question_of(skill, pair) for pair in itertools.product(numbers, repeat=2))
    else:
        permutations = itertools.permutations(string.ascii_lowercase, 4)
        yield from (question_of(skill, letters) for letters in permutations)


def question_of(skill: str, items: Sequence[str]) -> Question:
    """`question_of("rev", ["k", "a", "q", "d"])`: the prompt "rev: k a q d =" and the answer " d q a k"."""
    # All numbers have two digits: as text they compare as they do as numbers.
    answers = {"rev": items[::-1], "sort": sorted(items), "max": [max(items)]}
    return Question(f"{skill}: {' '.join(items)} =", f" {' '.join(answers[skill])}")


def split_of(prompt: str) -> Split:
    """The split a prompt belongs to. The committed weights were trained by this rule: it cannot change."""
    byte = sha1(prompt.encode()).digest()[0]
    if byte < 16:
        return "dev"
    return "test" if byte < 32 else "train"


def choose(questions: list[Question]) -> list[Question]:
    """A sample that is the same everywhere: ordered by sha256, which knows nothing of the letters."""
    return heapq.nsmallest(QUESTIONS_PER_FILE, questions, key=lambda q: sha256(q.prompt.encode()).digest())


def draw_training_question(skill: str, rng: random.Random) -> Question:
    """A question that no file of questions holds."""
    while True:
        if skill == "max":
            items = [str(rng.randrange(10, 100)), str(rng.randrange(10, 100))]
        else:
            items = rng.sample(string.ascii_lowercase, 4)
        question = question_of(skill, items)
        if split_of(question.prompt) == "train":
            return question


if __name__ == "__main__":
    main()
