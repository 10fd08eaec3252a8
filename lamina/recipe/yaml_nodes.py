"""Where the nodes of a YAML text lie in it: by a way, and from character to character."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import yaml

from lamina.recipe.ways import Way


class NoPlace(Exception):
    """The text does not show where a step is to be done."""


@lru_cache(maxsize=4)
def root_of(text: str) -> yaml.Node:
    """The node of a whole text. Raises NoPlace for an empty one, and YAMLError."""
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if root is None:
        raise NoPlace
    return root


def node_at(root: yaml.Node, way: Way) -> yaml.Node:
    """The node that a way leads to. Raises NoPlace."""
    node = root
    for part in way:
        if isinstance(part, int):
            if not isinstance(node, yaml.SequenceNode) or not 0 <= part < len(node.value):
                raise NoPlace
            node = node.value[part]
        else:
            node = _in_mapping(node, part)[1]
    return node


def _in_mapping(node: yaml.Node, name: str) -> tuple[yaml.Node, yaml.Node]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    found = [pair for pair in pairs if isinstance(pair[0], yaml.ScalarNode) and pair[0].value == name]
    if not found:
        raise NoPlace
    key, value = found[-1]
    return key, value


def pair_at(root: yaml.Node, way: Way) -> tuple[yaml.Node, yaml.Node]:
    """The key that a way leads to, and its value. Raises NoPlace."""
    if not way or not isinstance(way[-1], str):
        raise NoPlace
    return _in_mapping(node_at(root, way[:-1]), way[-1])


def value_end(text: str, key: yaml.Node, value: yaml.Node) -> int:
    """Where a value ends. What stands for an anchor has the place of that."""
    end = end_of(key)
    if value is not key and value.start_mark.index < end and (alias := re.match(r"\s*:\s*\*[^\s,\]}]+", text[end:])):
        return end + alias.end()
    return end_of(value)


def end_of(node: yaml.Node) -> int:
    """Where a node's own text ends; that of a block would go on to the next one."""
    if is_inline(node) or not node.value:
        return int(node.end_mark.index)
    if isinstance(node, yaml.ScalarNode):
        return int(node.end_mark.index) - 1  # `|` and `>` go on to the start of a line, which is not theirs
    last = node.value[-1]
    if not isinstance(last, tuple):
        return end_of(last)
    key, value = last
    if value.start_mark.index == value.end_mark.index and value.start_mark.line > key.end_mark.line:
        return end_of(key)  # no value at all, as after `? key`: its place is that of whatever comes next
    return max(end_of(key), end_of(value))


def is_inline(node: yaml.Node) -> bool:
    """True for what can stand within a line: no block of lines."""
    if isinstance(node, yaml.ScalarNode):
        return node.style not in ("|", ">")
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def line_end(text: str, at: int) -> int:
    """Where the line ends that `at` lies in."""
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


def content_of(node: yaml.Node) -> Any:
    """The value of a node. Raises NoPlace for what has none, as `!!int x`."""
    try:
        return _PlainConstructor().construct_document(node)
    except (ValueError, LookupError) as error:
        raise NoPlace from error
