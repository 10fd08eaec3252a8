"""Compare two models, tensor by tensor and layer by layer: `lamina diff`.

The story: models are opened, each layer of b finds its counterpart in a, tensors are paired, compared in one
pass, and summed up by layer and class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from lamina.architectures.config_values import config_values
from lamina.check.classes import NORMS, placed
from lamina.check.descent import RELATED, SAME, layers_of, origins
from lamina.check.likeness import Likeness, Pair, Progress, compare, total
from lamina.check.models import opened
from lamina.checkpoints.hub_client import HubOptions
from lamina.models.plain import PlainModel
from lamina.tensor_spec import Kind, TensorSpec

CARRIED_WHOLE = 0.1  # so near to 1 is what b holds of a's task vector, where b was trained on from a
DEFAULT_HUB = HubOptions()


@dataclass(frozen=True)
class Compared:
    """One tensor of b, the one of a, what it is, and how alike they are. `layer` is b's, None outside the layers."""

    pair: Pair
    layer: int | None
    kind: str
    likeness: Likeness


@dataclass(frozen=True)
class Diff:
    """Two models side by side, from a to b.

    `counterparts[i]` is the layer of a that b's layer i was compared with; None where it is like none of them.
    `unlike` are tensors in both with other shapes or dtypes; `only_a` and `only_b` are in one alone (without
    the tensors of layers of a that no layer of b stands against, which `left_out` numbers).
    """

    a: str
    b: str
    base: str | None
    compared: tuple[Compared, ...]
    counterparts: tuple[int | None, ...]
    left_out: tuple[int, ...]
    unlike: tuple[tuple[str, TensorSpec, TensorSpec], ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    config: Mapping[str, tuple[Any, Any]]

    @cached_property
    def total(self) -> Likeness:
        return total(each.likeness for each in self.compared)

    def by(self, *, layer: int | None, kind: str) -> Likeness:
        """The likeness of one class of tensors in one layer of b, or outside the layers."""
        return total(each.likeness for each in self.compared if (each.layer, each.kind) == (layer, kind))

    @cached_property
    def kinds(self) -> list[str]:
        """The classes of tensors within layers, in the order in which they first occur."""
        return list(dict.fromkeys(each.kind for each in self.compared if each.layer is not None))

    @cached_property
    def outside(self) -> list[str]:
        """The classes of tensors outside the layers."""
        return list(dict.fromkeys(each.kind for each in self.compared if each.layer is None))

    @property
    def moved(self) -> bool:
        """True where a layer of b stands against another number in a, or against none."""
        return any(own != other for own, other in enumerate(self.counterparts))

    @cached_property
    def cosine_in_layers(self) -> float | None:
        """The median cosine of the matrices within layers: near 1 among kin, near 0 among strangers."""
        matrices = [each.likeness for each in self.compared if each.layer is not None and each.kind != NORMS]
        known = [each.cosine for each in matrices if math.isfinite(each.cosine)]
        return median(known) if known else None

    @cached_property
    def non_finite(self) -> list[tuple[str, str, int]]:
        """Of what was compared: the model, the tensor as it is called there, how many elements are NaN or infinite."""
        held = (
            (model, name, count)
            for each in self.compared
            for model, name, count in (
                (self.a, each.pair.a, each.likeness.a_non_finite),
                (self.b, each.pair.b, each.likeness.b_non_finite),
            )
            if count
        )
        return list(dict.fromkeys(held))  # a layer of a may stand against several

    @cached_property
    def descent(self) -> str:
        """In a sentence: whether the models are of one descent, as far as weights can tell."""
        cosine = self.cosine_in_layers
        if cosine is None:
            return "no layers in common: nothing is said of descent."
        told = f"matrices of the layers have a cosine of {cosine:.3f} in the median: "
        if self.total.identical == self.total.tensors and not (self.unlike or self.only_a or self.only_b):
            return "every tensor of the one is in the other, to the last bit."
        if cosine < RELATED:
            return f"{told}the two were trained apart, from different beginnings."
        if cosine < SAME:
            return f"{told}related, and far apart: a blend, or a long training."
        if self.base is None:
            return f"{told}one was trained from the other, or both from one parent; --base PARENT tells which."
        for first, second, sums in ((self.a, self.b, self.total), (self.b, self.a, self._mirrored)):
            grown = sums.b_moved_squared > sums.a_moved_squared
            if grown and abs(sums.carried - 1) < CARRIED_WHOLE:
                return (
                    f"{told}{second} descends from {first}: it holds what that has changed in {self.base}, and goes on."
                )
        return f"{told}neither holds the whole of what the other has changed in {self.base}."

    @cached_property
    def _mirrored(self) -> Likeness:
        """The task vectors seen from b."""
        return Likeness(
            moved_product=self.total.moved_product,
            a_moved_squared=self.total.b_moved_squared,
            b_moved_squared=self.total.a_moved_squared,
        )


def diff(
    a: str | Path,
    b: str | Path,
    base: str | Path | None = None,
    *,
    hub: HubOptions = DEFAULT_HUB,
    workers: int | None = None,
    on_start: Callable[[int], None] = lambda _total: None,
    progress: Progress = lambda _name, _nbytes: None,
) -> Diff:
    """Compare two models, each a folder or a name of the Hub; with a base, also their task vectors.

    A layer is compared with the one that it comes from, wherever that stands. Reads each tensor once, in blocks:
    about 25 MB a worker. `on_start` is called with the number of bytes of b to compare. Raises CheckpointError
    where a model cannot be read.
    """
    with ExitStack() as stack:
        first, second = (stack.enter_context(opened(each, hub)) for each in (a, b))
        origin = None if base is None else stack.enter_context(opened(base, hub))
        counterparts = _counterparts(first, second)
        pairing = _pairing(first, second, origin, counterparts)
        on_start(sum(second.checkpoint.specs[pair.b].nbytes for pair in pairing.pairs))
        found = compare(
            first.checkpoint,
            second.checkpoint,
            None if origin is None else origin.checkpoint,
            pairing.pairs,
            workers=workers,
            progress=progress,
        )
        return Diff(
            a=first.name,
            b=second.name,
            base=None if origin is None else origin.name,
            compared=tuple(Compared(pair, *placed(second, pair.b), found[pair]) for pair in pairing.pairs),
            counterparts=counterparts,
            left_out=tuple(layer for layer in layers_of(first) if layer not in counterparts),
            unlike=tuple(pairing.unlike),
            only_a=tuple(pairing.only_a),
            only_b=tuple(pairing.only_b),
            config=_config_differences(first, second),
        )


@dataclass
class _Pairing:
    """Which tensor is compared with which, and what is compared with nothing."""

    pairs: list[Pair] = field(default_factory=list)
    unlike: list[tuple[str, TensorSpec, TensorSpec]] = field(default_factory=list)
    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)


