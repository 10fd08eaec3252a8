"""Move the layers of every causal-LM class of the installed transformers, and hold the result against the class itself.

python tools/sweep_architectures.py [TYPE ...]      without types: all of them

It writes docs/architectures.md; where types are named, their rows of it.
Each type runs in a process of its own, so that a crash is one row of the table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import transformers
from compare import Difference, NoReference, Source, check_move, check_self_merge, open_source, told
from refusals import needless
from shrink import causal_types, tiny_model

from lamina.errors import LaminaError

PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"
TIME_LIMIT = 300  # seconds for one type
PROCESSES = 2

WORKS, REFUSED, NEEDLESS, WRONG, UNPROVEN = "works", "refused", "refused without need", "WRONG", "not proven"


def up_scaled(depth: int) -> list[int]:
    """All layers but the last, then all but the first: depth up-scaling at its largest overlap."""
    return [*range(depth - 1), *range(1, depth)]


def shuffled(depth: int) -> list[int]:
    """Repeats the first, drops some, and puts the last before all others."""
    return [depth - 1, 0, 0, depth // 2, 1, depth - 2, depth // 2]


MAPS: Mapping[str, Callable[[int], list[int]]] = {"up-scaled": up_scaled, "shuffled": shuffled}
MADE = len(MAPS) + 2  # cells of a line of which there is a tiny instance


@dataclass(frozen=True)
class Outcome:
    """What became of one layer map, and what there is to say of it."""

    verdict: str
    remark: str = ""


@dataclass(frozen=True)
class Row:
    """What became of one model type. `not_made` is why there is no tiny instance, "" where there is one."""

    model_type: str
    not_made: str = ""
    maps: Mapping[str, Outcome] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("types", nargs="*", metavar="TYPE")
    types = parser.parse_args().types
    rows = []
    for row in swept(types or causal_types()):
        rows.append(row)
        print(_as_text(row), flush=True)
    lines = {row.model_type: _line(row) for row in rows}
    if types:
        lines = read_lines(PAGE.read_text(encoding="utf-8")) | lines
    print(summary(lines.values()))
    PAGE.write_text(page(lines), encoding="utf-8")
    return int(any(outcome.verdict == WRONG for row in rows for outcome in row.maps.values()))


def examine(model_type: str, folder: Path) -> Row:
    """Make, save, merge and compare one type, in `folder`."""
    try:
        source = open_source(tiny_model(model_type), folder / "source")
    except Exception as error:  # whatever a class raises at these sizes is the reason why it is not here
        return Row(model_type, not_made=told(error))
    whole = _tried(source, range(source.depth), lambda: check_self_merge(source, folder / "whole"))
    if whole.verdict != WORKS:
        return Row(model_type, maps=dict.fromkeys(MAPS, whole))
    orders = {name: order(source.depth) for name, order in MAPS.items()}
    return Row(
        model_type,
        maps={
            name: _tried(source, order, partial(check_move, source, order, folder / name))
            for name, order in orders.items()
        },
    )


def _tried(source: Source, order: Sequence[int], check: Callable[[], str]) -> Outcome:
    """Run a check; a refusal by Lamina is looked into."""
    try:
        try:
            return Outcome(WORKS, check())
        except LaminaError as error:
            letter = " ".join(problem.message for problem in error.problems)
            letter = letter.replace(f"`{source.folder}`", "the model").replace(f"{source.folder}: ", "")
            way = needless(source, order, letter)
            return Outcome(NEEDLESS, f"{letter} But {way}") if way else Outcome(REFUSED, letter)
    except NoReference as error:
        return Outcome(UNPROVEN, str(error))
    except Difference as error:
        return Outcome(WRONG, str(error))
    except Exception as error:  # of Lamina or of the class: a merge that does not load is wrong
        return Outcome(WRONG, told(error))


def swept(types: Sequence[str]) -> Iterator[Row]:
    """A row for each type, as they are finished; PROCESSES at a time."""
    _set_up()
    tiny_model("llama")  # imports what all classes share, once for all processes
    waiting, running = list(types), dict[BaseProcess, _Run]()
    while waiting or running:
        while waiting and len(running) < PROCESSES:
            run = _Run(waiting.pop(0))
            running[run.process] = run
        wait([process.sentinel for process in running], timeout=1)
        for process, run in list(running.items()):
            if (row := run.row()) is not None:
                del running[process]
                yield row


class _Run:
    """One type in a process of its own."""

    def __init__(self, model_type: str) -> None:
        self._type, self._started = model_type, time.monotonic()
        self._receiver, sender = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")  # so that transformers is imported once
        self.process: BaseProcess = context.Process(target=_work, args=(model_type, sender))
        self.process.start()
        sender.close()

    def row(self) -> Row | None:
        """The row, once there is one."""
        if self.process.is_alive():
            if time.monotonic() - self._started < TIME_LIMIT:
                return None
            self.process.kill()
        self.process.join()
        try:
            return self._receiver.recv()  # type: ignore[no-any-return]
        except EOFError:
            verdict = Outcome(WRONG, f"the process ended with {self.process.exitcode} after at most {TIME_LIMIT} s")
            return Row(self._type, maps=dict.fromkeys(MAPS, verdict))


def _work(model_type: str, sender: Connection) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sender.send(examine(model_type, Path(folder)))


def _set_up() -> None:
    torch.set_num_threads(1)  # sums in one order
    logging: Any = transformers.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")


def summary(lines: Iterable[str]) -> str:
    """Counts by map, one line each."""
    cells = [line.split(" | ") for line in lines]
    made = [row for row in cells if len(row) == MADE]
    told = [f"{len(cells)} types: {len(made)} made small, {len(cells) - len(made)} not."]
    for column, name in enumerate(MAPS, start=1):
        counts = Counter(row[column] for row in made)
        told.append(
            f"{name}: {', '.join(f'{counts[each]} {each}' for each in (WORKS, REFUSED, NEEDLESS, UNPROVEN, WRONG))}."
        )
    return "\n".join(told)


def page(lines: Mapping[str, str]) -> str:
    """The page of these lines by type."""
    ordered = [lines[name] for name in sorted(lines)]
    return PAGE_TEXT.format(
        version=transformers.__version__,
        counts="\n".join(f"- {line}" for line in summary(ordered).splitlines()),
        table="\n".join(line for line in ordered if len(line.split(" | ")) == MADE),
        reasons="\n".join(line for line in ordered if len(line.split(" | ")) != MADE),
    )


def read_lines(text: str) -> dict[str, str]:
    """The lines of a page by type."""
    found = (line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| type |"))
    return {line.split(" | ")[0].removeprefix("| "): line for line in found}


PAGE_TEXT = """\
# Architectures

