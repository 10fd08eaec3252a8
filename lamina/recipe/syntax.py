"""What is wrong with a text that is no YAML, in words, and the slip that explains it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import yaml

from lamina.errors import Change, Problem

MOST_CHARACTERS = 100_000  # of a text that is read again and again to see which change mends it

# What the parser says -> what to do about it, and whether it is meant for where the thing began.
_ADVICE: tuple[tuple[str, str, bool], ...] = (
    ("cannot start any token", "a tab or a stray sign stands here; YAML is indented by spaces", False),
    ("simple key|could not find expected ':'", "a key is followed by a colon and a space, `key: value`", True),
    ("mapping values are not allowed", "a second `: ` in one line; text that holds one is put in quotes", False),
    ("quoted scalar", "the quotation mark that opens here is not closed", True),
    ("flow (sequence|mapping)", "the bracket that opens here is not closed, or a comma is missing in it", True),
    ("undefined alias", "no anchor of this name, `&name`, stands before it; write the value that it repeats", False),
    ("block (mapping|collection|sequence)|indentation", "this line is indented unlike those it belongs to", False),
)  # fmt: skip


def syntax_problem(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    """The letter for what the parser said, with the lines that would mend it where one change does."""
    said = f"{error.context or ''}, {error.problem or ''}"
    advice, at_start = next(
        ((advice, at_start) for pattern, advice, at_start in _ADVICE if re.search(pattern, said)),
        (str(error.problem or error.context), False),
    )
    mark = (error.context_mark if at_start else None) or error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    lines = text.splitlines()
    excerpt = lines[line - 1] if 0 < line <= len(lines) else ""
    changes = () if "alias" in said else _mended(text, line)  # what it stands for nobody can tell
    return Problem("yaml", f"this is not valid YAML: {advice}.", line, column, file, excerpt=excerpt, changes=changes)


def _mended(text: str, line: int) -> tuple[Change, ...]:
    """The first of the usual slips that, undone, leaves a text that can be read."""
    lines = text.splitlines()
    if not 0 < line <= len(lines) or len(text) > MOST_CHARACTERS:
        return ()
    for number, mended in _tries(lines, line - 1):
        written = "\n".join([*lines[:number], mended, *lines[number + 1 :]])
        try:
            is_mapping = isinstance(
                yaml.compose(written, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), yaml.MappingNode
            )
        except (yaml.YAMLError, RecursionError):
            continue
        if is_mapping:
            return (Change(number + 1, (lines[number],), (mended,)),)
    return ()


def _tries(lines: list[str], here: int) -> Iterator[tuple[int, str]]:
    """Lines by their number, from 0, and how they may have been meant."""
    line = lines[here]
    if "\t" in line:
        yield here, line.expandtabs(2)
    if key := re.fullmatch(r"(\s*(?:- )*[A-Za-z_]\w*):(\S.*)", line):
        yield here, f"{key[1]}: {key[2]}"
    opened = [place for place, sign in enumerate(line) if sign in "\"'"]
    if len(opened) == 1:  # the quotation mark that is missing stands at the end of the word
        word = re.match(r"[^,\]}\s]*", line[opened[0] + 1 :])
        closing = opened[0] + 1 + (word.end() if word else 0)
        yield here, f"{line[:closing]}{line[opened[0]]}{line[closing:]}"
        yield here, line.replace(line[opened[0]], "")
    for end in ("]", "}", '"', "'", "}]", "]}", '"}', "'}", '"}]', "'}]", "]}]"):
        yield here, f"{line.rstrip()}{end}"
    if bracket := re.search(r"[^\s\]}](?=[\]}]*$)", line.rstrip()):  # one within is not closed
        for sign in "]}":
            yield here, f"{line[: bracket.end()]}{sign}{line[bracket.end() :]}"
    if value := re.fullmatch(r"(\s*(?:- )*\w+: \S+): .*", line):
        yield here, value[1]
    if value := re.fullmatch(r"(\s*(?:- )*\w+: )(.*: .*)", line):
        yield here, f"{value[1]}{json.dumps(value[2])}"
    for beside in [lines[here - 1], *lines[here + 1 : here + 2]] if here else []:
        for shift in (0, 2):  # as the line before, or after its dash
            indent = len(beside) - len(beside.lstrip(" ")) + shift
            yield here, " " * indent + line.lstrip()
