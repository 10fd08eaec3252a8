"""Every error a user can meet. Each is a letter: where, what was found, what is valid, what to do.

    LaminaError                     the root; catches everything below
    ├── RecipeError                 the request cannot be planned (exit code 2); `.problems` lists all faults
    ├── CheckpointError             an input folder or file is not what its format promises        (2)
    ├── OutputError                 the output folder cannot be used as asked                      (2)
    ├── MemoryBudgetError           the plan does not fit the memory it was given                  (2)
    ├── MissingExtra                an optional part of Lamina is not installed                    (2)
    ├── DeviceError                 a model cannot be run where it was asked to be                 (2)
    ├── LedgerError                 the ledger cannot be opened, or lacks what was asked for       (2)
    ├── TaskError                   a task of an evaluation cannot be asked                        (2)
    ├── FetchFailed                 a model's weights could not be fetched from the Hub            (1)
    ├── PushFailed                  a model could not be sent to the Hub                           (1)
    ├── InputChanged                an input changed or vanished while it was read                 (1)
    ├── UnmergeableTensor           integers that differ between models, directions that cancel    (1)
    ├── NonFiniteResult             NaN or infinity appeared that no input explains                (1)
    ├── OwnMethodFailed             somebody's own merge method raised, or broke a rule            (1)
    ├── TaskFailed                  a task raised while a model was asked it                       (1)
    ├── LawBroken                   a merge method does not keep a law                             (1)
    └── WriteFailed                 the disk refused: full, or an I/O error                        (1)

Exit code 2 means that nothing was read but configs and headers, and nothing was written; 1 that reading
had begun. Either way nothing half-written is visible at the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches

from lamina.wording import counted


class LaminaError(Exception):
    """Root of all errors meant for a user. `code` is stable; `exit_code` is what the command line returns."""

    code = "error"
    exit_code = 1

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All that is wrong, as data."""
        return (Problem(self.code, str(self)),)


@dataclass(frozen=True)
class Change:
    """Lines of a recipe as they would be right: `new` in place of `old`, of which the first is line `line`.

    Without `old` they are put in before `line`.
    """

    line: int
    old: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """One fault of a recipe, with its place. Lines and columns count from 1; 0 means that no line applies.

    `suggestion` is what to write instead, where one thing is likely; `excerpt` is the line of the recipe;
    `changes` are all lines that would mend it.
    """

    code: str
    message: str
    line: int = 0
    column: int = 0
    file: str = ""
    suggestion: str = ""
    excerpt: str = field(default="", repr=False, compare=False)
    changes: tuple[Change, ...] = field(default=(), repr=False, compare=False)

    @property
    def place(self) -> str:
        """`merge.yml:7:9`, or the file alone."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        return f"{self.place}  [{self.code}] {self.message}" if self.place else f"[{self.code}] {self.message}"

    def letter(self, place_width: int = 0) -> str:
        """The problem, and below it the recipe's line with a caret where it lies.

        Then the lines that would mend it: `-` goes out, `+` comes in. Where the latter has the number of the line
        with the caret, it takes its place.
        """
        first, *more = self.message.splitlines()
        lines = [f"{self.place:<{place_width}}  [{self.code}] {first}".strip()]
        if self.excerpt.strip():
            lines += [f"{self.line:>6} | {self.excerpt.rstrip()}".replace("\t", " "), f"{'':>6} | {'^':>{self.column}}"]
        for change in self.changes:
            old, new = change.old, change.new
            if change.line == self.line and not old:
                new = (*new, self.excerpt)  # else it would read as if they took the place of the line above
            elif change.line == self.line and new and old == (self.excerpt,):
                old = ()  # the line with the caret
            lines += [f"{number:>6} - {line}" for number, line in enumerate(old, start=change.line)]
            lines += [f"{number:>6} + {line}" for number, line in enumerate(new, start=change.line)]
        return "\n".join([*lines, *more])

    def as_data(self) -> dict[str, object]:
        """The problem for JSON."""
        return {
            "code": self.code, "message": self.message, "file": self.file, "line": self.line, "column": self.column,
            "suggestion": self.suggestion,
            "changes": [{"line": each.line, "old": list(each.old), "new": list(each.new)} for each in self.changes],
        }  # fmt: skip


class RecipeError(LaminaError):
    """The request cannot be planned. All problems come together, in the order of the file."""

    code = "recipe"
    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._problems = tuple(sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column)))
        width = max((len(problem.place) for problem in self._problems), default=0)
        letters = [problem.letter(width) for problem in self._problems]
        summary = f"{counted(len(self._problems), 'error')}; nothing was read or written."
        super().__init__("\n".join([*letters, "", summary]))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every fault, in the order of the file."""
        return self._problems

    def __reduce__(self) -> tuple[type[RecipeError], tuple[tuple[Problem, ...]]]:
        return type(self), (self._problems,)  # so that it may cross to another process


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


class DeviceError(LaminaError):
    """A model cannot be run where it was asked to be: this machine, or its torch, has no such device."""

    code = "device"
    exit_code = 2


class LedgerError(LaminaError):
    """The ledger's file cannot be used, or has not what was asked of it. Work that is only noted there goes on."""

    code = "ledger"
    exit_code = 2


class TaskError(LaminaError):
    """A task of an evaluation cannot be asked: there is none of that name, or its file or data are at fault."""

    code = "task"
    exit_code = 2


class FetchFailed(LaminaError):
    """A model's weights could not be fetched from the Hub. What has arrived is kept."""

    code = "fetch"


class PushFailed(LaminaError):
    """A model could not be sent to the Hub. What has arrived there is kept."""

    code = "push"


class InputChanged(LaminaError):
    """An input changed or vanished while it was read."""

    code = "input-changed"


class UnmergeableTensor(LaminaError):
    """A tensor that has no merge: integers that should agree differ, or directions cancel."""

    code = "unmergeable"


class NonFiniteResult(LaminaError):
    """NaN or infinity appeared that no input explains."""

    code = "non-finite"


class OwnMethodFailed(LaminaError):
    """Somebody's own merge method raised an error, or returned what is no result. The letter has its file and line."""

    code = "own-method"


class TaskFailed(LaminaError):
    """A task raised an error while a model was asked it, or gave what is no score."""

    code = "task-failed"


class LawBroken(LaminaError):
    """A merge method does not keep one of the laws. The letter says which, and shows a case."""

    code = "law"


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


def nearest(word: str, valid: Sequence[str]) -> str | None:
    """The one of `valid` that `word` is most likely a slip of, None where none is near."""
    cutoff = 0.75 if len(word) <= 4 else 0.8  # a swap in a word of four letters scores 0.75
    return next(iter(get_close_matches(word, valid, n=1, cutoff=cutoff)), None)


def did_you_mean(word: str, valid: Sequence[str]) -> str:
    """` Did you mean `x`?` where one of `valid` is near `word`, else the list of what is valid."""
    near = get_close_matches(word, valid, n=1, cutoff=0.6)
    if near:
        return f" Did you mean `{near[0]}`?"
    return f" Valid here: {', '.join(valid)}."
