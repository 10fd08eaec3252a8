"""Hold what Lamina made of a tiny model against what transformers makes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from answers import cached_logits, gap, logits, tokens
from places import run_in_order
from reassemble import depth_of, reassembled, stacks_of
from safetensors.torch import load_file
from shrink import DEPTH

import lamina

# Cached and uncached logits are sums in another order; the classes themselves differ by less than this, or by far more.
CACHE_TOLERANCE = 1e-4

# Layers of a model that scales its stream by halves on the way add up the same sums at another scale (RWKV).
IN_ORDER_TOLERANCE = 1e-4


class NoReference(Exception):
    """The modules of a class cannot be moved in memory, so that nothing is there to hold a merge against."""


class Difference(Exception):
    """Two things that had to be equal are not."""


@dataclass(frozen=True)
class Source:
    """A tiny model as transformers loads it from its folder. `prompt` has int64 [1, tokens].

    `has_cache` where its cache works as it stands; `cache_remark` is why cached logits cannot be held against
    uncached ones, "" where they can.
    """

    folder: Path
    model: Any
    prompt: torch.Tensor
    has_cache: bool
    cache_remark: str

    @property
    def depth(self) -> int:
        """The number of layers. Where a class has several stacks and no such number, that of most tiny models."""
        try:
            return depth_of(self.model.config)
        except AttributeError:
            return DEPTH


def open_source(model: Any, folder: Path) -> Source:
    """Save a model and load it again. Raises Difference where the class itself does not get through that."""
    model.save_pretrained(folder)
    loaded = load(folder, type(model))
    check_state(loaded, model, "saved and loaded by transformers alone")
    prompt = tokens()
    uncached = logits(loaded, prompt)
    if not bool(torch.isfinite(uncached).all()):
        raise Difference("its logits are not finite")
    if not torch.equal(uncached, logits(loaded, prompt)):
        raise Difference("two equal calls give unequal logits")
    return Source(folder, loaded, prompt, *_cache(loaded, prompt, uncached))


def _cache(model: Any, prompt: torch.Tensor, uncached: torch.Tensor) -> tuple[bool, str]:
    """Whether a class's cache works, and why it cannot be held against no cache."""
    try:
        cached = cached_logits(model, prompt)
    except Exception as error:  # a class whose cache does not work as it stands
        return False, f"the class's own cache fails ({told(error)})"
    if cached is None:
        return False, "the class has no cache"
    if (own := gap(cached, uncached)) > CACHE_TOLERANCE:
        return True, f"cached and uncached logits of the class itself differ by {own:.1g}"
    return True, ""


def load(folder: Path, kind: Any) -> Any:
    """The model of a folder, of this class. Raises Difference where a tensor has no place or a place no tensor.

    Parameters are copied to memory of their own: a mapped file may lie at an address for which a matrix product
    adds up in another order.
    """
    model, info = kind.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager", dtype=torch.float32
    )
    faults = {key: sorted(map(str, found)) for key, found in info.items() if found and key != "error_msgs"}
    if faults:
        raise Difference(f"loaded with {json.dumps(faults)[:300]}")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
    return model.eval()


def check_self_merge(source: Source, out: Path) -> str:
    """All layers in their own order are the same file again: every tensor's bits, and the config."""
    merge(source, range(source.depth), out)
    check_tensors(load_file(out / "model.safetensors"), load_file(source.folder / "model.safetensors"), "self-merge")
    ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (out, source.folder))
    if ours != theirs:
        keys = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        raise Difference(f"self-merge: config.json differs in {', '.join(keys)}")
    return ""


def check_move(source: Source, order: Sequence[int], out: Path) -> str:
    """Merge the layers in this order and hold them against the moved modules. Returns what could not be compared.

    Raises LaminaError where Lamina refuses, Difference where anything is unequal, NoReference where nothing can tell.
    """
    reference = reference_of(source, order)
    merge(source, order, out)
    if isinstance(reference, str):
        raise NoReference(f"merged, and there is no reference: {reference}")
    merged = load(out, type(source.model))
    found, expected = logits(merged, source.prompt), logits(reference, source.prompt)
    check_state(merged, reference, "against the moved modules")  # after both have run: RWKV scales what it holds
    check_equal(found, expected, "logits")
    check_in_order(source, order, found)
    if not source.has_cache:
        return source.cache_remark
    works, remark = _cache(reference, source.prompt, expected)
    if works:
        cached, kept = cached_logits(merged, source.prompt), cached_logits(reference, source.prompt)
        if cached is None or kept is None:
            raise Difference("the original has a cache, and with its layers moved it has none")
        check_equal(cached, kept, "cached logits")
    return source.cache_remark or (remark and f"with the modules moved in memory, {remark}")


def check_in_order(source: Source, order: Sequence[int], found: torch.Tensor) -> None:
    """The layers run in this order where they stand, in a model that nothing is moved in, give these logits."""
    paths = stacks_of(source.model)
    expected = run_in_order(source.model, paths[0], order, source.prompt) if len(paths) == 1 else None
    if expected is not None and (apart := gap(found, expected)) > IN_ORDER_TOLERANCE:
        raise Difference(f"logits differ by {apart:.2g} from those of the layers run in this order where they stand")


def reference_of(source: Source, order: Sequence[int]) -> Any | str:
    """The moved modules, or why there are none."""
    try:
        reference = reassembled(source.model, order)
        logits(reference, source.prompt)
    except Exception as error:  # whatever a class raises when its layers stand elsewhere
        return told(error)
    return reference


def merge(source: Source, order: Sequence[int], out: Path) -> None:
    """Lamina's passthrough of the layers in this order, each run of neighbours one slice."""
    runs: list[list[int]] = []
    for layer in order:
        if runs and layer == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([layer, layer + 1])
    slices = [{"sources": [{"model": str(source.folder), "layer_range": run}]} for run in runs]
    lamina.merge({"merge_method": "passthrough", "slices": slices}, out, write_model_card=False)


def check_state(model: Any, expected: Any, what: str) -> None:
    """Every parameter and buffer that is stored is there, with the same bits."""
    check_tensors(model.state_dict(), expected.state_dict(), what)


def check_tensors(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], what: str) -> None:
    if found.keys() != expected.keys():
        lost, new = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        raise Difference(f"{what}: without {lost[:3]}, and with {new[:3]} beyond what should be there")
    unequal = [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]
    if unequal:
        raise Difference(f"{what}: {len(unequal)} tensors have other values: {', '.join(unequal[:3])}")


def check_equal(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    if not torch.equal(found, expected):
        raise Difference(f"{what} differ by {gap(found, expected):.2g}")


def told(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
