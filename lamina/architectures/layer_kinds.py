"""What a config.json leaves unsaid: kinds of layers by a rule of their model type, and whether ends are tied.

`layer_kinds.json` is made by `tools/make_layer_kinds.py` from transformers, which is asked there and never here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Rule:
    """One kind for each layer, from its index and a number in config.json (the first of `keys` that is there).

    `every` p: the second kind stands on each p-th layer, on the last of each p or (`at_first`) on the first, and with
    `ends_special` on the model's last layer; all others are of the first kind. `start` k: the first kind up to layer
    k, the second from there on. With `until` k, the second kind stands before layer k alone. With `only_if`, the second
    kind stands nowhere unless that flag of the config is set. `keys` name the p or, where there is one, the k.
    """

    kinds: tuple[Any, ...]
    keys: tuple[str, ...] = ()
    every: int | None = None
    start: int | None = None
    until: int | None = None
    at_first: bool = False
    ends_special: bool = False
    only_if: str = ""

    def values(self, config: Mapping[str, Any], depth: int) -> list[Any]:
        """The kind of each of `depth` layers."""
        if (self.every is None and self.start is None) or (self.only_if and not config.get(self.only_if)):
            return [self.kinds[0]] * depth
        written = next((config[key] for key in self.keys if type(config.get(key)) is int), None)
        if self.start is not None:
            start = self.start if written is None else written
            return [self.kinds[index >= start] for index in range(depth)]
        period, until = self.every or 1, depth
        if self.until is not None:
            until = self.until if written is None else written
        elif written is not None:
            period = max(1, written)
        special = 0 if self.at_first else period - 1
        found = [self.kinds[index % period == special and index < until] for index in range(depth)]
        return [*found[:-1], self.kinds[1]] if self.ends_special and found else found


@dataclass(frozen=True)
class ModelType:
    """What transformers does with a model type where config.json does not say it.

    `tied`: whether the embedding is the head. `head` is the class's name for it, None where it always has one of its
    own. `rules` say the values of lists with one a layer, None for a list that follows no rule of ours. `defaults` are
    values of single keys. `last` is the kind that a class makes of its last layer, whatever its list says of it.
    """

    tied: bool
    head: str | None
    rules: Mapping[str, Rule | None]
    defaults: Mapping[str, Any]
    last: Mapping[str, Any]


def model_type(config: Mapping[str, Any]) -> ModelType | None:
    """What is known of the config's model type, None where that is nothing."""
    return _known().get(str(config.get("model_type")))


@cache
def _known() -> Mapping[str, ModelType]:
    content = json.loads(files("lamina.architectures").joinpath("layer_kinds.json").read_bytes())
    return {
        name: ModelType(
            record["tied"],
            record["head"],
            {key: None if rule is None else _rule(rule) for key, rule in record.get("rules", {}).items()},
            record.get("defaults", {}),
            record.get("last", {}),
        )
        for name, record in content["model_types"].items()
    }


def _rule(written: dict[str, Any]) -> Rule:
    return Rule(**written | {name: tuple(value) for name, value in written.items() if isinstance(value, list)})
