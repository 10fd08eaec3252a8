"""`tools/gguf_to_hf.py` finds the file that it converts. (What it makes of one is measured by `make demo-smollm2`.)"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from gguf_to_hf import gguf_file


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package, which must not be imported: what it needs to run is not there."""
    folder = tmp_path / "holds_a_model"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('not installed')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_file_is_itself() -> None:
    assert gguf_file("models/x.Q4_1.gguf") == Path("models/x.Q4_1.gguf")


def test_the_file_in_a_package_is_found_without_importing_it(package: Path) -> None:
    (package / "weights").mkdir()
    (package / "weights/x.gguf").touch()
    assert gguf_file("holds_a_model") == package / "weights/x.gguf"
    assert "holds_a_model" not in sys.modules


def test_two_files_are_one_too_many(package: Path) -> None:
    (package / "x.gguf").touch()
    (package / "y.gguf").touch()
    with pytest.raises(SystemExit, match=r"x\.gguf.*y\.gguf"):
        gguf_file("holds_a_model")


def test_a_package_that_is_not_there_is_told() -> None:
    with pytest.raises(SystemExit, match="`nobodys_package` is neither"):
        gguf_file("nobodys_package")
