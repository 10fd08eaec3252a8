"""The methods by name. A method is a pure function; its signature is its declaration.

There are three kinds, told apart by what a function takes and returns. One that returns `Coefficients` is a
linear combination: the engine multiplies and adds, in a fused kernel, and a plan knows every coefficient before
a tensor is read. If it takes a `Gram` matrix, the coefficients are found when the tensor is made. One that takes
a `Tile` and returns a `Block` is any other function of the models' elements. Arguments annotated with a measure
are supplied by the engine. Knows no files, tensors' names or recipes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, get_args, get_type_hints

from lamina.errors import OwnMethodFailed
from lamina.kernels.tiles import Fold, Mix, tile_elements
from lamina.merge_methods.gram import Coefficients, Gram, GramMatrix, combined_by_gram
from lamina.merge_methods.measures import Facts, Known, Measure, Nothing
from lamina.merge_methods.parameters import Parameter, Value, argument_name, parameters_of

Parameters = Mapping[str, Value | tuple[Value, ...]]
Law = Literal["symmetric", "idempotent", "zero weight is base"]

# How a method treats the model that a recipe names as base: as one model among others; as the first of them; as
# what the others are differences from, where there is one; or so, and it must be there.
Base = Literal["ordinary", "first", "optional", "required"]


class UndefinedMerge(ValueError):
    """The formula has no value for these parameters, or for these tensors; the message says why.

    `valid` are values near them that it has one for: by parameter, one a model.
    """

    def __init__(self, message: str, valid: Mapping[str, Sequence[float]] | None = None) -> None:
        super().__init__(message)
        self.valid = valid or {}


@dataclass(frozen=True)
class MergeMethod:
    """One merge method. `inputs` bounds the number of models, a base that is no ordinary model not counted.

    `foresee` gives the coefficients where the parameters alone decide them, else None; it raises
    UndefinedMerge for parameters outside the formula's domain. `example` are parameters worth showing.
    """

    name: str
    title: str
    reference: str
    function: Callable[..., Any]
    base: Base
    scope: Literal["element", "row", "tensor"]
    inputs: tuple[int, int | None]
    laws: tuple[Law, ...]
    foresee: Callable[..., Coefficients | None] | None = None
    example: Mapping[str, Value] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What expressions call it: another key, another result."""
        return self.name

    @property
    def needs_torch(self) -> bool:
        """True when a process that merges with it has imported torch, which takes memory."""
        return False

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """By the name that a recipe uses, in the order of the signature."""
        return parameters_of(self.function)

    @cached_property
    def measures(self) -> Mapping[str, Measure | GramMatrix]:
        """By the argument that they supply, in the order in which they are measured."""
        hints = get_type_hints(self.function, include_extras=True)
        found = {
            name: [x for x in get_args(hint)[1:] if isinstance(x, Measure | GramMatrix)] for name, hint in hints.items()
        }
        return {name: measures[0] for name, measures in found.items() if measures}

    @property
    def space(self) -> Literal["weights", "deltas"]:
        """What is combined where a base is given: the models' weights, or their differences from it."""
        return "deltas" if self.base in ("optional", "required") else "weights"

    @cached_property
    def is_plain(self) -> bool:
        """True for a linear combination whose coefficients the parameters decide."""
        return get_type_hints(self.function)["return"] == Coefficients and not self.measures

    @property
    def counted(self) -> str:
        """How many models it takes: `2 models`, `1 or 2 models`, `3 or more models`."""
        least, most = self.inputs
        if most is None:
            return f"{least} or more models" if least else "any number of models"
        number = str(least) if least == most else f"{least} or {most}"
        return "one model" if most == 1 else f"{number} models"

    @property
    def draws(self) -> bool:
        """True when the result depends on the seed."""
        return any(isinstance(measure, Measure) and measure.draws for measure in self.measures.values())

    @property
    def summary(self) -> str:
        """The first sentence of the function's docstring: the formula in words."""
        return (self.function.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")

    def copies(self, models: int) -> bool:
        """True where there is nothing to merge: one model, of a method that goes from the first to others."""
        return self.base == "first" and models == 1

    def foreseen(self, values: Parameters, models: int) -> tuple[float, ...] | None:
        """One factor a model where no tensor has to be seen for it. Raises UndefinedMerge."""
        if self.copies(models):
            return (1.0,)
        arguments = _arguments(values)
        try:
            if self.is_plain:
                known = self.function(**arguments)
            else:
                known = None if self.foresee is None else self.foresee(models=models, **arguments)
        except OverflowError as error:
            raise UndefinedMerge("the weights are too large to be added up") from error
        if known is None:
            return (0.0,) * models if values.get("lambda") == 0 else None
        if not all(map(math.isfinite, known)):
            raise UndefinedMerge("the weights are too large, or their sum is too small to divide by")
        return tuple(known)

    def prepared(
        self, values: Parameters, facts: Facts, known: Known | None = None
    ) -> Generator[Fold, None, tuple[float, ...] | Mix]:
        """Yields a fold for each pass over the tensor; returns the coefficients, or the mix. Raises UndefinedMerge.

        What `known` has of this tensor is not measured again.
        """
        known = known or Nothing()
        arguments = _arguments(values)
        keys = {name: key for name, (key, _) in self.kept(values, facts).items()}
        for name, measure in self.measures.items():
            if isinstance(measure, GramMatrix):
                combined: tuple[float, ...] | Mix = yield from combined_by_gram(
                    measure, arguments, facts, partial(self._of_gram, arguments, name), known
                )
                return combined
            found = known.get(keys[name]) if name in keys else None
            if found is None:
                given = arguments
                if measure.bound is not None:
                    given = {each: arguments[each] for each in measure.bound if each in arguments}
                found = yield from measure.run(facts, given)
                if name in keys:
                    known.keep(keys[name], found, measure.held(facts, arguments))
            arguments[name] = found
        return (yield from self.mixing(arguments, facts))

    def kept(self, values: Parameters, facts: Facts) -> dict[str, tuple[Hashable, int]]:
        """By argument, the measures that merges can share: what tells them apart, and the bytes of their arrays."""
        arguments = _arguments(values)
        found: dict[str, tuple[Hashable, int]] = {}
        for name, measure in self.measures.items():
            if isinstance(measure, GramMatrix):
                if (key := measure.key(arguments)) is not None:
                    found[name] = key, measure.held(facts, arguments)
            elif measure.bound is not None and all(each in found for each in measure.bound if each in self.measures):
                bound = tuple(
                    (each, found[each][0] if each in found else arguments[each])
                    for each in measure.bound
                    if each in found or each in arguments
                )
                found[name] = (self.key, name, bound), measure.held(facts, arguments)
        return found

    def mixing(self, arguments: Mapping[str, Any], facts: Facts) -> Generator[Fold, None, Mix]:  # noqa: ARG002
        """The mix, once everything is measured. Yields a fold where that takes another pass."""
        yield from ()
        return lambda tile: self.function(tile, **arguments)

    def _of_gram(self, arguments: Mapping[str, Any], name: str, gram: Gram) -> Coefficients:
        found: Coefficients = self.function(**arguments, **{name: gram})
        return found

    def state_bytes(self, values: Parameters, facts: Facts) -> int:
        """The most that measures and one tile hold while a tensor is made."""
        arguments = _arguments(values)
        states = [measure.state(facts, arguments) for measure in self.measures.values()]
        tile = min(facts.count, tile_elements(facts.row, self.scope == "row")) * (8 if facts.wide else 4)
        return sum(states) + tile * (TEMPORARIES + TEMPORARIES_PER_MODEL * facts.models)


# Arrays of the size of a tile that a method holds at once, of 4 bytes an element (or 8), and as many a model.
TEMPORARIES = 16
TEMPORARIES_PER_MODEL = 6

METHODS: dict[str, MergeMethod] = {}  # what comes with Lamina, by name
_OWN: dict[str, MergeMethod] = {}  # what was loaded from somebody's own code, by key


def method_called(key: str) -> MergeMethod:
    """The method of an expression. Raises OwnMethodFailed where a plan comes from a process that loaded another."""
    found = METHODS.get(key) or _OWN.get(key)
    if found is None:
        raise OwnMethodFailed(f"the merge method {key.partition('@')[0]} is not loaded here; plan its recipe first.")
    return found


def make_known(method: MergeMethod) -> None:
    """Let expressions name a method that does not come with Lamina."""
    _OWN[method.key] = method


def merge_method(
    name: str,
    *,
    title: str,
    reference: str,
    base: Base = "ordinary",
    scope: Literal["element", "row", "tensor"] = "element",
    inputs: tuple[int, int | None] = (1, None),
    laws: Sequence[Law] = (),
    foresee: Callable[..., Coefficients | None] | None = None,
    example: Mapping[str, Value] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the merge method `name`, one of those that come with Lamina."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        METHODS[name] = MergeMethod(
            name, title, reference, function, base, scope, inputs, tuple(laws), foresee, example or {}
        )
        return function

    return register


def _arguments(values: Parameters) -> dict[str, Any]:
    return {argument_name(name): value for name, value in values.items()}
