"""A sheet as a page: the verdict and the best score first, then what it is made of, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lamina.check.naming import short_name
from lamina.ledger.runs import Run
from lamina.plans.explain import layer_rows
from lamina.plans.plan import Plan
from lamina.plans.weights import effective_weights
from lamina.report.html import paragraph, section, table, text, told, whole_page
from lamina.report.layer_sections import (
    diff_section,
    gradients_section,
    input_section,
    layer_map_section,
    weights_section,
)
from lamina.report.provenance_section import provenance_section
from lamina.report.score_section import scores_section, tiles
from lamina.report.sheet import Sheet
from lamina.report.sweep_section import sweep_section
from lamina.wording import counted, in_parameters

LEVELS = {"healthy": "good", "needs training": "warn", "suspicious": "bad", "broken": "bad"}
PARTS = {
    "scores": "scores", "plan": "layer map and weights", "check": "verdict", "shift": "input of the layers",
    "diff": "distance from the parent",
}  # fmt: skip
SCHEME = '<button id="scheme" type="button" aria-label="light or dark">dark</button>'


def page(sheet: Sheet) -> str:
    """The whole page of one merge. Raises MissingExtra without the extra `report`."""
    parts = [*_sections(sheet)]
    links = "".join(f'<a href="#{key}">{text(title)}</a>' for key, title, _ in parts)
    body = _headline(sheet) + f"<nav>{links}</nav>\n" + "".join(section(*part) for part in parts)
    return whole_page(f"{sheet.subject.name} · Lamina", body)


def _sections(sheet: Sheet) -> Iterator[tuple[str, str, str]]:
    """Key, title and content of each section, in the order of the page."""
    subject, plan = sheet.subject, sheet.subject.plan
    if sheet.scores is not None:
        yield "scores", "Scores", scores_section(sheet.scores)
    if sheet.sweeps:
        yield "sweep", "Sweep", "".join(sweep_section(each, number) for number, each in enumerate(sheet.sweeps))
    weights = None if plan is None else effective_weights(plan)
    if plan is not None and weights is not None and weights.depth:
        yield "layers", "Layer map", layer_map_section(plan)
        yield "weights", "Effective weights", weights_section(weights)
        gradients = gradients_section(plan)
        if gradients:
            yield "gradients", "Gradients", gradients
    if sheet.shifts:
        yield "input", "Input of the layers", input_section(sheet.shifts, weights)
    if sheet.diff is not None:
        yield "diff", "Distance from the parent", diff_section(sheet.diff)
    if subject.check is not None:
        yield "check", "Check", _check(subject.check)
    if plan is not None and plan.notices:
        yield "notices", "Notices", _notices(plan)
    if subject.recipe:
        yield "recipe", "Recipe", f"<pre>{text(subject.recipe)}</pre>\n"
    yield "provenance", "Provenance", provenance_section(sheet)
    if sheet.missing:
        yield "missing", "Not on this page", _missing(sheet.missing)


def _headline(sheet: Sheet) -> str:
    subject, plan, check = sheet.subject, sheet.subject.plan, sheet.subject.check
    verdict = ""
    if check is not None and check.verdict:
        verdict = f'<span class="verdict {LEVELS.get(check.verdict, "warn")}">{text(check.verdict)}</span>'
    facts = []
    if plan is not None:
        dtypes = dict.fromkeys(str(spec.dtype) for spec in plan.specs.values())
        depth = layer_rows(plan)[-1].last + 1 if layer_rows(plan) else 0
        facts = [
            plan.method,
            ", ".join(dtypes),
            counted(depth, "layer"),
            f"{in_parameters(plan.parameters)} parameters",
        ]
    if subject.parents:
        facts.append(f"of {', '.join(short_name(parent.name) for parent in subject.parents)}")
    head = f'<div class="title"><h1>{text(subject.name)}</h1>{verdict}{SCHEME}</div>\n'
    return head + paragraph(" · ".join(facts), "soft") + tiles(sheet.scores)


def _check(check: Run) -> str:
    findings = check.details.get("findings", [])
    said = f"{check.verdict}, by {check.id} of {check.at:%Y-%m-%d %H:%M} UTC"
    if not findings:
        return paragraph(f"{said}: nothing was found.")
    rows = [
        [text(each.get("section", "")), _level(str(each.get("level", ""))), text(each.get("message", ""))]
        for each in findings
        if isinstance(each, Mapping)
    ]
    return paragraph(f"{said}.") + table(["part", "level", "what was found"], rows)


def _level(level: str) -> str:
    return f'<span class="{LEVELS.get(level, "warn")}">{text(level)}</span>'


def _notices(plan: Plan) -> str:
    rows = [[text(each.code), text(each.message), text(each.place)] for each in plan.notices]
    return table(["notice", "what it says", "place"], rows)


def _missing(missing: Mapping[str, str]) -> str:
    rows = "".join(f"<li>{text(PARTS[part])}: {told(why)}</li>" for part, why in missing.items())
    return f'<ul class="missing">{rows}</ul>\n'
