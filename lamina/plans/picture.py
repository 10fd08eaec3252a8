"""The layer map as a picture: SVG that needs nothing around it, in the light or dark of the reader's page.

From left to right the depth of the result; a lane for each model at each offset, and in it a bar as high as the
model counts in that layer. The same plan gives the same bytes.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from lamina.architectures.roles import Role
from lamina.plans.explain import layer_rows, names_without_places
from lamina.plans.lanes import END_ROLES, Lane, ends_of, lanes_of
from lamina.plans.seams import Seam, seams
from lamina.plans.weights import EffectiveWeights, Factors, effective_weights
from lamina.wording import counted, span, spans

if TYPE_CHECKING:
    from lamina.plans.plan import Plan

# All lengths are in units of the view box, which is as wide as a page of text.
WIDTH = 960
MARGIN = 20
LABELS = 178  # width of the lanes' names
END = 32  # width of an end's column
GAP = 14  # between the ends and the layers
LEFT = MARGIN + LABELS + END + GAP  # of the layers
RIGHT = WIDTH - MARGIN - 2 * END - GAP
TOP = 66  # of the first lane
SEAM_TEXT = 18  # height of the line above it that says which layers meet
MOST_TALL = 8  # lanes with two lines of text
MOST_TOLD = 8  # rows of layers in the description
MANY_SEAMS = 12  # beyond it they are drawn paler
SCALES = (0.125, 0.25, 0.5, 1.0, 1.5, 2.0)  # factors of a full bar; one beyond the last is drawn as if it were that
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
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"


def layer_map_svg(plan: Plan) -> str:
    """The picture of a plan's layers: a whole SVG document, models under their names without a place."""
    weights = effective_weights(plan, names_without_places)
    sheet = _sheet(weights)
    body = "\n".join(_body(sheet))
    key = f"m{zlib.crc32(body.encode()):08x}"  # tells pictures in one page apart
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="layer-map" width="{WIDTH}" height="{_n(sheet.height)}" '
        f'viewBox="0 0 {WIDTH} {_n(sheet.height)}" role="img" aria-labelledby="{key}t {key}d">\n'
        f'<title id="{key}t">Layer map: {counted(weights.depth, "layer")}</title>\n'
        f'<desc id="{key}d">{_text(in_words(plan))}</desc>\n'
        f"<style>\n{_style(len(sheet.colours))}</style>\n"
        f'<pattern id="{key}h" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<path class="hatch" d="M1.5 0V6" stroke-width="3"/></pattern>\n'
        f'<rect class="paper" width="{WIDTH}" height="{_n(sheet.height)}" rx="6"/>\n'
        f"{body.replace(_HATCH, f'url(#{key}h)')}\n</svg>\n"
    )


def in_words(plan: Plan) -> str:
    """What the picture shows, for who does not see it: a sentence of plain text for each stretch of layers."""
    rows = layer_rows(plan, names_without_places)
    told = [f"{counted(rows[-1].last + 1 if rows else 0, 'layer')}."]
    for row in rows[:MOST_TOLD]:
        layers = f"Layer{'s' if row.last > row.first else ''} {span(row.first, row.last)}"
        told.append(f"{layers}: {' '.join(row.sources.split())}, {' '.join(row.blend.split())}.")
    if len(rows) > MOST_TOLD:
        told.append(f"And {counted(len(rows) - MOST_TOLD, 'further row')}.")
    return _clean(" ".join(told))


def _counts(weights: EffectiveWeights) -> str:
    """`24 copied, 16 blended`."""
    whole = [_is_whole(weights, output) for output in range(weights.depth)]
    copied = sum(weights.copied)
    counts = {"copied": copied, "cast": sum(whole) - copied, "blended or scaled": weights.depth - sum(whole)}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _is_whole(weights: EffectiveWeights, output: int) -> bool:
    """True for a layer of one source with nothing multiplied."""
    entered = [cells[output] for cells in weights.overall if cells[output] is not None]
    return weights.copied[output] or entered == [Factors(1.0, 1.0)]


