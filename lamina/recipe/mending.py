"""What would mend a recipe, and how its lines read then: a letter shows the very text to write.

Whoever finds a fault says in steps what to do about it (`recipe.steps`). Here the steps become lines of
the user's own text, which keeps its comments, quotes and style. Nothing is ever changed in a file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import yaml

from lamina.errors import Change
from lamina.recipe.steps import END, Move, Put, Remove, Rename, Rewrite, Step
from lamina.recipe.ways import Way
from lamina.recipe.yaml_nodes import (
    NoPlace,
    content_of,
    end_of,
    is_inline,
    line_end,
    node_at,
    pair_at,
    root_of,
    value_end,
)
from lamina.recipe.yaml_text import WIDTH, Verbatim, flow, lines_of, pair_of

MOST_READ_AGAIN = 10_000  # characters of a text that is read with each change; a recipe has hundreds
_ANCHOR = r"(?<![^\s,\[{{:]){}([^\s,\[\]{{}}]+)"  # `&name`, or `*name`


def changes_of(text: str, steps: Sequence[Step]) -> tuple[Change, ...]:
    """The lines that the steps change, in the order of the file; none where the text does not show their places."""
    text += "" if text.endswith("\n") else "\n"  # so that every line has an end
    try:
        edits = sorted(edit for step in steps for edit in _edits(text, root_of(text), step))
    except (NoPlace, yaml.YAMLError, RecursionError):
        return ()
    if any(before.end > after.start for before, after in pairwise(edits)) or _orphans_an_alias(text, edits):
        return ()
    if not edits:
        return ()
    return changed_lines(text, [edits[0], *(_first_in_flow(text, *pair) for pair in pairwise(edits))])


def _first_in_flow(text: str, before: Edit, edit: Edit) -> Edit:
    """An entry that is put behind others, without its comma where the edit before takes all those out."""
    if before.text or before.end != edit.start or text[before.start - 1 : before.start] not in "{[":
        return edit
    return replace(edit, text=edit.text.removeprefix(", "))


def _orphans_an_alias(text: str, edits: Sequence[Edit]) -> bool:
    """True where an anchor goes out that something refers to which stays."""
    gone = set(re.findall(_ANCHOR.format("&"), "\n".join(text[edit.start : edit.end] for edit in edits)))
    if not gone:
        return False
    ends = [0, *(end for edit in edits for end in (edit.start, edit.end)), len(text)]
    kept = "\n".join(
        [*(text[start:end] for start, end in zip(ends[::2], ends[1::2], strict=True)), *(edit.text for edit in edits)]
    )
    return bool(gone & set(re.findall(_ANCHOR.format(r"\*"), kept)) - set(re.findall(_ANCHOR.format("&"), kept)))


def changed_lines(text: str, edits: Sequence[Edit]) -> tuple[Change, ...]:
    """What edits that are in order and apart make of the lines that they touch; nothing where that is no YAML."""
    start = text.rfind("\n", 0, edits[0].start) + 1
    end = line_end(text, max(edit.end for edit in edits))
    mended, here = [], start
    for edit in edits:
        mended += [text[here : edit.start], edit.text]
        here = edit.end
    old = text[start:end].splitlines()
    new = "".join([*mended, text[here:end]]).splitlines()
    number = len(text[:start].splitlines()) + 1  # YAML knows other ends of lines than \n, and counts them
    changes = tuple(
        Change(number + first, tuple(old[first:last]), tuple(line for line in new[start_:end_] if line.strip()))
        for kind, first, last, start_, end_ in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if kind != "equal"
    )
    return changes if len(text) > MOST_READ_AGAIN or _is_yaml_with(text, changes) else ()


def _is_yaml_with(text: str, changes: Sequence[Change]) -> bool:
    """True where whoever writes what is shown has YAML: what is rare (`? key`, aliases) can go wrong in an edit."""
    lines = text.splitlines()
    for change in reversed(changes):
        lines[change.line - 1 : change.line - 1 + len(change.old)] = change.new
    try:
        yaml.compose("\n".join(lines), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return False
    return True


@dataclass(frozen=True, order=True)
class Edit:
    """Characters [start, end) of a text, and what stands there instead."""

    start: int
    end: int
    text: str


def _edits(text: str, root: yaml.Node, step: Step) -> list[Edit]:
    match step:
        case Put(way, value):
            return [_put(text, root, way, value)]
        case Rename(way, name):
            key, _ = pair_at(root, way)
            return [Edit(key.start_mark.index, end_of(key), flow(name))]
        case Rewrite(way, name, value):
            key, node = pair_at(root, way)
            written = pair_of(_column(root, way), f"{flow(name)}:", value, in_block=not is_inline(node))
            return [Edit(key.start_mark.index, max(value_end(text, key, node), end_of(key) + 1), written)]
        case Move(way, to):
            _, node = pair_at(root, way)
            value = Verbatim(text[node.start_mark.index : end_of(node)]) if is_inline(node) else content_of(node)
            return [_removed(text, root, way), _put(text, root, to, value)]
        case Remove(way, first):
            return [_removed(text, root, way, first=first)]


def _put(text: str, root: yaml.Node, way: Way, value: Any) -> Edit:
    known = way
    while known:
        try:
            node = node_at(root, known)
        except NoPlace:
            known = known[:-1]
        else:
            break
    else:
        node = root
    for part in reversed(way[len(known) + 1 :]):
        value = {part: value} if isinstance(part, str) else [value]
    if way == known:
        return _replaced(text, root, way, node, value)
    part = way[len(known)]
    if isinstance(node, yaml.MappingNode) and isinstance(part, str):
        return _new_pair(text, node, part, value)
    if isinstance(node, yaml.SequenceNode) and part == END:
        return _new_entry(text, node, value)
    if isinstance(node, yaml.ScalarNode) and node.value == "" and isinstance(part, str) and known:
        return _replaced(text, root, known, node, {part: value})
    raise NoPlace


def _replaced(text: str, root: yaml.Node, way: Way, node: yaml.Node, value: Any) -> Edit:
    if not way:
        return Edit(0, len(text), "\n".join(lines_of(value, 0, in_block=not is_inline(node))))
    start, end = node.start_mark.index, end_of(node)
    if isinstance(way[-1], str) and start < end_of(pair_at(root, way)[0]):
        raise NoPlace  # an alias: what it stands for is meant elsewhere too
    if is_inline(node) and (start < end) and len(flow(value)) < WIDTH:
        return Edit(start, end, flow(value))
    if isinstance(way[-1], str):
        key, _ = pair_at(root, way)
        written = pair_of(_column(root, way), ":", value, in_block=not is_inline(node))
        return Edit(end_of(key), max(end, end_of(key) + 1), written)
    column = _column(root, way)
    lines = [flow(value)] if column is None else lines_of(value, column, in_block=not is_inline(node))
    return Edit(start, end, ("\n" + " " * node.start_mark.column).join(lines))


def _column(root: yaml.Node, way: Way) -> int | None:
    """Where the lines of a key, or of a list's entry, begin; None within brackets, which hold no lines of blocks."""
    around = node_at(root, way[:-1])
    if isinstance(around, yaml.CollectionNode) and around.flow_style:
        return None
    node = pair_at(root, way)[0] if isinstance(way[-1], str) else node_at(root, way)
    return int(node.start_mark.column)


