"""What config.json says of single layers: how each such key is read for a stack of layers, and written for another.

A fact has one value a layer. Values travel with their layers; then the config is written so that it says of each layer
of the result what was said of the layer that it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from lamina.architectures.layer_kinds import model_type

Config = Mapping[str, Any]  # the decoder's part of config.json
Values = list[Any]


@dataclass(frozen=True)
class Fact:
    """One thing that differs by layer. `read` gives a value a layer, None where the config does not speak of it.

    `write` changes a config so that `read` gives these values; it raises Unwritable where no config can say them.
    `of_layers` marks values that are themselves numbers of layers, which others will have in another stack.
    `bound` is why a layer is bound to its place, whatever is written; "" where it may move.
    """

    name: str
    read: Callable[[Config, int], Values | None]
    write: Callable[[dict[str, Any], Values], None]
    of_layers: bool = False
    bound: str = ""


class Unwritable(ValueError):
    """No config.json of this model type says these values. The message is the reason, in a sentence."""


def value_list(key: str, *stale: str) -> Fact:
    """A list with one value a layer, or what the model type puts there. `stale` keys only say how it is made."""

    def read(config: Config, depth: int) -> Values | None:
        written, known = config.get(key), model_type(config)
        if isinstance(written, list) and written:
            if len(written) != depth:
                return None
            return [*written[:-1], known.last[key]] if known is not None and key in known.last else list(written)
        if (written is not None and written != []) or known is None or key not in known.rules:
            return None
        rule = known.rules[key]
        return [Unsaid(index, depth) for index in range(depth)] if rule is None else rule.values(config, depth)

    def write(config: dict[str, Any], values: Values) -> None:
        known = model_type(config)
        if known is not None and key in known.last and values[-1] != known.last[key]:
            raise Unwritable(
                f"{config['model_type']} takes its last layer for {known.last[key]} whatever `{key}` says, and here it "
                f"would be {values[-1]}: end with a layer of that kind."
            )
        config[key] = values
        for scalar in stale:  # would say the same of the old layers
            config.pop(scalar, None)

    return Fact(key, read, write)


@dataclass(frozen=True)
class Unsaid:
    """What config.json leaves to the model's code, by no rule that is known here: the same at the same place alone."""

    index: int
    depth: int


def index_list(key: str) -> Fact:
    """A list of layers by number."""

    def read(config: Config, depth: int) -> Values | None:
        written = config.get(key)
        return None if not isinstance(written, list) else [index in written for index in range(depth)]

    def write(config: dict[str, Any], values: Values) -> None:
        config[key] = [index for index, value in enumerate(values) if value]

    return Fact(key, read, write)


def by_index(key: str) -> Fact:
    """A mapping from layers, by number, to what holds for them alone."""

    def read(config: Config, depth: int) -> Values | None:
        written = config.get(key)
        if not isinstance(written, Mapping) or not written:
            return None
        return [written.get(str(index), written.get(index)) for index in range(depth)]

    def write(config: dict[str, Any], values: Values) -> None:
        config[key] = {str(index): value for index, value in enumerate(values) if value is not None}

    return Fact(key, read, write)


def references(key: str) -> Fact:
    """A list with the number of another layer for each."""

    def read(config: Config, depth: int) -> Values | None:
        written = config.get(key)
        return list(written) if isinstance(written, list) and len(written) == depth else None

    def write(config: dict[str, Any], values: Values) -> None:
        if None in values:
            raise Unwritable(f"`{key}` in config.json names layers that come no more before those that refer to them.")
        config[key] = values

    return Fact(key, read, write, of_layers=True)


def first_layers(key: str, unless: str) -> Fact:
    """The number of layers at the start that are dense, all others being experts; `unless` a list says it."""

    def read(config: Config, depth: int) -> Values | None:
        count = _said(config, key)
        known = model_type(config)
        if type(count) is not int or config.get(unless) or (known is not None and unless in known.rules):
            return None
        return [index < count for index in range(depth)]

    def write(config: dict[str, Any], values: Values) -> None:
        config[key] = len(list(takewhile(bool, values)))
        if any(values[config[key] :]):
            raise Unwritable(
                f"`{key}` in config.json says that dense layers come first, and these would come after others."
            )

    return Fact(key, read, write)


def _indexers() -> Fact:
    """Whether a layer selects what it attends to (`full`) or takes what the last one before it selected (`shared`)."""
    listed = value_list(key := "indexer_types")

    def write(config: dict[str, Any], values: Values) -> None:
        before = list(takewhile(lambda kind: kind != "full", values))
        if "shared" in before:
            raise Unwritable(
                f"`{key}` in config.json: output layer {before.index('shared')} would take what a layer before it "
                "selects (`shared`), and none before it does: let a layer that is `full` come first."
            )
        listed.write(config, values)

    return replace(listed, write=write)