@dataclass(frozen=True)
class _Sheet:
    """Where everything lies. A factor of `scale` is as high as `bar`."""

    weights: EffectiveWeights
    seams: Sequence[Seam]
    lanes: Sequence[Lane]
    colours: Mapping[str, int]
    whole: Sequence[bool]
    scale: float
    bar: float
    top: float
    baselines: Sequence[float]
    bottom: float  # of the last lane
    legend: Sequence[Sequence[tuple[str, str]]]  # lines of samples, each with what it means

    @property
    def height(self) -> float:
        return self.bottom + 30 + 22 * len(self.legend)

    @property
    def cell(self) -> float:
        """Width of a layer."""
        return (RIGHT - LEFT) / max(self.weights.depth, 1)

    @property
    def between(self) -> float:
        """Width of the gap between layers, where they are wide enough to have one."""
        return 1.5 if self.cell >= 7 else 0.0

    @property
    def tall(self) -> bool:
        return len(self.lanes) <= MOST_TALL

    def x(self, output: float) -> float:
        return LEFT + output * self.cell


def _sheet(weights: EffectiveWeights) -> _Sheet:
    lanes, marks = lanes_of(weights), seams(weights)
    highest = max((max(abs(each.low), abs(each.high)) for lane in lanes for each in lane.factors), default=1.0)
    scale = next((scale for scale in SCALES if highest <= scale), SCALES[-1])
    top = TOP + SEAM_TEXT * any(each.of_depth for each in marks)
    bar, space = (26.0, 16.0) if len(lanes) <= MOST_TALL else (15.0, 6.0)
    baselines, bottom = [], float(top)
    for lane in lanes:
        baselines.append(bottom + bar)
        lowest = min((each.low for each in lane.factors), default=0.0)
        bottom += bar + bar * min(max(-lowest, 0.0) / scale, 1.0) + space
    models = dict.fromkeys(lane.model for lane in lanes)
    whole = [_is_whole(weights, output) for output in range(weights.depth)]
    return _Sheet(
        weights, marks, lanes, {model: number % len(COLOURS) for number, model in enumerate(models)}, whole, scale,
        bar, top, baselines, bottom - space, list(_in_lines(_meanings(weights, lanes, marks, whole, scale))),
    )  # fmt: skip


def _body(sheet: _Sheet) -> Iterator[str]:
    weights = sheet.weights
    yield (
        f'<text x="{MARGIN}" y="32" class="ink big">{counted(weights.depth, "layer")}'
        f'<tspan dx="14" class="soft plain">{_counts(weights)}</tspan></text>'
    )
    yield from _ruler(sheet)
    for number in range(len(sheet.lanes)):
        yield from _lane(sheet, number)
    yield from _seam_lines(sheet)
    yield from _legend(sheet)


def _ruler(sheet: _Sheet) -> Iterator[str]:
    """Numbers of output layers, and the names of the ends."""
    depth, y = sheet.weights.depth, sheet.top - 10
    yield _label(MARGIN, y, "output layer", "soft small")
    step = next((n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n * sheet.cell >= 22), 256)
    shown = [number for number in range(0, depth, step) if (depth - 1 - number) * sheet.cell >= 22]
    for number in [*shown, depth - 1] if depth else []:
        yield _label(sheet.x(number + 0.5), y, str(number), "ink small mid")
    for role in ends_of(sheet.weights):
        yield _label(_end_x(role) + END / 2, y, END_ROLES[role], "soft small mid")


def _end_x(role: Role) -> float:
    return {Role.EMBEDDING: LEFT - GAP - END, Role.FINAL_NORM: RIGHT + GAP, Role.HEAD: RIGHT + GAP + END}[role]


_HATCH = "url(#hatch)"


