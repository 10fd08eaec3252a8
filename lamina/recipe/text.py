"""YAML text to plain values, and where in the text each key and value stands.

PyYAML composes the tree and resolves plain values by YAML 1.1, as MergeKit has it; where that makes of a
value what nobody means (`8:32` is 512, `010` is 8), the letters are kept or a letter is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from lamina.errors import Change, Problem
from lamina.recipe.mending import Edit, changed_lines, changes_of
from lamina.recipe.steps import Put, Remove, Step
from lamina.recipe.syntax import syntax_problem
from lamina.recipe.ways import Way as Way
from lamina.recipe.ways import with_value_at

KEY = "<key>"  # at the end of a way: the key itself, not its value
MOST_DEPTH = 100  # a recipe is ten levels deep
MOST_NODES = 200_000  # a recipe has hundreds; a bomb of nested aliases has billions

_MERGE = "tag:yaml.org,2002:merge"
_NO_TAG = "the tag `{}` has no meaning; write the value alone."

# Values under these keys are names, whatever they look like: a model may be called 1.10.
_NAMES = ("model", "base_model", "path", "revision", "lora", "merge_method", "tokenizer_source", "filter", "source")


@dataclass
class Document:
    """What a text says: `content` is None where it could not be read at all; `problems` are faults of the text.

    `is_empty` where it says nothing, which is a fault of a file.
    """

    content: Any = None
    places: dict[Way, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    is_empty: bool = False


def read_yaml(text: str, file: str) -> Document:
    """Read the one document of a text. `file` is how problems call it."""
    if len(text) > MOST_DEPTH and _is_too_deep(text):
        return Document(problems=[Problem("yaml", "the text is nested too deep to be a recipe.", file=file)])
    try:
        documents = list(yaml.compose_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.MarkedYAMLError as error:
        return Document(problems=[syntax_problem(error, text, file)])
    except (yaml.YAMLError, RecursionError) as error:
        return Document(problems=[Problem("yaml", f"this is not valid YAML: {error}.", file=file)])
    if not documents or _is_empty(documents[0]):
        message = "the file is empty; the least is `models: [{model: org/name}]` and `merge_method: passthrough`."
        return Document(problems=[Problem("yaml", message, file=file)], is_empty=True)
    if len(documents) > 1:
        line = documents[1].start_mark.line + 1
        message = (
            "here a second recipe begins, after `---`; several in one file are not run yet. Write one file each: "
            "this one ends above."
        )
        return Document(problems=[Problem("not-yet", message, line, 1, file)])
    reader = _Reader(text, file)
    try:
        content = reader.value(documents[0], ())
    except _Endless as error:
        line = text.splitlines()[error.problem.line - 1]
        return Document(problems=[replace(error.problem, excerpt=line)])
    except (_TooMuch, RecursionError):
        return Document(problems=[Problem("yaml", "the text refers to itself too often to be a recipe.", file=file)])
    return Document(content, reader.places, reader.problems)


def _is_too_deep(text: str) -> bool:
    """True for nesting that would overflow the stack of what composes a tree of it, which is compiled."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MOST_DEPTH:
                return True
    except yaml.YAMLError:
        pass  # told when it is read
    return False


def with_values(document: Document, values: Mapping[Way, Any]) -> Document:
    """The document with some values set anew. A way goes through mappings and existing list entries.

    Raises ValueError, with a sentence, for a way that leads nowhere.
    """
    content = document.content
    for way, value in values.items():
        content = with_value_at(content, way, value, way)
    places = {
        way: place
        for way, place in document.places.items()
        if not any(way[: len(changed)] == changed for changed in values)
    }
    return Document(content, places, document.problems)


