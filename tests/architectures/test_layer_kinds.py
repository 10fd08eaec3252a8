"""Rules of model types for what config.json leaves unsaid, and whether the file that holds them is current."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from lamina.architectures.layer_kinds import Rule, model_type

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import make_layer_kinds


@pytest.mark.parametrize(
    ("rule", "config", "kinds"),
    [
        (Rule(("f",)), {}, "fffffff"),
        (Rule(("s", "f"), every=3), {}, "ssfssfs"),
        (Rule(("s", "f"), every=3, at_first=True), {}, "fssfssf"),
        (Rule(("s", "f"), every=3, ends_special=True), {}, "ssfssff"),
        (Rule(("s", "f"), ("p",), every=3), {"p": 2}, "sfsfsfs"),
        (Rule(("d", "m"), ("k",), start=1), {}, "dmmmmmm"),
        (Rule(("d", "m"), ("k",), start=1), {"k": 3}, "dddmmmm"),
        (Rule(("f", "s"), ("k",), start=5, only_if="on"), {"k": 3}, "fffffff"),
        (Rule(("f", "s"), ("k",), start=5, only_if="on"), {"k": 3, "on": True}, "fffssss"),
        (Rule(("f", "s"), ("k",), every=2, at_first=True, until=4), {}, "sfsffff"),
    ],
)
def test_a_rule_says_the_kind_of_every_layer(rule: Rule, config: dict[str, object], kinds: str) -> None:
    assert "".join(rule.values(config, 7)) == kinds


def test_what_is_known_of_a_model_type() -> None:
    gemma = model_type({"model_type": "gemma2"})
    assert gemma is not None
    assert (gemma.tied, gemma.head) == (True, "lm_head.weight")
    assert model_type({"model_type": "never heard of"}) is None
    assert model_type({}) is None


def test_the_file_is_current() -> None:
    """It is what the pinned transformers says."""
    pinned = Path(__file__).parents[2] / "constraints.txt"
    assert f"transformers=={version('transformers')}" in pinned.read_text()
    assert make_layer_kinds.FILE.read_text() == make_layer_kinds.content()
