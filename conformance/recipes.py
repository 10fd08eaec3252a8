"""Random recipes. Number n of a seed is always the same recipe, whatever else is drawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.methods import DETERMINISTIC, METHODS, RANDOM, Method
from conformance.models import BF16, F32, FOLDERS, MODELS
from conformance.rows import TWISTS, rows_of

Recipe = dict[str, Any]

FILTERS = ["self_attn", "mlp", "q_proj", "layers.1", "layers.0.", "norm", "lm_head", "embed", "*", "nothing_has_this"]
TWISTED = 17  # every so many, a recipe is one that touches a row of the table: the rows in turn
DRAWN = 0.06  # the share of recipes of a random method: these touch the row of draws
OUTPUTS: Mapping[str, Sequence[Mapping[str, str]]] = {
    F32: [{"dtype": "float32"}, {"dtype": "float32"}, {"dtype": "float32", "out_dtype": "bfloat16"}],
    BF16: [{"dtype": "float32"}, {"dtype": "float32", "out_dtype": "bfloat16"}],
}


@dataclass(frozen=True)
class Drawn:
    """A recipe, its number, and the rows of the table that it touches: known before it is carried out."""

    number: int
    recipe: Recipe
    rows: tuple[int, ...]

    @property
    def method(self) -> str:
        return str(self.recipe["merge_method"])


def draw_recipe(seed: int, number: int) -> Drawn:
    """One recipe: a method, or a row of the table, in turn; everything else at random."""
    rng = random.Random(f"{seed}/{number}")
    if number % TWISTED == TWISTED - 1:
        recipe = TWISTS[number // TWISTED % len(TWISTS)](rng)
    elif rng.random() < DRAWN:
        recipe = _recipe(rng, rng.choice(RANDOM))
    else:
        recipe = _recipe(rng, DETERMINISTIC[number % len(DETERMINISTIC)])
    return Drawn(number, recipe, rows_of(recipe))


def _recipe(rng: random.Random, name: str) -> Recipe:
    method = METHODS[name]
    dtype = rng.choice([F32, BF16])
    models = _models(rng, method, dtype)
    based = method.base in ("first", "required") or (method.base == "optional" and rng.random() < 0.5)
    base = models.pop(0) if based else None
    models = models[: method.inputs[1]]
    if method.base == "ordinary" and name != "passthrough" and len(models) > 1 and rng.random() < 0.3:
        base = models[-1]  # an input among others, which is what a base is to these methods
    settings = _Settings(rng, method)
    recipe: Recipe = {"merge_method": name}
    if rng.random() < 0.45 and not _tied(models):
        recipe["slices"] = [_slice(settings, method, models, base) for _ in range(rng.choice([1, 1, 2, 3]))]
    else:
        recipe["models"] = _entries(settings, models, base, method)
    if base is not None:
        recipe["base_model"] = base
    parameters = settings.level(method.shared, 0.6) | settings.level(method.own, 0.3)
    for needed in method.needed:  # the last level that is asked always has a value
        parameters[needed] = settings.value({**method.own, **method.shared}[needed], total=True)
    if parameters:
        recipe["parameters"] = parameters
    return recipe | dict(rng.choice(OUTPUTS[dtype]))


def _models(rng: random.Random, method: Method, dtype: str) -> list[str]:
    """The base first, then as many models as the method takes, all different."""
    if rng.random() < 0.15:
        base, others = "tied_base", ["tied_a", "tied_b"]
    else:
        base, others = "base", ["near_a", "near_b", "light", "far"]
    least, most = method.inputs
    count = rng.randint(least, min(most, len(others)))
    return [f"{FOLDERS[dtype]}/{name}" for name in [base, *rng.sample(others, count)]]


def _tied(models: Sequence[str]) -> bool:
    return any(MODELS[model.partition("/")[2]].tied for model in models)


def _entries(settings: _Settings, models: Sequence[str], base: str | None, method: Method) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for model in models:
        entry: dict[str, Any] = {"model": model}
        own = settings.level(method.own, 0.7)
        if own:
            entry["parameters"] = own
        entries.append(entry)
    if base is not None and base not in models and settings.rng.random() < 0.5:
        entries.insert(settings.rng.randint(0, len(entries)), {"model": base})
    return entries


def _slice(settings: _Settings, method: Method, models: Sequence[str], base: str | None) -> dict[str, Any]:
    """Layers of every model of the recipe, the base among them, each from a place of its own."""
    rng = settings.rng
    sources = _entries(settings, models, None, method)
    if base is not None and base not in models:
        sources.insert(rng.randint(0, len(sources)), {"model": base})
    layers = min(MODELS[source["model"].partition("/")[2]].layers for source in sources)
    length = rng.randint(1, layers)
    for source in sources:
        start = rng.randint(0, layers - length)
        source["layer_range"] = [start, start + length]
    part: dict[str, Any] = {"sources": sources}
    parameters = settings.level(method.shared, 0.25) | settings.level(method.own, 0.25)
    return part | ({"parameters": parameters} if parameters else {})


class _Settings:
    """Draws settings: numbers, gradients, filters; true and false."""

    def __init__(self, rng: random.Random, method: Method) -> None:
        self.rng, self._method = rng, method
        # Where signs are elected and divided by what agrees, weights of both signs may cancel: then only numbers,
        # whose sums are exact.
        self._mixed = method.elects and rng.random() < 0.3

    def level(self, choices: Mapping[str, Sequence[Any]], share: float) -> dict[str, Any]:
        """Some of the parameters, with a setting each."""
        return {name: self.value(values) for name, values in choices.items() if self.rng.random() < share}

    def value(self, values: Sequence[Any], *, total: bool = False) -> Any:
        """A setting; a `total` one has a value for every tensor."""
        rng = self.rng
        numeric = isinstance(values[0], float)
        signed = numeric and min(values) < 0 and self._method.elects
        if signed and not self._mixed:
            values = [value for value in values if value >= 0]
        plain: Callable[[], Any] = lambda: rng.choice(values)  # noqa: E731 (what a rule's value is, said once)
        if signed and self._mixed:
            return plain()
        # Of true and false, a list is steps. Whole numbers have no list: what lies between them is none.
        share = 0.4 if numeric else 0.15 if isinstance(values[0], bool) else 0.0
        graded: Callable[[], Any] = lambda: (  # noqa: E731
            [plain() for _ in range(rng.randint(2, 4))] if rng.random() < share else plain()
        )
        if rng.random() < 0.65:
            return graded()
        rules = [{"filter": rng.choice(FILTERS), "value": graded()} for _ in range(rng.randint(1, 2))]
        return [*rules, {"value": graded()}] if total or rng.random() < 0.5 else rules
