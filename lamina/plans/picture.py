"""The layer map as a picture: SVG that needs nothing around it, in the light or dark of the reader's page.

From left to right the depth of the result; a lane for each model at each offset, and in it a bar as high as the
model counts in that layer. The same plan gives the same bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from lamina.plans.explain import layer_rows, names_without_places
from lamina.plans.ink import box, clean, fitting, label, length, style, width, xml_text
from lamina.plans.lanes import END_ROLES, Lane, ends_of
from lamina.plans.sheet import END, LABELS, LEFT, MARGIN, RIGHT, WIDTH, Sheet, end_x, legend_width, sheet_of
from lamina.plans.weights import Factors, effective_weights
from lamina.wording import counted, span, spans

if TYPE_CHECKING:
    from lamina.plans.plan import Plan

MOST_TOLD = 8  # rows of layers in the description
MANY_SEAMS = 12  # beyond it they are drawn paler
_HATCH = "\0"  # stands for the pattern's name, which is that of the finished picture; no text has it in it


def layer_map_svg(plan: Plan) -> str:
    """The picture of a plan's layers: a whole SVG document, models under their names without a place."""
    weights = effective_weights(plan, names_without_places)
    sheet = sheet_of(weights)
    body = "\n".join(_body(sheet))
    key = f"m{zlib.crc32(body.encode()):08x}"  # tells pictures in one page apart
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="layer-map" width="{WIDTH}" height="{length(sheet.height)}" '
        f'viewBox="0 0 {WIDTH} {length(sheet.height)}" role="img" aria-labelledby="{key}t {key}d">\n'
        f'<title id="{key}t">Layer map: {counted(weights.depth, "layer")}</title>\n'
        f'<desc id="{key}d">{xml_text(in_words(plan))}</desc>\n'
        f"<style>\n{style(len(sheet.colours))}</style>\n"
        f'<pattern id="{key}h" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<path class="hatch" d="M1.5 0V6" stroke-width="3"/></pattern>\n'
        f'<rect class="paper" width="{WIDTH}" height="{length(sheet.height)}" rx="6"/>\n'
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
    return clean(" ".join(told))


def _body(sheet: Sheet) -> Iterator[str]:
    yield (
        f'<text x="{MARGIN}" y="32" class="ink big">{counted(sheet.weights.depth, "layer")}'
        f'<tspan dx="14" class="soft plain">{_counts(sheet)}</tspan></text>'
    )
    yield from _ruler(sheet)
    for number in range(len(sheet.lanes)):
        yield from _lane(sheet, number)
    yield from _seam_lines(sheet)
    yield from _legend(sheet)


def _counts(sheet: Sheet) -> str:
    """`24 copied, 16 blended or scaled`."""
    copied, whole, depth = sum(sheet.weights.copied), sum(sheet.whole), sheet.weights.depth
    counts = {"copied": copied, "cast": whole - copied, "blended or scaled": depth - whole}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _ruler(sheet: Sheet) -> Iterator[str]:
    """Numbers of output layers, and the names of the ends."""
    depth, y = sheet.weights.depth, sheet.top - 10
    yield label(MARGIN, y, "output layer", "soft small")
    step = next((n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n * sheet.cell >= 22), 256)
    shown = [number for number in range(0, depth, step) if (depth - 1 - number) * sheet.cell >= 22]
    for number in [*shown, depth - 1] if depth else []:
        yield label(sheet.x(number + 0.5), y, str(number), "ink small mid")
    for role in ends_of(sheet.weights):
        yield label(end_x(role) + END / 2, y, END_ROLES[role], "soft small mid")


def _lane(sheet: Sheet, number: int) -> Iterator[str]:
    """One lane: its name, the room in which its bars stand, the bars, and source layers where they have room."""
    lane, base = sheet.lanes[number], sheet.baselines[number]
    colour = f"c{sheet.colours[lane.model]}"
    yield f"<g><title>{xml_text(_lane_in_words(lane))}</title>"
    yield from _name(sheet, lane, colour, base)
    runs = [list(run) for used, run in groupby(range(len(lane.cells)), lambda i: lane.cells[i] is not None) if used]
    rooms = [box(sheet.x(run[0]), base - sheet.bar, len(run) * sheet.cell - sheet.between, sheet.bar) for run in runs]
    rooms += [box(end_x(role) + 2, base - sheet.bar, END - 4, sheet.bar) for role in lane.ends]
    if rooms:
        yield f'<path class="room" d="{"".join(rooms)}"/>'
    drawn: dict[tuple[str, float], list[str]] = {}
    for first, last, cell in _alike(sheet, lane):
        place = (sheet.x(first), (last - first + 1) * sheet.cell - sheet.between)
        _add_bar(drawn, sheet, base, place, cell, sheet.whole[first])
    for role, factor in lane.ends.items():
        alone = factor == 1 and sum(role in each.ends for each in sheet.lanes) == 1
        _add_bar(drawn, sheet, base, (end_x(role) + 2, END - 4), Factors(factor, factor), alone)
    for (kind, opacity), boxes in drawn.items():
        path = "".join(boxes)
        faint = f' fill-opacity="{length(opacity)}"' if opacity < 1 else ""
        yield f'<path class="{colour}{kind}"{faint} d="{path}"/>'
        if lane.of_delta:
            yield f'<path fill="{_HATCH}" fill-opacity=".55" d="{path}"/>'
    yield f'<path class="rule" d="M{LEFT} {length(base)}H{RIGHT}"/>'
    yield from _numbers(sheet, lane, base)
    yield "</g>"


