"""The row of a check: what of it is worth noting."""

from __future__ import annotations

from pathlib import Path

from lamina.check.findings import Report
from lamina.checkpoints.writer import made_by
from lamina.ledger.runs import Parent, Run, versions

INPUT_SHIFT = "input_shift"  # of a check's details: by layer, what it receives of what it was trained on


def check_run(report: Report) -> Run:
    """The row of a check. A folder that a merge made is known by its plan's digest."""
    folder = Path(report.model)
    here = folder.exists()
    return Run(
        "check",
        report.model,
        plan=str(made_by(folder).get("plan", "")) if here else "",
        parents=tuple(Parent(name) for name in report.parents),
        versions=versions(),
        seconds=report.seconds,
        peak_memory=report.peak_memory,
        output=str(folder.absolute()) if here else report.model,
        verdict=str(report.verdict),
        details={
            "findings": [
                {"section": section.name, "level": str(each.level), "code": each.code, "message": each.message}
                for section in report.sections
                for each in section.findings
            ],
            **_shifts(report),
        },
    )


def _shifts(report: Report) -> dict[str, dict[str, float]]:
    """What each layer receives, where that was measured, as JSON has it."""
    found = next((section.by_layer for section in report.sections if section.by_layer), {})
    return {INPUT_SHIFT: {str(layer): round(share, 6) for layer, share in found.items()}} if found else {}
