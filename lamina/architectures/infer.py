"""Find the layer stack and the ends of a decoder from its tensor names and its config.json.

No list of known architectures: a layer is what has a number in its name, the stack is the one whose
length the config announces. What else is numbered (a vision tower, layers that predict further tokens) is told apart.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.architectures.layer_kinds import model_type
from lamina.architectures.quirks import (
    DEPTH_KEYS,
    DEPTH_LISTS,
    HEAD_NAMES,
    NEXT_TOKEN_KEYS,
    PACKED,
    PARTS,
    SHARED_BLOCKS,
    TEXT_CONFIGS,
    USUAL_HEAD_NAME,
)
from lamina.architectures.roles import Role, end_role_of

_NUMBERED = re.compile(r"^(.*?)\.(\d+)\.(.+)$")
_TOWER = re.compile(r"vision|visual|audio|speech|image|img|(^|\.)vit\b|multi_?modal|mm_|projector|connector")
_NEXT_TOKEN = re.compile(r"(^|\.)(mtp\w*|nextn\w*)\.")
_BEFORE = re.compile(r"embed|wte|wpe|token_type|positions?\b|project_in|mapping_in|_init$")
# The matrix of a head among what belongs to it: `cls.predictions.decoder.weight`, not its `transform.dense.weight`.
_HEAD_MATRIX = re.compile(
    r"(^|\.)(lm_head|lm_heads\.0|embed_out|output|head|score|decoder|proj_out|output_projection|generator_lm_head|lm_loss|unembed|proj)"
    r"\.weight$"
)


@dataclass(frozen=True)
class Architecture:
    """A decoder: numbered layers `prefix.N.suffix` between tensors that come before and after them.

    `layers[i]` has the suffixes of layer i. `head` is the name of the output head, whether or not the
    checkpoint holds it: a `tied` model uses its embedding there. `next_token` are tensors that predict further tokens
    from what the last layer gives, in layers numbered on from it or under names of their own. `packed` tensors among
    those before hold something of every layer, side by side on an axis (0: rows, -1: columns). A class that is not
    `can_be_tied` needs a head of its own. The layers `sharing` have one block in common, the tensors `shared`, which
    stand in the first of them and are not among its own. `parts` are lists beside each other, each with a part of every
    layer: the first word of a suffix names its list, and `prefix` is the first list's.
    """

    prefix: str
    layers: tuple[tuple[str, ...], ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    embedding: str
    head: str
    tied: bool
    depth_key: tuple[str, ...]
    next_token: tuple[str, ...] = ()
    packed: tuple[tuple[str, int], ...] = ()
    can_be_tied: bool = True
    shared: tuple[str, ...] = ()
    sharing: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        return len(self.layers)

    @property
    def head_companions(self) -> tuple[str, ...]:
        """What belongs to the head beside its matrix: a bias, a transform before it."""
        return tuple(name for name in self.after if name != self.head and _is_of_head(name))

    @property
    def norms(self) -> tuple[str, ...]:
        """What comes after the layers and before the head."""
        return tuple(name for name in self.after if name != self.head and not _is_of_head(name))

    def layer_name(self, index: int, suffix: str) -> str:
        if not self.parts:
            return f"{self.prefix}.{index}.{suffix}"
        part, _, rest = suffix.partition(".")
        return f"{_beside(self.prefix, part or self.parts[0])}.{index}.{rest}"

    def next_token_name(self, name: str, depth: int) -> str:
        """The name of one of `next_token` behind a stack of another depth: numbers that go on from it go with it."""
        found = _NUMBERED.match(name)
        if found is None or found[1] != self.prefix:
            return name
        return self.layer_name(int(found[2]) - self.depth + depth, found[3])


def infer_architecture(names: Iterable[str], config: Mapping[str, Any]) -> Architecture:
    """The architecture of a checkpoint. Raises ValueError, with a sentence, where it is no single decoder."""
    names = list(names)
    stacks: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in names:
        if found := _NUMBERED.match(name):
            stacks[found[1]][int(found[2])].append(found[3])
    parts = PARTS.get(str(config.get("model_type")), ())
    depth_key, depth, prefix = _stack(stacks, config, parts[:1])
    lists = {_beside(prefix, part): f"{part}." for part in parts} or {prefix: ""}
    layers = tuple(
        tuple(f"{part}{suffix}" for each, part in lists.items() for suffix in stacks[each][index])
        for index in range(depth)
    )
    layers, shared, sharing = _without_shared(layers, SHARED_BLOCKS.get(str(config.get("model_type"))))
    others = [name for name in names if not any(_is_layer(name, each, depth) for each in lists)]
    next_token = tuple(name for name in others if _in_stack(name, prefix) or _NEXT_TOKEN.search(name))
    ends = [name for name in others if name not in set(next_token)]
    embedding = _embedding(ends)
    if embedding is None:
        raise ValueError(f"no token embedding was found among {', '.join(others) or 'no tensors'}.")
    head = next((name for name in ends if _is_head(name, embedding)), None)
    before = tuple(name for name in ends if name != head and _comes_before(name, embedding))
    return Architecture(
        prefix=prefix,
        layers=layers,
        before=before,
        after=tuple(name for name in ends if name not in set(before)),
        embedding=embedding,
        head=head or _head_name(config, prefix),
        tied=head is None or is_tied_by_config(config),
        depth_key=depth_key,
        next_token=next_token,
        packed=tuple(
            (name, axis) for name in before for word, axis in PACKED.items() if name.endswith(f"{word}.weight")
        ),
        can_be_tied=head is None or _can_be_tied(config),
        shared=shared,
        sharing=sharing,
        parts=parts,
    )


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of config.json that describes the decoder."""
    nested = text_key(config)
    return config if nested is None else config[nested]