def _lane(sheet: _Sheet, number: int) -> Iterator[str]:
    """One lane: its name, the room in which its bars stand, the bars, and source layers where they have room."""
    lane, base = sheet.lanes[number], sheet.baselines[number]
    colour = f"c{sheet.colours[lane.model]}"
    yield f"<g><title>{_text(_lane_in_words(lane))}</title>"
    yield from _name(sheet, lane, colour, base)
    runs = [list(run) for used, run in groupby(range(len(lane.cells)), lambda i: lane.cells[i] is not None) if used]
    rooms = [_box(sheet.x(run[0]), base - sheet.bar, len(run) * sheet.cell - sheet.between, sheet.bar) for run in runs]
    rooms += [_box(_end_x(role) + 2, base - sheet.bar, END - 4, sheet.bar) for role in lane.ends]
    if rooms:
        yield f'<path class="room" d="{"".join(rooms)}"/>'
    drawn: dict[tuple[str, float], list[str]] = {}
    for output, cell in enumerate(lane.cells):
        if cell is not None:
            _add_bar(drawn, sheet, base, (sheet.x(output), sheet.cell - sheet.between), cell, sheet.whole[output])
    for role, factor in lane.ends.items():
        alone = factor == 1 and sum(role in each.ends for each in sheet.lanes) == 1
        _add_bar(drawn, sheet, base, (_end_x(role) + 2, END - 4), Factors(factor, factor), alone)
    for (kind, opacity), boxes in drawn.items():
        path = "".join(boxes)
        faint = f' fill-opacity="{_n(opacity)}"' if opacity < 1 else ""
        yield f'<path class="{colour}{kind}"{faint} d="{path}"/>'
        if lane.of_delta:
            yield f'<path fill="{_HATCH}" fill-opacity=".55" d="{path}"/>'
    yield f'<path class="rule" d="M{LEFT} {_n(base)}H{RIGHT}"/>'
    yield from _numbers(sheet, lane, base)
    yield "</g>"


def _add_bar(
    drawn: dict[tuple[str, float], list[str]],
    sheet: _Sheet,
    base: float,
    place: tuple[float, float],
    cell: Factors,
    whole: bool,
) -> None:
    """A bar from the baseline to the smaller factor, and a lighter one with an edge on to the larger."""
    x, width = place

    def between(low: float, high: float) -> str:
        top, bottom = (base - sheet.bar * max(min(each / sheet.scale, 1), -1) for each in (high, low))
        return _box(x, top, width, bottom - top)

    solid = cell.low if cell.low > 0 else min(cell.high, 0.0)
    if solid:
        opacity = 1.0 if whole else round(0.5 + 0.4 * min(abs(solid), 1.0), 2)
        drawn.setdefault(("", opacity), []).append(between(min(solid, 0.0), max(solid, 0.0)))
    if cell.high > max(solid, 0.0):
        drawn.setdefault((" some", 0.22), []).append(between(max(solid, 0.0), cell.high))
    if cell.low < min(solid, 0.0):
        drawn.setdefault((" some", 0.22), []).append(between(cell.low, min(solid, 0.0)))
    if not cell.low and not cell.high:
        drawn.setdefault((" some", 0.22), []).append(between(0.0, 0.08 * sheet.scale))


def _name(sheet: _Sheet, lane: Lane, colour: str, base: float) -> Iterator[str]:
    """The model, its layers, and what they count where that is not simply 1."""
    used = sorted({layer for layer in lane.sources if layer is not None})
    layers = f"layers {spans(used)}" if len(used) > 1 else f"layer {spans(used)}" if used else "ends only"
    middle = base - sheet.bar / 2
    yield f'<path class="{colour}" d="{_box(MARGIN, middle - 5, 10, 10)}"/>'
    if sheet.tall:
        yield _label(MARGIN + 17, middle - 2.5, _fitting(lane.model, LABELS - 24, 7.0), "ink name")
        more = " · ".join(filter(None, [layers, _counting(lane)]))
        yield _label(MARGIN + 17, middle + 11.5, _fitting(more, LABELS - 24, 5.7), "soft small")
    else:
        room = LABELS - 24
        layers = _fitting(spans(used), room * 0.42, 5.7)
        yield _label(MARGIN + 17, middle + 4, _fitting(lane.model, room - 5.9 * _width(layers) - 6, 6.4), "ink small")
        yield _label(MARGIN + LABELS - 7, middle + 4, layers, "soft small end")


