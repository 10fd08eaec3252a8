"""The mistakes: the Markdown pages beside this file, read as data, and the models that their recipes name.

A mistake is a heading, optionally flags in backquotes (or `needs METHOD`), a recipe, and a list, one line a problem:
`line:column code suggestion` (0:0 where no line applies; no suggestion where there is none to make).

    python -m tests.mistakes.pages [WORD]    prints every recipe, or those with WORD, and the letters it gets
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import lamina
from lamina.errors import RecipeError
from lamina.recipe.load import Border
from tests.acceptance.checkpoints import llama_config, llama_shapes, random_tensor, write_checkpoint, write_llama

PAGES = Path(__file__).resolve().parent
EXPECTED = re.compile(r"^- (\d+):(\d+) (\S+) ?(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Mistake:
    """One recipe with what is wrong in it: (line, column, code, suggestion) of each problem, in file order."""

    title: str
    flags: tuple[str, ...]
    recipe: str
    expected: tuple[tuple[int, int, str, str], ...]


def mistakes() -> Iterator[Mistake]:
    """Every mistake of every page."""
    for page in sorted(PAGES.glob("*.md")):
        for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
            title, _, rest = section.partition("\n")
            before, recipe, after = re.split(r"^```(?:yaml)?\n", rest, flags=re.MULTILINE)
            found = [(int(line), int(column), code, hint) for line, column, code, hint in EXPECTED.findall(after)]
            yield Mistake(title, tuple(shlex.split(before.strip().strip("`"))), recipe, tuple(found))


def write_models(folder: Path) -> None:
    """a, b, c: alike, of four layers; eight: of eight. The others fit to none of them, or are no models."""
    for name in ("a", "b", "c"):
        write_llama(folder / name, 4)
    write_llama(folder / "eight", 8)
    write_llama(folder / "gelu", 4, config={"hidden_act": "gelu"})
    write_llama(folder / "heads", 4, config={"num_attention_heads": 4, "head_dim": 2, "num_key_value_heads": 2})
    write_llama(folder / "words", 4, vocabulary=32)
    bias = {f"model.layers.{layer}.self_attn.q_proj.bias": torch.ones(8, dtype=torch.bfloat16) for layer in range(4)}
    write_llama(folder / "biased", 4, extra=bias)
    shapes = llama_shapes(4, tied=False, hidden=16)
    config = llama_config(4, torch.bfloat16, tied=False) | {"hidden_size": 16, "head_dim": 8}
    wide = {name: random_tensor("wide", name, shape, torch.bfloat16) for name, shape in shapes}
    write_checkpoint(folder / "wide", wide, config)
    (folder / "empty").mkdir()
    (folder / "pickled").mkdir()
    (folder / "pickled" / "pytorch_model.bin").write_bytes(b"PK")
    (folder / "pickled" / "config.json").write_text("{}")


def letters(mistake: Mistake, world: Path) -> RecipeError | None:
    """All that is told of a mistake, planned beside the models; None where nothing stands in the way of the merge."""
    path = world / "recipe.yml"
    path.write_text(mistake.recipe)
    flags = mistake.flags
    border: Border = "strict" if "--strict" in flags else "lenient" if "--lenient" in flags else "normal"
    changes = [flags[place + 1] for place, flag in enumerate(flags) if flag == "--set"]
    try:
        lamina.plan(path, border=border, set_values=changes, offline=True)
    except RecipeError as error:
        return error
    return None


def told(error: RecipeError | None) -> tuple[tuple[int, int, str, str], ...]:
    """A letter as the pages have it."""
    problems = () if error is None else error.problems
    return tuple((problem.line, problem.column, problem.code, problem.suggestion) for problem in problems)


def main(words: Sequence[str]) -> None:
    """Print the mistakes whose title or recipe holds one of the words, with their letters."""
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder))
        for number, mistake in enumerate(mistakes(), start=1):
            if not words or any(word in f"{mistake.title}\n{mistake.recipe}" for word in words):
                error = letters(mistake, Path(folder))
                text = "nothing stands in the way." if error is None else str(error)
                print(f"{number}. {mistake.title}  {' '.join(mistake.flags)}\n\n{mistake.recipe}")
                print(text.replace(folder + "/", ""))
                print(*("- {}:{} {} {}".format(*problem).rstrip() for problem in told(error)), sep="\n", end="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
