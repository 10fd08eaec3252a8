"""A plan on paper: as lines of text, as a table for notebooks, and as data for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lamina.plans.explain import LayerRow, end_rows, layer_map, layer_rows
from lamina.wording import counted, in_bytes, in_parameters, span

if TYPE_CHECKING:
    from lamina.plans.plan import Notice, Plan

PAPER_WIDTH = 100  # where no terminal says how wide it is
NARROWEST = 30  # a paragraph in less is a column of words
MOST_NAMES = 3  # of tensors in one row
MARK = "notice"

# What `as_data` gives, by key: the page of commands prints it.
PLAN_FIELDS: Mapping[str, str] = {
    "title": "the recipe's file name",
    "method": "the merge method",
    "digest": "equal for every plan that makes the same folder, wherever the models lie; these count by their headers",
    "seed": "of the random draws",
    "layers": "number of output layers",
    "parameters": "number of elements of the output",
    "tensors": "number of output tensors",
    "dtypes": "of the output, the first tensor's first",
    "rows": "output layers that are made alike: `first`, `last`, `copied`, `blend` (in words) and `parts`, each with "
    "`model`, its layers `first` and `last`, `of_delta`, and `factors`: the smallest and largest at the first layer, "
    "then at the last",
    "ends": "each tensor outside the layers: `tensor`, `from`, `blend`, in words",
    "inputs": "each model: `name`, as the recipe calls it, `fingerprint` of its headers, `commit` if it is of the Hub",
    "dropped": "input tensors that are not in the output: `model`, `reason`, `tensors`",
    "files": "each file beside the tensors: `name`, `bytes`, and `note`: how it differs from the one it was made from",
    "notices": "what the user should know: `code`, `message`, `place` (file:line:column)",
    "bytes_to_fetch": "of files of the Hub that the plan reads and that are not here yet",
    "bytes_read": "of tensors, each as often as it is used",
    "bytes_written": "of tensors and files",
}


def text(plan: Plan) -> str:
    """The whole plan as text of at most 100 columns or so."""
    notices = [line for notice in plan.notices for line in notice_lines(notice, PAPER_WIDTH)]
    return "\n".join([*table(plan), *([""] if notices else []), *notices])


def table(plan: Plan, figures: Sequence[str] = ()) -> list[str]:
    """Lines: every layer's origin, a map of the depth, sizes (`figures` are added to them), what is left out."""
    rows = layer_rows(plan)
    entries = [("layers", "from", "blend"), *_entries(plan, rows)]
    widths = [max(len(row[column]) for row in entries) for column in range(2)]
    lines = [_heading(plan, rows), ""]
    lines += [f"  {layers:<{widths[0]}}  {source:<{widths[1]}}  {blend}".rstrip() for layers, source, blend in entries]
    lines += ["", *layer_map(plan), "", f"  {' · '.join([*_sizes(plan), *figures])}"]
    lines += [f"  {file.name}: {file.note}" for file in plan.files if file.note]
    for (model, reason), names in _dropped(plan).items():
        lines.append(f"  not in the output: {counted(len(names), 'tensor')} of {model}: {reason}")
    return lines


def notice_lines(notice: Notice, width: int) -> list[str]:
    """A paragraph beside the word that marks it."""
    said = f"{notice.place}  {notice.message}" if notice.place else notice.message
    indent = " " * (len(MARK) + 2)
    body = textwrap.wrap(said, max(width - len(indent), NARROWEST), break_on_hyphens=False, break_long_words=False)
    return [f"{MARK}  {body[0]}", *(indent + line for line in body[1:])]


def html(plan: Plan) -> str:
    """The plan as one small table that needs nothing around it."""
    rows = layer_rows(plan)
    body = "".join(f"<tr>{_cells('td', entry)}</tr>" for entry in _entries(plan, rows))
    notices = "".join(f"<p>{MARK}: {escape(notice.message)}</p>" for notice in plan.notices)
    return (
        f"<div><p>{escape(_heading(plan, rows))}</p>"
        f"<table><thead><tr>{_cells('th', ('layers', 'from', 'blend'))}</tr></thead><tbody>{body}</tbody></table>"
        f"<p>{escape(' · '.join(_sizes(plan)))}</p>{notices}</div>"
    )


