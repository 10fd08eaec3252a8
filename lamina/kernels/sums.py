"""Sums with one value, whatever adds them up: fp64, in chunks that are padded with zeros and halved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamina.kernels.tiles import Block

CHUNK = 1 << 14

Doubles = NDArray[np.float64]


def total(values: Block) -> float:
    """The sum of a run of values: chunks of 16,384, halved fourteen times, added in index order."""
    return _chunked(np.array(values, np.float64))


def dot(left: Block, right: Block) -> float:
    """The sum of products. Of fp32 values each product is exact in fp64."""
    return _chunked(np.multiply(left, right, dtype=np.float64))


def dots_of_rows(left: Block, right: Block, row: int) -> Doubles:
    """The dot product of each row, summed like a tensor of its own."""
    products = np.multiply(left, right, dtype=np.float64).reshape(-1, row)
    chunks = [halved(products[:, start : start + CHUNK]) for start in range(0, row, CHUNK)]
    return _in_order(chunks)


def halved(lines: Doubles) -> Doubles:
    """The sum of each line: `x[:h] += x[h:2h]` until one value is left. The lines are used up.

    Zeros that a line would be padded with are left out: adding them changes nothing.
    """
    length = lines.shape[1]
    while length > 1:
        half = 1 << (length - 1).bit_length() - 1
        lines[:, : length - half] += lines[:, half:length]
        length = half
    return lines[:, 0]


def _chunked(values: Doubles) -> float:
    whole = len(values) // CHUNK * CHUNK
    parts = halved(values[:whole].reshape(-1, CHUNK)).tolist() if whole else []
    if whole < len(values):
        parts += halved(values[whole:].reshape(1, -1)).tolist()
    return _added(parts)


def _added(parts: Sequence[float]) -> float:
    result = 0.0
    for part in parts:  # not `sum`, which compensates from Python 3.12 on
        result += part
    return result


def _in_order(chunks: Sequence[Doubles]) -> Doubles:
    result = chunks[0].copy()
    for chunk in chunks[1:]:
        result += chunk
    return result


def pairs(models: int) -> list[tuple[int, int]]:
    """(i, j) with i <= j, in the order in which products are stored."""
    return [(i, j) for i in range(models) for j in range(i, models)]


def symmetric(products: Sequence[float], models: int) -> tuple[tuple[float, ...], ...]:
    """The Gram matrix of the stored products."""
    matrix = [[0.0] * models for _ in range(models)]
    for (i, j), product in zip(pairs(models), products, strict=True):
        matrix[i][j] = matrix[j][i] = product
    return tuple(map(tuple, matrix))
