"""What a verb may put its file in place of: a file of the same kind, and nothing else that lies there."""

from __future__ import annotations

from pathlib import Path

from lamina.errors import OutputError

LOOKED_AT = 4096  # bytes of a file, to know one of ours


def refuse_what_is_not_ours(target: Path, mark: str, *, is_called: str, named_by: str, force: bool) -> None:
    """Raises OutputError where something lies at `target` without `mark` near its beginning, unless `force`.

    `is_called` is what a file with the mark is (`report`), `named_by` what names another one (`--out FILE`).
    """
    if not target.exists():
        return
    if not target.is_file():
        raise OutputError(f"{target} is there and is no file; name another, {named_by}.")
    if force:
        return
    with target.open("rb") as file:
        if mark.encode() in file.read(LOOKED_AT):
            return
    raise OutputError(f"{target} is there and is no {is_called}; name another, {named_by}, or replace it with --force.")
