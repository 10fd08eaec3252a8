"""Somebody's own merge methods: a decorator for a function in their file, and what is checked when it runs.

    @lamina.merge_method(base="required")
    def magmax(tile: Tile, *, lambda_: Lambda = 1.0) -> Block:
        ...

What the function takes says how it is carried out: a `Tile` of numpy blocks, streamed; whole `Tensors` of torch; or
neither, where it returns coefficients. Whatever goes wrong in it is told with its file and line.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import PurePath
from typing import Any, Literal, TypedDict, TypeVar, Unpack, get_args, get_type_hints, overload

import numpy as np
import xxhash

from lamina.errors import LaminaError, OwnMethodFailed
from lamina.kernels.tiles import Block, Fold, Mix, Tile
from lamina.merge_methods.gram import GramMatrix
from lamina.merge_methods.measures import Facts, Known
from lamina.merge_methods.parameters import Value, recipe_name
from lamina.merge_methods.registry import Base, Law, MergeMethod, Parameters, UndefinedMerge
from lamina.merge_methods.whole_tensors import Tensors, WrongResult, made_of_whole_tensors
from lamina.wording import counted

TEMPORARIES = 10  # tensors that a whole-tensor method holds at once: a sum and its SVD take 8.4. Measured.
DECLARATION = "__lamina_merge_method__"
OWN_MODULE = "lamina_own_"  # what the modules are called whose files are run for a recipe


@dataclass(frozen=True)
class OwnMethod(MergeMethod):
    """A merge method that does not come with Lamina.

    `name` is how a recipe names it, `file` how letters do; `digest` is of the source text it was loaded with. A
    whole-tensor method holds at most `temporaries` tensors beside what it was given, its result among them.
    """

    file: str = ""
    digest: str = ""
    temporaries: int = TEMPORARIES

    @property
    def key(self) -> str:
        """Free of paths: the same code is the same method wherever it lies."""
        return f"{self.function.__name__}@{self.digest}"

    @cached_property
    def takes(self) -> type[Tile] | type[Tensors] | None:
        """What the function is handed beside its parameters."""
        hints = get_type_hints(self.function)
        given = [
            each
            for each in _arguments(self.function)
            if each.kind in (each.POSITIONAL_OR_KEYWORD, each.POSITIONAL_ONLY)
        ]
        found = hints.get(given[0].name) if given else None
        if len(given) > 1 or (given and found not in (Tile, Tensors)):
            raise TypeError(
                "it takes one thing by position, `tile: Tile` or `tensors: Tensors`, or nothing; parameters stand "
                "behind a `*`"
            )
        return found

    @property
    def needs_torch(self) -> bool:
        values = self.function.__globals__.values()
        names = [getattr(each, "__module__", None) or getattr(each, "__name__", "") for each in values]
        imported = {str(name).partition(".")[0] for name in (*names, *self.function.__code__.co_names)}
        return self.takes is Tensors or "torch" in imported

    @cached_property
    def is_plain(self) -> bool:
        return self.takes is None and not self.measures

    def faults(self) -> Iterator[str]:
        """What is wrong with the declaration, in words. Without a fault the method can be planned with."""
        try:
            known = {*self.parameters, *(recipe_name(name) for name in self.measures)}
            _ = self.takes
        except (TypeError, NameError) as error:  # a name that only a type checker imports is no name at run time
            yield f"{error}"
            return
        for parameter in self.parameters.values():
            if parameter.default is not None:
                try:
                    parameter.coerce(parameter.default)
                except ValueError as error:
                    yield f"the default: {error}".removesuffix(".")
        for argument in _arguments(self.function):
            if argument.kind in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
                yield f"`{argument}` says nothing of the parameters; name each"
            elif argument.kind is argument.KEYWORD_ONLY and recipe_name(argument.name) not in known:
                yield f"`{argument.name}` is annotated with what is neither a Meaning nor a measure"
        if self.takes is not None and any(isinstance(each, GramMatrix) for each in self.measures.values()):
            yield "a Gram matrix gives coefficients: leave the tile or the tensors out"
        for what, said, valid in (("base", self.base, Base), ("scope", self.scope, Literal["element", "row"])):
            if said not in get_args(valid):
                yield f"its {what} is one of {', '.join(get_args(valid))}, not `{said}`"
        if odd := [law for law in self.laws if law not in get_args(Law)]:
            yield f"there is no law `{odd[0]}`; there are {', '.join(get_args(Law))}"
        if unknown := set(self.example) - set(self.parameters):
            yield f"its example has {', '.join(sorted(unknown))}, which it does not take"
        if not (self.function.__doc__ or "").strip():
            yield "it has no docstring, and its first sentence is what `lamina methods` tells of it"

    def foreseen(self, values: Parameters, models: int) -> tuple[float, ...] | None:
        if not self.is_plain and not self.copies(models):
            return None
        try:
            found = super().foreseen(values, models)
            _check_count(found, models)
        except Exception as error:
            raise error if isinstance(error, UndefinedMerge) else UndefinedMerge(self._letter(error)) from error
        return found

    def prepared(
        self, values: Parameters, facts: Facts, known: Known | None = None
    ) -> Generator[Fold, None, tuple[float, ...] | Mix]:
        passes = super().prepared(values, facts, known)
        while True:
            try:
                fold = next(passes)
            except StopIteration as finished:
                found: tuple[float, ...] | Mix = finished.value
                break
            except Exception as error:
                raise self._told(error) from error
            yield partial(self._folded, fold)
        if callable(found):
            return partial(self._mixed, found)
        try:
            _check_count(found, facts.models)
        except WrongResult as error:
            raise self._told(error) from error
        return found

    def mixing(self, arguments: Mapping[str, Any], facts: Facts) -> Generator[Fold, None, Mix]:
        if self.takes is not Tensors:
            return (yield from super().mixing(arguments, facts))
        mix: Mix = yield from made_of_whole_tensors(partial(self.function, **arguments), facts)
        return mix

    def state_bytes(self, values: Parameters, facts: Facts) -> int:
        state = super().state_bytes(values, facts)
        if self.takes is not Tensors:
            return state
        given = facts.models + (self.space == "deltas") * (1 + facts.models)  # inputs; base and deltas
        return state + facts.count * (8 if facts.wide else 4) * (given + self.temporaries)

    def _folded(self, fold: Fold, tile: Tile) -> None:
        try:
            fold(_read_only(tile))
        except Exception as error:
            raise self._told(error) from error

    def _mixed(self, mix: Mix, tile: Tile) -> Block:
        try:
            made = mix(_read_only(tile))
            if self.takes is Tile:
                _check_block(made, tile)
        except Exception as error:
            raise self._told(error) from error
        return made

    def _told(self, error: Exception) -> Exception:
        """What is raised in the place of an error: a letter, unless it is one."""
        return error if isinstance(error, LaminaError | UndefinedMerge) else OwnMethodFailed(f"{self._letter(error)}.")

    def _letter(self, error: Exception) -> str:
        """`mine.py:12: magmax raised ZeroDivisionError: division by zero`."""
        code = self.function.__code__
        lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == code.co_filename]
        place = f"{self.file or PurePath(code.co_filename).name}:{lines[-1] if lines else code.co_firstlineno}"
        if isinstance(error, WrongResult):
            return f"{place}: {code.co_name} {error}"
        if isinstance(error, ValueError) and "read-only" in str(error):  # numpy's word for what `_read_only` forbids
            return f"{place}: {code.co_name} changes what it was given; make new arrays (`a + b`, not `a += b`)"
        return f"{place}: {code.co_name} raised {type(error).__name__}: {str(error).rstrip('.')}"


def _read_only(tile: Tile) -> Tile:
    """The same tile; a method that writes into it is told so, as the engine goes on with its arrays."""

    def locked(part: Block) -> Block:
        view = part.view()
        view.flags.writeable = False
        return view

    return replace(tile, inputs=tuple(map(locked, tile.inputs)), base=None if tile.base is None else locked(tile.base))


def _check_count(found: Sequence[float] | None, models: int) -> None:
    """Raises WrongResult for what is not a coefficient a model."""
    if found is not None and len(found) != models:
        raise WrongResult(f"returns {counted(len(found), 'coefficient')} for {counted(models, 'model')}")


def _check_block(made: object, tile: Tile) -> None:
    """Raises WrongResult for what is no block of the tile."""
    given = tile.inputs if tile.base is None else (*tile.inputs, tile.base)
    like = given[0]
    if not isinstance(made, np.ndarray):
        raise WrongResult(f"returns {type(made).__name__}, and a merge method returns a numpy array")
    if made.shape != like.shape or made.dtype not in (like.dtype, np.float64):  # a sum may be taken in float64
        raise WrongResult(
            f"returns {made.dtype} {list(made.shape)} where the tile's arrays are {like.dtype} {list(like.shape)}"
        )
    if not np.isfinite(made).all() and all(np.isfinite(each).all() for each in given):
        raise WrongResult("gives NaN or infinity, although every input is finite")


def _arguments(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


# Declaring


class Declaration(TypedDict, total=False):
    """What can be said of a method beside its signature.

    `base` says what `base_model` is to it: "optional" (the default) or "required", what the models are differences
    from; "first", the first of them; "ordinary", one like the others. With one of the first two, what the function
    returns is added to the base. `inputs` bounds the number of models, such a base not counted: (1, None) is any.
    `scope` "row" gets tiles of whole rows. `laws` are what it promises: see `lamina.check_method`. `temporaries`, of a
    method of whole tensors, is how many it holds at once beside those that it was given. `title`, `reference` and
    `example`, parameters worth showing, are for `lamina methods`.
    """

    title: str
    reference: str
    base: Base
    scope: Literal["element", "row"]
    inputs: tuple[int, int | None]
    laws: Sequence[Law]
    example: Mapping[str, Value]
    temporaries: int


Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def merge_method(function: Function, /) -> Function: ...


@overload
def merge_method(**declaration: Unpack[Declaration]) -> Callable[[Function], Function]: ...


def merge_method(function: Any = None, /, **declaration: Any) -> Any:
    """Make a merge method of a function, which itself stays as it is. `Declaration` has what can be said of it."""
    return partial(_declare, declaration) if function is None else _declare({}, function)


def _declare(declaration: Mapping[str, Any], function: Function) -> Function:
    name = function.__name__
    said = {
        "title": name.replace("_", " ").capitalize(), "reference": "", "base": "optional", "scope": "element",
        "inputs": (1, None), "laws": (), **declaration,
    }  # fmt: skip
    method = OwnMethod(name=name, function=function, digest=_digest(_source(function)), **said)
    setattr(function, DECLARATION, method)
    return function


def declared(found: object) -> OwnMethod | None:
    """The method that a decorated function is; None for anything else."""
    method = getattr(found, DECLARATION, None)
    return method if isinstance(method, OwnMethod) else None


def loaded(method: OwnMethod, name: str, file: str, text: str) -> OwnMethod:
    """The method as a recipe names it, with the text that it came from."""
    return replace(method, name=name, file=file, digest=_digest(text))


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed into a console that keeps nothing
        code = function.__code__
        return f"{code.co_code.hex()} {code.co_consts} {code.co_names}"


def _digest(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode())
