"""What a recipe must give, in float64, worked out from the documented semantics and from nothing else.

`expected_output` reads a recipe as plain Python data (`models`, `slices` or `stack`, the methods linear,
task_arithmetic and passthrough) and gives each output tensor as an `Expected`: its value and its largest term,
which together bound what one rounding may leave. Slow and literal on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from conformance.settings import resolve

from .checkpoints import Checkpoint

PRECISION = {torch.bfloat16: (8, -126), torch.float16: (11, -14), torch.float32: (24, -126), torch.float64: (53, -1022)}
DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}
FP32_ERROR = 2.0**-22  # of the largest term, beside the half ulp of the one rounding
FP64_ERROR = 2.0**-50


@dataclass(frozen=True)
class Expected:
    value: np.ndarray  # float64
    largest: np.ndarray  # float64: the largest magnitude among the terms of the sum, per element
    dtype: torch.dtype
    error: float = FP32_ERROR


# What the arithmetic may leave


def half_ulp(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Half the distance between neighbours of `dtype` at each value, subnormals included."""
    digits, lowest = PRECISION[dtype]
    _, exponent = np.frexp(np.abs(values))  # values = m * 2**exponent with m in [0.5, 1)
    exponent = np.where(values == 0, lowest, exponent - 1)
    return np.exp2(np.maximum(exponent, lowest) - digits)


def assert_rounded_once(actual: torch.Tensor, expected: Expected, name: str = "") -> None:
    """`actual` is `expected` to half an ulp of its dtype, and the given fraction of the largest term."""
    assert actual.dtype == expected.dtype, f"{name}: {actual.dtype}, not {expected.dtype}"
    found = as_float64(actual)
    assert found.shape == expected.value.shape, f"{name}: {found.shape}, not {expected.value.shape}"
    assert np.isfinite(found).all(), f"{name}: not finite"
    allowed = half_ulp(np.maximum(np.abs(found), np.abs(expected.value)), actual.dtype)
    allowed = allowed + expected.error * expected.largest
    excess = np.abs(found - expected.value) - allowed
    if (excess > 0).any():
        worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
        raise AssertionError(
            f"{name}{list(map(int, worst))}: {found[worst]!r}, not {expected.value[worst]!r} "
            f"(off by {abs(found[worst] - expected.value[worst]):.3g}, allowed {allowed[worst]:.3g}; "
            f"{int((excess > 0).sum())} of {excess.size} elements)"
        )


def as_float64(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.to(torch.float64).numpy())


# The three formulas


def combination(terms: Sequence[tuple[float, torch.Tensor]], dtype: torch.dtype, error: float = FP32_ERROR) -> Expected:
    parts = [coefficient * as_float64(tensor) for coefficient, tensor in terms if coefficient != 0]
    if not parts:
        parts = [np.zeros(tuple(terms[0][1].shape))]
    return Expected(np.sum(parts, axis=0), np.max(np.abs(parts), axis=0), dtype, error)


def linear(
    tensors: Sequence[torch.Tensor],
    weights: Sequence[float],
    *,
    normalize: bool = True,
    dtype: torch.dtype | None = None,
    error: float = FP32_ERROR,
) -> Expected:
    divisor = checked(math.fsum(weights), weights) if normalize else 1.0
    terms = [(weight / divisor, tensor) for weight, tensor in zip(weights, tensors, strict=True)]
    return combination(terms, dtype or promoted(tensors), error)


def task_arithmetic(
    base: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    weights: Sequence[float],
    *,
    normalize: bool = False,
    lambda_: float = 1.0,
    dtype: torch.dtype | None = None,
    error: float = FP32_ERROR,
) -> Expected:
    divisor = math.fsum(weights) if normalize else 1.0
    if normalize:
        divisor = 1.0 if abs(divisor) < 1e-8 else checked(divisor, weights)
    origin = as_float64(base)
    parts = [origin] + [
        lambda_ * weight / divisor * (as_float64(tensor) - origin)
        for weight, tensor in zip(weights, tensors, strict=True)
    ]
    return Expected(np.sum(parts, axis=0), np.max(np.abs(parts), axis=0), dtype or promoted([base, *tensors]), error)


