"""HTML in small pieces. Whatever a caller gives as text is escaped here; pieces are joined as they are."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files

from lamina.report.charts import Chart
from lamina.report.plotly_script import plotly_script

MARK = '<meta name="generator" content="lamina report">'  # by which a page of ours is known

# What text may not hold in a script's data, though JSON may: the end of the element, and line ends of JavaScript.
_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def text(content: object) -> str:
    """A user's or our own words as HTML. Halves of surrogate pairs, which UTF-8 lacks, become question marks."""
    return escape(str(content).encode(errors="replace").decode())


def told(content: object) -> str:
    """Words as HTML, what stands between backticks as code."""
    parts = text(content).split("`")
    if len(parts) % 2 == 0:  # a backtick that opens nothing
        return text(content)
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def paragraph(content: object, kind: str = "") -> str:
    return f'<p class="{kind}">{told(content)}</p>' if kind else f"<p>{told(content)}</p>"


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), kinds: Sequence[str] = ()
) -> str:
    """Rows of HTML cells under a head of words; columns of `numbers` are right-aligned; `kinds` are classes."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if column in numbers else ' class=text' if tag == 'td' else ''}>{cell}</{tag}>"
            for column, cell in enumerate(row)
        )

    body = [cells("td", row) for row in rows]
    marks = [f' class="{kind}"' if kind else "" for kind in kinds] or [""] * len(body)
    lines = "".join(f"<tr{mark}>{row}</tr>\n" for mark, row in zip(marks, body, strict=True))
    # A path into a recipe may be broken where it has joints, so that a table of narrow figures stays narrow.
    top = cells("th", [text(word).replace("].", "].<wbr>").replace("parameters.", "parameters.<wbr>") for word in head])
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead>\n<tbody>\n{lines}</tbody></table></div>\n'


def folded(summary: str, inside: str) -> str:
    """Something that is there to be opened."""
    return f"<details><summary>{text(summary)}</summary>{inside}</details>\n"


def chart(drawn: Chart, key: str, alternative: str) -> str:
    """A chart with its data, and the same as a table, "" where one stands beside it. `key` is its own in the page."""
    data = json.dumps(drawn.as_data(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    data = "".join(_IN_SCRIPT.get(letter, letter) for letter in data.encode(errors="replace").decode())
    return (
        f'<figure><div class="chart" id="{key}" role="img" aria-label="{text(drawn.told)}" '
        f'style="height:{drawn.height}px"></div>\n'
        f'<script type="application/json" id="{key}-data">{data}</script>\n'
        f"<figcaption>{text(drawn.told)}</figcaption>{alternative and folded('as a table', alternative)}</figure>\n"
    )


def section(key: str, title: str, inside: str) -> str:
    return f'<section id="{key}">\n<h2>{text(title)}</h2>\n{inside}</section>\n'


def whole_page(title: str, body: str) -> str:
    """A page that needs nothing beside it. Its policy lets no other script run, and nothing be fetched.

    Raises MissingExtra without the extra `report`.
    """
    assets = files("lamina.report").joinpath("assets")
    style, own = (assets.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    scripts = [f"\n{script}\n" for script in (plotly_script(), own)]
    hashes = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts)
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{MARK}\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n'
        f"<body>\n<main>\n{body}</main>\n"
        + "".join(f"<script>{script}</script>\n" for script in scripts)
        + "</body>\n</html>\n"
    )


def key_values(rows: Mapping[str, str]) -> str:
    """A table of two columns: words, and HTML."""
    lines = "".join(f"<tr><th>{text(name)}</th><td class=text>{value}</td></tr>\n" for name, value in rows.items())
    return f'<div class="wide"><table><tbody>\n{lines}</tbody></table></div>\n'
