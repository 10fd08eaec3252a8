"""What the picture is drawn with: colours for light and dark paper, shapes, and text that is safe to write.

Lengths are in units of the picture's view box.
"""

from __future__ import annotations

import unicodedata
from html import escape

# Of models in turn, on light and on dark paper. The first four are Okabe's and Ito's hues, which every kind of
# colour vision tells apart, made dark and light enough to read white and black text on.
COLOURS = (
    ("#0068a8", "#5aa9e6"),
    ("#b84a00", "#f0894a"),
    ("#00775a", "#3fbf97"),
    ("#9c447b", "#da8fc1"),
    ("#866000", "#d8aa3c"),
    ("#5a5fc7", "#a5a8f6"),
    ("#5b6570", "#9aa5b1"),
    ("#98202c", "#ee7f88"),
)
_INKS = {  # of all else: the property, and its value on light and on dark paper
    "paper": ("fill", "#ffffff", "#0d1117"),
    "ink": ("fill", "#1f2328", "#e6edf3"),
    "soft": ("fill", "#59636e", "#9198a1"),
    "on": ("fill", "#ffffff", "#0d1117"),
    "room": ("fill", "#eceff2", "#1c222a"),
    "rule": ("stroke", "#c4ccd4", "#3d444d"),
    "seam": ("stroke", "#1f2328", "#e6edf3"),
    "hatch": ("stroke", "#ffffff", "#0d1117"),
}
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # the direction of text
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"


def style(colours: int) -> str:
    """The rules of CSS for as many `colours`, for light paper and then for dark.

    Plain values, no variables: not every viewer knows those.
    """
    rules = [
        f"text{{font:12px {_FONT}}}",
        ".small{font-size:11px}",
        ".tiny{font-size:9px}",
        ".name{font-weight:600}",
        ".big{font-size:16px;font-weight:600}",
        ".plain{font-size:12px;font-weight:400}",
        ".mid{text-anchor:middle}",
        ".end{text-anchor:end}",
        ".seam{stroke-width:1.6;stroke-dasharray:5 3;fill:none}",
        ".joint{stroke-width:1.2;stroke-dasharray:1 3}",
        ".many{opacity:.4}",
        ".some{stroke-width:1;stroke-dasharray:2 2}",
    ]
    papers = []
    for paper in (0, 1):
        inks = [f".{name}{{{kind}:{values[paper]}}}" for name, (kind, *values) in _INKS.items()]
        shades = [shades[paper] for shades in COLOURS[: max(colours, 1)]]
        inks += [f".c{number}{{fill:{shade}}}" for number, shade in enumerate(shades)]
        inks += [f".c{number}.some{{stroke:{shade}}}" for number, shade in enumerate(shades)]
        papers.append("".join(f".layer-map {rule}\n" for rule in inks))
    light, dark = papers
    general = "".join(f".layer-map {rule}\n" for rule in rules)
    return f"{light}{general}@media (prefers-color-scheme:dark){{\n{dark}}}\n"


def label(x: float, y: float, content: str, classes: str) -> str:
    return f'<text x="{length(x)}" y="{length(y)}" class="{classes}">{xml_text(content)}</text>' if content else ""


def box(x: float, y: float, width: float, height: float) -> str:
    return f"M{length(x)} {length(y)}h{length(width)}v{length(height)}h{length(-width)}z"


def length(value: float) -> str:
    """A length to a hundredth, as short as it can be written."""
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


def xml_text(content: str) -> str:
    return escape(clean(content), quote=False)


def clean(content: str) -> str:
    """Without what XML forbids, and without what turns the direction of the text that follows."""
    return "".join("�" if _is_unwanted(character) else character for character in content)


def _is_unwanted(character: str) -> bool:
    kind, code = unicodedata.category(character), ord(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or code & 0xFFFE == 0xFFFE or character in _TURNING


def width(content: str) -> float:
    """Of a text, in characters of usual width."""
    return sum(
        0 if unicodedata.combining(each) else 1.8 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in content
    )


def fitting(content: str, room: float, per_character: float) -> str:
    """What fits, with its beginning and its end: names of models differ at both."""
    content = clean(content)
    most = room / per_character
    if width(content) <= most:
        return content
    for kept in range(min(len(content), int(4 * most)) - 1, 0, -1):
        tail = kept // 3
        shorter = f"{content[: kept - tail]}…{content[len(content) - tail :]}"
        if width(shorter) <= most:
            return shorter
    return "…"
