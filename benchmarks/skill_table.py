"""Merge the example models by every method, with default and with tuned parameters, and score what comes out.

    python benchmarks/skill_table.py                    # writes docs/skills.md, in some minutes
    python benchmarks/skill_table.py --methods linear   # prints the rows of some methods, writes nothing

Parameters are tuned on the `dev` questions, and what they came to is scored on `test`. Nothing is drawn but by
seed, and nothing depends on the time or the number of processes: each run gives the same page.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lamina
from lamina.chance import difference
from lamina.evaluate.skills import answered, load_questions, load_tokenizer
from lamina.evaluate.tiny_llama import build_tiny_llama
from lamina.merge_methods import METHODS
from lamina.wording import span

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "skills.md"
MODELS = ROOT / "examples" / "models"
SKILLS = ("rev", "sort", "max")
LAYERS = 4
FAMILIES = (("rev", "sort"), ("rev", "sort", "max"))  # the parents; each is named for its skill

Recipe = dict[str, Any]
Answers = Mapping[str, NDArray[np.bool_]]  # by skill: which questions are answered right


@dataclass(frozen=True)
class Candidate:
    """A recipe, and in words what in it is not the method's default."""

    told: str
    recipe: Recipe


@dataclass(frozen=True)
class Row:
    """One merge of one family: what was chosen, out of how many, and its answers to the test questions."""

    method: str
    tuned: bool
    told: str
    tried: int
    test: Answers


# What is tried. The first candidate of a method has its defaults: the same weight for each model where a weight
# is asked for, and the value of `lamina methods` where a parameter has no default.

LAMBDAS = (0.3, 0.5, 0.7, 0.85, 1.0, 1.2)
TWO = tuple((w, 10 - w) for w in (5, 2, 3, 4, 6, 7, 8))
THREE = ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1), (2, 1, 2), (1, 2, 2), (4, 2, 1), (2, 4, 1))
GRIDS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "slerp": {"t": (0.5, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8)},
    "nuslerp": {"nuslerp_flatten": (True, False)},
    "karcher": {"max_iter": (10, 100)},
    "task_arithmetic": {"lambda": (1.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.5)},
    **{
        name: {"density": (1.0, 0.2, 0.5, 0.8), "lambda": (1.0, 0.5, 0.7, 1.3)}
        for name in ("ties", "dare_linear", "dare_ties", "della", "della_linear")
    },
    **{
        name: {"density": (1.0, 0.5, 0.7, 0.9), "lambda": (1.0, 0.5, 0.7, 1.3)}
        for name in ("breadcrumbs", "breadcrumbs_ties")
    },
    "sce": {"select_topk": (1.0, 0.05, 0.1, 0.25, 0.5, 0.75)},
    "ram": {"epsilon": (1e-5, 0.0, 1e-4, 3e-4, 1e-3, 3e-3)},
    "ramplus_tl": {"r": (0.1, 0.5, 1.0), "alpha": (0.2, 1.0), "epsilon": (1e-5, 1e-3)},
    "model_stock": {"filter_wise": (False, True)},
    "nearswap": {"t": (1e-4, 1e-5, 1e-3, 3e-3, 1e-2, 1e-1)},
    "arcee_fusion": {},
}
WEIGHTED = ("linear", "nuslerp", "multislerp")  # means: here the models' weights are tuned too


def candidates(method: str, parents: Sequence[str]) -> list[Candidate]:
    """What is tried of a method for these parents, its defaults first; nothing where it does not take so many."""
    if method == "passthrough":
        return [_stacked(parents, borders) for borders in _borders(len(parents))]
    known, base = METHODS[method], METHODS[method].base
    most = known.inputs[1]
    if most is not None and len(parents) > most + (base == "required" and most == 1):
        return []
    grid = GRIDS.get(method, {})
    weights = [(1,) * len(parents)]
    if method in WEIGHTED:
        weights = list(TWO if len(parents) == 2 else THREE)
    found = []
    for combination in itertools.product(weights, *grid.values()):
        values = dict(zip(grid, combination[1:], strict=True))
        found.append(_merged(method, parents, combination[0], values))
    return found


