"""The recipe that most people write first for a blended seam, and what they mean by it.

    slices:
      - sources: [{model: a, layer_range: [0, 32], parameters: {weight: [1, 0]}}]
      - sources: [{model: a, layer_range: [0, 32], parameters: {weight: [0, 1]}}]

Slices are stacked and do not cross; a single source under `normalize` is taken whole at any weight but 0,
where nothing is left to divide by.
"""

from __future__ import annotations

from itertools import pairwise

from lamina.planners.request import Findings
from lamina.recipe.settings import START, Position, Setting, setting_at
from lamina.recipe.slices import Slice
from lamina.recipe.text import Way
from lamina.wording import span

CODE = "do-not-cross"


def tell_of_slices_that_do_not_cross(slices: list[Slice], findings: Findings) -> set[Way]:
    """Fault each pair of neighbouring single-source slices that fade out and in; returns the slices' ways."""
    found: set[Way] = set()
    if findings.recipe.schema.slices is None:
        return found
    for earlier, later in pairwise(slices):
        alone = len(earlier.sources) == len(later.sources) == 1 and min(earlier.depth, later.depth) > 1
        if alone and _ends(earlier)[1] == 0 and _ends(later)[0] == 0 and _ends(earlier)[0] and _ends(later)[1]:
            findings.fault(CODE, _letter(earlier, later), (*later.sources[0].way, "parameters", "weight"))
            found |= {earlier.way, later.way}
    return found


def _ends(entry: Slice) -> tuple[object, object]:
    """The weights of the first and the last layer of a single-source slice."""
    weight: Setting = entry.sources[0].parameters.get("weight", ())
    return setting_at(weight, "", START), setting_at(weight, "", Position(entry.depth - 1, entry.depth))


def _letter(earlier: Slice, later: Slice) -> str:
    a, b = earlier.sources[0], later.sources[0]
    count = min(max(1, 3 * min(earlier.depth, later.depth) // 4), min(earlier.depth, later.depth) - 1)
    if a.ref == b.ref and a.stop - count == b.start and count > 1:
        count //= 2  # else each layer would be blended with itself
    at = earlier.depth - count
    return f"""\
these two slices are stacked and do not cross, and where a weight is 0 nothing is left.
    To blend them, both have to stand in one slice. With {count} layers that cross, in slices:

      slices:
        - sources:
            - {{model: {a.ref}, layer_range: [{a.start}, {a.stop - count}], parameters: {{weight: 1}}}}
        - sources:
            - {{model: {a.ref}, layer_range: [{a.stop - count}, {a.stop}], parameters: {{weight: [1, 0]}}}}
            - {{model: {b.ref}, layer_range: [{b.start}, {b.start + count}], parameters: {{weight: [0, 1]}}}}
        - sources:
            - {{model: {b.ref}, layer_range: [{b.start + count}, {b.stop}], parameters: {{weight: 1}}}}

    and as a stack, where `at` moves the second up and down:

      stack:
        - {{model: {a.ref}, layers: {span(a.start, a.stop - 1)}}}
        - {{model: {b.ref}, layers: {span(b.start, b.stop - 1)}, at: {at}}}
      overlap: ramp
"""