def _sparse_step() -> Fact:
    """Every n-th layer has experts, but for those that are named (Qwen)."""

    def read(config: Config, depth: int) -> Values | None:
        step, dense = _said(config, "decoder_sparse_step"), config.get("mlp_only_layers") or []
        if type(step) is not int or step < 1:
            return None
        return [(index + 1) % step == 0 and index not in dense for index in range(depth)]

    def write(config: dict[str, Any], values: Values) -> None:
        config["decoder_sparse_step"] = 1
        config["mlp_only_layers"] = [index for index, is_sparse in enumerate(values) if not is_sparse]

    return Fact("decoder_sparse_step", read, write)


def _llama4_experts() -> Fact:
    def read(config: Config, depth: int) -> Values | None:
        named, step = config.get("moe_layers"), _said(config, "interleave_moe_layer_step")
        if isinstance(named, list):
            return [index in named for index in range(depth)]
        return [(index + 1) % step == 0 for index in range(depth)] if type(step) is int and step > 0 else None

    def write(config: dict[str, Any], values: Values) -> None:
        config["moe_layers"] = [index for index, is_sparse in enumerate(values) if is_sparse]

    return Fact("moe_layers", read, write)


def _ernie_experts() -> Fact:
    """Experts on each n-th layer of a range (ERNIE)."""
    keys = ("moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval")

    def read(config: Config, depth: int) -> Values | None:
        start, end, interval = (_said(config, key) for key in keys)
        if type(start) is not int or type(end) is not int or type(interval) is not int or interval < 1:
            return None
        last = depth - 1 if end < 0 else end
        return [(index + 1) % interval == 0 and start <= index <= last for index in range(depth)]

    def write(config: dict[str, Any], values: Values) -> None:
        sparse = [index for index, is_sparse in enumerate(values) if is_sparse]
        start, end = (sparse[0], sparse[-1]) if sparse else (len(values), len(values))
        for interval in range(1, len(values) + 1):
            config.update(zip(keys, (start, end, interval), strict=True))
            if read(config, len(values)) == values:
                return
        raise Unwritable(
            f"`{keys[0]}`, `{keys[1]}` and `{keys[2]}` in config.json cannot say which layers have experts."
        )

    return Fact("moe_layer_interval", read, write)


def period(kind: str) -> Fact:
    """A kind of layer on each n-th layer from a first one on (Jamba)."""
    keys = (f"{kind}_layer_period", f"{kind}_layer_offset")

    def read(config: Config, depth: int) -> Values | None:
        every, offset = (_said(config, key) for key in keys)
        if type(every) is not int or type(offset) is not int or every < 1 or config.get("layers_block_type"):
            return None
        return [index % every == offset for index in range(depth)]

    def write(config: dict[str, Any], values: Values) -> None:
        for every in range(1, len(values) + 2):
            for offset in range(every):
                if [index % every == offset for index in range(len(values))] == values:
                    config.update(zip(keys, (every, offset), strict=True))
                    return
        raise Unwritable(
            f"`{keys[0]}` and `{keys[1]}` in config.json can only say that a kind of layer comes at regular distances, "
            "and here it would not."
        )

    return Fact(keys[0], read, write)


def _shared_kv() -> Fact:
    """The last layers use keys and values of the last layer before them that is of their kind (Gemma 3n and 4)."""
    key = "num_kv_shared_layers"

    def read(config: Config, depth: int) -> Values | None:
        count = _said(config, key)
        if type(count) is not int or count <= 0:
            return None
        kinds = LAYER_TYPES.read(config, depth) or [None] * depth
        own = max(0, depth - count)
        last = {kind: index for index, kind in enumerate(kinds[:own])}
        return [index if index < own else last.get(kind) for index, kind in enumerate(kinds)]

    def write(config: dict[str, Any], values: Values) -> None:
        config[key] = sum(value != index for index, value in enumerate(values))
        if read(config, len(values)) != values:
            raise Unwritable(
                f"`{key}` in config.json: the last layers use the keys and values of a layer before them, and can "
                "neither lose it nor come before others. Layers farther down can be repeated."
            )

    return Fact(key, read, write, of_layers=True)


def _cycle() -> Fact:
    """Kinds that repeat (RecurrentGemma): a cycle as long as the stack says any order."""

    def read(config: Config, depth: int) -> Values | None:
        cycle = config.get("block_types")
        return [cycle[index % len(cycle)] for index in range(depth)] if isinstance(cycle, list) and cycle else None

    def write(config: dict[str, Any], values: Values) -> None:
        config["block_types"] = values

    return Fact("block_types", read, write)


def _run_lengths() -> Fact:
    """Kinds as runs, `[[["global", "local"], 12]]` (GPT-Neo)."""

    def read(config: Config, depth: int) -> Values | None:
        runs = config.get("attention_types")
        if not isinstance(runs, list):
            return None
        found = [kind for kinds, count in runs for _ in range(count) for kind in kinds]
        return found if len(found) == depth else None

    def write(config: dict[str, Any], values: Values) -> None:
        config["attention_types"] = [[[value], 1] for value in values]
        if "attention_layers" in config:
            config["attention_layers"] = values

    return Fact("attention_types", read, write)


