"""The flags of `mergekit-yaml` that mean nothing here: accepted, and answered in one line.

Those that mean something are flags of `lamina merge` or other names of them. One table; help and docs read it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click

ON_CPU = "Lamina computes on the CPU."


@dataclass(frozen=True)
class IdleFlag:
    """A flag without effect, and the reason. `value` names what it takes, empty for an on/off flag.

    The reason is told where the flag asks for what does not happen: for `off`, where off is what does not.
    """

    name: str
    reason: str
    value: str = ""
    tell_when: bool = True
    has_off: bool = True

    @property
    def declaration(self) -> str:
        """As click has it: `--name/--no-name`."""
        return f"--{self.name}" if self.value or not self.has_off else f"--{self.name}/--no-{self.name}"

    @property
    def variable(self) -> str:
        return self.name.replace("-", "_")

    def answer(self, given: object) -> str:
        """One line for who has given it; empty where what was asked is what happens anyway."""
        if not self.value and given is not self.tell_when:
            return ""
        return f"--{'' if given is not False else 'no-'}{self.name} has no effect: {self.reason}"


IDLE_FLAGS = (
    IdleFlag("cuda", ON_CPU),
    IdleFlag("gpu-rich", ON_CPU, has_off=False),
    IdleFlag("multi-gpu", ON_CPU),
    IdleFlag("read-to-gpu", ON_CPU),
    IdleFlag("low-cpu-memory", "Lamina streams, and --memory bounds what it takes."),
    IdleFlag("lazy-unpickle", "Lamina always reads lazily."),
    IdleFlag("clone-tensors", "no tensor shares memory with another when it is written."),
    IdleFlag("async-write", "every worker writes what it has computed."),
    IdleFlag("write-threads", "every worker writes what it has computed; --workers says how many.", value="N"),
    IdleFlag("safe-serialization", "Lamina writes safetensors, and no pickles.", tell_when=False),
    IdleFlag("trust-remote-code", "Lamina runs no code of a model; such files are copied along."),
    IdleFlag("unsafe-truncate-embeddings", "Lamina merges no rows of unlike vocabularies, and says so."),
    IdleFlag("lora-merge-cache", "Lamina keeps no merged adapter on disk.", value="PATH"),
    IdleFlag("lora-merge-dtype", "Lamina computes in float32, and rounds once.", value="DTYPE"),
)


def idle_flags(command: Callable[..., object]) -> Callable[..., object]:
    """Let a command accept the flags, and answer on stderr those that are given."""

    @functools.wraps(command)
    def answering(*args: Any, **given: Any) -> object:
        values = {flag.variable: given.pop(flag.variable) for flag in IDLE_FLAGS}
        for line in answers(values):
            if not given.get("quiet") and not given.get("as_json"):
                click.echo(line, err=True)
        return command(*args, **given)

    for flag in reversed(IDLE_FLAGS):
        is_flag = not flag.value
        answering = click.option(
            flag.declaration, flag.variable, hidden=True, default=None, is_flag=is_flag, type=bool if is_flag else str
        )(answering)
    return answering


def answers(given: Mapping[str, object]) -> Iterator[str]:
    """What to say to the flags that were given."""
    for flag in IDLE_FLAGS:
        if given[flag.variable] is not None and (line := flag.answer(given[flag.variable])):
            yield line