def _merged(method: str, parents: Sequence[str], weights: Sequence[float], values: Mapping[str, Any]) -> Candidate:
    known = METHODS[method]
    two_of_one = known.inputs == (1, 1) and known.base == "required"  # from the first parent towards the second
    start = parents[0] if two_of_one or known.base == "first" else "base"
    models: list[Recipe] = [{"model": str(MODELS / parent)} for parent in (parents[1:] if two_of_one else parents)]
    told = [f"{name} {_shown(value)}" for name, value in values.items()]
    if "weight" in known.parameters:
        for model, weight in zip(models, weights, strict=True):
            model["parameters"] = {"weight": weight}
        if len(set(weights)) > 1:
            told.insert(0, "weights " + " : ".join(map(str, weights)))
    recipe: Recipe = {"models": models, "merge_method": method, "parameters": dict(values)}
    if known.base in ("first", "required"):
        recipe["base_model"] = str(MODELS / start)
    return Candidate(", ".join(told), recipe)


def _stacked(parents: Sequence[str], borders: Sequence[int]) -> Candidate:
    """The first layers of the first parent, then those of the next."""
    ranges = list(itertools.pairwise((0, *borders, LAYERS)))
    slices = [
        {"sources": [{"model": str(MODELS / parent), "layer_range": list(layers)}]}
        for parent, layers in zip(parents, ranges, strict=True)
    ]
    layers = [f"layer{'s' * (end - start > 1)} {span(start, end - 1)}" for start, end in ranges]
    told = ", ".join(f"{each} of {name}" for each, name in zip(layers, parents, strict=True))
    return Candidate(told, {"slices": slices, "merge_method": "passthrough"})


def _borders(parents: int) -> list[tuple[int, ...]]:
    """Where one parent's layers end and the next one's begin: first in equal shares, as far as they go."""
    equal = tuple(round(LAYERS * part / parents) for part in range(1, parents))
    others = [each for each in itertools.combinations(range(1, LAYERS), parents - 1) if each != equal]
    return [equal, *others]


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


# Scores


def answers(recipe: Recipe, split: str, skills: Sequence[str] = SKILLS) -> Answers:
    """Which questions the merge of a recipe answers right."""
    with lamina.tensors(recipe, workers=1) as tensors:
        weights = {name: tensors[name].astype(np.float32) for name in tensors}
    config = next(json.loads(file.content) for file in tensors.plan.files if file.name == "config.json")
    return _answers(config, weights, split, skills)


def answers_of_model(name: str, split: str) -> Answers:
    """Which questions one of the example models answers right: a merge of it alone."""
    return answers({"models": [{"model": str(MODELS / name)}], "merge_method": "passthrough"}, split)


def _answers(config: Recipe, weights: Mapping[str, Any], split: str, skills: Sequence[str]) -> Answers:
    model = build_tiny_llama(config, weights)
    return {skill: answered(model, _tokenizer(), _questions(skill, split)) for skill in skills}


@cache
def _tokenizer() -> Any:
    return load_tokenizer(MODELS / "base")


@cache
def _questions(skill: str, split: str) -> Any:
    return load_questions(ROOT / "examples" / "questions" / f"{skill}.{split}.jsonl")


def mean_score(found: Answers, skills: Sequence[str]) -> float:
    """The mean accuracy over skills."""
    return float(np.mean([found[skill].mean() for skill in skills]))


def rows_of(method: str, parents: Sequence[str], each: Callable[..., Any] = map) -> list[Row]:
    """A method's rows for these parents: with its defaults, and as tuned on `dev` where anything is to be tuned."""
    tried = candidates(method, parents)
    if not tried:
        return []
    rows = [Row(method, False, tried[0].told if method == "passthrough" else "", 1, answers(tried[0].recipe, "test"))]
    if len(tried) > 1:
        dev = list(each(partial(answers, split="dev", skills=tuple(parents)), [each.recipe for each in tried]))
        scores = [mean_score(found, parents) for found in dev]
        best = tried[scores.index(max(scores))]  # of equals the first
        rows.append(Row(method, True, best.told or "as by default", len(tried), answers(best.recipe, "test")))
    return rows


# The page