def _counterparts(a: PlainModel, b: PlainModel) -> tuple[int | None, ...]:
    """For each layer of b the layer of a that it is most like; its own number where nothing says otherwise.

    Models of equal depth that were trained apart stand layer against layer all the same.
    """
    found = []
    for layer, kin in enumerate(origins(b, [a])):
        alike = a.architecture.depth == b.architecture.depth
        found.append(kin[0].layer if kin else layer if alike else None)
    return tuple(found)


def _pairing(a: PlainModel, b: PlainModel, base: PlainModel | None, counterparts: Sequence[int | None]) -> _Pairing:
    result, used = _Pairing(), set()
    for name, spec in b.checkpoint.specs.items():
        other = _counterpart(name, a, b, counterparts)
        found = None if other is None else a.checkpoint.specs.get(other)
        if other is None or found is None:
            result.only_b.append(name)
            continue
        used.add(other)
        if found.shape != spec.shape or found.dtype.kind is not spec.dtype.kind:
            result.unlike.append((name, found, spec))
            continue
        origin = None if base is None else base.checkpoint.specs.get(other)
        has_base = origin is not None and origin.shape == spec.shape and origin.dtype.kind is Kind.FLOAT
        result.pairs.append(Pair(other, name, other if has_base else None))
    skipped = {layer for layer in layers_of(a) if layer not in counterparts}
    result.only_a = [name for name in a.checkpoint.specs if name not in used and placed(a, name)[0] not in skipped]
    return result


def _counterpart(name: str, a: PlainModel, b: PlainModel, counterparts: Sequence[int | None]) -> str | None:
    layer, _ = placed(b, name)
    if layer is None:
        return name
    other = counterparts[layer]
    suffix = name.removeprefix(b.architecture.layer_name(layer, ""))
    return None if other is None else a.architecture.layer_name(other, suffix)


def _config_differences(a: PlainModel, b: PlainModel) -> dict[str, tuple[object, object]]:
    """What the configs say differently of what the weights compute: by name, a's value and b's."""
    one, other = config_values(a.config), config_values(b.config)
    return {
        key: (one.get(key), other.get(key)) for key in dict.fromkeys((*one, *other)) if one.get(key) != other.get(key)
    }
