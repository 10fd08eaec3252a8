"""What a check finds, how bad it is, and the verdict over all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum


class Level(IntEnum):
    """How bad a finding is, and a verdict: the worst of all findings."""

    HEALTHY = 0
    NEEDS_TRAINING = 1  # as it should be, and not yet of use: seams, or blends of unlike depths
    SUSPICIOUS = 2  # can be loaded and run, and something is so that nobody asked for it
    BROKEN = 3

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")

    @property
    def exit_code(self) -> int:
        """What the command line returns."""
        return {Level.SUSPICIOUS: 3, Level.BROKEN: 4}.get(self, 0)


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be. `code` is stable.

    `layer` of the checked model; `key` is a tensor, a config key or a file; `place` a line of the recipe.
    """

    level: Level
    code: str
    message: str
    layer: int | None = None
    key: str = ""
    place: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a check: what was measured, in a sentence, and what was found.

    `told` is the sentence for a part without findings; `not_run` says why a part was left out, `unasked` where it was
    because nobody asked for it. `by_layer` are figures of layers, where they are what was measured.
    """

    name: str
    told: str = ""
    findings: tuple[Finding, ...] = ()
    not_run: str = ""
    unasked: bool = False
    by_layer: Mapping[int, float] = field(default_factory=dict)

    @property
    def level(self) -> Level:
        return worst(self.findings)

    @property
    def mark(self) -> str:
        """`ok`, `not run`, or the level."""
        if self.not_run:
            return "not run"
        return str(self.level) if self.level else "ok"


@dataclass(frozen=True)
class Report:
    """A whole check. `seconds` of wall time; `peak_memory` of the process, in bytes."""

    model: str
    parents: tuple[str, ...]
    sections: tuple[Section, ...]
    seconds: float = field(compare=False)
    peak_memory: int = field(compare=False)

    @property
    def findings(self) -> Sequence[Finding]:
        return [finding for section in self.sections for finding in section.findings]

    @property
    def verdict(self) -> Level:
        return worst(self.findings)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level; healthy where nothing was found."""
    return max((finding.level for finding in findings), default=Level.HEALTHY)
