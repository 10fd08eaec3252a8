"""Consoles, and text that they cannot show: it is shown in ASCII."""

from __future__ import annotations

import codecs
import io
import sys

ASCII = {
    "█": "#", "▓": "+", "▒": ":", "░": ".", "·": "-", "─": "-", "│": "|", "├": "|", "└": "`", "×": "x", "±": "+-",
    "−": "-", "–": "-", "…": "...",
}  # fmt: skip


def show_what_can_be_shown() -> None:
    """From here on, text that the console's encoding lacks is replaced; no output fails for it.

    UTF-8 lacks halves of surrogate pairs, which the name of a tensor may hold, or that of a file.
    """
    codecs.register_error("lamina-ascii", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (
            stream.errors in ("strict", "surrogateescape") or not stream.encoding.lower().startswith("utf")
        ):
            stream.reconfigure(errors="lamina-ascii")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(ASCII.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
