"""Answers in JSON, for every verb alike."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click

from lamina.chance import Interval
from lamina.ledger.runs import in_json

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, errors included.")


def print_json(content: object) -> None:
    """One JSON document on stdout. A figure that is not finite comes as null."""
    click.echo(json.dumps(_as_json(content), indent=2, ensure_ascii=False, allow_nan=False))


def _as_json(content: object) -> object:
    """JSON has no NaN and no infinity, however deep they lie."""
    match content:
        case float():
            return in_json(content)
        case Mapping():
            return {key: _as_json(value) for key, value in content.items()}
        case list() | tuple():
            return [_as_json(value) for value in content]
    return content


def interval_as_data(over: Interval) -> dict[str, float | None]:
    """A difference and half its interval, as data has them."""
    return {"over": in_json(over.difference), "margin": in_json(over.margin)}