Made by `make architectures` with transformers {version}: every class that it loads as a causal language model.

{counts}

Of each class a tiny random model with all its kinds of layers is saved, and its layers are merged in two orders:
*up-scaled*, `[0, n-1] + [1, n]`, and *shuffled*, `[n-1, 0, 0, n/2, 1, n-2, n/2]`.

- **works**: the model taken whole is the same file again, every tensor's bits and config.json. With the layers moved,
  transformers loads the merge with no tensor missing, left over or newly made, and its logits in fp32 equal, to the
  bit, those of the original whose modules were moved in memory: without a cache, and with one (half a prompt of three
  sliding windows, then token by token). Cached and uncached logits agree within 1e-4 but where a remark says that those
  of the class itself do not. A number by which a moved module finds what is its own in a cache is that of its new
  place; one that changes a logit stays what it was. Where layers are given nothing of one another or of the tokens but
  a hidden state, the logits are also, within 1e-4, those of the original with nothing moved and its layers run in that
  order.
- **refused**: before a byte is read, with the reason shown. It was looked for a config that says what the moved layers
  are: lists by layer reordered, lists of layer numbers renumbered, and each whole number that the reason names, alone
  and with another one that speaks of layers, set to every value up to the new depth. With none of them the class builds
  the moved layers and computes their logits.
- **refused without need**: there is such a config.
- **not proven**: merged, and the class's modules cannot be moved in memory to compare with.
- **WRONG**: merged, and anything above is not so.

| type | up-scaled | shuffled | remarks |
|---|---|---|---|
{table}

## Not made small

| type | why |
|---|---|
{reasons}
"""


def _line(row: Row) -> str:
    if row.not_made:
        return f"| {row.model_type} | {_cell(row.not_made)} |"
    remarks: dict[str, list[str]] = {}
    for name, found in row.maps.items():
        if found.remark:
            remarks.setdefault(found.remark, []).append(name)
    several = len({found.remark for found in row.maps.values()}) > 1
    told = " ".join(f"{' and '.join(names)}: {text}" if several else text for text, names in remarks.items())
    verdicts = " | ".join(row.maps[name].verdict for name in MAPS)
    return f"| {row.model_type} | {verdicts} | {_cell(told)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _as_text(row: Row) -> str:
    if row.not_made:
        return f"{row.model_type}: not made: {row.not_made}"
    return f"{row.model_type}: " + "; ".join(
        f"{name} {found.verdict}{': ' if found.remark else ''}{found.remark}" for name, found in row.maps.items()
    )


if __name__ == "__main__":
    sys.exit(main())