def _counting(lane: Lane) -> str:
    """`× 0.5`, `× 0.03 to 1`, `Δ × 0.7`: nothing for what counts 1 everywhere."""
    values = [value for each in lane.factors for value in (each.low, each.high)]
    ends = dict.fromkeys(f"{pick(values):.2g}" for pick in (min, max)) if values else {}
    told = "" if list(ends) in ([], ["1"]) else f"× {' to '.join(ends)}"
    return f"Δ {told or '× 1'}" if lane.of_delta else told


def _lane_in_words(lane: Lane) -> str:
    used = sorted({layer for layer in lane.sources if layer is not None})
    outputs = [output for output, cell in enumerate(lane.cells) if cell is not None]
    told = f"{_clean(lane.model)}: layers {spans(used)} in output layers {spans(outputs)}" if used else lane.model
    return " ".join(filter(None, [told, _counting(lane)]))


def _numbers(sheet: _Sheet, lane: Lane, base: float) -> Iterator[str]:
    """The source layers of each stretch that is copied, in its bar."""
    start = 0
    for last, layer in enumerate(lane.sources):
        follows = last + 1 < len(lane.sources) and layer is not None and lane.sources[last + 1] == layer + 1
        if follows and sheet.whole[last] and sheet.whole[last + 1]:
            continue
        first, start = start, last + 1
        if layer is None or not sheet.whole[last] or sheet.scale > 1:
            continue
        told = span(layer - (last - first), layer)
        room, x, y = (
            (last + 1 - first) * sheet.cell - sheet.between,
            sheet.x((first + last + 1) / 2),
            base - sheet.bar / 2,
        )
        if room > 6.4 * len(told) + 6:
            half = 3.2 * len(told) + 3
            if first < last and sheet.between:  # no gap goes through the number
                yield f'<path class="c{sheet.colours[lane.model]}" d="{_box(x - half, y - 7, 2 * half, 14)}"/>'
            yield _label(x, y + 4, told, "on small mid")
        elif room > 4.9 * len(told) + 0.5:
            yield _label(x, y + 3, told, "on tiny mid")


def _seam_lines(sheet: _Sheet) -> Iterator[str]:
    """A line through all lanes at each seam, with the source layers on both sides where there is room."""
    many = " many" if len(sheet.seams) > MANY_SEAMS else ""
    labels = []
    for seam in sheet.seams:
        x = sheet.x(seam.output) - sheet.between / 2
        kind = "seam" if seam.of_depth else "seam joint"
        yield f'<path class="{kind}{many}" d="M{_n(x)} {_n(sheet.top - 4)}V{_n(sheet.bottom + 6)}"/>'
        if seam.of_depth:
            labels.append((x, " ▸ ".join("+".join(map(str, side)) for side in (seam.below, seam.above))))
    if all(b[0] - a[0] > 3.2 * (len(a[1]) + len(b[1])) + 6 for a, b in pairwise(labels)):
        for x, told in labels:
            yield _label(x, sheet.top - 28, told, "ink small mid")


def _meanings(
    weights: EffectiveWeights, lanes: Sequence[Lane], marks: Sequence[Seam], whole: Sequence[bool], scale: float
) -> Iterator[tuple[str, str]]:
    """What occurs in the picture and has to be said: a sample, and its meaning."""
    used = [each for lane in lanes for each in lane.factors]
    if any(whole):
        yield "full", "copied" if any(weights.copied) else "one source, cast to another dtype"
    if not all(whole):
        full = "" if scale == 1 else f" (full height: {scale:.3g})"
        yield "half", f"blended or scaled: as high as its factor{full}"
    if any(each.low != each.high for each in used):
        yield "some", "only in some tensors of the layer"
    if any(weights.silent):
        yield "none", "adds nothing yet: its outputs are multiplied by 0"
    if any(lane.of_delta for lane in lanes):
        yield "delta", "Δ: its difference from the base"
    if any(each.low < 0 for each in used):
        yield "minus", "below the line: subtracted"
    if any(each.of_depth for each in marks):
        yield "seam", "seam: does not follow on the layer below (source layers: below ▸ above)"
    if any(not each.of_depth for each in marks):
        yield "joint", "goes on with the next layer of another model"
    if weights.depth and Role.HEAD not in ends_of(weights):
        yield "", "head: tied to the embedding"


