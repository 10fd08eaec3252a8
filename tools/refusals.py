"""Whether a refusal was needed: look for a config that says what the moved layers are."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from answers import logits
from compare import Difference, Source, reference_of
from reassemble import DEPTH_NAMES, INDEX_LISTS
from shrink import from_config


def needless(source: Source, order: Sequence[int], letter: str) -> str | None:
    """The settings with which the class computes what the moved modules compute; None where none was found.
    Raises Difference where the search does not even find the original.

    The search is over the class's own config: lists by layer reordered, lists of layer numbers renumbered, and each
    whole number that the letter names, alone and with another one that speaks of layers, set to every value
    up to the new depth.
    """
    reference = reference_of(source, order)
    if isinstance(reference, str):
        return None
    state, expected = reference.state_dict(), logits(reference, source.prompt)
    whole, unmoved = range(source.depth), logits(source.model, source.prompt)
    if not _computes(source, _reordered(source, whole, {}), source.model.state_dict(), source.prompt, unmoved):
        raise Difference(f"refused ({letter}), and the class cannot be made again from its own config")
    for settings in _settings(source, order, letter):
        config = _reordered(source, order, settings)
        if _computes(source, config, state, source.prompt, expected):
            return f"with {settings or 'its lists reordered'} the class computes what the moved layers compute."
    return None


def _settings(source: Source, order: Sequence[int], letter: str) -> Iterator[dict[str, int]]:
    text = vars(source.model.config.get_text_config(decoder=True))
    numbers = [key for key, value in text.items() if type(value) is int and key not in DEPTH_NAMES]
    named = [key for key in numbers if re.search(rf"`{key}\b", letter)]
    beside = [key for key in numbers if "layer" in key and key not in named]
    yield {}
    for key in named:
        yield from ({key: value} for value in range(len(order) + 1))
    pairs = [*itertools.combinations(named, 2), *itertools.product(named, beside)]
    for pair in pairs:
        for values in itertools.product(range(len(order) + 1), repeat=2):
            yield dict(zip(pair, values, strict=True))


def _reordered(source: Source, order: Sequence[int], settings: Mapping[str, int]) -> dict[str, Any]:
    """The config as JSON, with the decoder's part rewritten."""

    def rewritten(part: dict[str, Any]) -> dict[str, Any]:
        new = {key: rewritten(value) if isinstance(value, dict) else value for key, value in part.items()}
        if not any(part.get(key) == source.depth for key in DEPTH_NAMES):
            return new
        for key, value in part.items():
            if key in DEPTH_NAMES and value == source.depth:
                new[key] = len(order)
            elif isinstance(value, list) and len(value) == source.depth:
                new[key] = [value[layer] for layer in order]
            elif isinstance(value, list) and key in INDEX_LISTS:
                new[key] = [place for place, layer in enumerate(order) if layer in value]
        return {**new, **settings}

    return rewritten(source.model.config.to_dict())


def _computes(
    source: Source,
    config: dict[str, Any],
    state: Mapping[str, torch.Tensor],
    prompt: torch.Tensor,
    expected: torch.Tensor,
) -> bool:
    try:
        model = from_config(type(source.model), type(source.model.config).from_dict(config)).eval()
        model.load_state_dict(state)
        return torch.equal(logits(model, prompt), expected)
    except Exception:  # a config that the class does not take, or that has other tensors, is none of those looked for
        return False
