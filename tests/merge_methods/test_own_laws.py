"""The laws hold of the methods of docs/own-method.md too, for tensors that hypothesis thinks of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from lamina.merge_methods import OwnMethod, laws
from lamina.planners.own_code import own_method
from lamina.tensor_spec import F32, DType

from .engine import Array
from .test_laws import hypothesis_settings, tensors

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "own-method.md").read_text(encoding="utf-8")
METHODS = {"mine.py:magmax": {"density": 0.4}, "mean_norm.py:mean_norm": {}, "spectral.py:low_rank": {"rank": 2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for name, content in re.findall(r"```python title=(\S+)\n(.*?)```", PAGE, re.S):
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def case(method: OwnMethod, parameters: dict[str, Any], world: tuple[list[Array], Array, DType]) -> laws.Case:
    models, base, dtype = world
    return laws.Case(method, tuple(models), base, dtype, laws.values_of(method, 3, parameters), (1, 2, 3))


@pytest.mark.parametrize("name", METHODS)
@hypothesis_settings
@given(world=tensors())
def test_universal_laws(name: str, folder: Path, world: tuple[list[Array], Array, DType]) -> None:
    method = own_method(name, folder)
    for law in laws.UNIVERSAL.values():
        law(case(method, METHODS[name], world))


@pytest.mark.parametrize("name", METHODS)
@hypothesis_settings
@given(world=tensors(F32))
def test_declared_laws(name: str, folder: Path, world: tuple[list[Array], Array, DType]) -> None:
    method = own_method(name, folder)
    for law in method.laws:
        laws.DECLARED[law](case(method, METHODS[name], world))


def test_the_page_declares_laws(folder: Path) -> None:
    assert {law for name in METHODS for law in own_method(name, folder).laws} == {"symmetric", "zero weight is base"}
