"""MergeKit's methods as a recipe sees them: how many models, what a base is to them, parameters and where they stand.

From MergeKit's documented behaviour; knows nothing of Lamina's own table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

# What the model named as base is: one input among others; the first of two; what is taken away from the others where
# there is one; or that, and it must be there.
Base = Literal["ordinary", "first", "optional", "required"]


@dataclass(frozen=True)
class Method:
    """One method. `inputs` bounds the number of models beside the base, `own` and `shared` are parameters.

    Each parameter has the values that a random recipe chooses from; one that is `needed` has no default.
    """

    base: Base
    inputs: tuple[int, int]
    own: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    shared: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    draws: bool = False
    elects: bool = False


def _sixteenths(first: int, last: int) -> list[float]:
    """Multiples of 1/16: sums of a few are exact, and zero or at least 1/16."""
    return [number / 16 for number in range(first, last + 1)]


WEIGHTS = _sixteenths(1, 24)
SIGNED = _sixteenths(-16, 24)
TOGGLE = [True, False]
LAMBDA = [0.5, 0.8125, 1.0, 1.5, -0.75]
DENSITY = [0.1, 0.25, 0.4375, 0.5, 0.7, 0.9, 1.0]
DRAWN_DENSITY = [0.3, 0.4375, 0.5, 0.7]


def _task_vectors(
    normalize: bool, rescale: bool, *, elects: bool, draws: bool = False, **own: tuple[float, Sequence[float]]
) -> Method:
    return Method(
        "required",
        (1, 3),
        own={"weight": SIGNED, **{name: values for name, (_, values) in own.items()}},
        shared={"normalize": TOGGLE, "rescale": TOGGLE, "lambda": LAMBDA, "int8_mask": TOGGLE},
        needed=("weight",),
        defaults={"normalize": normalize, "rescale": rescale, "lambda": 1.0}
        | {name: default for name, (default, _) in own.items()},
        draws=draws,
        elects=elects,
    )


METHODS: dict[str, Method] = {
    "linear": Method("ordinary", (1, 4), {"weight": WEIGHTS}, {"normalize": TOGGLE}, ("weight",), {"normalize": True}),
    "slerp": Method("first", (1, 1), {}, {"t": _sixteenths(0, 16)}, ("t",)),
    "nuslerp": Method(
        "optional",
        (2, 2),
        {"weight": WEIGHTS},
        {"nuslerp_flatten": TOGGLE, "nuslerp_row_wise": TOGGLE},
        ("weight",),
        {"nuslerp_flatten": True, "nuslerp_row_wise": False},
    ),
    "multislerp": Method(
        "optional",
        (1, 4),
        {"weight": WEIGHTS},
        {"normalize_weights": TOGGLE, "eps": [1e-8, 1e-6]},
        ("weight",),
        {"normalize_weights": True, "eps": 1e-8},
    ),
    "karcher": Method(
        "ordinary", (1, 4), {}, {"max_iter": [1, 3, 10, 20], "tol": [1e-5, 1e-4]}, (), {"max_iter": 10, "tol": 1e-5}
    ),
    "task_arithmetic": Method(
        "required",
        (1, 3),
        {"weight": SIGNED},
        {"normalize": TOGGLE, "lambda": LAMBDA},
        ("weight",),
        {"normalize": False, "lambda": 1.0},
    ),
    "ties": _task_vectors(True, False, elects=True, density=(1.0, DENSITY)),
    "breadcrumbs": _task_vectors(
        False, False, elects=False, density=(1.0, DENSITY), gamma=(0.01, [0.01, 0.05, 0.2, 0.6])
    ),
    "breadcrumbs_ties": _task_vectors(
        False, False, elects=True, density=(1.0, DENSITY), gamma=(0.01, [0.01, 0.05, 0.2, 0.6])
    ),
    "sce": Method(
        "required",
        (1, 3),
        {},
        {"select_topk": [0.1, 0.25, 0.5, 0.8, 1.0], "int8_mask": TOGGLE},
        (),
        {"select_topk": 1.0},
    ),
    "ram": Method("required", (1, 3), {}, {"epsilon": [1e-5, 1e-3, 0.01]}, (), {"epsilon": 1e-5}),
    "ramplus_tl": Method(
        "required",
        (1, 3),
        {},
        {"r": [0.1, 0.5], "alpha": [0.2, 0.7], "epsilon": [1e-5, 1e-3, 0.01]},
        (),
        {"r": 0.1, "alpha": 0.2, "epsilon": 1e-5},
    ),
    "model_stock": Method("required", (2, 4), {}, {"filter_wise": TOGGLE}, (), {"filter_wise": False}),
    "nearswap": Method("required", (1, 1), {}, {"t": [0.0, 1e-4, 1e-3, 0.01]}, ("t",)),
    "arcee_fusion": Method("required", (1, 1)),
    "passthrough": Method("ordinary", (1, 1), {"scale": _sixteenths(-8, 32)}, {}, (), {"scale": 1.0}),
    "dare_linear": _task_vectors(False, True, elects=False, draws=True, density=(1.0, DRAWN_DENSITY)),
    "dare_ties": _task_vectors(False, True, elects=True, draws=True, density=(1.0, DRAWN_DENSITY)),
    "della": _task_vectors(
        True, True, elects=True, draws=True, density=(1.0, DRAWN_DENSITY), epsilon=(0.15, [0.1, 0.2])
    ),
    "della_linear": _task_vectors(
        False, True, elects=False, draws=True, density=(1.0, DRAWN_DENSITY), epsilon=(0.15, [0.1, 0.2])
    ),
}
DETERMINISTIC = [name for name, method in METHODS.items() if not method.draws]
RANDOM = [name for name, method in METHODS.items() if method.draws]
EFFECTLESS = ("int8_mask",)  # changes how MergeKit holds signs, not the result
