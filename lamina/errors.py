"""Every error a user can meet. Each is a letter: where, what was found, what is valid, what to do.

    LaminaError                     the root; catches everything below
    ├── RecipeError                 the request cannot be planned (exit code 2); `.problems` lists all faults
    ├── CheckpointError             an input folder or file is not what its format promises        (2)
    ├── OutputError                 the output folder cannot be used as asked                      (2)
    ├── MemoryBudgetError           the plan does not fit the memory it was given                  (2)
    ├── MissingExtra                an optional part of Lamina is not installed                    (2)
    ├── InputChanged                an input changed or vanished while it was read                 (1)
    ├── UnmergeableTensor           integers that differ between models, directions that cancel    (1)
    ├── NonFiniteResult             NaN or infinity appeared that no input explains                (1)
    └── WriteFailed                 the disk refused: full, or an I/O error                        (1)

Exit code 2 means that nothing was read but configs and headers, and nothing was written; 1 that reading
had begun. Either way nothing half-written is visible at the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches


class LaminaError(Exception):
    """Root of all errors meant for a user. `code` is stable; `exit_code` is what the command line returns."""

    code = "error"
    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One fault of a recipe, with its place. Lines and columns count from 1; 0 means that no line applies."""

    code: str
    message: str
    line: int = 0
    column: int = 0
    file: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}  [{self.code}] {self.message}" if place else f"[{self.code}] {self.message}"


class RecipeError(LaminaError):
    """The request cannot be planned. All problems come together, in the order of the file."""

    code = "recipe"
    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column)))
        count = len(self.problems)
        summary = f"{count} error{'s' if count != 1 else ''}; nothing was read or written."
        super().__init__("\n".join([*map(str, self.problems), "", summary]))


class CheckpointError(LaminaError):
    """An input folder or file is not what its format promises."""

    code = "checkpoint"
    exit_code = 2


class OutputError(LaminaError):
    """The output folder cannot be used as asked."""

    code = "output"
    exit_code = 2


class MemoryBudgetError(LaminaError):
    """The plan does not fit the memory it was given."""

    code = "memory"
    exit_code = 2


class MissingExtra(LaminaError):
    """An optional part of Lamina is not installed."""

    code = "missing-extra"
    exit_code = 2

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"this needs the package `{package}`: pip install 'lamina[{extra}]'")


class InputChanged(LaminaError):
    """An input changed or vanished while it was read."""

    code = "input-changed"


class UnmergeableTensor(LaminaError):
    """A tensor that has no merge: integers that should agree differ, or directions cancel."""

    code = "unmergeable"


class NonFiniteResult(LaminaError):
    """NaN or infinity appeared that no input explains."""

    code = "non-finite"


class WriteFailed(LaminaError):
    """The disk refused: it is full, or reported an I/O error."""

    code = "write"


@contextmanager
def failing_at(what: str) -> Iterator[None]:
    """Say once, where the loop is, what was being made when a letter was written."""
    try:
        yield
    except LaminaError as error:
        error.args = (f"while making {what}: {error}",)
        raise


def did_you_mean(word: str, valid: Sequence[str]) -> str:
    """` Did you mean `x`?` where one of `valid` is near `word`, else the list of what is valid."""
    near = get_close_matches(word, valid, n=1, cutoff=0.6)
    if near:
        return f" Did you mean `{near[0]}`?"
    return f" Valid here: {', '.join(valid)}."
