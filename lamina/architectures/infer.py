"""Find the layer stack and the ends of a decoder from its tensor names and its config.json.

No list of known architectures: a layer is what has a number in its name, the stack is the one whose
length the config announces.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lamina.architectures.quirks import DEPTH_KEYS, HEAD_NAMES, USUAL_HEAD_NAME

_NUMBERED = re.compile(r"^(.*?)\.(\d+)\.(.+)$")
_EMBEDDING = re.compile(r"embed_tokens|word_embeddings|wte|embed_in|tok_embeddings|shared\.weight|embeddings?\.weight")
_HEAD = re.compile(r"^(lm_head|embed_out|output|cls|score|classifier)\.|lm_head\.")
_BEFORE = re.compile(r"embed|wte|wpe|token_type|positions?\b")


@dataclass(frozen=True)
class Architecture:
    """A decoder: numbered layers `prefix.N.suffix` between tensors that come before and after them.

    `layers[i]` has the suffixes of layer i. `head` is the name of the output head, whether or not the
    checkpoint holds it: a `tied` model uses its embedding there.
    """

    prefix: str
    layers: tuple[tuple[str, ...], ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    embedding: str
    head: str
    tied: bool
    depth_key: tuple[str, ...]

    @property
    def depth(self) -> int:
        return len(self.layers)

    def layer_name(self, index: int, suffix: str) -> str:
        return f"{self.prefix}.{index}.{suffix}"


def infer_architecture(names: Iterable[str], config: Mapping[str, Any]) -> Architecture:
    """The architecture of a checkpoint. Raises ValueError, with a sentence, where it is no single decoder."""
    names = list(names)
    depth_key, depth = _depth(config)
    stacks: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in names:
        if found := _NUMBERED.match(name):
            stacks[found[1]][int(found[2])].append(found[3])
    fitting = [prefix for prefix, layers in stacks.items() if sorted(layers) == list(range(depth))]
    if len(fitting) != 1:
        seen = ", ".join(f"`{prefix}` with {len(layers)}" for prefix, layers in stacks.items()) or "none"
        raise ValueError(
            f"config.json announces {depth} layers ({'.'.join(depth_key)}); the numbered stacks found are: {seen}. "
            "Lamina merges models with exactly one stack of that length."
        )
    prefix = fitting[0]
    layers = tuple(tuple(stacks[prefix][index]) for index in range(depth))
    others = [name for name in names if not _in_stack(name, prefix)]
    embedding = next((name for name in others if _EMBEDDING.search(name)), None)
    if embedding is None:
        raise ValueError(f"no token embedding was found among {', '.join(others) or 'no tensors'}.")
    head = next((name for name in others if _HEAD.search(name) and name.endswith("weight")), None)
    tied = head is None or bool(text_config(config).get("tie_word_embeddings", config.get("tie_word_embeddings")))
    return Architecture(
        prefix=prefix,
        layers=layers,
        before=tuple(name for name in others if _BEFORE.search(name) and not _HEAD.search(name)),
        after=tuple(name for name in others if not _BEFORE.search(name) or _HEAD.search(name)),
        embedding=embedding,
        head=head or HEAD_NAMES.get(str(config.get("model_type")), USUAL_HEAD_NAME),
        tied=tied,
        depth_key=depth_key,
    )


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of config.json that describes the decoder."""
    nested = config.get("text_config")
    return nested if isinstance(nested, Mapping) else config


def _in_stack(name: str, prefix: str) -> bool:
    found = _NUMBERED.match(name)
    return found is not None and found[1] == prefix


def _depth(config: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    nested = ("text_config",) if isinstance(config.get("text_config"), Mapping) else ()
    for key in DEPTH_KEYS:
        depth = text_config(config).get(key)
        if type(depth) is int and depth > 0:
            return (*nested, key), depth
    raise ValueError(f"config.json gives no number of layers under any of {', '.join(DEPTH_KEYS)}.")
