"""README.md of a merge: what the Hub wants to know in its head, and for people what was made of what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from lamina.errors import CheckpointError
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel
from lamina.planners.request import Findings, Request
from lamina.version import VERSION
from lamina.wording import counted

CARD = "README.md"
PICTURE = "layers.svg"
_HEAD = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)  # of a model card, in YAML
_PUNCTUATION, _ESCAPED = re.compile(r"[\\\[\]<>*_`&!]"), r"\\\g<0>"  # what Markdown would read as more than a character


Licenses = Mapping[ModelRef, str]  # as each model's own card names it, empty where there is no such card


def licenses_of(request: Request, findings: Findings) -> Licenses:
    """Each parent's license. Those that differ are worth a notice: somebody has to see what may be done."""
    licenses = {ref: _license(model) for ref, model in request.models.items()}
    if _common(licenses) is None and any(licenses.values()):
        told = ", ".join(f"{_shown(ref)}: {each or 'none said'}" for ref, each in licenses.items())
        findings.notice("licenses", f"the models have different licenses ({told}); README.md names none for the merge.")
    return licenses


def model_card(request: Request, licenses: Licenses, recipe_name: str, layers: str) -> str:
    """The card, with the picture of the layers; `layers` says in words what that shows."""
    refs = list(request.models)
    method = request.method
    made_by = f"[{method.title}]({method.reference})" if method.reference else method.title
    names = "\n".join(f"- {_shown(ref)}{f' ({each})' if each else ''}" for ref, each in licenses.items())
    head: dict[str, Any] = {}
    if hub_ids := [ref.path for ref in refs if ref.is_hub_id]:
        head |= {"base_model": hub_ids, "base_model_relation": "merge"}
    head |= {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["merge", "lamina"]}
    if (license_ := _common(licenses)) is not None:
        head["license"] = license_
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n"
        f"# A merge of {counted(len(refs), 'model')}\n\n"
        f"Made with Lamina {VERSION} by {made_by}: {method.summary}\n\n"
        f"{request.depth} layers, from:\n\n{names}\n\n"
        f"![{_PUNCTUATION.sub(_ESCAPED, layers)}]({PICTURE})\n\n"
        f"The recipe (`{recipe_name}`):\n\n```yaml\n{_recipe(request)}\n```\n"
    )


def _shown(ref: ModelRef) -> str:
    """A model's name without a place on this machine."""
    return str(ref) if not ref.path.startswith(("/", "~", ".")) else _base_name(ref)


def _base_name(ref: ModelRef) -> str:
    return ref.path.rstrip("/").rpartition("/")[2]


def _recipe(request: Request) -> str:
    """The recipe as it was written, but for the places of models on this machine."""
    text = request.recipe.text.rstrip()
    for ref in sorted(request.models, key=lambda ref: -len(ref.path)):
        if ref.path.startswith(("/", "~", ".")):
            text = re.sub(rf"(?<![\w./~-]){re.escape(ref.path)}(?![\w.-])", _base_name(ref), text)
    return text


def _common(licenses: Licenses) -> str | None:
    """The license that all have, if they have one."""
    [first, *others] = dict.fromkeys(licenses.values())
    return None if others else first or None


def _license(model: PlainModel) -> str:
    files = model.checkpoint.files
    if CARD not in files.names():
        return ""
    try:
        found = _HEAD.match(files.read(CARD).decode("utf-8", errors="replace").replace("\r\n", "\n"))
        head = yaml.safe_load(found[1]) if found else None
    except (CheckpointError, yaml.YAMLError, RecursionError, ValueError):  # not to be had offline, or no card
        return ""
    named = head.get("license") if isinstance(head, dict) else None
    return named if isinstance(named, str) else ""
