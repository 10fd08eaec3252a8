"""Which rows of the ledger a user asks for: --kind, --verdict, --text, --since."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from lamina.check.findings import Level
from lamina.cli.ledger_options import Command
from lamina.errors import did_you_mean
from lamina.ledger.runs import KINDS, Run

VERDICTS = tuple(map(str, Level))
SPANS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True)
class Wanted:
    """What a row has to be; None where that is open."""

    kind: str | None
    verdict: str | None
    text: str | None
    since: datetime | None

    def among(self, runs: Sequence[Run]) -> list[Run]:
        return [run for run in runs if self._is(run)]

    def _is(self, run: Run) -> bool:
        return (
            self.kind in (None, run.kind)
            and self.verdict in (None, run.verdict)
            and (self.since is None or run.at >= self.since)
            and (self.text is None or self.text.casefold() in _words(run).casefold())
        )


def _words(run: Run) -> str:
    """What a text is looked for in."""
    parents = (f"{parent.name} {parent.revision or ''}" for parent in run.parents)
    return "\n".join([run.name, run.recipe, *parents, run.output])


class _Moment(click.ParamType[datetime]):
    """A time: `2d` (ago), or `2026-01-31`."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if found := re.fullmatch(r"(\d{1,5})([hdw])", str(value)):
            return datetime.now(UTC) - int(found[1]) * SPANS[found[2]]
        try:
            return datetime.fromisoformat(str(value)).astimezone()
        except ValueError:
            self.fail(f"`{value}` is no time; write `3h`, `2d`, `1w` (ago) or `2026-01-31`.", param, ctx)


class _OneOf(click.ParamType[str]):
    """One of several words; another is refused with the one that is near it."""

    def __init__(self, name: str, words: Sequence[str]) -> None:
        self.name, self._words = name, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self._words:
            return str(value)
        return self.fail(f"`{value}` is no {self.name}.{did_you_mean(str(value), self._words)}", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002 (of click)
        return f"[{'|'.join(self._words)}]"


_OPTIONS: Sequence[Callable[[Command], Command]] = (
    click.option("--kind", type=_OneOf("kind", KINDS), help="Only these."),
    click.option("--verdict", type=_OneOf("verdict", VERDICTS), help="Only checks with this verdict."),
    click.option("--text", metavar="TEXT", help="Only those with it in name, recipe, parents or output."),
    click.option("--since", type=_Moment(), help="Only since then: 3h, 2d, 1w (ago) or 2026-01-31."),
)


def wanted_options(command: Command) -> Command:
    """Give a command the flags; it is called with `wanted`."""

    @functools.wraps(command)
    def with_options(
        *args: Any, kind: str | None, verdict: str | None, text: str | None, since: datetime | None, **others: Any
    ) -> object:
        return command(*args, wanted=Wanted(kind, verdict, text, since), **others)

    decorated: Command = with_options
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
