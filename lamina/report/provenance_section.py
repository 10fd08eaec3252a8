"""Where a merge comes from, on its page: its models, versions and rows, and the command that makes it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lamina.ledger.runs import Run
from lamina.report.html import key_values, paragraph, table, text
from lamina.report.sheet import Sheet
from lamina.wording import counted, in_bytes, in_seconds


def provenance_section(sheet: Sheet) -> str:
    """What is known of where a merge comes from; that nothing is, where nothing is."""
    subject, record = sheet.subject, sheet.subject.record
    facts: dict[str, str] = {}
    if subject.folder is not None:
        facts["folder"] = f"<code>{text(subject.folder)}</code>"
    if subject.digest:
        facts["plan"] = f"<code>{text(subject.digest)}</code>"
    seed = record.get("seed", None if subject.plan is None else subject.plan.seed)
    if seed is not None:
        facts["seed"] = text(seed)
    merged = next((run for run in subject.rows if run.kind == "merge"), None)
    made_with = {"lamina": record["lamina"]} if "lamina" in record else {}
    made_with = {**made_with, **(merged.versions if merged is not None else {})}
    if made_with:
        facts["made with"] = text(", ".join(f"{name} {version}" for name, version in made_with.items()))
    if merged is not None and merged.seconds is not None:
        memory = "" if merged.peak_memory is None else f", peak memory {in_bytes(merged.peak_memory)}"
        facts["took"] = text(f"{in_seconds(merged.seconds)}{memory}")
    if subject.plan is not None:
        facts["size"] = text(f"{counted(len(subject.plan.jobs), 'tensor')}, {in_bytes(subject.plan.bytes_written)}")
    for label, command in _commands(sheet):
        facts[label] = f"<code>{text(command)}</code>"
    parts = [key_values(facts)] if facts else []
    parts += [_models(sheet)] if subject.parents else []
    parts += [_rows(subject.rows)] if subject.rows else []
    return "".join(parts) or paragraph("nothing is known of where it comes from", "missing")


def _commands(sheet: Sheet) -> Iterator[tuple[str, str]]:
    """How to make it again."""
    subject = sheet.subject
    if subject.folder is not None and subject.record.get("tensors"):
        yield "make it again", f"lamina reproduce {subject.folder}"
    elif subject.recipe:
        seed = f" --seed {subject.plan.seed}" if subject.plan is not None and subject.plan.seed else ""
        yield "make it", f"lamina merge recipe.yml out{seed}   (the recipe above, beside its models)"


def _models(sheet: Sheet) -> str:
    subject = sheet.subject
    planned = () if subject.plan is None else subject.plan.inputs
    headers = {each.name: each.fingerprint for each in planned}
    recorded = subject.record.get("inputs")
    samples = {}
    if isinstance(recorded, list) and len(recorded) == len(planned):  # in the plan's order, and without places
        samples = {
            source.name: each.get("sample", "")
            for source, each in zip(planned, recorded, strict=True)
            if isinstance(each, dict)
        }
    rows = [
        [
            text(parent.name), text(parent.commit or ""),
            *(f"<code>{text(digests.get(parent.name, ''))}</code>" for digests in (headers, samples)),
        ]
        for parent in subject.parents
    ]  # fmt: skip
    heads = ["model", "commit", "digest of its headers", "of samples of its tensors"]
    return "<h3>Models that went in</h3>" + table(heads, rows)


def _rows(rows: Sequence[Run]) -> str:
    lines = [
        [
            text(run.id), text(f"{run.at:%Y-%m-%d %H:%M}"), run.kind, text(run.name),
            text(run.verdict or ", ".join(f"{each.name} {each}" for each in run.scores[:3])),
        ]
        for run in rows
    ]  # fmt: skip
    return "<h3>In the ledger</h3>" + table(["run", "when, UTC", "kind", "what", "outcome"], lines)
