"""The recipe that most people write first for a blended seam, and what they mean by it.

    slices:
      - sources: [{model: a, layer_range: [0, 32], parameters: {weight: [1, 0]}}]
      - sources: [{model: a, layer_range: [0, 32], parameters: {weight: [0, 1]}}]

Slices are stacked and do not cross; a single source under `normalize` is taken whole at any weight but 0,
where nothing is left to divide by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from lamina.planners.request import Findings
from lamina.recipe.schema import RecipeSchema
from lamina.recipe.settings import START, Conditional, Position, Setting, as_data, setting_at
from lamina.recipe.slices import Slice, Source, source_as_data
from lamina.recipe.text import Way
from lamina.recipe.yaml_text import flow
from lamina.wording import span

CODE = "do-not-cross"


def tell_of_slices_that_do_not_cross(slices: list[Slice], findings: Findings) -> set[Way]:
    """Fault each pair of neighbouring single-source slices that fade out and in; returns the slices' ways."""
    found: set[Way] = set()
    if findings.recipe.schema.slices is None:
        return found
    for place, (earlier, later) in enumerate(pairwise(slices)):
        alone = len(earlier.sources) == len(later.sources) == 1 and min(earlier.depth, later.depth) > 1
        if alone and _ends(earlier)[1] == 0 and _ends(later)[0] == 0 and _ends(earlier)[0] and _ends(later)[1]:
            letter = _letter(findings.recipe.schema, slices, place)
            findings.fault(CODE, letter, (*later.sources[0].way, "parameters", "weight"))
            found |= {earlier.way, later.way}
    return found


def _ends(entry: Slice) -> tuple[object, object]:
    """The weights of the first and the last layer of a single-source slice."""
    weight: Setting = entry.sources[0].parameters.get("weight", ())
    return setting_at(weight, "", START), setting_at(weight, "", Position(entry.depth - 1, entry.depth))


def _letter(schema: RecipeSchema, slices: Sequence[Slice], place: int) -> str:
    """The whole of `slices`, with the two at `place` and after it crossing, and the same as a stack."""
    earlier, later = slices[place : place + 2]
    a, b = earlier.sources[0], later.sources[0]
    count = min(max(1, 3 * min(earlier.depth, later.depth) // 4), min(earlier.depth, later.depth) - 1)
    if a.ref == b.ref and a.stop - count == b.start and count > 1:
        count //= 2  # else each layer would be blended with itself
    crossing = [
        replace(earlier, sources=(_part(a, a.start, a.stop - count, 1),)),
        replace(earlier, sources=(_part(a, a.stop - count, a.stop, 1, 0), _part(b, b.start, b.start + count, 0, 1))),
        replace(later, sources=(_part(b, b.start + count, b.stop, 1),)),
    ]
    in_slices = "".join(map(_as_written, [*slices[:place], *crossing, *slices[place + 2 :]]))
    letter = f"""\
these two slices are stacked and do not cross, and where a weight is 0 nothing is left.
    To blend them, both have to stand in one slice. With {count} layers that cross, this is `slices`:

      slices:
{in_slices}"""
    others = [source for entry in slices for source in entry.sources if source not in (a, b)]
    plain = all(not entry.parameters for entry in slices) and all(set(x.parameters) <= {"weight"} for x in (a, b))
    if others or not plain or schema.merge_method != "linear":
        return letter
    return f"""{letter}
    and with a stack in place of `slices`, where `at` moves the second up and down:

      stack:
        - {{model: {a.ref}, layers: {span(a.start, a.stop - 1)}}}
        - {{model: {b.ref}, layers: {span(b.start, b.stop - 1)}, at: {earlier.depth - count}}}
      overlap: ramp
"""


def _part(source: Source, start: int, stop: int, *weight: int) -> Source:
    """Layers of a source with another weight."""
    parameters = {"weight": (Conditional(None, weight),)}
    others = {name: setting for name, setting in source.parameters.items() if name != "weight"}
    return replace(source, start=start, stop=stop, parameters=parameters | others)


def _as_written(entry: Slice) -> str:
    lines = ["- sources:", *(f"    - {flow(source_as_data(source))}" for source in entry.sources)]
    if entry.parameters:
        lines.append(f"  parameters: {flow({name: as_data(setting) for name, setting in entry.parameters.items()})}")
    return "".join(f"        {line}\n" for line in lines)
