"""The report of a run, as Markdown: what was drawn, what agreed, how near, and by whose error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import yaml

from conformance.compare import TOLERANCE, Errors
from conformance.methods import DETERMINISTIC, RANDOM
from conformance.models import BF16, F32
from conformance.study import Compared, describe, failures, touched

MEAN_ROUNDING = 1e-6  # relative: what remains of a mean when nearly all elements round alike


def report(seed: int, found: Sequence[Compared]) -> str:
    """The whole page."""
    plain = len(found) - touched(found)
    failed = failures(found)
    lines = [
        "# Conformance with MergeKit 0.1.5",
        "",
        f"Written by `python -m conformance --recipes {len(found)} --seed {seed}`; the rules are in "
        "`conformance/compare.py`.",
        "",
        f"- recipes: {len(found)}, of which {plain} ({plain / len(found):.1%}) touch no row of docs/mergekit.md",
        f"- differences that no row explains: {len(failed)}",
        f"- mean error above MergeKit's: {', '.join(above(found)) or 'of no method'}",
        "",
        "## Methods",
        "",
        "Recipes that touch no row. `worst` is the largest difference from MergeKit, as a share of its tensor's "
        f"largest magnitude (bound: {TOLERANCE:g}; of bfloat16 what exceeds one step). `aside` are elements among "
        "equals, where the formula leaves a choice, and how many of them differ; `by number` are tensors whose changed "
        "elements were then compared by number and magnitude.",
        "",
        *_table(
            ["method", "recipes", "slices", "gradients", "filters", "worst", "aside", "differ", "by number"],
            [_method_row(name, [each for each in found if each.drawn.method == name]) for name in DETERMINISTIC],
        ),
        "",
        "## Methods that draw",
        "",
        "MergeKit's result under one seed against Lamina's under 16, by the statistics of "
        "`conformance/distribution.py`.",
        "",
        *_table(
            ["method", "recipes", "among Lamina's"],
            [
                [name, len(of), sum(each.verdict is not None and each.verdict.equal for each in of)]
                for name in RANDOM
                for of in [[each for each in found if each.drawn.method == name and each.drawn.rows == (15,)]]
            ],
        ),
        "",
        "## Rows of docs/mergekit.md",
        "",
        "What a recipe touches is told from the recipe, before it is carried out.",
        "",
        *_table(["row", "recipes", "MergeKit 0.1.5", "Lamina"], list(_rows(found))),
        "",
        "## Mean error",
        "",
        "Mean distance from the formula in float64, as a share of a tensor's largest magnitude, in units of 1e-9; "
        "recipes that touch no row, elements among equals left out. One rounding to bfloat16 dwarfs all else.",
        "",
        *_table(
            ["method", "float32: elements", "Lamina", "MergeKit", "ratio", "bfloat16: elements", "Lamina", "MergeKit",
             "ratio"],
            [_error_row(name, found) for name in DETERMINISTIC],
        ),
        "",
        *_failures(failed),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def errors(found: Iterable[Compared], method: str, dtype: str) -> Errors:
    """The errors of both programs over all recipes of a method."""
    total = Errors()
    for each in found:
        if each.drawn.method == method and each.verdict is not None and each.verdict.errors:
            total += each.verdict.errors.get(dtype, Errors())
    return total


def above(found: Sequence[Compared]) -> list[str]:
    """The methods and dtypes in which Lamina's mean error is above MergeKit's."""
    return [
        f"{method} in {dtype}"
        for method in DETERMINISTIC
        for dtype in (F32, BF16)
        for total in [errors(found, method, dtype)]
        if total.ours > total.theirs * (1 + MEAN_ROUNDING)
    ]


def _method_row(name: str, found: Sequence[Compared]) -> list[object]:
    plain = [each for each in found if not each.drawn.rows]
    verdicts = [each.verdict for each in plain if each.verdict is not None]
    texts = [str(each.drawn.recipe) for each in plain]
    return [
        name,
        len(plain),
        sum("'slices'" in text for text in texts),
        sum(_has_gradient(each.drawn.recipe) for each in plain),
        sum("'filter'" in text for text in texts),
        f"{max((verdict.worst for verdict in verdicts), default=0):.1e}",
        sum(verdict.aside for verdict in verdicts),
        sum(verdict.differing for verdict in verdicts),
        sum(verdict.matched for verdict in verdicts),
    ]


def _has_gradient(value: object) -> bool:
    if isinstance(value, dict):
        return any(_has_gradient(each) for key, each in value.items() if key != "layer_range")
    if isinstance(value, list):
        numbers = all(isinstance(each, float | bool) for each in value)
        return (numbers and len(value) > 1) or any(_has_gradient(each) for each in value)
    return False


def _rows(found: Sequence[Compared]) -> Iterable[list[object]]:
    for row in range(1, 16):
        touching = [each for each in found if row in each.drawn.rows]
        theirs = Counter(each.met[0] for each in touching if each.met is not None)
        ours = Counter(each.met[1] for each in touching if each.met is not None)
        yield [row, len(touching), _counted(theirs), _counted(ours)]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{what}: {count}" for what, count in counts.most_common())


def _error_row(name: str, found: Sequence[Compared]) -> list[object]:
    row: list[object] = [name]
    for dtype in (F32, BF16):
        total = errors(found, name, dtype)
        mean = [each / max(1, total.count) * 1e9 for each in (total.ours, total.theirs)]
        ratio = f"{total.ours / total.theirs:.6f}" if total.theirs else "both exact" if not total.ours else "above"
        row += [f"{total.count:,}", *(f"{each:,.4f}" if dtype == F32 else f"{each:,.0f}" for each in mean), ratio]
    return row


def _failures(failed: Sequence[Compared]) -> list[str]:
    if not failed:
        return []
    lines = ["## Differences", ""]
    for each in failed:
        smallest = yaml.safe_dump(each.smallest or each.drawn.recipe, sort_keys=False, default_flow_style=None)
        lines += [f"Recipe {each.drawn.number}: {describe(each)}", "", "```yaml", smallest.rstrip(), "```", ""]
    return lines


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]
