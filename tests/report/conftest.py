"""`lamina` in a folder beside the bundled models, and a browser that may fetch nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import folder, lamina

__all__ = ["folder", "lamina"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass
class Shown:
    """A page in the browser, and what it complained of or asked for."""

    page: Any
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


class Browser:
    """Opens files, each in a page of its own."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    def show(self, file: Path, *, scheme: str = "light", width: int = 1100) -> Shown:
        page = self._chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown = Shown(page)
        address = file.resolve().as_uri()

        def route(asked: Any) -> None:
            if asked.request.url == address:
                asked.continue_()
            else:
                shown.asked.append(asked.request.url)
                asked.abort()

        page.route("**/*", route)
        page.on("console", lambda said: shown.faults.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: shown.faults.append(str(error)))
        page.goto(address)
        return shown


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    options = {"executable_path": found} if found else {"channel": "chrome"}
    with api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(
                **options, args=["--disable-gpu", *(["--no-sandbox"] if as_root else [])]
            )
        except api.Error as error:
            pytest.skip(f"there is no browser here: {str(error).splitlines()[0]}")
        yield Browser(chromium)
        chromium.close()