def _new_pair(text: str, node: yaml.MappingNode, name: str, value: Any) -> Edit:
    if node.flow_style or not node.value:
        return _next_in_flow(text, node, f"{flow(name)}: {flow(value)}")
    first = node.value[0][0] if text[node.start_mark.index] != "?" else node  # `? key` is the long form of `key`
    column = first.start_mark.column
    at = line_end(text, end_of(node))
    return Edit(at, at, f"\n{' ' * column}{pair_of(column, f'{flow(name)}:', value)}")


def _new_entry(text: str, node: yaml.SequenceNode, value: Any) -> Edit:
    if node.flow_style or not node.value:
        return _next_in_flow(text, node, flow(value))
    column = node.start_mark.column
    at = line_end(text, end_of(node))
    lines = ("\n" + " " * (column + 2)).join(lines_of(value, column + 2))
    return Edit(at, at, f"\n{' ' * column}- {lines}")


def _next_in_flow(text: str, node: yaml.MappingNode | yaml.SequenceNode, written: str) -> Edit:
    end = node.end_mark.index - 1
    at = len(text[:end].rstrip(" \n,"))
    return Edit(at, at, f", {written}") if node.value else Edit(end, end, written)


def _removed(text: str, root: yaml.Node, way: Way, *, first: bool = False) -> Edit:
    around = node_at(root, way[:-1])
    if not isinstance(around, yaml.CollectionNode):
        raise NoPlace
    entries: list[tuple[yaml.Node, yaml.Node]]
    place: int
    if isinstance(way[-1], int):
        node_at(root, way)
        entries, place = [(item, item) for item in around.value], way[-1]
    else:
        entries = list(around.value)
        places = [place for place, (key, _) in enumerate(entries) if key.value == way[-1]]
        if not places:
            raise NoPlace
        place = places[0 if first else -1]
    if len(entries) == 1 and len(way) > 1:
        return _removed(text, root, way[:-1])
    start = entries[place][0].start_mark.index
    end = value_end(text, *entries[place])
    if around.flow_style:
        if place + 1 < len(entries):
            return Edit(start, entries[place + 1][0].start_mark.index, "")
        return Edit(value_end(text, *entries[place - 1]) if place else start, end, "")
    line = text.rfind("\n", 0, start) + 1
    if isinstance(way[-1], str) and text[line:start].strip():  # it stands behind the dash of its entry
        if place + 1 == len(entries):
            raise NoPlace
        return Edit(start, entries[place + 1][0].start_mark.index, "")
    end = line_end(text, max(end, start))
    return Edit(line - 1, end, "") if line else Edit(0, end + 1, "")
