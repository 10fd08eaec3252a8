"""What would mend a recipe, and how its lines read then: a letter shows the very text to write.

Whoever finds a fault says in steps what to do about it (`Put`, `Rename`, `Move`, `Rewrite`, `Remove`). Here the steps
become lines of the user's own text, which keeps its comments, quotes and style. Nothing is ever changed in a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import pairwise
from typing import Any

import yaml

from lamina.errors import Change
from lamina.recipe.yaml_text import WIDTH, Verbatim, flow, lines_of, pair_of

Way = tuple[str | int, ...]  # the way to a value: ("slices", 0, "sources", 1, "model")
END = -1  # in a way: the place after the last entry of a list
MOST_READ_AGAIN = 10_000  # characters of a text that is read with each change; a recipe has hundreds
_ANCHOR = r"(?<![^\s,\[{{:]){}([^\s,\[\]{{}}]+)"  # `&name`, or `*name`


@dataclass(frozen=True)
class Put:
    """Give a value: in place of the one there, or as a new key, or as the next entry of a list."""

    way: Way
    value: Any


@dataclass(frozen=True)
class Rename:
    """Give a key another name."""

    way: Way
    name: str


@dataclass(frozen=True)
class Move:
    """Take a key with its value elsewhere."""

    way: Way
    to: Way


@dataclass(frozen=True)
class Rewrite:
    """Put another key with another value in the place of a key and its value."""

    way: Way
    name: str
    value: Any


@dataclass(frozen=True)
class Remove:
    """Leave out a key with its value, or an entry of a list. Of a key that is there twice, the last or the first."""

    way: Way
    first: bool = False


Step = Put | Rename | Move | Rewrite | Remove


class Misformed(ValueError):
    """A value without the form that it needs, and the steps that mend it, their ways from that value on."""

    def __init__(self, message: str, *steps: Step) -> None:
        super().__init__(message)
        self.steps = steps


def within(way: Way, steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps whose ways go on from `way`."""
    return tuple(with_ways(step, lambda rest: way + rest) for step in steps)


def with_ways(step: Step, to_written: Callable[[Way], Way]) -> Step:
    """The same step with every way as the text has it."""
    if isinstance(step, Move):
        return Move(to_written(step.way), to_written(step.to))
    return replace(step, way=to_written(step.way))


def changes_of(text: str, steps: Sequence[Step]) -> tuple[Change, ...]:
    """The lines that the steps change, in the order of the file; none where the text does not show their places."""
    text += "" if text.endswith("\n") else "\n"  # so that every line has an end
    try:
        edits = sorted(edit for step in steps for edit in _edits(text, _root(text), step))
    except (_NoPlace, yaml.YAMLError, RecursionError):
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
    end = _line_end(text, max(edit.end for edit in edits))
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


class _NoPlace(Exception):
    """The text does not show where a step is to be done."""


@lru_cache(maxsize=4)
def _root(text: str) -> yaml.Node:
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if root is None:
        raise _NoPlace
    return root


def _edits(text: str, root: yaml.Node, step: Step) -> list[Edit]:
    match step:
        case Put(way, value):
            return [_put(text, root, way, value)]
        case Rename(way, name):
            key, _ = _pair(root, way)
            return [Edit(key.start_mark.index, _end(key), flow(name))]
        case Rewrite(way, name, value):
            key, node = _pair(root, way)
            written = pair_of(_column(root, way), f"{flow(name)}:", value, in_block=not _is_inline(node))
            return [Edit(key.start_mark.index, max(_value_end(text, key, node), _end(key) + 1), written)]
        case Move(way, to):
            _, node = _pair(root, way)
            value = Verbatim(text[node.start_mark.index : _end(node)]) if _is_inline(node) else _content(node)
            return [_removed(text, root, way), _put(text, root, to, value)]
        case Remove(way, first):
            return [_removed(text, root, way, first=first)]


def _node(root: yaml.Node, way: Way) -> yaml.Node:
    node = root
    for part in way:
        if isinstance(part, int):
            if not isinstance(node, yaml.SequenceNode) or not 0 <= part < len(node.value):
                raise _NoPlace
            node = node.value[part]
        else:
            node = _in_mapping(node, part)[1]
    return node


def _in_mapping(node: yaml.Node, name: str) -> tuple[yaml.Node, yaml.Node]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    found = [pair for pair in pairs if isinstance(pair[0], yaml.ScalarNode) and pair[0].value == name]
    if not found:
        raise _NoPlace
    key, value = found[-1]
    return key, value


def _pair(root: yaml.Node, way: Way) -> tuple[yaml.Node, yaml.Node]:
    if not way or not isinstance(way[-1], str):
        raise _NoPlace
    return _in_mapping(_node(root, way[:-1]), way[-1])


def _put(text: str, root: yaml.Node, way: Way, value: Any) -> Edit:
    known = way
    while known:
        try:
            node = _node(root, known)
        except _NoPlace:
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
    raise _NoPlace


def _replaced(text: str, root: yaml.Node, way: Way, node: yaml.Node, value: Any) -> Edit:
    if not way:
        return Edit(0, len(text), "\n".join(lines_of(value, 0, in_block=not _is_inline(node))))
    start, end = node.start_mark.index, _end(node)
    if isinstance(way[-1], str) and start < _end(_pair(root, way)[0]):
        raise _NoPlace  # an alias: what it stands for is meant elsewhere too
    if _is_inline(node) and (start < end) and len(flow(value)) < WIDTH:
        return Edit(start, end, flow(value))
    if isinstance(way[-1], str):
        key, _ = _pair(root, way)
        written = pair_of(_column(root, way), ":", value, in_block=not _is_inline(node))
        return Edit(_end(key), max(end, _end(key) + 1), written)
    column = _column(root, way)
    lines = [flow(value)] if column is None else lines_of(value, column, in_block=not _is_inline(node))
    return Edit(start, end, ("\n" + " " * node.start_mark.column).join(lines))


