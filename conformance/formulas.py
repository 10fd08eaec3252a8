"""Every method's formula in float64, on whole arrays, written from the formulas and from nothing else.

Each function takes the models' arrays and the base (None for methods without), and parameters by their names in a
recipe. It returns the terms whose sum is the result. Slow and literal on purpose: sorts, loops, no measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Terms = list[Array]


def linear(
    xs: list[Array], _base: None, *, weight: Sequence[float], scale: Any = None, normalize: bool = True
) -> Terms:
    scale = scale or [1] * len(xs)
    whole = sum(weight) if normalize else 1
    return [w / whole * s * x for w, s, x in zip(weight, scale, xs, strict=True)]


def passthrough(xs: list[Array], _base: None, *, scale: Sequence[float] = (1,)) -> Terms:
    return [scale[0] * xs[0]]


# On the sphere


def slerp(xs: list[Array], _base: None, *, t: float) -> Terms:
    a, b = xs
    lengths = [np.linalg.norm(x) for x in xs]
    units = [x / length if length > 1e-8 else x for x, length in zip(xs, lengths, strict=True)]
    cosine = min(1.0, max(-1.0, float((units[0] * units[1]).sum())))
    if abs(cosine) > 0.9995:
        return [(1 - t) * a, t * b]
    angle = math.acos(cosine)
    return [math.sin((1 - t) * angle) / math.sin(angle) * a, math.sin(t * angle) / math.sin(angle) * b]


def nuslerp(
    xs: list[Array],
    base: Array | None,
    *,
    weight: Sequence[float],
    nuslerp_flatten: bool = True,
    nuslerp_row_wise: bool = False,
) -> Terms:
    t = weight[1] / sum(weight) if abs(sum(weight)) >= 1e-6 else 0.5
    a, b = xs if base is None else [x - base for x in xs]
    if nuslerp_flatten:
        pairs = [(a.reshape(-1), b.reshape(-1))]
    elif nuslerp_row_wise:
        pairs = list(zip(a.reshape(len(a), -1).T, b.reshape(len(a), -1).T, strict=True))
    else:
        pairs = list(zip(a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1]), strict=True))
    parts = [_arc(u, v, t) for u, v in pairs]
    terms = [np.stack([part[k] for part in parts]) for k in range(2)]
    if nuslerp_row_wise and not nuslerp_flatten:
        terms = [term.T for term in terms]
    return [*(term.reshape(a.shape) for term in terms), *([] if base is None else [base])]


def _arc(u: Array, v: Array, t: float) -> tuple[Array, Array]:
    cosine = float(u @ v) / (max(float(np.linalg.norm(u)), 1e-7) * max(float(np.linalg.norm(v)), 1e-7))
    cosine = min(1.0, max(-1.0, cosine))
    if 1 - cosine**2 <= 1e-14:
        return (1 - t) * u, t * v
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle) * u, math.sin(t * angle) / math.sin(angle) * v


def multislerp(
    xs: list[Array],
    base: Array | None,
    *,
    weight: Sequence[float],
    normalize_weights: bool = True,
    eps: float = 1e-8,
) -> Terms:
    if len(xs) == 1:
        return [xs[0]]
    vectors = xs if base is None else [x - base for x in xs]
    w = [each / sum(weight) for each in weight] if normalize_weights else list(weight)
    lengths = [np.linalg.norm(x) for x in vectors]
    units = [x / (length + eps) for x, length in zip(vectors, lengths, strict=True)]
    mean = sum(a * u for a, u in zip(w, units, strict=True))
    origin = [] if base is None else [base]
    if np.linalg.norm(mean) < eps:
        return [*(a * x for a, x in zip(w, vectors, strict=True)), *origin]
    mean = mean / np.linalg.norm(mean)
    step = sum(a * (u - (u * mean).sum() * mean) for a, u in zip(w, units, strict=True))
    tau = np.linalg.norm(step) + eps
    point = mean * math.cos(tau) + step * math.sin(tau) / tau
    return [*_parts(point * sum(a * n for a, n in zip(w, lengths, strict=True)), vectors), *origin]


def karcher(xs: list[Array], _base: None, *, max_iter: int = 10, tol: float = 1e-5) -> Terms:
    lengths = [np.linalg.norm(x) for x in xs]
    pointing = [i for i in range(len(xs)) if lengths[i] > tol]
    if not pointing:
        return [np.zeros_like(xs[0])]
    units = [xs[i] / lengths[i] for i in pointing]
    a = 1 / len(units)
    m = sum(a * u for u in units)
    m = m / np.linalg.norm(m) if np.linalg.norm(m) >= tol else units[0]
    for _ in range(max_iter):
        tangent = np.zeros_like(m)
        for u in units:
            d = min(1.0, max(-1.0, float((u * m).sum())))
            angle = math.acos(d)
            if angle >= tol:
                tangent = tangent + a * angle / math.sin(angle) * (u - d * m)
        size = np.linalg.norm(tangent)
        if size < tol:
            break
        m = math.cos(size) * m + math.sin(size) * tangent / size
        m = m / np.linalg.norm(m)
    return _parts(sum(lengths) / len(xs) * m, xs)


def _parts(point: Array, vectors: list[Array]) -> Terms:
    """A combination of vectors as its terms, whose size says how much of it is rounding."""
    matrix = np.stack([vector.reshape(-1) for vector in vectors], axis=1)
    factors = np.linalg.lstsq(matrix, point.reshape(-1), rcond=None)[0]
    return [factor * vector for factor, vector in zip(factors, vectors, strict=True)]


def model_stock(xs: list[Array], base: Array, *, filter_wise: bool = False) -> Terms:
    deltas = [(x - base).reshape((-1, base.shape[-1]) if filter_wise and base.ndim else (1, -1)) for x in xs]
    n = len(xs)
    ratios = []
    for row in range(len(deltas[0])):
        cosines = []
        for i in range(n):
            for j in range(i + 1, n):
                u, v = deltas[i][row], deltas[j][row]
                cosine = float(u @ v) / max(float(np.linalg.norm(u) * np.linalg.norm(v)), 1e-6)
                cosines.append(min(1.0, max(-1.0, cosine)))
        c = sum(cosines) / len(cosines)
        below = 1 + (n - 1) * c
        ratios.append(n * c / below if abs(below) >= 1e-6 else 0.0)
    t = np.array(ratios)[:, None]
    shape = deltas[0].shape
    return [(t / n * x.reshape(shape)).reshape(base.shape) for x in xs] + [
        ((1 - t) * base.reshape(shape)).reshape(base.shape)
    ]


# Task vectors


def task_arithmetic(
    xs: list[Array], base: Array, *, weight: Sequence[float], normalize: bool = False, lambda_: float = 1.0
) -> Terms:
    return _added([x - base for x in xs], base, weight, normalize, lambda_)


def ties(xs: list[Array], base: Array, *, density: Sequence[float], **how: Any) -> Terms:
    deltas = [x - base for x in xs]
    kept = [largest(delta, d) for delta, d in zip(deltas, density, strict=True)]
    return _task_vectors(deltas, kept, base, density, elect=True, **({"normalize": True} | how))


def breadcrumbs(
    xs: list[Array], base: Array, *, density: Sequence[float], gamma: Sequence[float], elect: bool = False, **how: Any
) -> Terms:
    deltas = [x - base for x in xs]
    kept = [middle(delta, d, g) for delta, d, g in zip(deltas, density, gamma, strict=True)]
    return _task_vectors(deltas, kept, base, density, elect=elect, **how)


def breadcrumbs_ties(xs: list[Array], base: Array, **how: Any) -> Terms:
    return breadcrumbs(xs, base, elect=True, **how)


def dare_linear(
    xs: list[Array], base: Array, *, density: Sequence[float], keys: Sequence[int], elect: bool = False, **how: Any
) -> Terms:
    deltas = [x - base for x in xs]
    kept = [
        np.ones(base.shape, bool) if d >= 1 else draws(key, base.size).reshape(base.shape) < int(d * 2**32)
        for d, key in zip(density, keys, strict=True)
    ]
    chances = [np.full(base.shape, max(d, 1e-300)) for d in density]
    return _task_vectors(deltas, kept, base, density, chances=chances, elect=elect, **({"rescale": "l1"} | how))


def dare_ties(xs: list[Array], base: Array, **how: Any) -> Terms:
    return dare_linear(xs, base, elect=True, **how)


def della_linear(
    xs: list[Array],
    base: Array,
    *,
    density: Sequence[float],
    epsilon: Sequence[float],
    keys: Sequence[int],
    elect: bool = False,
    **how: Any,
) -> Terms:
    deltas = [x - base for x in xs]
    chances, kept = [], []
    for delta, d, e, key in zip(deltas, density, epsilon, keys, strict=True):
        if d >= 1 or d <= 0:
            chances.append(np.ones(base.shape))
            kept.append(np.full(base.shape, d >= 1))
            continue
        rows = np.abs(delta).reshape(-1, base.shape[-1])
        mixes = mix(np.arange(base.size)).reshape(rows.shape)
        m = base.shape[-1]
        chance = np.empty(rows.shape)
        for row in range(len(rows)):
            order = np.lexsort((mixes[row], rows[row]))
            rank = np.empty(m)
            rank[order] = np.arange(m)
            chance[row] = (d - e) + 2 * e * rank / (m - 1) if m > 1 else d
        chances.append(chance.reshape(base.shape))
        kept.append(draws(key, base.size).reshape(base.shape) < chances[-1] * 2.0**32)
    return _task_vectors(deltas, kept, base, density, chances=chances, elect=elect, **({"rescale": "l1"} | how))


def della(xs: list[Array], base: Array, **how: Any) -> Terms:
    return della_linear(xs, base, elect=True, **({"normalize": True} | how))


def _task_vectors(
    deltas: list[Array],
    kept: list[Array],
    base: Array,
    density: Sequence[float],
    *,
    weight: Sequence[float],
    elect: bool,
    normalize: bool = False,
    rescale: str | bool = "false",
    lambda_: float = 1.0,
    chances: list[Array] | None = None,
) -> Terms:
    thinned = [delta * each for delta, each in zip(deltas, kept, strict=True)]
    if rescale == "inverse":
        assert chances is not None
        thinned = [thin if d >= 1 else thin / chance for thin, chance, d in zip(thinned, chances, density, strict=True)]
    elif rescale in ("l1", True):
        thinned = [_matched(delta, thin) for delta, thin in zip(deltas, thinned, strict=True)]
    if not elect:
        return _added(thinned, base, weight, normalize, lambda_)
    terms = [w * thin for w, thin in zip(weight, thinned, strict=True)]
    sign = _elected(terms)
    agrees = [np.sign(term) == sign for term in terms]
    divisor = sum(w * each for w, each in zip(weight, agrees, strict=True))
    divisor = np.where(divisor == 0, 1, divisor) if normalize else 1
    return [*(lambda_ * term * each / divisor for term, each in zip(terms, agrees, strict=True)), base]


def _added(deltas: list[Array], base: Array, weight: Sequence[float], normalize: bool, lambda_: float) -> Terms:
    divisor = sum(weight) if normalize and abs(sum(weight)) >= 1e-8 else 1
    return [*(lambda_ * w / divisor * delta for w, delta in zip(weight, deltas, strict=True)), base]


def _elected(terms: list[Array]) -> Array:
    balance, size = sum(terms), sum(np.abs(term) for term in terms)
    return np.where(balance < -(2.0**-20) * size, -1, 1)


def _matched(delta: Array, thin: Array) -> Array:
    whole, left = np.abs(delta).sum(), np.abs(thin).sum()
    return thin * (whole / left) if whole >= 1e-7 and left >= 1e-7 else thin


def _order(magnitudes: Array) -> Array:
    """Flat indices in ascending order of magnitude, equals by the mix of their index."""
    return np.lexsort((mix(np.arange(magnitudes.size)), magnitudes.reshape(-1)))


def largest(delta: Array, density: float) -> Array:
    kept = np.zeros(delta.size, bool)
    if density > 0:
        kept[_order(np.abs(delta))[delta.size - max(1, int(density * delta.size)) :]] = True
    return kept.reshape(delta.shape)


def middle(delta: Array, density: float, gamma: float) -> Array:
    n = delta.size
    if density >= 1:
        return np.ones(delta.shape, bool)
    keep, top = int(density * n), int(gamma * n)
    bottom = max(0, n - keep - top)
    kept = np.zeros(n, bool)
    kept[_order(np.abs(delta))[bottom : bottom + keep]] = True
    return kept.reshape(delta.shape)


# Others


def sce(xs: list[Array], base: Array, *, select_topk: float = 1.0) -> Terms:
    deltas = [x - base for x in xs]
    if select_topk < 1:
        variance = np.var(np.stack(deltas), axis=0)
        variance[np.max(deltas, axis=0) == np.min(deltas, axis=0)] = 0  # np.var leaves a rounding there
        variance = variance.astype(np.float32)  # what float32 cannot tell apart is equal
        keep = int(np.float32(np.count_nonzero(variance)) * np.float32(select_topk))  # so MergeKit counts
        kept = np.zeros(base.size, bool)
        kept[_order(variance)[base.size - keep :]] = True
        deltas = [delta * kept.reshape(base.shape) for delta in deltas]
    return [*sce_mean(deltas), base]


def sce_mean(deltas: list[Array]) -> Terms:
    """Of deltas that are selected already: their mean by what is left of each, over those of the elected sign."""
    sign = _elected(deltas)
    agrees = [np.sign(delta) == sign for delta in deltas]
    weight = [np.mean(delta**2) for delta in deltas]
    weight = [w / sum(weight) for w in weight] if sum(weight) >= 1e-6 else [1 / len(deltas)] * len(deltas)
    divisor = np.maximum(sum(w * each for w, each in zip(weight, agrees, strict=True)), 1e-6)
    return [w * each * d / divisor for w, each, d in zip(weight, agrees, deltas, strict=True)]


def ram(xs: list[Array], base: Array, *, epsilon: float = 1e-5, rewards: Sequence[float] | None = None) -> Terms:
    deltas = [x - base for x in xs]
    active = [np.abs(delta) > epsilon for delta in deltas]
    count = sum(each.astype(int) for each in active)
    rewards = rewards or [1.0] * len(xs)
    alone = [np.where(count == 1, reward, 1) for reward in rewards]
    return [
        *(d * each * r / np.maximum(count, 1) for d, each, r in zip(deltas, active, alone, strict=True)),
        base,
    ]


def ramplus_tl(xs: list[Array], base: Array, *, r: float = 0.1, alpha: float = 0.2, epsilon: float = 1e-5) -> Terms:
    active = [np.abs(x - base) > epsilon for x in xs]
    count = sum(each.astype(int) for each in active)
    rewards = []
    for each in active:
        shared, unique = int((each & (count > 1)).sum()), int((each & (count == 1)).sum())
        rewards.append(1 + r * min(max(shared / max(unique, epsilon), 0), alpha))
    return ram(xs, base, epsilon=epsilon, rewards=rewards)


def nearswap(xs: list[Array], base: Array, *, t: float) -> Terms:
    share = np.clip(t / np.maximum(np.abs(base - xs[0]), 1e-6), 0, 1)
    return [share * (xs[0] - base), base]


def arcee_fusion(xs: list[Array], base: Array) -> Terms:
    (x,) = xs
    p, q = softmax(x) + 1e-8, softmax(base) + 1e-8
    importance = np.abs(x - base) * (p * np.log(p / q)).sum(axis=-1, keepdims=True)
    ordered = np.sort(importance, axis=None)
    q1, median, q3 = (ordered[int(q * (x.size - 1))] for q in (0.25, 0.5, 0.75))
    return [(x - base) * (importance >= median + 1.5 * (q3 - q1)), base]


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


FORMULAS: dict[str, Callable[..., Terms]] = {
    each.__name__: each
    for each in (
        linear, slerp, nuslerp, multislerp, karcher, task_arithmetic, ties, dare_linear, dare_ties, breadcrumbs,
        breadcrumbs_ties, della, della_linear, sce, ram, ramplus_tl, model_stock, nearswap, arcee_fusion, passthrough,
    )
}  # fmt: skip


# Keys and draws, in whole numbers


def mix(words: Array) -> Array:
    x = words.astype(np.uint64) & 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x ^= x >> np.uint64(shift)
        x = x * np.uint64(factor) & np.uint64(0xFFFFFFFF)
    return x ^ x >> np.uint64(16)


def draws(key: int, count: int) -> Array:
    words = np.arange(count, dtype=np.uint64) * np.uint64(key & 0xFFFFFFFF | 1) + np.uint64(key >> 32)
    return mix(words)