def _in_lines(meanings: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """As many as go into a line."""
    line: list[tuple[str, str]] = []
    width = 0.0
    for sample, meaning in meanings:
        needed = _legend_width(sample, meaning)
        if line and width + needed > WIDTH - 2 * MARGIN:
            yield line
            line, width = [], 0.0
        line.append((sample, meaning))
        width += needed
    if line:
        yield line


def _legend_width(sample: str, meaning: str) -> float:
    return (28 if sample else 0) + 5.8 * len(meaning) + 22


def _legend(sheet: _Sheet) -> Iterator[str]:
    for number, line in enumerate(sheet.legend):
        x, y = float(MARGIN), sheet.bottom + 36 + 22 * number
        for sample, meaning in line:
            if sample:
                yield _SAMPLES[sample].format(x=_n(x), y=_n(y - 11), hatch=_HATCH)
            yield _label(x + (28 if sample else 0), y, meaning, "soft small")
            x += _legend_width(sample, meaning)


_SAMPLES = {
    name: f'<g transform="translate({{x}} {{y}})">{shapes}</g>'
    for name, shapes in {
        "full": '<path class="c0" d="M0 0h20v14h-20z"/>',
        "half": '<path class="room" d="M0 0h20v14h-20z"/><path class="c0" fill-opacity=".7" d="M0 7h20v7h-20z"/>',
        "some": '<path class="c0 some" fill-opacity=".22" d="M0 0h20v14h-20z"/>'
        '<path class="c0" fill-opacity=".7" d="M0 8h20v6h-20z"/>',
        "none": '<path class="c0 some" fill-opacity=".22" d="M0 0h20v14h-20z"/>',
        "delta": '<path class="c0" d="M0 0h20v14h-20z"/><path fill="{hatch}" fill-opacity=".55" d="M0 0h20v14h-20z"/>',
        "minus": '<path class="rule" d="M0 3h20"/><path class="c0" fill-opacity=".7" d="M0 3h20v9h-20z"/>',
        "seam": '<path class="seam" d="M10 -1v16"/>',
        "joint": '<path class="seam joint" d="M10 -1v16"/>',
    }.items()
}


def _style(colours: int) -> str:
    """The rules, for light paper and then for dark. Plain values, no variables: not every viewer knows those."""
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


def _label(x: float, y: float, content: str, classes: str) -> str:
    return f'<text x="{_n(x)}" y="{_n(y)}" class="{classes}">{_text(content)}</text>' if content else ""


def _box(x: float, y: float, width: float, height: float) -> str:
    return f"M{_n(x)} {_n(y)}h{_n(width)}v{_n(height)}h{_n(-width)}z"


def _n(value: float) -> str:
    """A length to a hundredth, as short as it can be written."""
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


def _text(content: str) -> str:
    return escape(_clean(content), quote=False)


def _clean(content: str) -> str:
    """Without what XML forbids, and without what turns the direction of the text that follows."""
    return "".join("�" if _is_unwanted(character) else character for character in content)


def _is_unwanted(character: str) -> bool:
    kind, code = unicodedata.category(character), ord(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or code & 0xFFFE == 0xFFFE or character in "‪‫‬‭‮⁦⁧⁨⁩"


def _width(content: str) -> float:
    """In characters of usual width."""
    return sum(
        0 if unicodedata.combining(each) else 1.8 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in content
    )


def _fitting(content: str, room: float, per_character: float) -> str:
    """What fits, with its beginning and its end: names of models differ at both."""
    content = _clean(content)
    most = room / per_character
    if _width(content) <= most:
        return content
    for kept in range(len(content) - 1, 0, -1):
        tail = kept // 3
        shorter = f"{content[: kept - tail]}…{content[len(content) - tail :]}"
        if _width(shorter) <= most:
            return shorter
    return "…"