def as_data(plan: Plan) -> dict[str, Any]:
    """The plan for JSON; `PLAN_FIELDS` says what each key holds."""
    rows = layer_rows(plan)
    return {
        "title": plan.title,
        "method": plan.method,
        "digest": plan.digest,
        "seed": plan.seed,
        "layers": _depth(rows),
        "parameters": plan.parameters,
        "tensors": len(plan.jobs),
        "dtypes": _dtypes(plan),
        "rows": [_row_as_data(row) for row in rows],
        "ends": [{"tensor": name, "from": origin, "blend": blend} for name, origin, blend in end_rows(plan)],
        "inputs": [
            {"name": source.name, "fingerprint": source.fingerprint, "commit": source.commit} for source in plan.inputs
        ],
        "dropped": [
            {"model": model, "reason": reason, "tensors": names} for (model, reason), names in _dropped(plan).items()
        ],
        "files": [{"name": file.name, "bytes": len(file.content), "note": file.note} for file in plan.files],
        "notices": notices_as_data(plan.notices),
        "bytes_to_fetch": plan.bytes_to_fetch,
        "bytes_read": plan.bytes_read,
        "bytes_written": plan.bytes_written,
    }


def notices_as_data(notices: Iterable[Notice]) -> list[dict[str, str]]:
    """Notices for JSON."""
    return [{"code": notice.code, "message": notice.message, "place": notice.place} for notice in notices]


def _heading(plan: Plan, rows: Sequence[LayerRow]) -> str:
    size = f"{counted(_depth(rows), 'layer')}, {in_parameters(plan.parameters)} parameters"
    return f"{plan.title} · {plan.method} · {', '.join(_dtypes(plan))} · {size}"


def _entries(plan: Plan, rows: Sequence[LayerRow]) -> Iterator[tuple[str, str, str]]:
    """Each row of the table: which layers or tensor, from where, how blended. Ends that are made alike share one."""
    for row in rows:
        yield span(row.first, row.last), row.sources, row.blend
    for (origin, blend), ends in groupby(end_rows(plan), key=lambda row: row[1:]):
        names = [name for name, *_ in ends]
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        yield ", ".join(names[:MOST_NAMES]) + more, origin, blend


def _sizes(plan: Plan) -> list[str]:
    fetch = [f"fetch {in_bytes(plan.bytes_to_fetch)}"] if plan.bytes_to_fetch else []
    return [*fetch, f"read {in_bytes(plan.bytes_read)}", f"write {in_bytes(plan.bytes_written)}"]


def _depth(rows: Sequence[LayerRow]) -> int:
    return rows[-1].last + 1 if rows else 0


def _dtypes(plan: Plan) -> list[str]:
    return list(dict.fromkeys(str(spec.dtype) for spec in plan.specs.values()))


def _dropped(plan: Plan) -> dict[tuple[str, str], list[str]]:
    """Names of the tensors that are left out, by model and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in plan.dropped:
        found.setdefault((each.model, each.reason), []).append(each.name)
    return found


def _row_as_data(row: LayerRow) -> dict[str, Any]:
    parts = [
        {
            "model": start.model,
            "first": start.layer,
            "last": end.layer,
            "of_delta": start.of_delta,
            "factors": [[start.low, start.high], [end.low, end.high]],
        }
        for start, end in zip(row.starts, row.ends, strict=True)
    ]
    return {"first": row.first, "last": row.last, "copied": row.copied, "blend": row.blend, "parts": parts}


def _cells(tag: str, cells: Iterable[str]) -> str:
    style = ' style="text-align:left"'
    return "".join(f"<{tag}{style}>{escape(cell)}</{tag}>" for cell in cells)
