"""Somebody's own merge method, found by the name that a recipe gives it. Nothing else in Lamina runs code.

    merge_method: mine.py:magmax        a file, relative to the recipe's folder
    merge_method: mine:magmax           the same, or else a module that Python finds
    merge_method: magmax                what an installed package offers in the group `lamina.merge_methods`

A file is run on its own: its folder is not on Python's path, so that its text is all that it is made of.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from lamina.errors import Problem, RecipeError, did_you_mean, nearest
from lamina.merge_methods import METHODS, MergeMethod, OwnMethod, declared, make_known
from lamina.merge_methods.own import OWN_MODULE, loaded

GROUP = "lamina.merge_methods"


class NoSuchMethod(Exception):
    """A name that stands for no merge method, or for one that cannot be used. `suggestion`: what to write instead."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


def names_code(name: str) -> bool:
    """True for `module:function`, and for a file that lacks its function."""
    return ":" in name or name.endswith(".py")


def offered_methods() -> Mapping[str, EntryPoint]:
    """What installed packages offer, by name; nothing of them is imported."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in METHODS}


def method_named(name: str, folder: Path) -> MergeMethod:
    """A method by whatever name a recipe in `folder` may give it. Raises RecipeError."""
    if name in METHODS:
        return METHODS[name]
    offered = offered_methods()
    if names_code(name) or name in offered:
        try:
            return own_method(name, folder)
        except NoSuchMethod as error:
            raise RecipeError([Problem("own-code", str(error), suggestion=error.suggestion)]) from error
    known = [*METHODS, *offered]
    message = f"unknown method `{name}`.{did_you_mean(name, known)}"
    raise RecipeError([Problem("unknown-method", message, suggestion=nearest(name, known) or "")])


def function_of_file(name: str, folder: Path) -> tuple[Callable[..., Any], str]:
    """Any function, named `file.py:function`, and the text of its file, which is run. Raises NoSuchMethod."""
    where, _, function = name.rpartition(":")
    path = folder / Path(where).expanduser()
    if not where.endswith(".py") or not path.is_file():
        raise NoSuchMethod(f"there is no file `{where or name}`; a function is named `file.py:function`.")
    text = _text(path, where)
    module = _run_file(str(path), where, text)
    found = getattr(module, function, None)
    if not inspect.isfunction(found):
        there = [each for each, value in vars(module).items() if inspect.isfunction(value)]
        raise NoSuchMethod(f"{where} has no function `{function}`.{did_you_mean(function, there or ['none'])}")
    return found, text


@dataclass(frozen=True)
class _Code:
    """A module that was run, what letters call it, and its source text."""

    module: ModuleType
    shown: str
    text: str


def own_method(name: str, folder: Path) -> OwnMethod:
    """The method that `name` stands for, ready to be planned with. Runs its file. Raises NoSuchMethod."""
    if names_code(name):
        where, colon, function = name.rpartition(":")
        if not colon:
            raise NoSuchMethod(f"a method of {name} is named with its function: `{name}:FUNCTION`.")
        code = _code(where.strip(), folder)
    else:
        entry = offered_methods()[name]
        code, function = _imported(entry.module), entry.attr
    found = loaded(_function(code, function.strip()), name, code.shown, code.text)
    _check_declaration(found, code.shown)
    make_known(found)
    return found


def checked(function: Callable[..., Any]) -> OwnMethod:
    """The method that a decorated function is. Raises RecipeError."""
    method = declared(function)
    try:
        if method is None:
            raise NoSuchMethod(f"{function} is no merge method: put `@lamina.merge_method` above it.")
        _check_declaration(method, Path(method.function.__code__.co_filename).name)
    except NoSuchMethod as error:
        raise RecipeError([Problem("own-code", str(error))]) from error
    return method


def _check_declaration(method: OwnMethod, shown: str) -> None:
    if faults := list(method.faults()):
        line = method.function.__code__.co_firstlineno
        raise NoSuchMethod(f"{shown}:{line}: {method.function.__name__} cannot be used: {'; '.join(faults)}.")


def file_beside(name: str, folder: Path) -> Path | None:
    """The file of a method, where it lies in the recipe's own folder."""
    where = name.rpartition(":")[0].strip()
    path = folder / (where if where.endswith(".py") else f"{where}.py")
    return path if names_code(name) and path.parent == folder and path.is_file() else None


def _code(where: str, folder: Path) -> _Code:
    try:
        path = folder / Path(where).expanduser() if where.endswith(".py") else folder / f"{where}.py"
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:  # too long for a name; `~nobody`
        shown = where if len(where) < 60 else f"{where[:60]}..."
        raise NoSuchMethod(f"`{shown}` is neither a file `....py` nor a module.") from error
    if is_file:
        shown = where if where.endswith(".py") else f"{where}.py"
        text = _text(path, shown)
        return _Code(_run_file(str(path), shown, text), shown, text)
    if where.endswith(".py"):
        near = nearest(path.name, [each.name for each in path.parent.glob("*.py")])
        hint = f" Did you mean `{near}`?" if near else ""
        raise NoSuchMethod(f"there is no file `{where}` in {folder.absolute()}, the recipe's folder.{hint}", near or "")
    return _imported(where)


def _imported(name: str) -> _Code:
    if not all(part.isidentifier() for part in name.split(".")):
        raise NoSuchMethod(f"`{name}` is neither a file `....py` nor a module.")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            message = f"there is no `{name}.py` beside the recipe, and Python finds no module `{name}`."
            raise NoSuchMethod(message) from error
        raise _failed(name, "", error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, "", error) from error
    if not (module.__file__ or "").endswith(".py"):
        raise NoSuchMethod(f"the source of `{name}` cannot be found, and a plan's digest covers it.")
    return _Code(module, name, _text(Path(module.__file__ or ""), name))


def _text(path: Path, shown: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise NoSuchMethod(f"`{shown}` cannot be read: {error}.") from error


@cache
def _run_file(path: str, shown: str, text: str) -> ModuleType:
    """The file as a module of its own, once for each text that it has had."""
    name = f"{OWN_MODULE}{hashlib.sha256(f'{path} {text}'.encode()).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module  # where dataclasses and the like look for it
    try:
        exec(compile(text, path, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(shown, path, error) from error
    return module


def _failed(shown: str, path: str, error: BaseException) -> NoSuchMethod:
    """The letter for code that cannot be loaded."""
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return NoSuchMethod(f"{shown} needs torch, which is not installed: pip install 'lamina[torch]'.")
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else lines[-1] if lines else None
    place = shown if line is None else f"{shown}:{line}"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return NoSuchMethod(f"{place} cannot be loaded: {type(error).__name__}: {said.rstrip('.')}.")


def _function(code: _Code, name: str) -> OwnMethod:
    found = getattr(code.module, name, None)
    method = declared(found)
    if method is not None:
        return method
    if inspect.isfunction(found):
        raise NoSuchMethod(f"`{name}` of {code.shown} is no merge method yet: put `@lamina.merge_method` above it.")
    there = [each for each, value in vars(code.module).items() if declared(value) is not None]
    meant = nearest(name, there)
    hint = f" Did you mean `{code.shown}:{meant}`?" if meant else f" It has {', '.join(there) or 'no merge method'}."
    suggestion = f"{code.shown}:{meant}" if meant else ""
    raise NoSuchMethod(f"{code.shown} has no function `{name}`.{hint}", suggestion)