class _Reader:
    """One pass over the composed tree."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self.places: dict[Way, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._constructor = yaml.constructor.SafeConstructor()
        self._nodes = 0
        self._open: set[yaml.Node] = set()
        self._written: dict[yaml.Node, list[str]] = {}  # the keys of each mapping before its merge keys were unfolded

    def value(self, node: yaml.Node, way: Way) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _TooMuch
        if node in self._open:
            named = next((part for part in reversed(way) if isinstance(part, str)), "this")
            message = (
                f"`{named}` repeats an anchor that it stands in itself, without end: leave it out, or write out what "
                "it should say."
            )
            place = next(
                (self.places[key] for end in range(len(way), 0, -1) if (key := (*way[:end], KEY)) in self.places),
                (1, 1),
            )
            changes = changes_of(self._text, [Remove(way)])
            raise _Endless(Problem("yaml", message, *place, self._file, changes=changes))
        self.places[way] = _place(node)
        self._open.add(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, way)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*way, index)) for index, item in enumerate(node.value)]
            assert isinstance(node, yaml.ScalarNode)
            return self._scalar(node, way)
        finally:
            self._open.remove(node)

    def _mapping(self, node: yaml.MappingNode, way: Way) -> dict[str, Any]:
        if not self._unfolded(node):
            self._fault(
                "yaml",
                "`<<` takes a mapping that has an anchor: `<<: *name`, with `&name` before it.",
                node,
                steps=[Remove((*way, "<<"))],
            )
        written = self._written[node]
        result: dict[str, Any] = {}
        for before, (key_node, value_node) in zip([None, *node.value], node.value, strict=False):
            if before is not None and node.flow_style and (number := self._with_comma(before, key_node, value_node)):
                result[before[0].value] = number
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                word = next((part.value for part in key_node.value if isinstance(part, yaml.ScalarNode)), "key")
                changes = self._with_word(node, key_node, value_node, word)
                message = f"a key is a word, not a list or mapping: `{word}: ...`."
                if word in written:
                    message += f" Beside it stands `{word}`, which is kept."
                self.problems.append(Problem("yaml", message, *_place(key_node), self._file, changes=changes))
                if word in written:
                    continue
                self.places[(*way, word, KEY)] = _place(key_node)
                result[word] = self.value(value_node, (*way, word))  # so that its absence is no second fault
                continue
            key = key_node.value  # as written: `on: ...` is no truth value here
            if written.count(key) > 1 and key in result:
                first = self.places[(*way, key, KEY)][0]
                message = f"`{key}` is given twice, first in line {first}; keep one. To YAML the last one counts."
                self._fault("duplicate-key", message, key_node, steps=[Remove((*way, key), first=True)])
            self.places[(*way, key, KEY)] = _place(key_node)
            result[key] = self.value(value_node, (*way, key))
        return result

    def _with_comma(self, before: tuple[yaml.Node, yaml.Node], key: yaml.Node, value: yaml.Node) -> float | None:
        """The number that `{weight: 0,5}` means, which to YAML is `weight: 0` and a key `5` without a value."""
        name, whole = before
        is_plain = all(isinstance(part, yaml.ScalarNode) and not part.style for part in (whole, key))
        between = self._text[whole.end_mark.index : key.start_mark.index]
        if not is_plain or between != "," or value.start_mark.index != value.end_mark.index:
            return None
        if not re.fullmatch(r"[-+]?\d+", whole.value) or not re.fullmatch(r"\d+(e[-+]?\d+)?", key.value):
            return None
        number = f"{whole.value}.{key.value}"
        message = (
            f"`{whole.value},{key.value}` is two entries, `{name.value}: {whole.value}` and `{key.value}`; a number "
            f"has a point: `{number}`."
        )
        changes = changed_lines(self._text, [Edit(whole.start_mark.index, key.end_mark.index, number)])
        self.problems.append(Problem("decimal-comma", message, *_place(whole), self._file, number, changes=changes))
        return float(number)

    def _unfolded(self, node: yaml.MappingNode) -> bool:
        """Put what `<<: *other` brings before a mapping's own keys; false where it brings what is no mapping.

        Of several in a list the first counts most, and its own keys more, so that they come last.
        """
        if node in self._written:  # an alias of what was unfolded before
            return True
        self._written[node] = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        brought = [value for key, value in node.value if key.tag == _MERGE]
        own = node.value = [pair for pair in node.value if pair[0].tag != _MERGE]
        pairs: list[tuple[yaml.Node, yaml.Node]] = []
        is_sound = True
        for value in brought:
            for part in reversed(value.value) if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(part, yaml.MappingNode):
                    is_sound = self._unfolded(part) and is_sound
                    self._nodes += len(part.value)
                    if self._nodes > MOST_NODES:
                        raise _TooMuch
                    pairs += part.value
                else:
                    is_sound = False
        node.value = pairs + own
        return is_sound

    def _with_word(self, around: yaml.MappingNode, key: yaml.Node, value: yaml.Node, word: str) -> tuple[Change, ...]:
        """The lines with a word for a key; without the pair where the word has a value beside it."""
        start, end = key.start_mark.index, key.end_mark.index
        marked = self._text.rfind("\n", 0, start) + 1
        if is_long := re.fullmatch(r"\s*\?\s+", self._text[marked:start]):  # `? key`, and `: value` in the next line
            start = marked + is_long[0].index("?")
        if word in [each.value for each, _ in around.value if isinstance(each, yaml.ScalarNode)]:
            if around.flow_style:
                return ()
            last = self._text.find("\n", value.end_mark.index)
            return changed_lines(self._text, [Edit(start, last + 1 if last >= 0 else len(self._text), "")])
        between = self._text[end : value.start_mark.index]
        if not is_long or (isinstance(value, yaml.CollectionNode) and not value.flow_style):
            return changed_lines(self._text, [Edit(start, end, word)]) if not is_long else ()
        if not re.fullmatch(r"\s*:\s+", between):
            return ()
        return changed_lines(self._text, [Edit(start, value.start_mark.index, f"{word}: ")])

    def _scalar(self, node: yaml.ScalarNode, way: Way) -> Any:
        text, tag = node.value, node.tag.rpartition(":")[2]
        is_name = bool(way) and way[-1] in _NAMES and tag in ("int", "float", "bool", "timestamp")
        if is_name or tag == "timestamp" or (tag in ("int", "float") and ":" in text):
            return text
        if tag == "binary":  # bytes, which nothing in a recipe is
            self._fault("yaml", _NO_TAG.format("!!binary"), node, steps=[Put(way, text)])
            return text
        if tag == "int" and re.fullmatch(r"[-+]?0[0-7_]+", text):
            read, plain = self._constructor.construct_object(node), text.lstrip("+-0_") or "0"
            if str(abs(read)) != plain:
                message = (
                    f"`{text}` is {read} to YAML, which counts in eights after a 0: write `{read}` where that is "
                    f"meant, or else `{plain}`."
                )
                self._fault("octal", message, node, str(read), [Put(way, read)])
        try:
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError) as error:
            unread = f"this cannot be read ({error}); write the value alone."
            message = _NO_TAG.format(node.tag) if "tag" in str(error) else unread
            self._fault("yaml", message, node, steps=[Put(way, text)])
            return text

    def _fault(
        self, code: str, message: str, node: yaml.Node, suggestion: str = "", steps: Sequence[Step] = ()
    ) -> None:
        problem = Problem(code, message, *_place(node), self._file, suggestion)
        self.problems.append(replace(problem, changes=changes_of(self._text, steps)))


class _TooMuch(Exception):
    """The YAML unfolds without end."""


class _Endless(Exception):
    """The YAML refers to itself."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _is_empty(node: yaml.Node | None) -> bool:
    return node is None or (isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~"))
