"""Runs a merge method on arrays, through expressions and kernels as a merge does, without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lamina.expressions.compute import Worker, Workspace, compute, measure
from lamina.expressions.inspect import block_bytes, blocks
from lamina.expressions.nodes import Expr, Read, merge
from lamina.expressions.shared import Shared
from lamina.kernels.interface import STORAGE
from lamina.kernels.numpy_kernels import NumpyKernels
from lamina.merge_methods import method_called
from lamina.merge_methods.laws import decoded, exact, stored
from lamina.tensor_spec import F32, DType, TensorSpec

__all__ = ["Array", "Arrays", "decoded", "exact", "expression", "merged", "parameters", "stored"]

Array = np.ndarray[Any, Any]


@dataclass
class Arrays:
    """Tensors in memory that expressions read from."""

    stored: dict[str, Array] = field(default_factory=dict)

    def add(self, values: Array, dtype: DType = F32) -> Read:
        name = str(len(self.stored))
        self.stored[name] = stored(values, dtype)
        return Read("memory", name, TensorSpec(values.shape, dtype))

    def read(self, tensor: Read, first_byte: int, buffer: memoryview) -> None:
        raw = self.stored[tensor.name].reshape(-1).view(np.uint8)
        buffer[:] = raw[first_byte : first_byte + len(buffer)].data

    def worker(self, expr: Expr, shared: Shared | None = None) -> Worker:
        return Worker(self.read, NumpyKernels(), Workspace(block_bytes(expr)), shared)

    def bits(self, expr: Expr, shared: Shared | None = None) -> Array:
        """The result as it would lie in a file."""
        worker = self.worker(expr, shared)
        measured = measure(expr, worker)
        out = []
        for start, stop in blocks(expr):
            worker.workspace.clear()
            out.append(compute(expr, start, stop, measured, worker)[0].data.copy())
        flat = np.concatenate(out) if out else np.empty(0, STORAGE[expr.spec.dtype])
        return flat.reshape(expr.spec.shape)


def parameters(method: str, models: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of a method, as a planner would hand it on: one value a model where it is the models' own."""
    values: dict[str, Any] = {}
    for parameter in method_called(method).parameters.values():
        value = given.get(parameter.name, parameter.default)
        assert value is not None, parameter.name
        if parameter.meaning.per_model:
            each = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * models
            values[parameter.name] = tuple(parameter.coerce(one) for one in each)
        else:
            values[parameter.name] = parameter.coerce(value)
    assert set(given) <= set(values), f"{method} has no {set(given) - set(values)}"
    return values


def expression(
    arrays: Arrays,
    method: str,
    inputs: Sequence[Array],
    base: Array | None = None,
    *,
    dtype: DType = F32,
    out_dtype: DType | None = None,
    keys: Sequence[int] | None = None,
    **given: Any,
) -> Expr:
    reads = [arrays.add(each, dtype) for each in inputs]
    origin = None if base is None else arrays.add(base, dtype)
    values = parameters(method, len(inputs), given)
    draw_keys = [0x1234_5678_9ABC_DEF0 * (i + 1) % (1 << 64) for i in range(len(inputs))] if keys is None else keys
    return merge(method, reads, values, base=origin, dtype=out_dtype, draw_keys=draw_keys)


def merged(method: str, inputs: Sequence[Array], base: Array | None = None, **options: Any) -> Array:
    """What the method makes of the arrays, in float64. Options are those of `expression`, and parameters."""
    arrays = Arrays()
    expr = expression(arrays, method, inputs, base, **options)
    return decoded(arrays.bits(expr), expr.spec.dtype)
