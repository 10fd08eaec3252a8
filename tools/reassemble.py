"""Put the layers of a live transformers model in another order, by moving modules.

This is what a stack of layers has to compute, found without Lamina: the modules are copied as they are, every
number that only names a layer's place is set to the new place, and every list with one value a layer goes with
the layers. Nothing is rebuilt from a config. What a layer computes with stays its own, its number too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard

import torch
from places import numbers, renumber
from torch import nn


class NotReassembled(Exception):
    """The layers of this class cannot be moved as modules; the text says why."""


def reassembled(model: nn.Module, order: Sequence[int]) -> Any:
    """A copy of `model` whose layer j is a copy of its layer `order[j]`. Raises NotReassembled."""
    moved: Any = copy.deepcopy(model)
    depth = depth_of(moved.config)
    paths = stacks_of(moved)
    if not paths:
        raise NotReassembled(f"no list of {depth} modules, which is the depth of its config")
    outside = _modules_outside(moved, [moved.get_submodule(path) for path in paths])
    places = [(path, numbers(moved.get_submodule(path))) for path in paths]
    for path in paths:
        moved.set_submodule(path, _reordered(moved.get_submodule(path), order, shared=_configs(moved)))
    for module in outside:
        _reorder_attributes(module, depth, order)
    for config in _configs(moved):
        if _describes_the_stack(config, moved.config):
            _reorder_config(config, depth, order)
    _reorder_packed(moved, depth, order)
    renumber(moved, places)
    each: Any
    for each in outside:
        if hasattr(each, "layers_are_rescaled"):  # RWKV divides weights by place at its first call, once
            each.layers_are_rescaled = False
    return moved


def depth_of(config: Any) -> int:
    """The number of layers of the decoder that a config describes."""
    text = config.get_text_config(decoder=True)
    for key in ("decoder_layers", "num_decoder_layers", "num_layers"):  # `num_hidden_layers` may be the encoder's
        if isinstance(vars(text).get(key), int):
            return int(getattr(text, key))
    return int(text.num_hidden_layers)


def stacks_of(model: Any) -> list[str]:
    """The path of each list of as many modules as there are layers."""
    return list(_lists(model, depth_of(model.config)))


def _lists(model: nn.Module, depth: int, path: str = "") -> Iterator[str]:
    for name, child in list(model.named_children()):
        if isinstance(child, nn.ModuleList) and len(child) == depth:
            yield path + name
        else:
            yield from _lists(child, depth, f"{path}{name}.")


def _modules_outside(model: nn.Module, stacks: Sequence[nn.Module]) -> list[nn.Module]:
    inside = {id(module) for stack in stacks for module in stack.modules()}
    return [module for module in model.modules() if id(module) not in inside]


def _configs(model: nn.Module) -> list[Any]:
    """Every config object that a module of the model holds, once."""
    found = {
        id(config): config for module in model.modules() if (config := getattr(module, "config", None)) is not None
    }
    text = model.config.get_text_config(decoder=True)  # type: ignore[union-attr,operator]
    return list({**found, id(text): text}.values())


def _describes_the_stack(config: Any, whole: Any) -> bool:
    text = whole.get_text_config(decoder=True)
    return type(config) is type(text) and depth_of(config) == depth_of(text)


def _reordered(stack: Any, order: Sequence[int], shared: Iterable[Any]) -> nn.ModuleList:
    """Copies of the modules in the new order; the model's config objects are not copied but stay shared."""
    memory = {id(config): config for config in shared}
    return nn.ModuleList(copy.deepcopy(stack[old], dict(memory)) for old in order)


def _reorder_attributes(module: nn.Module, depth: int, order: Sequence[int]) -> None:
    """Lists by layer, lists of layers and counts of layers that a module outside the stack keeps for itself."""
    for name, value in list(vars(module).items()):
        if _is_per_layer(value, depth):
            setattr(module, name, [value[index] for index in order])
        elif name in DEPTH_NAMES and value == depth:
            setattr(module, name, len(order))
        elif _is_index_list(value, name, depth):
            setattr(module, name, _renumbered(value, order))


def _reorder_config(config: Any, depth: int, order: Sequence[int]) -> None:
    """The same for a config object, by plain assignment; computed lists are replaced in a class of its own."""
    stored = {name: value for name, value in vars(config).items() if not name.startswith("__")}
    computed = {}
    for name in dir(type(config)):
        if isinstance(getattr(type(config), name, None), property) and name not in stored:
            try:
                value = getattr(config, name)
            except Exception:  # a property that holds for some settings only says nothing about layers
                continue
            if _is_per_layer(value, depth):
                computed[name] = [value[index] for index in order]
    for name, value in stored.items():
        if _is_per_layer(value, depth):
            config.__dict__[name] = [value[index] for index in order]
        elif name in DEPTH_NAMES and value == depth:
            config.__dict__[name] = len(order)
        elif _is_index_list(value, name, depth):
            config.__dict__[name] = _renumbered(value, order)
    if computed:
        config.__class__ = type(type(config).__name__, (type(config),), computed)


# The last two because transformers counts the caches of a decoder by its encoder's layers.
DEPTH_NAMES = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers",
               "num_blocks", "encoder_layers", "num_encoder_layers")  # fmt: skip
INDEX_LISTS = ("cross_attention_layers", "full_attn_idxs", "attn_layer_indices", "mlp_only_layers", "moe_layers",
               "ple_layer_ids", "local_layer_ids", "hybrid_layer_ids")  # fmt: skip


def _renumbered(layers: Sequence[int], order: Sequence[int]) -> list[int]:
    return [new for new, old in enumerate(order) if old in layers]


def _is_per_layer(value: object, depth: int) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == depth
        and all(isinstance(each, str | int | float | bool | None) for each in value)
    )


def _is_index_list(value: object, name: str, depth: int) -> TypeGuard[Sequence[int]]:
    return name in INDEX_LISTS and isinstance(value, list | tuple) and len(value) != depth


def _reorder_packed(model: Any, depth: int, order: Sequence[int]) -> None:
    """Tensors outside the stack that hold a block of rows, or of columns, for each layer one after another."""
    width = getattr(model.config.get_text_config(decoder=True), "hidden_size_per_layer_input", None)
    if not width:
        return
    for module in model.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            for dim, size in enumerate(value.shape):
                if size == depth * width:
                    blocks = value.data.unflatten(dim, (depth, width))
                    packed = blocks.index_select(dim, torch.tensor(list(order))).flatten(dim, dim + 1)
                    setattr(module, name, nn.Parameter(packed))
