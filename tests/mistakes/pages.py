"""The mistakes: the Markdown pages beside this file, read as data, and the models that their recipes name.

A mistake is a heading, optionally flags in backquotes (or `needs METHOD`), a recipe, and a list, one line a problem:
`line:column code suggestion` (0:0 where no line applies; no suggestion where there is none to make).

    python -m tests.mistakes.pages                   prints every recipe and the letters it gets
    python -m tests.mistakes.pages OUTDIR            writes them, a folder each, for someone who has only the letters
    python -m tests.mistakes.pages OUTDIR --check    plans what they made of it, and tells what is still refused

In OUTDIR lie the models that the recipes name, and in OUTDIR/017 a recipe, the `flags` that it is planned with and
its `letters.txt`. Whoever mends `recipe.yml` or `flags` there may know no more than these.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

import lamina
from lamina.errors import Problem, RecipeError
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
    return refusal(path, mistake.flags)


def refusal(path: Path, flags: Sequence[str]) -> RecipeError | None:
    """What stands in the way of planning a recipe's file with flags; None where nothing does."""
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


def mended(recipe: str, flags: Sequence[str], problem: Problem) -> list[tuple[str, tuple[str, ...]]]:
    """What a reader of one printed letter would write: the recipe and flags after each way out that it shows.

    A line with `-` goes out, one with `+` comes in, in place of the line with the caret where it has its number.
    A whole form takes the place of what it is another form of. In a flag the likely word takes that of the wrong one.
    """
    letter = problem.letter()
    if problem.file.startswith("--set"):
        if "Left out" in letter:
            place = flags.index(problem.file.removeprefix("--set "))
            return [(recipe, (*flags[: place - 1], *flags[place + 1 :]))]
        hint = re.search(r"`(.+?)`.* Did you mean `(.+?)`", letter)
        if problem.code == "wrong-value":
            hint = re.search(r"cannot be `(.+?)`.* Did you mean `(.+?)`", letter)
        if hint is None:
            return []
        return [(recipe, tuple(flag.replace(hint[1], hint[2]) for flag in flags))]
    forms = re.findall(r"^ {6}((?:slices|stack):\n(?: {6}.*\n)+)", f"{letter}\n", re.MULTILINE)
    if forms:
        rest = re.sub(r"^slices:\n(?:[ -].*\n)+", "", recipe, flags=re.MULTILINE)
        return [(rest + re.sub(r"^ {6}", "", form, flags=re.MULTILINE), tuple(flags)) for form in forms]
    lines = recipe.splitlines()
    marked = [(int(number), sign, line) for number, sign, line in re.findall(r"^ *(\d+) ([-+|]) (.*)$", letter, re.M)]
    shown = next((number for number, sign, _ in marked if sign == "|"), 0)
    gone = {number for number, sign, _ in marked if sign == "-"}
    added: dict[int, list[str]] = {}
    for before, (number, sign, line) in pairwise([(0, "", ""), *marked]):
        if sign == "+":
            first = number if before[1] != "+" or before[0] + 1 != number else max(added)
            added.setdefault(first, []).append(line)
            gone |= {shown} & {first}
    if not added and not gone:
        return []
    written: list[str] = []
    for number in range(1, len(lines) + 2):
        written += added.get(number, [])
        written += [lines[number - 1]] if number <= len(lines) and number not in gone else []
    return [("\n".join(written) + "\n", tuple(flags))]


def write_pages(folder: Path) -> None:
    """Every mistake as somebody meets it."""
    write_models(folder)
    for number, mistake in enumerate(mistakes(), start=1):
        place = folder / f"{number:03}"
        place.mkdir()
        (place / "recipe.yml").write_text(mistake.recipe)
        (place / "flags").write_text(f"{shlex.join(_given(mistake))}\n")
        error = letters(mistake, folder)
        text = "nothing stands in the way." if error is None else str(error)
        (place / "letters.txt").write_text(text.replace(f"{folder}/", "") + "\n")


def check_pages(folder: Path) -> None:
    """Tell of every recipe that is still refused."""
    places = sorted(path.parent for path in folder.glob("*/letters.txt"))
    refused = 0
    for place in places:
        beside = folder / "recipe.yml"  # where the models lie
        beside.write_text((place / "recipe.yml").read_text())
        if (error := refusal(beside, shlex.split((place / "flags").read_text()))) is not None:
            refused += 1
            print(f"{place.name}\n{error}\n")
    print(f"{len(places) - refused} of {len(places)} are planned")


def _given(mistake: Mistake) -> tuple[str, ...]:
    return () if mistake.flags[:1] == ("needs",) else mistake.flags


def main(words: Sequence[str]) -> None:
    """Print the mistakes with their letters, or write them into a folder, or check what was made of them there."""
    if words:
        (check_pages if "--check" in words else write_pages)(Path(words[0]).resolve())
        return
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder))
        for number, mistake in enumerate(mistakes(), start=1):
            error = letters(mistake, Path(folder))
            text = "nothing stands in the way." if error is None else str(error)
            print(f"{number}. {mistake.title}  {' '.join(mistake.flags)}\n\n{mistake.recipe}")
            print(text.replace(folder + "/", ""))
            print(*("- {}:{} {} {}".format(*problem).rstrip() for problem in told(error)), sep="\n", end="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
