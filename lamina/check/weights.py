"""The weights alone: finite, alive, and of a size that the parents' have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lamina.architectures.roles import OUTPUTS, role_of
from lamina.check.findings import Finding, Level, Section
from lamina.check.likeness import Progress, Tensors
from lamina.check.parallel import each
from lamina.checkpoints.digests import PieceDigests, digest_of_pieces
from lamina.expressions.compute import Workspace
from lamina.kernels.interface import Extent, Stored
from lamina.kernels.numpy_kernels import NumpyKernels
from lamina.kernels.sums import dot
from lamina.kernels.tiles import Tile
from lamina.models.plain import PlainModel
from lamina.plans.explain import layer_of
from lamina.tensor_spec import BLOCK_ELEMENTS, F64, Kind, blocks_of
from lamina.wording import counted, listed

NON_FINITE = "non-finite"  # the finding's code


@dataclass(frozen=True)
class Figures:
    """One tensor: elements that are NaN or infinite, the sum of squares of the others, rows that are all zero.

    `digest` is that of its bytes, as `lamina.json` records it.
    """

    count: int
    non_finite: int = 0
    squared: float = 0.0
    dead_rows: int = 0
    digest: str = ""

    @property
    def rms(self) -> float:
        """The root of the mean square."""
        return math.sqrt(self.squared / self.count) if self.count else 0.0

    @property
    def is_zero(self) -> bool:
        return self.squared == 0 and self.non_finite == 0


def figures(
    tensors: Tensors, names: Sequence[str], *, workers: int | None = None, progress: Progress = lambda _n, _b: None
) -> dict[str, Figures]:
    """Every named float tensor's figures, in one pass over its blocks: about 10 MB a worker."""

    def worker() -> Callable[[str], Figures]:
        kernels, workspace = NumpyKernels(), Workspace(8 * BLOCK_ELEMENTS)
        return lambda name: _figures(tensors, name, kernels, workspace, progress)

    return each([name for name in names if tensors.specs[name].dtype.kind is Kind.FLOAT], worker, workers)


def check_weights(model: PlainModel, found: Mapping[str, Figures], written: Mapping[str, str]) -> Section:
    """Findings about weights that are not finite, dead, or not those that a merge has written.

    `written` has the digest of each tensor as the merge recorded it; nothing for a folder without such a record.
    """
    findings = [*_not_finite(found), *_dead(model, found), *_altered(found, written)]
    dead = sum(each.dead_rows for each in found.values())
    known = " and as the merge wrote them" if found.keys() <= written.keys() else ""
    told = f"{counted(len(found), 'tensor')} finite{known}; {'no dead rows' if not dead else counted(dead, 'dead row')}"
    return Section("weights", told, tuple(findings))


def _altered(found: Mapping[str, Figures], written: Mapping[str, str]) -> Iterator[Finding]:
    """Tensors whose bytes are others than the merge wrote: by a fault of the disk, or by hand."""
    for name, values in found.items():
        if name in written and values.digest != written[name]:
            message = f"{name} has changed since the merge wrote it."
            yield Finding(Level.BROKEN, "altered", message, layer_of(name), name)


def _not_finite(found: Mapping[str, Figures]) -> Iterator[Finding]:
    for name, values in found.items():
        if values.non_finite:
            many = "is" if values.non_finite == 1 else "are"
            message = f"{name} holds {counted(values.non_finite, 'element')} that {many} NaN or infinite."
            yield Finding(Level.BROKEN, NON_FINITE, message, layer_of(name), name)


def idle_layers(model: PlainModel, found: Mapping[str, Figures]) -> list[int]:
    """Layers that add nothing: every output is zero and nothing else is.

    So LLaMA-Pro lays a new layer (https://arxiv.org/abs/2401.02415): it is meant.
    """
    return [
        layer
        for layer in range(model.architecture.depth)
        if (zero := _zero_matrices(model, layer, found)) and set(zero) == set(_outputs(model, layer))
    ]


def _dead(model: PlainModel, found: Mapping[str, Figures]) -> Iterator[Finding]:
    """Matrices that are zero, layer by layer: all of them, or some; not so the outputs of an idle layer."""
    architecture, idle = model.architecture, idle_layers(model, found)
    for layer in range(architecture.depth):
        zero = _zero_matrices(model, layer, found)
        if not zero or layer in idle:
            continue
        if len(zero) == len(_matrices(model, layer)):
            yield Finding(Level.BROKEN, "dead-layer", f"layer {layer} is zero: it adds nothing.", layer)
        else:
            message = f"layer {layer}: {listed(zero)} {_is(zero)} zero."
            name = architecture.layer_name(layer, zero[0])
            yield Finding(Level.SUSPICIOUS, "dead-tensor", message, layer, name)
    for name in (architecture.embedding, architecture.head):
        if name in found and found[name].is_zero:
            yield Finding(Level.BROKEN, "dead-tensor", f"{name} is zero.", None, name)


def _matrices(model: PlainModel, layer: int) -> list[str]:
    """Names within the layer of tensors of two and more dimensions."""
    architecture, specs = model.architecture, model.checkpoint.specs
    return [
        suffix for suffix in architecture.layers[layer] if len(specs[architecture.layer_name(layer, suffix)].shape) >= 2
    ]


def _outputs(model: PlainModel, layer: int) -> list[str]:
    return [suffix for suffix in _matrices(model, layer) if role_of(suffix) in OUTPUTS]


def _zero_matrices(model: PlainModel, layer: int, found: Mapping[str, Figures]) -> list[str]:
    names = {suffix: model.architecture.layer_name(layer, suffix) for suffix in _matrices(model, layer)}
    return [suffix for suffix, name in names.items() if name in found and found[name].is_zero]


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _figures(tensors: Tensors, name: str, kernels: NumpyKernels, workspace: Workspace, progress: Progress) -> Figures:
    spec = tensors.specs[name]
    row = spec.shape[-1] if len(spec.shape) >= 2 else 1
    whole_rows = len(spec.shape) >= 2 and row <= BLOCK_ELEMENTS
    non_finite, squared, dead = 0, 0.0, 0
    digest = PieceDigests(0)

    def fold(tile: Tile) -> None:
        nonlocal non_finite, squared, dead
        (values,) = tile.inputs
        finite = np.isfinite(values)
        if not finite.all():
            non_finite += int(np.count_nonzero(~finite))
            values = np.where(finite, values, 0)
        squared += dot(values, values)
        if whole_rows:
            dead += int(np.count_nonzero(~tile.rows(values).any(axis=1)))

    for start, stop in blocks_of(spec, whole_rows=whole_rows):
        workspace.clear()
        block: Stored = workspace.take(stop - start, spec.dtype)
        first_byte = start * spec.dtype.bits // 8
        tensors.read_into(name, first_byte, block.raw)
        digest.take(first_byte, block.raw)
        extent = Extent(start, spec.count, row, whole_rows=whole_rows, wide=spec.dtype is F64)
        kernels.fold([block], None, extent, fold)
        progress(name, block.data.nbytes)
    return Figures(spec.count, non_finite, squared, dead, digest_of_pieces({0: digest.ended()}))
