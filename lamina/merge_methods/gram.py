"""Methods whose coefficients follow from the Gram matrix: of whole tensors, of rows, or of columns.

The method is a function of one vector's Gram matrix; it does not know which vector that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lamina.kernels.sums import Doubles, dot, dots_of_rows, halved, pairs, symmetric
from lamina.kernels.tiles import Block, Mix, Tile, column_runs
from lamina.merge_methods.measures import Facts, Known, Measuring, Values

Gram = tuple[tuple[float, ...], ...]
Coefficients = Sequence[float]
Along = Literal["tensor", "rows", "columns"]


@dataclass(frozen=True)
class GramMatrix:
    """The inner products of the models' vectors, or of their deltas. `along` says what is a vector."""

    along: Callable[[Values], Along] = lambda _values: "tensor"

    def state(self, facts: Facts, values: Values) -> int:
        """Of columns: their products, the coefficients in Python's floats, and these as numbers again."""
        if self.along(values) != "columns" or len(facts.shape) < 2:
            return 0
        pairs_of_models = facts.models * (facts.models + 1) // 2
        return facts.count // facts.shape[0] * (40 * pairs_of_models + 64 * facts.models + 64)

    def key(self, values: Values) -> tuple[str, Along] | None:
        """What it is known by, whatever method asks; None of rows, which are measured as they are mixed."""
        along = self.along(values)
        return None if along == "rows" else ("gram", along)

    def held(self, facts: Facts, values: Values) -> int:
        """Bytes of the products of columns; those of a tensor are a few numbers."""
        if self.along(values) != "columns" or len(facts.shape) < 2:
            return 0
        return 8 * len(pairs(facts.models)) * (facts.count // facts.shape[0])


def combined_by_gram(
    matrix: GramMatrix, values: Values, facts: Facts, coefficients: Callable[[Gram], Coefficients], known: Known
) -> Measuring:
    """The coefficients of the one vector that a tensor is, or the mix where it is many."""
    along, key = matrix.along(values), matrix.key(values)
    if key is None:
        return _mix_of_rows(facts, coefficients)
    of_columns = along == "columns" and len(facts.shape) > 1
    products = known.get(key)
    if products is None:
        products = yield from (_products_of_columns(facts) if of_columns else _products(facts))
        known.keep(key, products, matrix.held(facts, values))
    if of_columns:
        return _mix_of_columns(facts, products, coefficients)
    real: Any = np.float64 if facts.wide else np.float32  # rounded: the last digits of a sine are each machine's own
    return tuple(float(real(each)) for each in _defined(coefficients, products, facts.models))


def _products(facts: Facts) -> Measuring:
    """The inner product of each pair of vectors."""
    products = [0.0] * len(pairs(facts.models))

    def fold(tile: Tile) -> None:
        vectors = _vectors(tile)
        for number, (i, j) in enumerate(pairs(facts.models)):
            products[number] += dot(vectors[i], vectors[j])

    yield fold
    return products


def _products_of_columns(facts: Facts) -> Measuring:
    """The inner products of each pair of models, a column each."""
    columns = facts.count // facts.shape[0]
    products = [np.zeros(columns) for _ in pairs(facts.models)]

    def fold(tile: Tile) -> None:
        vectors = _vectors(tile)
        for first, end, column in column_runs(tile.start, tile.stop, columns):
            width = min(columns, end - first)
            for number, (i, j) in enumerate(pairs(facts.models)):
                lines = np.multiply(vectors[i][first:end], vectors[j][first:end]).reshape(-1, width)
                products[number][column : column + width] += halved(lines.T)

    yield fold
    return products


def _mix_of_rows(facts: Facts, coefficients: Callable[[Gram], Coefficients]) -> Mix:
    def mix(tile: Tile) -> Block:
        vectors = _vectors(tile)
        products = [dots_of_rows(vectors[i], vectors[j], facts.row) for i, j in pairs(facts.models)]
        factors = _factors(products, facts.models, coefficients)
        terms = [
            np.multiply(tile.rows(part), _as(part, column)[:, None])
            for part, column in zip(tile.deltas, factors, strict=True)
        ]
        return _sum(terms).reshape(-1)

    return mix


def _mix_of_columns(facts: Facts, products: Sequence[Doubles], coefficients: Callable[[Gram], Coefficients]) -> Mix:
    columns = facts.count // facts.shape[0]
    real: Any = np.float64 if facts.wide else np.float32
    factors = [column.astype(real) for column in _factors(products, facts.models, coefficients)]

    def mix(tile: Tile) -> Block:
        place = np.arange(tile.start, tile.stop) % columns
        return _sum([part * column[place] for part, column in zip(tile.deltas, factors, strict=True)])

    return mix


def _vectors(tile: Tile) -> list[Doubles]:
    """What the Gram matrix is of, in fp64: the inputs, or their differences from the base."""
    vectors = [each.astype(np.float64) for each in tile.inputs]
    if tile.base is not None:
        base = tile.base.astype(np.float64)
        for vector in vectors:
            vector -= base
    return vectors


def _factors(products: Sequence[Doubles], models: int, coefficients: Callable[[Gram], Coefficients]) -> list[Doubles]:
    """For each model its coefficient in every vector."""
    vectors = zip(*(part.tolist() for part in products), strict=True)
    found = [_defined(coefficients, each, models) for each in vectors]
    return list(np.array(found, np.float64).reshape(-1, models).T)


def _as(values: Block, factors: Doubles) -> Block:
    return factors.astype(values.dtype)


def _defined(coefficients: Callable[[Gram], Coefficients], products: Sequence[float], models: int) -> Coefficients:
    """The coefficients; not a number where an input is none, which then is found in the result and told."""
    if not all(map(math.isfinite, products)):
        return [math.nan] * models
    return coefficients(symmetric(products, models))


def _sum(terms: list[NDArray[Any]]) -> Block:
    result: Block = terms[0]
    for term in terms[1:]:
        result += term
    return result
