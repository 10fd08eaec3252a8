"""What config.json says of single layers travels with them; what cannot travel is refused with the reason."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, nextafter, sqrt
from typing import Any

from lamina.architectures.infer import Architecture, next_token_layers, text_config, text_key
from lamina.architectures.layer_facts import FACTS, READ_ELSEWHERE, Fact, Unsaid, Unwritable, Values, value_list
from lamina.architectures.quirks import DEPTH_LISTS, DEPTH_TWINS, NEXT_TOKEN_KEYS
from lamina.wording import listed

# Lists whose length can be the depth only by chance.
NOT_PER_LAYER = (
    "architectures", "bos_token_id", "eos_token_id", "pad_token_id", "keys_to_ignore_at_inference", "time_step_limit",
    "suppress_tokens", "begin_suppress_tokens", "languages", "ssm_multipliers", "mlp_multipliers", "target_layer_ids",
    "mtp_layer_types", "mtp_mlp_layer_types", "mtp_layers_block_type", "mtp_local_layer_ids", "axial_pos_shape",
    "axial_pos_embds_dim", "L_bp_cycles", "encoder_hash_byte_group_size",
)  # fmt: skip

# Names of one kind of layer, which transformers makes the same when it loads a config.
_SAME_KINDS = {
    "mamba": "linear_attention", "attention": "full_attention", "deepseek_sparse_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Decoder:
    """A model as config surgery sees it: its config.json and its architecture."""

    name: str
    config: Mapping[str, Any]
    architecture: Architecture

    @cached_property
    def text(self) -> Mapping[str, Any]:
        """The decoder's part of config.json, of lists by layer what is said of the layers of the stack."""
        text = text_config(self.config)
        return {**text, **{key: text[key][: self.architecture.depth] for key in self.tails}}

    @cached_property
    def tails(self) -> Mapping[str, list[Any]]:
        """What lists by layer say of the layers behind the stack that predict further tokens, where they do."""
        text, depth = text_config(self.config), self.architecture.depth
        further = next_token_layers(text)
        return {
            key: value[depth:]
            for key, value in text.items()
            if isinstance(value, list) and further and len(value) == depth + further and key not in NOT_PER_LAYER
        }

    def values(self, fact: Fact) -> Values | None:
        return fact.read(self.text, self.architecture.depth)


@dataclass(frozen=True)
class Origin:
    """Where an output layer comes from: a model and a layer in it."""

    decoder: Decoder
    layer: int


Origins = Sequence[Sequence[Origin]]


def is_unmoved(donor: Decoder, origins: Origins) -> bool:
    """True where every layer stays where it was, of whichever models it is made."""
    return len(origins) == donor.architecture.depth and all(
        origin.layer == index for index, layer in enumerate(origins) for origin in layer
    )


