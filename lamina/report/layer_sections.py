"""The layers of a merge on its page: their map, weights and gradients, what they receive, how far from a parent."""

from __future__ import annotations

from collections.abc import Mapping

from lamina.check.naming import short_name
from lamina.plans.explain import layer_rows, tracks
from lamina.plans.picture import layer_map_svg
from lamina.plans.plan import Plan
from lamina.plans.seams import seams
from lamina.plans.weights import EffectiveWeights
from lamina.report.html import chart, folded, paragraph, table, text
from lamina.report.layer_charts import diff_chart, factor_text, gradient_chart, shift_chart, weights_chart
from lamina.report.sheet import DiffMap
from lamina.wording import counted, span


def layer_map_section(plan: Plan) -> str:
    """The map of the depth, as `lamina plan` draws it, and as a table."""
    rows = [[span(row.first, row.last), text(row.sources), text(row.blend)] for row in layer_rows(plan)]
    return (
        f'<figure><div class="wide map">{layer_map_svg(plan)}</div>'
        f"{folded('as a table', table(['layers', 'from', 'blend'], rows))}</figure>\n"
    )


def weights_section(weights: EffectiveWeights) -> str:
    """The factor of each source in each layer."""
    rows = [
        [
            text(f"{row.model}{' Δ' if row.of_delta else ''}"), f"{row.offset:+d}" if row.offset else "", text(kind),
            *map(factor_text, cells),
        ]
        for row in weights.rows
        for kind, cells in row.kinds.items()
    ]  # fmt: skip
    head = ["source", "moved by", "tensors", *map(str, range(weights.depth))]
    return chart(weights_chart(weights), "weights-0", table(head, rows, numbers=range(3, len(head))))


def gradients_section(plan: Plan) -> str:
    """Factors that change with depth; empty where none does."""
    found = [each for each in tracks(plan) if len({factor for factor in each.factors if factor}) > 1]
    if not found:
        return ""
    depth = len(found[0].factors)
    rows = [[text(each.model), f"{each.offset:+d}", *(f"{factor:.3g}" for factor in each.factors)] for each in found]
    head = ["source", "moved by", *map(str, range(depth))]
    return chart(gradient_chart(found), "gradients-0", table(head, rows, numbers=range(2, len(head))))


def input_section(shifts: Mapping[int, float], weights: EffectiveWeights | None) -> str:
    """What each layer receives of what it was trained on, with the seams."""
    marks = [] if weights is None else [seam.output for seam in seams(weights) if seam.of_depth]
    depth = max(max(shifts) + 1, 0 if weights is None else weights.depth)
    rows = [[str(layer), f"{share:.3f}", "seam" if layer in marks else ""] for layer, share in sorted(shifts.items())]
    lowest = min(shifts, key=lambda layer: shifts[layer])
    said = (
        f"Lowest at layer {lowest}: {shifts[lowest]:.2f}. 1 is what the layer was trained on. "
        f"{counted(len(marks), 'seam') + ', marked.' if marks else 'No seam.'}"
    )
    drawn = chart(shift_chart(shifts, marks, depth), "input-0", table(["layer", "cosine", ""], rows, numbers=[0, 1]))
    return paragraph(said) + drawn


def diff_section(diff: DiffMap) -> str:
    """How far each class of tensors is from the first parent."""
    intro = paragraph(
        f"‖b - a‖ / ‖a‖ beside {short_name(diff.parent)}. {diff.identical} of {counted(diff.tensors, 'tensor')} "
        "identical."
    )
    if diff.identical == diff.tensors:
        return intro
    ends = ", ".join(f"{kind} {_distance(value)}" for kind, value in diff.outside.items())
    return (
        intro
        + chart(diff_chart(diff), "diff-0", _diff_rows(diff))
        + (paragraph(f"Outside the layers: {ends}.", "note") if ends else "")
    )


def _diff_rows(diff: DiffMap) -> str:
    rows = [
        [
            str(layer),
            "" if other is None else str(other),
            *(_distance(values[layer]) for values in diff.distances.values()),
        ]
        for layer, other in enumerate(diff.counterparts)
    ]
    head = ["layer", f"of {short_name(diff.parent)}", *diff.distances]
    return table(head, rows, numbers=range(len(head)))


def _distance(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
