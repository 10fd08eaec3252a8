"""A model of the Hub is checked as a folder is: all of its files come here first."""

from __future__ import annotations

from pathlib import Path

from lamina.check.check import check
from lamina.check.findings import Report
from lamina.checkpoints.hub_client import HubOptions

from .server import HubServer

MODEL = Path(__file__).parents[2] / "examples" / "models" / "rev"


def found(report: Report) -> list[tuple[str, str, str]]:
    return [(section.name, section.told, section.not_run) for section in report.sections]


def test_a_model_of_the_hub_is_checked_as_a_folder_is(server: HubServer, cache: Path) -> None:
    server.add("org/rev", MODEL)
    of_the_hub = check("org/rev", hub=HubOptions(), quick=True)
    assert found(of_the_hub) == found(check(MODEL, quick=True))
    assert any(section.name == "language" and section.told for section in of_the_hub.sections)
    assert list(cache.rglob("tokenizer.json"))
