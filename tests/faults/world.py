"""A small world to break: three models, a recipe of each family, and a child process whose disk is in our hands.

Every step by which a merge changes the disk is a call of `os` that `STEPS` names, since all of them are made in
`checkpoints/files.py`. A child is a fork of the test, so that thousands of runs are affordable.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import lamina
from lamina.checkpoints import writer
from lamina.errors import LaminaError

STEPS = (
    "open", "mkdir", "posix_fallocate", "ftruncate", "pwrite", "write", "fdatasync", "fsync", "rename", "unlink",
    "rmdir",
)  # fmt: skip
READS = ("preadv",)

RECIPES = {
    "plain": """
models: [{model: a, parameters: {weight: 0.3}}, {model: b, parameters: {weight: 0.7}}]
merge_method: linear
""",
    "gram": """
models: [{model: a}, {model: b}]
merge_method: slerp
base_model: a
parameters: {t: 0.3}
""",
    "select": """
models: [{model: a, parameters: {weight: 0.5, density: 0.4}}, {model: b, parameters: {weight: 0.7, density: 0.6}}]
merge_method: ties
base_model: base
""",
}


class World:
    """A folder with models `base`, `a` and `b`, a recipe of each family, and what each makes when nothing fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for number, name in enumerate(("base", "a", "b")):
            _write_model(folder / name, number)
        self.expected: dict[str, Mapping[str, bytes]] = {}
        for name, text in RECIPES.items():
            (folder / f"{name}.yml").write_text(text)
            lamina.merge(folder / f"{name}.yml", folder / "expected" / name, workers=1)
            self.expected[name] = content_of(folder / "expected" / name)

    def merge(self, recipe: str, out: Path, **options: Any) -> None:
        """Make it with a journal that names every tensor as soon as it is finished."""
        writer.BATCH_BYTES = 1
        unnoted = lamina.Notebook(wanted=False)  # a child that may write nowhere but into its output has no ledger
        lamina.merge(self.folder / f"{recipe}.yml", out, workers=1, notebook=unnoted, **options)


def content_of(folder: Path) -> Mapping[str, bytes]:
    """Every file in a folder and below it, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def could_be_a_model(folder: Path) -> bool:
    """What transformers would try to load."""
    return (folder / "config.json").exists()


@dataclass(frozen=True)
class End:
    """How a child ended: its exit code, minus the signal that killed it; the letter, if it wrote one."""

    code: int
    letter: str = ""


def in_child(action: Callable[[], object]) -> End:
    """Do something in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 70
        try:
            action()
            code = 0
        except LaminaError as error:
            os.write(writing, str(error).encode())
            code = error.exit_code
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        letter = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return End(os.waitstatus_to_exitcode(status), letter)


Interfere = Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]


@contextmanager
def interfering(interfere: Interfere, names: tuple[str, ...] = STEPS) -> Iterator[None]:
    """Let `interfere(name, call, arguments)` stand in the place of every named call that is about to be made."""
    real = {name: getattr(os, name) for name in names if hasattr(os, name)}

    def standing_in(name: str) -> Callable[..., Any]:
        def stand_in(*arguments: Any, **named: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:  # for reading, or of a folder
                return real[name](*arguments, **named)
            return interfere(name, lambda *given: real[name](*given, **named), arguments)

        return stand_in

    for name in real:
        setattr(os, name, standing_in(name))
    try:
        yield
    finally:
        for name, call in real.items():
            setattr(os, name, call)


def steps_of(action: Callable[[], object]) -> list[str]:
    """The steps that an action takes when nothing goes wrong, in order."""
    taken: list[str] = []

    def note(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        taken.append(name)
        return call(*arguments)

    with interfering(note):
        action()
    return taken


def killed_before(number: int, action: Callable[[], object], step: str = "") -> Callable[[], None]:
    """The action, in a process that is killed before its step `number`, counted from 1: of all, or of one name."""
    taken = 0

    def count(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        nonlocal taken
        taken += step in ("", name)
        if taken == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)

    def act() -> None:
        with interfering(count):
            action()

    return act


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _write_model(folder: Path, number: int) -> None:
    """Two layers of a Llama, 26 KB, in bfloat16's place float16."""
    rng = np.random.default_rng(number)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (64, 16), "lm_head.weight": (64, 16)}
    for layer in range(2):
        shapes |= {
            f"model.layers.{layer}.self_attn.q_proj.weight": (16, 16),
            f"model.layers.{layer}.mlp.up_proj.weight": (48, 16),
            f"model.layers.{layer}.input_layernorm.weight": (16,),
        }
    shapes["model.norm.weight"] = (16,)
    base = np.random.default_rng(0)
    tensors = {
        name: (base.standard_normal(shape) + 0.1 * number * rng.standard_normal(shape)).astype(np.float16)
        for name, shape in shapes.items()
    }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 16, "vocab_size": 64}
    config |= {"tie_word_embeddings": False, "torch_dtype": "float16", "intermediate_size": 48}
    (folder / "config.json").write_text(json.dumps(config))