def table(parents: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """The rows of a family, its parents and the base above them."""
    dev = {name: mean_score(answers_of_model(name, "dev"), parents) for name in parents}
    best = max(parents, key=lambda name: dev[name])
    alone = {name: answers_of_model(name, "test") for name in ("base", *parents)}
    yield "| merge | parameters | " + " | ".join(SKILLS) + f" | mean | over base | over {best} |"
    yield "|---|---|" + "---:|" * (len(SKILLS) + 3)
    for name, found in alone.items():
        what = "the base of all" if name == "base" else f"parent{', the best on dev' if name == best else ''}"
        yield _line(f"*{name}*", f"*{what}*", found, parents, alone["base"], alone[best])
    for row in rows:
        told = f"tuned ({row.tried}): {row.told}" if row.tuned else row.told or "default"
        yield _line(row.method, told, row.test, parents, alone["base"], alone[best])


def _line(name: str, told: str, found: Answers, parents: Sequence[str], base: Answers, best: Answers) -> str:
    cells = [name, told, *(f"{100 * found[skill].mean():.1f}" for skill in SKILLS)]
    cells.append(f"{100 * mean_score(found, parents):.1f}")
    for other in (base, best):
        same = found is other
        cells.append("" if same else str(difference([found[s] for s in parents], [other[s] for s in parents])))
    return f"| {' | '.join(cells)} |"


def page(processes: int) -> str:
    """The whole page."""
    parts, compared = [INTRODUCTION], 0
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for parents in FAMILIES:
            parts.append(f"## {', '.join(parents[:-1])} and {parents[-1]}\n")
            rows = [row for method in METHODS for row in rows_of(method, parents, pool.map)]
            compared += len(rows)
            parts.append("\n".join(table(parents, rows)) + "\n")
            left_out = [method for method in METHODS if not candidates(method, parents)]
            if left_out:
                parts.append(f"Not here, as they take two models: {', '.join(left_out)}.\n")
    by_chance = f"Of {compared} rows compared with a parent at 95%, {round(compared / 20)} would seem to differ"
    return "\n".join([*parts, WHAT_IT_DOES_NOT_SHOW.format(by_chance=by_chance)])


INTRODUCTION = """\
# Skills of merges

The example models (`examples/models`) merged by every method, and what is left of their parents' skills. Written by
`make skills` (`python benchmarks/skill_table.py`), which gives the same page on each run.

Scores are percent of 400 `test` questions a skill answered exactly. *mean* is over the skills of the parents. The
last two columns are differences of that mean from the base and from the best parent, with a 95% interval of the
differences question by question. Which parent is best was decided on `dev`.

*default*: every model at weight 1, every parameter at its default; `t` of slerp 0.5, of nearswap 0.0001. slerp,
nearswap and arcee_fusion go from the first parent to the second. *tuned (n)*: the best mean on `dev` of n settings,
of which the first is the default; the grids stand in `benchmarks/skill_table.py`.
"""

WHAT_IT_DOES_NOT_SHOW = """\
## What it does not show

- **Which method is best.** The models are tiny (four layers, 0.56M parameters), of one base and one corpus, and their
  training recipe was chosen because merging shows well with it. Another seed of the training moves a model's
  scores on the skills that are not its own by up to nine points: more than most differences between rows.
- **Chance.** An interval speaks of other questions of the same kind, not of other models. `dare`, `della` and what
  else draws is shown for one seed.
- **Many comparisons.** {by_chance} if none did. The best row
  of a table is too good: it was looked for. A tuned row is free of that as far as its own parameters go, as they were
  chosen on other questions; the choice among methods is not.
- **Equal effort.** Methods have grids of unequal size, and some have nothing to tune.
- **What thinning out does.** `density` is 1 by default, and often best here: then dare, della and breadcrumbs drop
  next to nothing, and give what task_arithmetic and ties give.
- **`max`.** It is hardly learnt: guessing one of the two numbers gives 50%. It stands here as a third parent that
  brings little, which is what third parents often do.
- **What else a model can do.** Language, other skills and the depth of large models are not looked at.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Score merges of the example models by every method.")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="print the rows of these, write nothing")
    parser.add_argument("--out", type=Path, default=PAGE, help="default: docs/skills.md")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count(), help="default: all cores")
    arguments = parser.parse_args()
    if arguments.methods:
        for parents in FAMILIES:
            rows = [row for method in arguments.methods for row in rows_of(method, parents)]
            print("\n".join(table(parents, rows)), end="\n\n")
        return
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # of the processes: one core each
    arguments.out.write_text(page(arguments.processes), encoding="utf-8")


if __name__ == "__main__":
    main()