def checked(divisor: float, weights: Sequence[float]) -> float:
    """The divisor, where it is far enough from zero for the bound on the error to mean something."""
    if abs(divisor) <= 1e-3 * max(map(abs, weights)):
        raise ZeroDivisionError(f"weights {list(weights)} sum to {divisor}")
    return divisor


def promoted(tensors: Sequence[torch.Tensor]) -> torch.dtype:
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


# Recipes


@dataclass(frozen=True)
class Source:
    model: str
    tensor: torch.Tensor
    input_name: str
    parameters: Mapping[str, Any]


def expected_output(recipe: Mapping[str, Any], checkpoints: Mapping[str, Checkpoint]) -> dict[str, Expected]:
    if "stack" in recipe:
        return stack_output(recipe, checkpoints)
    slices = recipe["slices"] if "slices" in recipe else [slice_of_models(recipe, checkpoints)]
    out: dict[str, Expected] = {}

    def add(output_name: str, part: Mapping[str, Any], input_name: Any, t: float) -> None:
        sources = [
            Source(
                source["model"],
                tensor_of(checkpoints[source["model"]], input_name(source)),
                input_name(source),
                source.get("parameters") or {},
            )
            for source in part["sources"]
        ]
        shared = [part.get("parameters") or {}, recipe.get("parameters") or {}]
        out[output_name] = apply_method(recipe, part, sources, shared, output_name, t)

    add("model.embed_tokens.weight", slices[0], lambda _: "model.embed_tokens.weight", 0.0)
    depth = 0
    for part in slices:
        start, end = part["sources"][0]["layer_range"]
        for i in range(end - start):
            t = i / (end - start - 1) if end - start > 1 else 1.0
            first = part["sources"][0]["layer_range"][0]
            for suffix in checkpoints[part["sources"][0]["model"]].layer(first + i):
                add(
                    f"model.layers.{depth}.{suffix}",
                    part,
                    lambda source, i=i, suffix=suffix: f"model.layers.{source['layer_range'][0] + i}.{suffix}",
                    t,
                )
            depth += 1
    add("model.norm.weight", slices[-1], lambda _: "model.norm.weight", 0.0)
    add("lm_head.weight", slices[-1], lambda _: "lm_head.weight", 0.0)
    return out


def slice_of_models(recipe: Mapping[str, Any], checkpoints: Mapping[str, Checkpoint]) -> dict[str, Any]:
    listed = list(recipe["models"])
    base = recipe.get("base_model")
    if base is not None and base not in [entry["model"] for entry in listed]:
        listed.append({"model": base})
    return {"sources": [{**entry, "layer_range": [0, checkpoints[entry["model"]].depth]} for entry in listed]}