def _column(root: yaml.Node, way: Way) -> int | None:
    """Where the lines of a key, or of a list's entry, begin; None within brackets, which hold no lines of blocks."""
    around = _node(root, way[:-1])
    if isinstance(around, yaml.CollectionNode) and around.flow_style:
        return None
    node = _pair(root, way)[0] if isinstance(way[-1], str) else _node(root, way)
    return int(node.start_mark.column)


def _new_pair(text: str, node: yaml.MappingNode, name: str, value: Any) -> Edit:
    if node.flow_style or not node.value:
        return _next_in_flow(text, node, f"{flow(name)}: {flow(value)}")
    first = node.value[0][0] if text[node.start_mark.index] != "?" else node  # `? key` is the long form of `key`
    column = first.start_mark.column
    at = _line_end(text, _end(node))
    return Edit(at, at, f"\n{' ' * column}{pair_of(column, f'{flow(name)}:', value)}")


def _new_entry(text: str, node: yaml.SequenceNode, value: Any) -> Edit:
    if node.flow_style or not node.value:
        return _next_in_flow(text, node, flow(value))
    column = node.start_mark.column
    at = _line_end(text, _end(node))
    lines = ("\n" + " " * (column + 2)).join(lines_of(value, column + 2))
    return Edit(at, at, f"\n{' ' * column}- {lines}")


def _next_in_flow(text: str, node: yaml.MappingNode | yaml.SequenceNode, written: str) -> Edit:
    end = node.end_mark.index - 1
    at = len(text[:end].rstrip(" \n,"))
    return Edit(at, at, f", {written}") if node.value else Edit(end, end, written)


def _removed(text: str, root: yaml.Node, way: Way, *, first: bool = False) -> Edit:
    around = _node(root, way[:-1])
    if not isinstance(around, yaml.CollectionNode):
        raise _NoPlace
    entries: list[tuple[yaml.Node, yaml.Node]]
    place: int
    if isinstance(way[-1], int):
        _node(root, way)
        entries, place = [(item, item) for item in around.value], way[-1]
    else:
        entries = list(around.value)
        places = [place for place, (key, _) in enumerate(entries) if key.value == way[-1]]
        if not places:
            raise _NoPlace
        place = places[0 if first else -1]
    if len(entries) == 1 and len(way) > 1:
        return _removed(text, root, way[:-1])
    start = entries[place][0].start_mark.index
    end = _value_end(text, *entries[place])
    if around.flow_style:
        if place + 1 < len(entries):
            return Edit(start, entries[place + 1][0].start_mark.index, "")
        return Edit(_value_end(text, *entries[place - 1]) if place else start, end, "")
    line = text.rfind("\n", 0, start) + 1
    if isinstance(way[-1], str) and text[line:start].strip():  # it stands behind the dash of its entry
        if place + 1 == len(entries):
            raise _NoPlace
        return Edit(start, entries[place + 1][0].start_mark.index, "")
    end = _line_end(text, max(end, start))
    return Edit(line - 1, end, "") if line else Edit(0, end + 1, "")


def _value_end(text: str, key: yaml.Node, value: yaml.Node) -> int:
    """Where a value ends. What stands for an anchor has the place of that."""
    end = _end(key)
    if value is not key and value.start_mark.index < end and (alias := re.match(r"\s*:\s*\*[^\s,\]}]+", text[end:])):
        return end + alias.end()
    return _end(value)


def _end(node: yaml.Node) -> int:
    """Where a node's own text ends; that of a block would go on to the next one."""
    if _is_inline(node) or not node.value:
        return int(node.end_mark.index)
    if isinstance(node, yaml.ScalarNode):
        return int(node.end_mark.index) - 1  # `|` and `>` go on to the start of a line, which is not theirs
    last = node.value[-1]
    if not isinstance(last, tuple):
        return _end(last)
    key, value = last
    if value.start_mark.index == value.end_mark.index and value.start_mark.line > key.end_mark.line:
        return _end(key)  # no value at all, as after `? key`: its place is that of whatever comes next
    return max(_end(key), _end(value))


def _is_inline(node: yaml.Node) -> bool:
    if isinstance(node, yaml.ScalarNode):
        return node.style not in ("|", ">")
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def _line_end(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found


class _PlainConstructor(yaml.constructor.SafeConstructor):
    """Makes of every node what a line of YAML can say: text, numbers, lists and mappings."""

    yaml_constructors = {  # noqa: RUF012 (as PyYAML has it)
        **yaml.constructor.SafeConstructor.yaml_constructors,
        "tag:yaml.org,2002:timestamp": yaml.constructor.SafeConstructor.construct_yaml_str,
        "tag:yaml.org,2002:binary": yaml.constructor.SafeConstructor.construct_yaml_str,
        "tag:yaml.org,2002:set": yaml.constructor.SafeConstructor.construct_yaml_map,
        "tag:yaml.org,2002:omap": yaml.constructor.SafeConstructor.construct_yaml_seq,
        "tag:yaml.org,2002:pairs": yaml.constructor.SafeConstructor.construct_yaml_seq,
    }


def _content(node: yaml.Node) -> Any:
    """The value of a node. Raises _NoPlace for what has none, as `!!int x`."""
    try:
        return _PlainConstructor().construct_document(node)
    except (ValueError, LookupError) as error:
        raise _NoPlace from error
