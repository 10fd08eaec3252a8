"""The picture's sheet: where its lanes and layers lie, and what has to be said below them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lamina.architectures.roles import Role
from lamina.plans.ink import COLOURS
from lamina.plans.lanes import Lane, ends_of, lanes_of
from lamina.plans.seams import Seam, seams
from lamina.plans.weights import EffectiveWeights, Factors

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
SCALES = (0.125, 0.25, 0.5, 1.0, 1.5, 2.0)  # factors of a full bar; one beyond the last is drawn as if it were that


@dataclass(frozen=True)
class Sheet:
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


def sheet_of(weights: EffectiveWeights) -> Sheet:
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
    return Sheet(
        weights, marks, lanes, {model: number % len(COLOURS) for number, model in enumerate(models)}, whole, scale,
        bar, top, baselines, bottom - space, list(_in_lines(_meanings(weights, lanes, marks, whole, scale))),
    )  # fmt: skip


def _is_whole(weights: EffectiveWeights, output: int) -> bool:
    """True for a layer of one source with nothing multiplied."""
    entered = [cells[output] for cells in weights.overall if cells[output] is not None]
    return weights.copied[output] or entered == [Factors(1.0, 1.0)]


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
    if weights.nominal:
        yield "", "factors: as the recipe has them; the method weighs each tensor by what is in it"


def _in_lines(meanings: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """As many as go into a line."""
    line: list[tuple[str, str]] = []
    width = 0.0
    for sample, meaning in meanings:
        needed = legend_width(sample, meaning)
        if line and width + needed > WIDTH - 2 * MARGIN:
            yield line
            line, width = [], 0.0
        line.append((sample, meaning))
        width += needed
    if line:
        yield line


def legend_width(sample: str, meaning: str) -> float:
    return (28 if sample else 0) + 5.8 * len(meaning) + 22


def end_x(role: Role) -> float:
    return {Role.EMBEDDING: LEFT - GAP - END, Role.FINAL_NORM: RIGHT + GAP, Role.HEAD: RIGHT + GAP + END}[role]