def _alike(sheet: Sheet, lane: Lane) -> Iterator[tuple[int, int, Factors]]:
    """First and last output layer of each bar: one layer, or a run of equal ones where no gap parts them."""

    def key(output: int) -> object:
        return output if sheet.between else (lane.cells[output], sheet.whole[output])

    for _, run in groupby(range(len(lane.cells)), key):
        first, *others = run
        cell = lane.cells[first]
        if cell is not None:
            yield first, others[-1] if others else first, cell


def _add_bar(
    drawn: dict[tuple[str, float], list[str]],
    sheet: Sheet,
    base: float,
    place: tuple[float, float],
    cell: Factors,
    whole: bool,
) -> None:
    """A bar from the baseline to the smaller factor, and a lighter one with an edge on to the larger."""
    x, width = place

    def between(low: float, high: float) -> str:
        top, bottom = (base - sheet.bar * max(min(each / sheet.scale, 1), -1) for each in (high, low))
        return box(x, top, width, bottom - top)

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


def _name(sheet: Sheet, lane: Lane, colour: str, base: float) -> Iterator[str]:
    """The model, its layers, and what they count where that is not simply 1."""
    used = sorted({layer for layer in lane.sources if layer is not None})
    layers = f"layers {spans(used)}" if len(used) > 1 else f"layer {spans(used)}" if used else "ends only"
    middle = base - sheet.bar / 2
    yield f'<path class="{colour}" d="{box(MARGIN, middle - 5, 10, 10)}"/>'
    if sheet.tall:
        yield label(MARGIN + 17, middle - 2.5, fitting(lane.model, LABELS - 24, 7.0), "ink name")
        more = " · ".join(filter(None, [layers, _counting(lane)]))
        yield label(MARGIN + 17, middle + 11.5, fitting(more, LABELS - 24, 5.7), "soft small")
    else:
        room = LABELS - 24
        layers = fitting(spans(used), room * 0.42, 5.7)
        yield label(MARGIN + 17, middle + 4, fitting(lane.model, room - 5.9 * width(layers) - 6, 6.4), "ink small")
        yield label(MARGIN + LABELS - 7, middle + 4, layers, "soft small end")


def _counting(lane: Lane) -> str:
    """`× 0.5`, `× 0.03 to 1`, `Δ × 0.7`: nothing for what counts 1 everywhere."""
    values = [value for each in lane.factors for value in (each.low, each.high)]
    ends = dict.fromkeys(f"{pick(values):.2g}" for pick in (min, max)) if values else {}
    told = "" if list(ends) in ([], ["1"]) else f"× {' to '.join(ends)}"
    return f"Δ {told or '× 1'}" if lane.of_delta else told


def _lane_in_words(lane: Lane) -> str:
    used = sorted({layer for layer in lane.sources if layer is not None})
    outputs = [output for output, cell in enumerate(lane.cells) if cell is not None]
    told = f"{clean(lane.model)}: layers {spans(used)} in output layers {spans(outputs)}" if used else lane.model
    return " ".join(filter(None, [told, _counting(lane)]))


def _numbers(sheet: Sheet, lane: Lane, base: float) -> Iterator[str]:
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
                yield f'<path class="c{sheet.colours[lane.model]}" d="{box(x - half, y - 7, 2 * half, 14)}"/>'
            yield label(x, y + 4, told, "on small mid")
        elif room > 4.9 * len(told) + 0.5:
            yield label(x, y + 3, told, "on tiny mid")


def _seam_lines(sheet: Sheet) -> Iterator[str]:
    """A line through all lanes at each seam, with the source layers on both sides where there is room."""
    many = " many" if len(sheet.seams) > MANY_SEAMS else ""
    labels = []
    for seam in sheet.seams:
        x = sheet.x(seam.output) - sheet.between / 2
        kind = "seam" if seam.of_depth else "seam joint"
        yield f'<path class="{kind}{many}" d="M{length(x)} {length(sheet.top - 4)}V{length(sheet.bottom + 6)}"/>'
        if seam.of_depth:
            labels.append((x, " ▸ ".join("+".join(map(str, side)) for side in (seam.below, seam.above))))
    if all(b[0] - a[0] > 3.2 * (len(a[1]) + len(b[1])) + 6 for a, b in pairwise(labels)):
        for x, told in labels:
            yield label(x, sheet.top - 28, told, "ink small mid")


def _legend(sheet: Sheet) -> Iterator[str]:
    for number, line in enumerate(sheet.legend):
        x, y = float(MARGIN), sheet.bottom + 36 + 22 * number
        for sample, meaning in line:
            if sample:
                yield _SAMPLES[sample].format(x=length(x), y=length(y - 11), hatch=_HATCH)
            yield label(x + (28 if sample else 0), y, meaning, "soft small")
            x += legend_width(sample, meaning)


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