def text_key(config: Mapping[str, Any]) -> str | None:
    """The key under which config.json describes the decoder, None where it does so itself."""
    return next((key for key in TEXT_CONFIGS if isinstance(config.get(key), Mapping)), None)


def next_token_layers(text: Mapping[str, Any]) -> int:
    """How many layers for predicting further tokens the decoder's part of config.json announces."""
    return max((value for key in NEXT_TOKEN_KEYS if type(value := text.get(key)) is int and value > 0), default=0)


def is_tied_by_config(config: Mapping[str, Any]) -> bool:
    """Whether a model with this config.json uses its embedding as the head: as it says, else as its class does."""
    if not _can_be_tied(config):
        return False
    for part in (config, text_config(config)):
        written = part.get("tie_word_embeddings")
        if written is not None:
            return bool(written)
    known = model_type(config)
    return known is not None and known.tied


def _can_be_tied(config: Mapping[str, Any]) -> bool:
    """False for classes that have a head of their own whatever config.json says."""
    known = model_type(config)
    return known is None or known.head is not None


def _beside(prefix: str, part: str) -> str:
    """The prefix of another list beside this one."""
    return f"{prefix.rpartition('.')[0]}.{part}"


def _stack(
    stacks: Mapping[str, Mapping[int, Sequence[str]]], config: Mapping[str, Any], first_part: Sequence[str]
) -> tuple[tuple[str, ...], int, str]:
    """Where config.json says the depth, the depth, and the prefix of the one stack that has it (of its first part)."""
    depths = list(_depths(config))
    if not depths:
        raise ValueError(f"config.json gives no number of layers under any of {', '.join(DEPTH_KEYS)}.")
    extra = next_token_layers(text_config(config))
    for key, depth in depths:
        fitting = [
            prefix for prefix, layers in stacks.items() if set(range(depth)) <= set(layers) <= set(range(depth + extra))
        ]
        decoders = [prefix for prefix in fitting if not _TOWER.search(prefix) and not _NEXT_TOKEN.search(f"{prefix}.")]
        if first_part:
            decoders = [prefix for prefix in decoders if prefix.rpartition(".")[2] in first_part]
        if len(decoders) > 1:  # an encoder of the same length
            decoders = [prefix for prefix in decoders if re.search("decoder|language_model|text", prefix)]
        if len(decoders) == 1:
            return key, depth, decoders[0]
    key, depth = depths[0]
    seen = ", ".join(f"`{prefix}` with {len(layers)}" for prefix, layers in stacks.items()) or "none"
    raise ValueError(
        f"config.json announces {depth} layers ({'.'.join(key)}); the numbered stacks found are: {seen}. "
        "Lamina merges models with exactly one stack of that length."
    )


def _without_shared(
    layers: tuple[tuple[str, ...], ...], block: str | None
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...], tuple[int, ...]]:
    """The layers without a block that one of them holds for all of its kind, the block's tensors, and those layers."""
    holders = [layer for layer in layers if block is not None and any(each.startswith(f"{block}.") for each in layer)]
    if len(holders) != 1:  # none, or each has a copy that goes with it
        return layers, (), ()
    shared = tuple(each for each in holders[0] if each.startswith(f"{block}."))
    own = set(holders[0]) - set(shared)
    sharing = tuple(index for index, layer in enumerate(layers) if set(layer) - set(shared) == own)
    return tuple(tuple(each for each in layer if each not in shared) for layer in layers), shared, sharing


def _depths(config: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], int]]:
    nested = text_key(config)
    above = () if nested is None else (nested,)
    text = text_config(config)
    for key in DEPTH_KEYS:
        depth = text.get(key)
        if type(depth) is int and depth > 0:
            yield (*above, key), depth
    for key in DEPTH_LISTS:
        if isinstance(text.get(key), list | str) and text[key]:
            yield (*above, key), len(text[key])


def _is_layer(name: str, prefix: str, depth: int) -> bool:
    found = _NUMBERED.match(name)
    return found is not None and found[1] == prefix and int(found[2]) < depth


def _in_stack(name: str, prefix: str) -> bool:
    found = _NUMBERED.match(name)
    return found is not None and found[1] == prefix


def _embedding(ends: Sequence[str]) -> str | None:
    """The embedding of tokens: by the word that stands for one, else by any that looks like it."""
    own = [name for name in ends if not _TOWER.search(name) and name.endswith("weight")]
    return next((name for name in own if end_role_of(name) is Role.EMBEDDING), None)


def _is_of_head(name: str) -> bool:
    return end_role_of(name) is Role.HEAD and not _TOWER.search(name)


def _is_head(name: str, embedding: str) -> bool:
    return name != embedding and _is_of_head(name) and _HEAD_MATRIX.search(name) is not None


def _comes_before(name: str, embedding: str) -> bool:
    """True for what feeds the layers: embeddings, what is done to them, and the towers of other senses."""
    if name == embedding or _TOWER.search(name) or "per_layer" in name:
        return True
    role = end_role_of(name)
    if role in (Role.HEAD, Role.FINAL_NORM):
        return False
    return role is not Role.OTHER or _BEFORE.search(name) is not None


def _head_name(config: Mapping[str, Any], prefix: str) -> str:
    """What a tied model's head is called once it is written."""
    name = HEAD_NAMES.get(str(config.get("model_type")))
    if name is None:
        known = model_type(config)
        name = USUAL_HEAD_NAME if known is None or known.head is None else known.head
    return f"language_model.{name}" if prefix.startswith("language_model.") else name
