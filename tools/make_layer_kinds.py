"""Make lamina/architectures/layer_kinds.json: ask the installed transformers what a config.json leaves unsaid.

A config is made of every model type at several depths and with several values of the numbers that may decide a layer's
kind; a rule is kept for a list that it gives each time. Planning reads the file and never imports transformers.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from itertools import permutations, product
from pathlib import Path
from typing import Any

from lamina.architectures.layer_kinds import Rule

FILE = Path(__file__).parent.parent / "lamina/architectures/layer_kinds.json"

LISTS = ("layer_types", "mlp_layer_types", "no_rope_layers", "indexer_types", "layers_block_type")
DEPTHS = (1, 2, 3, 5, 6, 7, 8, 12, 13, 24, 31, 66)
SETTINGS = (1, 2, 3, 4, 5)

# Numbers of config.json that may say where a kind stands; of some, older files alone have them.
PERIODS = (
    "sliding_window_pattern", "_sliding_window_pattern", "full_attention_interval", "global_attn_every_n_layers",
    "layer_group_size", "no_rope_layer_interval",
)  # fmt: skip
STARTS = ("first_k_dense_replace", "num_hash_layers", "num_dense_layers")
WINDOW = {"use_sliding_window": True, "sliding_window": 8}

# Numbers that decide by themselves what a layer is: what they are where config.json does not hold them.
SCALARS = (
    "first_k_dense_replace", "num_dense_layers", "decoder_sparse_step", "mlp_only_layers", "moe_layer_start_index",
    "moe_layer_end_index", "moe_layer_interval", "interleave_moe_layer_step", "expert_layer_period",
    "expert_layer_offset", "attn_layer_period", "attn_layer_offset", "num_kv_shared_layers",
    "n_layers_per_attn_res_block", "num_mem_blocks", "scale_depth",
)  # fmt: skip


def main() -> None:
    FILE.write_text(content())


def content() -> str:
    """The file as the installed transformers makes it."""
    import transformers

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity(logging.CRITICAL)
    records = dict(sorted(_records()))
    lines = [f"    {json.dumps(name)}: {json.dumps(record)}" for name, record in records.items()]
    head = f'{{\n  "transformers": {json.dumps(transformers.__version__)},\n  "model_types": {{\n'
    return head + ",\n".join(lines) + "\n  }\n}\n"


def _records() -> Iterator[tuple[str, dict[str, Any]]]:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    named: dict[str, dict[str, Any]] = {}
    for config_class, model_class in MODEL_FOR_CAUSAL_LM_MAPPING.items():
        try:
            config = AutoConfig.for_model(config_class.model_type)
            text = config.get_text_config(decoder=True)
        except Exception as error:
            print(f"{config_class.model_type} has no default config: {type(error).__name__}", file=sys.stderr)
            continue
        rules = {key: rule and _written(rule) for key in LISTS for rule in _fitting(type(text), key)}
        written = text.to_dict()
        defaults = {key: written[key] for key in SCALARS if written.get(key) not in (None, [])}
        record: dict[str, Any] = {"tied": bool(getattr(config, "tie_word_embeddings", False))}
        record |= {"head": _head(model_class)}
        record |= {"rules": rules} if rules else {}
        last = {key: kind for key in LISTS if (kind := _last(type(text), key)) is not None}
        record |= {"last": last} if last else {}
        named[config.model_type] = record | ({"defaults": defaults} if defaults else {})
        named.setdefault(text.model_type, named[config.model_type])
    return iter(named.items())


def _head(model_class: Any) -> str | None:
    """The tensor that a tied class makes of its embedding; None where the class ties nothing."""
    tied = getattr(model_class, "_tied_weights_keys", None) or {}
    of_heads = (name for name in tied if name.endswith("weight") and not re.search("embed_tokens|embeddings", name))
    return next(of_heads, None)


def _written(rule: Rule) -> dict[str, Any]:
    """A rule without what it leaves at its default."""
    defaults = {field.name: field.default for field in fields(Rule)}
    return {name: value for name, value in asdict(rule).items() if value != defaults[name]}


def _last(config_class: Any, key: str) -> Any:
    """The kind that a class makes of its last layer, whatever its list says there; None where it takes the list."""
    depth_key = config_class.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    try:
        usual = config_class(**{depth_key: 12}).to_dict().get(key)
        if not isinstance(usual, list) or len(usual) != 12:
            return None
        for kind in dict.fromkeys(usual):
            given = [*usual[:-1], kind]
            found = config_class(**{depth_key: 12, key: given}).to_dict()[key]
            if found[-1] != kind and found[:-1] == given[:-1]:
                return found[-1]
    except Exception:  # a class that takes no such depth or list
        return None
    return None


def _fitting(config_class: Any, key: str) -> tuple[Rule | None, ...]:
    """The rule that gives the list `key` of a config class at every depth and setting; None where none of ours does.

    Empty where the class makes no such list, or makes it from another list.
    """
    depth_key = config_class.attribute_map.get("num_hidden_layers", "num_hidden_layers")

    def made(depth: int, settings: Mapping[str, Any]) -> list[Any] | None:
        try:
            found = config_class(**{depth_key: depth}, **settings).to_dict().get(key)
        except Exception:  # this class has no such depth or setting
            return None
        return found if isinstance(found, list) and len(found) == depth else None

    usual = {depth: found for depth in DEPTHS if (found := made(depth, {})) is not None}
    if not usual or not all(isinstance(value, str | int) for found in usual.values() for value in found):
        return ()
    if key != "no_rope_layers":
        for extra in ({}, WINDOW):
            if made(7, {"no_rope_layers": [0] * 7, **extra}) != made(7, {"no_rope_layers": [1] * 7, **extra}):
                return ()
    numbers = {name: WINDOW if name == "max_window_layers" else {} for name in (*PERIODS, *STARTS, "max_window_layers")}
    keys = {
        name: extra
        for name, extra in numbers.items()
        if any(made(13, {name: value, **extra}) not in (None, usual.get(13)) for value in SETTINGS)
    }
    settings: list[dict[str, Any]] = [{}, *keys.values()]
    settings += [{name: value, **extra} for name, extra in keys.items() for value in SETTINGS]
    seen = [(each, depth, found) for each in settings for depth in DEPTHS if (found := made(depth, each)) is not None]
    kinds = list(dict.fromkeys(value for *_, found in seen for value in found))
    rules = _candidates(kinds, tuple(keys))
    return (
        next((rule for rule in rules if all(rule.values(each, depth) == found for each, depth, found in seen)), None),
    )


def _candidates(kinds: list[Any], keys: tuple[str, ...]) -> Iterator[Rule]:
    if len(kinds) == 1:
        yield Rule(tuple(kinds))
    for pair in permutations(kinds, 2):
        if keys == ("max_window_layers",):
            for number in range(100):
                yield Rule(pair, keys, start=number, only_if="use_sliding_window")
                yield Rule(pair, keys, start=number)
                yield Rule(pair, keys, every=2, at_first=True, until=number, only_if="use_sliding_window")
        yield from (Rule(pair, keys, start=start) for start in range(8))
        for period, at_first, ends in product(range(2, 13), (False, True), (False, True)):
            yield Rule(pair, keys, every=period, at_first=at_first, ends_special=ends)


if __name__ == "__main__":
    main()
