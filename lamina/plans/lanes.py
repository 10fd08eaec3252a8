"""The lanes of the picture: which sources share a line, and which line the ends belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lamina.architectures.roles import Role
from lamina.plans.weights import EffectiveWeights, EndWeights, Factors

MOST_LANES = 12  # beyond it, sources of one model that never meet share a lane
END_ROLES = {Role.EMBEDDING: "embed", Role.FINAL_NORM: "norm", Role.HEAD: "head"}


@dataclass(frozen=True)
class Lane:
    """Sources of one model, of which no output layer has two. Columns are output layers.

    `sources` are the model's layers. `ends` is what it counts in the ends that it gives.
    """

    model: str
    of_delta: bool
    cells: tuple[Factors | None, ...]
    sources: tuple[int | None, ...]
    ends: Mapping[Role, float]

    @property
    def factors(self) -> list[Factors]:
        """What it counts where it enters."""
        return [cell for cell in self.cells if cell is not None]


def lanes_of(weights: EffectiveWeights) -> list[Lane]:
    """A lane a source; of many sources, a lane for those of one model that never meet."""
    lanes = [
        Lane(
            row.model,
            row.of_delta,
            cells,
            tuple(None if cell is None else output - row.offset for output, cell in enumerate(cells)),
            {},
        )
        for row, cells in zip(weights.rows, weights.overall, strict=True)
    ]
    return _with_ends(_packed(lanes) if len(lanes) > MOST_LANES else lanes, weights)


def _packed(lanes: list[Lane]) -> list[Lane]:
    packed: list[Lane] = []
    for lane in lanes:
        for number, other in enumerate(packed):
            is_free = all(a is None or b is None for a, b in zip(lane.cells, other.cells, strict=True))
            if is_free and (lane.model, lane.of_delta) == (other.model, other.of_delta):
                packed[number] = replace(
                    other,
                    cells=tuple(b if a is None else a for a, b in zip(lane.cells, other.cells, strict=True)),
                    sources=tuple(b if a is None else a for a, b in zip(lane.sources, other.sources, strict=True)),
                )
                break
        else:
            packed.append(lane)
    return packed


def ends_of(weights: EffectiveWeights) -> dict[Role, EndWeights]:
    """The embedding before the layers, norm and head behind them, as far as they are there."""
    found = {each.role: each for each in reversed(weights.before) if each.role is Role.EMBEDDING}
    return found | {each.role: each for each in weights.after if each.role in (Role.FINAL_NORM, Role.HEAD)}


def _with_ends(lanes: list[Lane], weights: EffectiveWeights) -> list[Lane]:
    """The ends in the lanes of their models: in that beside them, where a model has several."""
    for role, end in ends_of(weights).items():
        beside = 0 if role is Role.EMBEDDING else -1
        for part in end.parts:
            of_model = [i for i, lane in enumerate(lanes) if (lane.model, lane.of_delta) == (part.model, part.of_delta)]
            free = [i for i in of_model if role not in lanes[i].ends]
            if not free:
                nothing = (None,) * weights.depth
                lanes.append(Lane(part.model, part.of_delta, nothing, nothing, {role: part.factor}))
                continue
            best = next((i for i in free if weights.depth and lanes[i].cells[beside] is not None), free[0])
            lanes[best] = replace(lanes[best], ends={**lanes[best].ends, role: part.factor})
    return lanes