def tensor_of(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    return checkpoint.head if name == "lm_head.weight" else checkpoint.tensors[name]


def apply_method(
    recipe: Mapping[str, Any],
    part: Mapping[str, Any],
    sources: Sequence[Source],
    shared: Sequence[Mapping[str, Any]],
    output_name: str,
    t: float,
) -> Expected:
    def per_model(parameter: str, source: Source, default: Any = None) -> Any:
        found = resolve(parameter, [source.parameters, *shared], source.input_name, t, default)
        assert found is not None, f"{parameter} is unset for {source.input_name} of {source.model}"
        return float(found)

    method = recipe["merge_method"]
    tensors = [source.tensor for source in sources]
    dtype, error = storage(recipe, tensors)
    if method == "linear":
        weights = [per_model("weight", source) for source in sources]
        normalize = bool(resolve("normalize", shared, output_name, t, True))
        return linear(tensors, weights, normalize=normalize, dtype=dtype, error=error)
    if method == "passthrough":
        (source,) = sources
        return combination([(per_model("scale", source, 1.0), source.tensor)], dtype, error)
    assert method == "task_arithmetic"
    base = part.get("base_model", recipe.get("base_model"))
    others = [source for source in sources if source.model != base]
    (origin,) = [source.tensor for source in sources if source.model == base]
    return task_arithmetic(
        origin,
        [source.tensor for source in others],
        [per_model("weight", source) for source in others],
        normalize=bool(resolve("normalize", shared, output_name, t, False)),
        lambda_=float(resolve("lambda", shared, output_name, t, 1.0)),
        dtype=dtype,
        error=error,
    )


def storage(recipe: Mapping[str, Any], tensors: Sequence[torch.Tensor]) -> tuple[torch.dtype, float]:
    wanted = recipe.get("out_dtype") or recipe.get("dtype")
    dtype = DTYPES[wanted] if wanted else promoted(tensors)
    in_double = recipe.get("dtype") == "float64" or any(tensor.dtype == torch.float64 for tensor in tensors)
    return dtype, FP64_ERROR if in_double else FP32_ERROR


# Stacks: by their own definition, output layer by output layer, not by way of slices


@dataclass(frozen=True)
class Cover:
    entry: int
    model: str
    layer: int
    weight: float


def stack_output(recipe: Mapping[str, Any], checkpoints: Mapping[str, Checkpoint]) -> dict[str, Expected]:
    covers = covered_layers(recipe)
    out: dict[str, Expected] = {}

    def add(name: str, cover: Sequence[Cover], tensor: Any) -> None:
        tensors = [tensor(c) for c in cover]
        dtype, error = storage(recipe, tensors)
        out[name] = linear(tensors, [c.weight for c in cover], dtype=dtype, error=error)

    add("model.embed_tokens.weight", covers[0], lambda c: checkpoints[c.model].embed)
    for depth, cover in enumerate(covers):
        for suffix in checkpoints[cover[0].model].layer(cover[0].layer):
            add(
                f"model.layers.{depth}.{suffix}",
                cover,
                lambda c, suffix=suffix: checkpoints[c.model].layer(c.layer)[suffix],
            )
    add("model.norm.weight", covers[-1], lambda c: checkpoints[c.model].norm)
    add("lm_head.weight", covers[-1], lambda c: checkpoints[c.model].head)
    return out


def covered_layers(recipe: Mapping[str, Any]) -> list[list[Cover]]:
    """For each output layer, the entries that cover it, with the weights that `overlap` gives them.

    Only for plain `first-last` layers; entries carry an explicit `weight` in their parameters or none.
    """
    spans: list[tuple[int, int, int]] = []  # at, first source layer, count
    end = 0
    for entry in recipe["stack"]:
        first, last = map(int, entry["layers"].split("-"))
        at = entry.get("at", end)
        end = at + last - first + 1
        spans.append((at, first, last - first + 1))

    overlap = recipe.get("overlap")
    layers = []
    for depth in range(max(at + count for at, _, count in spans)):
        present = [i for i, (at, _, count) in enumerate(spans) if at <= depth < at + count]
        assert present, f"a gap at {depth}"
        weights = [float((recipe["stack"][i].get("parameters") or {}).get("weight", 1.0)) for i in present]
        if len(present) == 2 and overlap in ("cut", "ramp"):
            (_, (later, _, _)) = (spans[present[0]], spans[present[1]])
            n = spans[present[0]][0] + spans[present[0]][2] - later
            weights = pair_weights(overlap, depth - later, n)
        layers.append(
            [
                Cover(i, recipe["stack"][i]["model"], spans[i][1] + depth - spans[i][0], weight)
                for i, weight in zip(present, weights, strict=True)
            ]
        )
    return layers


def pair_weights(overlap: str, i: int, n: int) -> list[float]:
    """Of the earlier and the later entry, on layer i of the n on which they cross."""
    if overlap == "cut":
        return [1.0, 0.0] if i < math.ceil(n / 2) else [0.0, 1.0]
    later = i / (n - 1) if n > 1 else 0.5
    return [1 - later, later]
