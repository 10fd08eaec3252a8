"""Answers in JSON, for every verb alike."""

from __future__ import annotations

import json

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, errors included.")


def print_json(content: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))
