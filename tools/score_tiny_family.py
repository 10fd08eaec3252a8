"""Score models on the questions of examples/questions, as a table.

    python tools/score_tiny_family.py examples/models/* --split dev

Tune on `dev`; look at `test` once, when nothing is left to choose.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lamina.evaluate.skills import accuracy, load_questions, load_tokenizer
from lamina.evaluate.tiny_llama import load_tiny_llama

SKILLS = ("rev", "sort", "max")


def main() -> None:
    parser = argparse.ArgumentParser(description="Score model folders on held-out questions, in percent.")
    parser.add_argument("folders", type=Path, nargs="+", help="e.g. examples/models/*")
    parser.add_argument("--split", choices=["dev", "test"], default="dev", help="default: dev")
    parser.add_argument("--questions", type=Path, default=Path("examples/questions"), help="where they are")
    arguments = parser.parse_args()

    files = {skill: arguments.questions / f"{skill}.{arguments.split}.jsonl" for skill in SKILLS}
    questions = {skill: load_questions(file) for skill, file in files.items()}
    print("| model | " + " | ".join(SKILLS) + " |\n|---|" + "---|" * len(SKILLS))
    for folder in arguments.folders:
        if folder.is_dir():
            model, tokenizer = load_tiny_llama(folder), load_tokenizer(folder)
            scores = [str(accuracy(model, tokenizer, questions[skill])) for skill in SKILLS]
            print(f"| {folder.name} | " + " | ".join(scores) + " |", flush=True)


if __name__ == "__main__":
    main()