def _letters(key: str) -> Fact:
    """A word with one letter a layer (Nemotron-H in older files)."""

    def read(config: Config, depth: int) -> Values | None:
        word = config.get(key)
        return list(word) if isinstance(word, str) and len(word) == depth else None

    def write(config: dict[str, Any], values: Values) -> None:
        config[key] = "".join(values)

    return Fact(key, read, write)


def _linear_attention() -> Fact:
    """Layers by number from 1, in two lists of a mapping (Kimi Linear in older files)."""
    key, lists = "linear_attn_config", ("kda_layers", "full_attn_layers")

    def read(config: Config, depth: int) -> Values | None:
        written = config.get(key)
        if not isinstance(written, Mapping) or not all(isinstance(written.get(each), list) for each in lists):
            return None
        return [tuple(index + 1 in written[each] for each in lists) for index in range(depth)]

    def write(config: dict[str, Any], values: Values) -> None:
        found = {each: [j + 1 for j, value in enumerate(values) if value[i]] for i, each in enumerate(lists)}
        config[key] = {**config[key], **found}

    return Fact(key, read, write)


def _by_position(key: str, harmless: Sequence[object], reason: str) -> Fact:
    """Something that every layer knows by its own number: no config can say it of a layer that has moved."""

    def read(config: Config, depth: int) -> Values | None:
        return None if _said(config, key) in harmless else list(range(depth))

    def write(config: dict[str, Any], _values: Values) -> None:
        raise Unwritable(f"`{key}: {_said(config, key)}` in config.json: {reason}.")

    return Fact(key, read, write)


def own_index(kind: str, reason: str) -> Fact:
    """A model type whose layers compute with their own number, whatever the config says."""

    def read(config: Config, depth: int) -> Values | None:
        return list(range(depth)) if config.get("model_type") == kind else None

    def write(_config: dict[str, Any], _values: Values) -> None:
        raise Unwritable(bound)

    bound = f"layers of {kind} {reason}. Leave each where it is."
    return Fact(f"place in {kind}", read, write, bound=bound)


def _said(config: Config, key: str) -> Any:
    """A key's value, or its default in the model type."""
    if key in config:
        return config[key]
    known = model_type(config)
    return None if known is None else known.defaults.get(key)


LAYER_TYPES = value_list(
    "layer_types", "sliding_window_pattern", "_sliding_window_pattern", "full_attention_interval",
    "global_attn_every_n_layers", "layer_group_size", "prefix_dense_sliding_window_pattern", "max_window_layers",
)  # fmt: skip

# In the order in which they are written: what a list says, a number does not have to say.
FACTS: Sequence[Fact] = (
    LAYER_TYPES,
    value_list("mlp_layer_types", "first_k_dense_replace", "moe_layer_freq", "num_hash_layers"),
    value_list("no_rope_layers", "no_rope_layer_interval"),
    _indexers(),
    *map(value_list, (
        "layers_block_type", "layer_rope_theta", "swiglu_limits", "swiglu_limits_shared",
        "num_attention_heads_per_layer", "intermediate_size", "activation_sparsity_pattern", "attn_type_list",
        "attn_layers", "attention_window", "attention_windows", "moe_layer_freq", "moe_topk", "num_experts",
        "num_shared_expert", "moe_intermediate_size", "block_configs", "hybrid_layer_pattern",
    )),
    *map(index_list, (
        "full_attn_idxs", "attn_layer_indices", "cross_attention_layers", "rope_scaling_layers", "ple_layer_ids",
        "local_layer_ids", "hybrid_layer_ids",
    )),
    by_index("per_layer_config"),
    references("kv_source_layers"),
    first_layers("first_k_dense_replace", unless="mlp_layer_types"),
    first_layers("num_dense_layers", unless="mlp_layer_types"),
    _sparse_step(),
    _llama4_experts(),
    _ernie_experts(),
    period("attn"),
    period("expert"),
    _shared_kv(),
    _cycle(),
    _run_lengths(),
    _letters("hybrid_override_pattern"),
    _linear_attention(),
    _by_position("scale_attn_by_inverse_layer_idx", (False, None), "each layer divides by its own number"),
    _by_position(
        "n_layers_per_attn_res_block", (None,), "what a layer reads of earlier ones goes by its number, and tensors "
        "for that stand in lists beside the layers (`attn_res`), the first of them of the second layer",
    ),
    # The n-th summand of its stream, the embedding being the first: sqrt((n - 1) / n) stream + sqrt(1 / n) block.
    own_index("beam", "weigh what they add against the stream by their own number: moved, they are other functions"),
    own_index("diffllama", "compute with their own number: moved, they are other functions"),
    own_index("zamba2", "share blocks by their numbers, so that no layer stands for itself"),
)  # fmt: skip


# Keys that facts read under another name.
READ_ELSEWHERE = ("mlp_only_layers", "attention_layers")
