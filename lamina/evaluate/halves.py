"""The items of a task in two halves: `dev`, on which something is chosen, and `test`, which tells what that is worth.

Which half an item is in follows from its content alone: not from its place, as files in which kinds of questions
alternate are many, and not from the other items, so that none changes sides when lines are added or some are asked.
Knows of the harness's tasks only how they are called.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import xxhash

from lamina.errors import TaskError

Split = Literal["dev", "test"]

FEWEST_ITEMS = 2  # of a half: of one item nothing can be said


def split_of(content: str) -> Split:
    """The half that an item is in."""
    return "dev" if xxhash.xxh3_64_intdigest(content.encode()) % 2 == 0 else "test"


def check_enough(task: str, items: int, split: Split) -> None:
    """Raises TaskError where a half has too few items."""
    if items < FEWEST_ITEMS:
        raise TaskError(
            f"`{task}` has {items} items in its half `{split}`, and to choose by takes {FEWEST_ITEMS} or more in each: "
            "give it more items."
        )


@contextlib.contextmanager
def asking_half(tasks: Mapping[str, Any], split: Split, limit: int | None) -> Iterator[dict[str, list[int]]]:
    """Within this, tasks of the harness ask one half of their items; gives the places of these, by task.

    `limit` is of the half's items. Raises TaskError where a task has too few of them.
    """
    chosen = {name: _places(task, split)[:limit] for name, task in tasks.items()}
    for name, places in chosen.items():
        check_enough(name, len(places), split)
        # On the instance, in front of its class's own, until the end of the `with`.
        tasks[name].build_all_requests = partial(_build, tasks[name].build_all_requests, tasks[name], places)
    try:
        yield chosen
    finally:
        for task in tasks.values():
            del task.build_all_requests


def _places(task: Any, split: Split) -> list[int]:
    contents = (json.dumps(item, sort_keys=True, default=lambda each: type(each).__name__) for item in task.eval_docs)
    return [place for place, content in enumerate(contents) if split_of(content) == split]


def _build(build: Any, task: Any, places: list[int], **how: Any) -> None:
    """What a task asks of the items at these places, as it asks it among all.

    All are built, for the examples that stand before an item are drawn one item after the other.
    """
    build(**{**how, "samples": None, "limit": places[-1] + 1})
    number = {place: number for number, place in enumerate(places)}
    kept = [each for each in task.instances if each.doc_id in number]
    for each in kept:
        each.doc_id = number[each.doc_id]  # as the harness counts the items of a choice
    task.instances[:] = kept