def restacked_config(
    donor: Decoder, origins: Origins, assume_per_layer: Sequence[str] = (), *, keeps_next_token: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """The donor's config for other layers, and a sentence for everything that stands in the way.

    `origins[j]` are the layers that output layer j is made of; their kinds must agree. Lists of keys that are not known
    travel with the layers where `assume_per_layer` names them. A stack that leaves every layer where it was changes
    nothing. `keeps_next_token` is false where layers that predict further tokens are dropped.
    """
    result = copy.deepcopy(dict(donor.config))
    key = text_key(result)
    text = result if key is None else result[key]
    text |= {name: list(donor.text[name]) for name in donor.tails}
    depth_key = donor.architecture.depth_key[-1]
    if depth_key not in DEPTH_LISTS:
        text[depth_key] = len(origins)
    if depth_key in DEPTH_TWINS and DEPTH_TWINS[depth_key] in text:
        text[DEPTH_TWINS[depth_key]] = len(origins)
    facts = [*FACTS, *(value_list(each) for each in assume_per_layer if isinstance(text.get(each), list))]
    problems = [problem for fact in facts if (problem := _carry(fact, donor, text, origins))]
    if not is_unmoved(donor, origins):
        twin = depth_key.replace("decoder", "encoder")
        if twin != depth_key and type(text.get(twin)) is int and not _has_encoder(donor):
            # Where there is no encoder, its number of layers is what the class makes its cache for.
            text[twin] = max(text[twin], len(origins))
        problems += _unknown_lists(donor, {fact.name for fact in facts})
        problems += _odd_layers(facts, origins)
        if len(origins) != donor.architecture.depth and isinstance(text.get("scale_depth"), int | float):
            text["scale_depth"] = _scale_for(text["scale_depth"], donor.architecture.depth, len(origins))
    if keeps_next_token:
        text |= {name: [*text[name], *tail] for name, tail in donor.tails.items() if name in text}
    else:
        text |= {name: 0 for name in NEXT_TOKEN_KEYS if type(text.get(name)) is int and text[name] > 0}
    return result, problems


def has_layer_kinds(decoder: Decoder) -> bool:
    """True where config.json, or the model type, says that layers are of several kinds."""
    return any(len(set(map(repr, values))) > 1 for fact in FACTS if (values := decoder.values(fact)) is not None)


def _has_encoder(donor: Decoder) -> bool:
    architecture = donor.architecture
    return any(".encoder." in f".{name}" for name in (*architecture.before, *architecture.after))


def _carry(fact: Fact, donor: Decoder, text: dict[str, Any], origins: Origins) -> str | None:
    """Write one fact for the result's layers. Returns why that cannot be, None where it is done."""
    if donor.values(fact) is None:
        return None
    wanted: list[tuple[Origin, Any]] = []
    for index, layer in enumerate(origins):
        values = [_value(fact, origin, donor) for origin in layer]
        if any(_normal(value) != _normal(values[0]) for value in values):
            unlike = ", ".join(map(str, values))
            if fact.bound:
                return f"output layer {index} blends layers {unlike}: {fact.bound}"
            return f"output layer {index} blends layers of unlike `{fact.name}`: {unlike}."
        wanted.append((layer[0], values[0]))
    if _says(fact, text, wanted):
        return None
    if any(isinstance(value, Unsaid) for _, value in wanted):
        return (
            f"`{fact.name}` is not in every config.json, and layers of {text.get('model_type')} differ in it by a rule "
            "that is not known here; save the model with a current transformers, which writes it out."
        )
    try:
        fact.write(text, _renumbered(wanted) if fact.of_layers else [value for _, value in wanted])
    except Unwritable as reason:
        return str(reason)
    return None if _says(fact, text, wanted) else f"`{fact.name}` in config.json cannot say what these layers are."


def _value(fact: Fact, origin: Origin, donor: Decoder) -> Any:
    """What holds for a layer. A model that does not speak of it has what all layers of the donor have."""
    values = origin.decoder.values(fact)
    if values is not None:
        return values[origin.layer]
    own = donor.values(fact) or []
    return own[0] if own and all(value == own[0] for value in own) else Unsaid(origin.layer, depth=0)


def _says(fact: Fact, text: Mapping[str, Any], wanted: Sequence[tuple[Origin, Any]]) -> bool:
    """True where a config says of every layer what is wanted."""
    found = fact.read(text, len(wanted))
    if found is None:
        return False
    if not fact.of_layers:
        return all(_normal(value) == _normal(want) for value, (_, want) in zip(found, wanted, strict=True))
    return all(
        value is want if value is None or want is None else wanted[value][0] == Origin(origin.decoder, want)
        for value, (origin, want) in zip(found, wanted, strict=True)
    )


def _renumbered(wanted: Sequence[tuple[Origin, Any]]) -> Values:
    """References to layers as numbers of output layers: the last one before, or itself; None where it is no more."""
    found: Values = []
    for index, (origin, value) in enumerate(wanted):
        target = Origin(origin.decoder, value) if isinstance(value, int) else None
        before = (j for j in range(index, -1, -1) if wanted[j][0] == target)
        found.append(next(before, None))
    return found


def _normal(value: object) -> object:
    return _SAME_KINDS.get(value, value) if isinstance(value, str) else value


def _unknown_lists(donor: Decoder, known: set[str]) -> list[str]:
    depth = donor.architecture.depth
    return [
        f"`{key}` in config.json has one value a layer, or is as long by chance. If its values go with the layers: "
        f"`--assume-per-layer {key}`."
        for key, value in donor.text.items()
        if isinstance(value, list) and len(value) == depth > 1
        if key not in known and key not in (*NOT_PER_LAYER, *READ_ELSEWHERE)
    ]


def _odd_layers(facts: Sequence[Fact], origins: Origins) -> list[str]:
    """Layers with other tensors than the rest where config.json does not say why: their class goes by position."""
    odd = {decoder: _odd(decoder, facts) for decoder in dict.fromkeys(each.decoder for row in origins for each in row)}
    for index, layer in enumerate(origins):
        for origin in layer:
            places, depth = odd[origin.decoder], origin.decoder.architecture.depth
            was, now = origin.layer, index
            if set(places) == {0}:  # only whether a layer is the first counts, and below whether it is the last
                was, now = was == 0, now == 0
            elif set(places) == {depth - 1}:
                was, now = was == depth - 1, now == len(origins) - 1
            if places and was != now:
                which = f"layer{'s' if len(places) > 1 else ''} {', '.join(map(str, places))}"
                names = listed(sorted(set().union(*places.values())))
                return [
                    f"`{origin.decoder.name}`: {which} and the others differ in {names}, and config.json does not say "
                    f"why: by place, then. Layer {origin.layer} as output layer {index} would lose or lack some."
                ]
    return []


def _odd(decoder: Decoder, facts: Sequence[Fact]) -> dict[int, frozenset[str]]:
    """Layers whose tensors are not those of most layers of the same kind, and in which they differ."""
    layers = decoder.architecture.layers
    known = [
        [value == index for index, value in enumerate(values)] if fact.of_layers else values  # its own, or another's
        for fact in facts
        if (values := decoder.values(fact)) is not None
    ]
    kinds = [repr([values[index] for values in known]) for index in range(len(layers))]
    usual: dict[str, frozenset[str]] = {}
    for kind in dict.fromkeys(kinds):
        # Of two layers of a kind that differ, the later one is usual: it is a first layer that is made another way.
        sets = Counter(frozenset(layers[index]) for index in reversed(range(len(layers))) if kinds[index] == kind)
        usual[kind] = sets.most_common(1)[0][0]
    return {i: apart for i, kind in enumerate(kinds) if (apart := usual[kind] ^ frozenset(layers[i]))}


def _scale_for(scale: float, before: int, after: int) -> float:
    """The `scale_depth` by which MiniCPM's residuals, scale_depth / sqrt(depth), stay as large as they were.

    Of the numbers about there, the one that gives the same quotient to the last bit, if there is one.
    """
    near = scale * sqrt(after) / sqrt(before)
    candidates = [near, nextafter(near, inf), nextafter(near, 0)]
    return next((each for each in candidates if each / sqrt(after) == scale / sqrt(before)), near)
