"""The rows of docs/mergekit.md: which of them a recipe touches, told from the recipe alone; recipes that touch each.

Numbers are those of the table. A difference counts as deliberate only where `rows_of` names a row, and that is asked
before either program has seen the recipe.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from conformance.methods import METHODS
from conformance.models import MODELS, Kind, shapes
from conformance.reference import ends_differ, parts_of

Recipe = Mapping[str, Any]

ALMOST_ZERO = 1e-6  # of the sum of the weights' magnitudes
KNOWN_KEYS = {"merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype", "tokenizer_source"}


def rows_of(recipe: Recipe) -> tuple[int, ...]:
    """The rows that a recipe touches, in order."""
    return tuple(row for row, touches in _TOUCHES.items() if touches(recipe))


def kind_of(model: str) -> Kind:
    """What stands in the folder that a recipe names."""
    return MODELS[model.partition("/")[2]]


def sources_of(recipe: Recipe) -> list[list[Mapping[str, Any]]]:
    """The sources of each slice; of `models`, one slice."""
    return [part["sources"] for part in recipe["slices"]] if "slices" in recipe else [recipe["models"]]


def models_of(recipe: Recipe) -> list[str]:
    """Every model that a recipe names, the base first."""
    named = [source["model"] for sources in sources_of(recipe) for source in sources]
    return list(dict.fromkeys([*([recipe["base_model"]] if "base_model" in recipe else []), *named]))


def _one_model_twice(recipe: Recipe) -> bool:
    return any(len({source["model"] for source in sources}) < len(sources) for sources in sources_of(recipe))


def _more_in_the_last_slice(recipe: Recipe) -> bool:
    sources = sources_of(recipe)
    return len(sources[-1]) > len(sources[0])


def _unlike_configs_without_a_base(recipe: Recipe) -> bool:
    kinds = [kind_of(model) for model in models_of(recipe)]
    told = {
        (kind.layers, kind.context, kind.tied, model[:4]) for kind, model in zip(kinds, models_of(recipe), strict=True)
    }
    return "base_model" not in recipe and len(told) > 1


def _weights_sum_to_zero(recipe: Recipe) -> bool:
    """Under the methods that divide by any sum: those of task vectors take one for a sum of zero, and both agree."""
    switch = {"linear": "normalize", "multislerp": "normalize_weights"}.get(recipe["merge_method"])
    return switch is not None and any(
        part.parameters[switch] and abs(sum(weights)) <= ALMOST_ZERO * sum(map(abs, weights))
        for part in _parts(recipe)
        if (weights := part.parameters["weight"])
    )


def _weight_zero_of_a_broken_model(recipe: Recipe) -> bool:
    return any(kind_of(model).broken for model in models_of(recipe))


def _scale_under_linear(recipe: Recipe) -> bool:
    return recipe["merge_method"] == "linear" and any("scale" in each for each in _levels(recipe))


def _no_layers(recipe: Recipe) -> bool:
    return any(source["layer_range"][0] >= source["layer_range"][1] for source in _ranged(recipe))


def _stacked_with_layer_types(recipe: Recipe) -> bool:
    return "slices" in recipe and any(kind_of(model).architecture == "qwen2" for model in models_of(recipe))


def _tied_and_untied(recipe: Recipe) -> bool:
    """Tied models beside untied ones, or a recipe that makes the head of tied models another than their embedding."""
    tied = {kind_of(model).tied for model in models_of(recipe)}
    return len(tied) > 1 or (tied == {True} and not _unplannable(recipe) and ends_differ(recipe, _names(recipe)))


def _tensors_of_some_models(recipe: Recipe) -> bool:
    return len({kind_of(model).biases for model in models_of(recipe)}) > 1


def _unlisted_tensors(recipe: Recipe) -> bool:
    return any(kind_of(model).biases and kind_of(model).architecture == "llama" for model in models_of(recipe))


def _misspelt(recipe: Recipe) -> bool:
    method = METHODS[recipe["merge_method"]]
    known = {*method.own, *method.shared} | ({"scale"} if recipe["merge_method"] == "linear" else set())
    return (
        not set(recipe) <= KNOWN_KEYS
        or any(not set(level) <= known for level in _levels(recipe))
        or "int64" in (recipe.get("dtype"), recipe.get("out_dtype"))
    )


def _tokenizer(recipe: Recipe) -> bool:
    return "tokenizer_source" in recipe


def _arithmetic_of_low_precision(recipe: Recipe) -> bool:
    return _rounds_to_bf16(recipe) or _parallel_to_float32(recipe)


def _rounds_to_bf16(recipe: Recipe) -> bool:
    return recipe.get("dtype") != "float32" and any(model.startswith("bf16/") for model in models_of(recipe))


def _parallel_to_float32(recipe: Recipe) -> bool:
    """karcher of two models alone, in whose norms float32 finds no angle: it then draws the mean to one of them.

    A third model, or the steps of bfloat16, keep the angles from the mean wide enough.
    """
    return recipe["merge_method"] == "karcher" and set(models_of(recipe)) == {"f32/base", "f32/light"}


def _draws(recipe: Recipe) -> bool:
    return METHODS[recipe["merge_method"]].draws  # no tensor here has the 10^6 elements from which arcee_fusion samples


_TOUCHES: Mapping[int, Callable[[Recipe], bool]] = {
    1: _one_model_twice,
    2: _more_in_the_last_slice,
    3: _unlike_configs_without_a_base,
    4: _weights_sum_to_zero,
    5: _weight_zero_of_a_broken_model,
    6: _scale_under_linear,
    7: _no_layers,
    8: _stacked_with_layer_types,
    9: _tied_and_untied,
    10: _tensors_of_some_models,
    11: _unlisted_tensors,
    12: _misspelt,
    13: _tokenizer,
    14: _arithmetic_of_low_precision,
    15: _draws,
}


def _parts(recipe: Recipe) -> Iterator[Any]:
    return iter(()) if _unplannable(recipe) else parts_of(recipe, _names(recipe))


def _unplannable(recipe: Recipe) -> bool:
    """True where a recipe touches a row already that leaves it without a meaning."""
    return _no_layers(recipe) or _one_model_twice(recipe) or _misspelt(recipe)


def _names(recipe: Recipe) -> dict[str, list[str]]:
    return {model: [name for name, _ in shapes(kind_of(model))] for model in models_of(recipe)}


def _ranged(recipe: Recipe) -> list[Mapping[str, Any]]:
    return [source for sources in sources_of(recipe) for source in sources if "layer_range" in source]


def _levels(recipe: Recipe) -> list[Mapping[str, Any]]:
    """Every `parameters` of a recipe."""
    holders = [recipe, *recipe.get("slices", ()), *(source for sources in sources_of(recipe) for source in sources)]
    return [holder["parameters"] for holder in holders if "parameters" in holder]


# Recipes that touch a row


def _one(model: str, first: int, end: int, **parameters: Any) -> dict[str, Any]:
    source: dict[str, Any] = {"model": model, "layer_range": [first, end]}
    return source | ({"parameters": parameters} if parameters else {})


def _entry(model: str, **parameters: Any) -> dict[str, Any]:
    return {"model": model} | ({"parameters": parameters} if parameters else {})


def _weight(rng: random.Random) -> float:
    return rng.randint(1, 16) / 16


def _linear(*entries: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"merge_method": "linear", "models": list(entries), "dtype": "float32"} | more


def _slices(method: str, *slices: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    return {"merge_method": method, "slices": [{"sources": list(each)} for each in slices], "dtype": "float32"} | more


def _twist_1(rng: random.Random) -> dict[str, Any]:
    return _slices(
        "linear",
        [_one("f32/base", 0, 2)],
        [_one("f32/base", 2, 4, weight=_weight(rng)), _one("f32/base", 0, 2, weight=_weight(rng))],
        [_one("f32/base", 2, 4)],
        parameters={"weight": 1.0},
    )


def _twist_2(rng: random.Random) -> dict[str, Any]:
    pair = [_one("f32/near_a", 2, 4, weight=_weight(rng)), _one("f32/near_b", 2, 4, weight=_weight(rng))]
    return _slices("linear", [_one("f32/near_a", 0, 2, weight=1.0)], pair)


def _twist_3(rng: random.Random) -> dict[str, Any]:
    names = ["f32/near_a", "f32/long", "bf16/near_b"]
    rng.shuffle(names)
    return _linear(*(_entry(name, weight=_weight(rng)) for name in names))


def _twist_4(rng: random.Random) -> dict[str, Any]:
    weight, method = _weight(rng), rng.choice(["linear", "multislerp"])
    return _linear(_entry("f32/near_a", weight=weight), _entry("f32/near_b", weight=-weight)) | {"merge_method": method}


def _twist_5(rng: random.Random) -> dict[str, Any]:
    recipe = _linear(_entry("f32/near_a", weight=_weight(rng)), _entry("f32/broken", weight=0.0))
    deltas = {"merge_method": "task_arithmetic", "base_model": "f32/base"}
    return recipe | (deltas if rng.random() < 0.5 else {})


def _twist_6(rng: random.Random) -> dict[str, Any]:
    return _linear(_entry("f32/near_a", weight=_weight(rng), scale=0.5), _entry("f32/near_b", weight=_weight(rng)))


def _twist_7(rng: random.Random) -> dict[str, Any]:
    last = rng.choice([(3, 1), (2, 2)])
    return _slices("passthrough", [_one("f32/base", 0, 2)], [_one("f32/base", *last)])


def _twist_8(rng: random.Random) -> dict[str, Any]:
    cut = rng.randint(1, 3)
    return _slices("passthrough", [_one("f32/qwen", 0, cut)], [_one("f32/qwen_a", cut - 1, 4)])


def _twist_9(rng: random.Random) -> dict[str, Any]:
    names = ["f32/tied_a", "f32/near_a"]
    return _linear(*(_entry(name, weight=_weight(rng)) for name in names), base_model=names[0])


def _twist_10(rng: random.Random) -> dict[str, Any]:
    return _linear(
        _entry("f32/near_a", weight=_weight(rng)), _entry("f32/biased_a", weight=1.0), base_model="f32/near_a"
    )


def _twist_11(rng: random.Random) -> dict[str, Any]:
    return _linear(_entry("f32/biased_a", weight=_weight(rng)), _entry("f32/biased_b", weight=_weight(rng)))


def _twist_12(rng: random.Random) -> dict[str, Any]:
    recipe = _linear(_entry("f32/near_a", weight=_weight(rng)), _entry("f32/near_b", weight=_weight(rng)))
    slips: list[dict[str, Any]] = [{"parameters": {"normalise": False}}, {"dtpye": "bfloat16"}, {"dtype": "int64"}]
    return recipe | rng.choice(slips)


def _twist_13(rng: random.Random) -> dict[str, Any]:
    recipe = _linear(_entry("f32/near_a", weight=_weight(rng)), _entry("f32/near_b", weight=_weight(rng)))
    return recipe | {"tokenizer_source": rng.choice(["f32/near_a", "base"]), "base_model": "f32/near_a"}


def _twist_14(rng: random.Random) -> dict[str, Any]:
    method = rng.choice(["task_arithmetic", "nuslerp", "ties", "ram", "ramplus_tl", "karcher"])
    if method == "karcher" and rng.random() < 0.5:
        return {"merge_method": method, "models": [{"model": "f32/base"}, {"model": "f32/light"}], "dtype": "float32"}
    entries = [_entry(f"bf16/{name}", weight=_weight(rng)) for name in ("near_a", "near_b")]
    recipe: dict[str, Any] = {"merge_method": method, "models": entries}
    if method in ("ram", "ramplus_tl", "karcher"):
        recipe["models"] = [{"model": entry["model"]} for entry in entries]
    return recipe | ({} if method in ("nuslerp", "karcher") else {"base_model": "bf16/base"})


# Row 15 has recipes of its own: those of the methods that draw.
TWISTS: Sequence[Callable[[random.Random], dict[str, Any]]] = (
    _twist_1, _twist_2, _twist_3, _twist_4, _twist_5, _twist_6, _twist_7, _twist_8, _twist_9, _twist_10, _twist_11,
    _twist_12, _twist_13, _twist_14,
)  # fmt: skip
