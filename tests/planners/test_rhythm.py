"""Layer kinds that come round, and the notice where a stack loses their rhythm."""

from __future__ import annotations

from desk import Desk
from hypothesis import given
from hypothesis import strategies as st

from lamina.planners.rhythm import kinds_of, lapse, period_of

FIVE_TO_ONE = [*(["sliding"] * 5 + ["full"]) * 4, "sliding", "sliding"]  # Gemma 3 1B: 26 layers
ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 4, "sliding_window": 4}


def stacked(layers: list[int]) -> list[tuple[int, object]]:
    return [(layer, FIVE_TO_ONE[layer]) for layer in layers]


def test_the_period_is_the_shortest_after_which_all_kinds_come_again() -> None:
    assert period_of(FIVE_TO_ONE) == 6
    assert period_of(["a", "b"] * 4) == 2
    assert period_of(["a"] * 5) == 1


def test_kinds_that_never_come_twice_over_have_no_period() -> None:
    assert period_of(["dense", *["sparse"] * 5]) == 0
    assert period_of(["a", "b", "c", "d", "a"]) == 0


def test_a_seam_that_goes_back_by_whole_periods_keeps_step() -> None:
    assert lapse(FIVE_TO_ONE, stacked([*range(19), *range(13, 26)])) is None
    assert lapse(FIVE_TO_ONE, stacked([*range(19), *range(7, 26)])) is None


def test_a_seam_that_does_not_is_told_with_what_would_keep_step() -> None:
    found = lapse(FIVE_TO_ONE, stacked([*range(19), *range(11, 26)]))
    assert found is not None
    assert (found.place, found.ends, found.begins, found.instead) == (19, 18, 11, (7, 13))
    # The full layers stand at 19, 25 and 31, and the rhythm has them at 23 and 29.
    assert found.out == (19, 23, 25, 29, 31)


def test_a_stack_may_lose_step_at_its_bottom() -> None:
    found = lapse(FIVE_TO_ONE, stacked(list(range(2, 20))))
    assert found is not None
    assert (found.place, found.ends, found.begins, found.instead) == (0, None, 2, (0, 6))


@given(st.lists(st.integers(0, 23), min_size=1, max_size=30))
def test_what_would_keep_step_does(layers: list[int]) -> None:
    found = lapse(FIVE_TO_ONE, stacked(layers))
    if found is not None:
        for instead in found.instead:
            assert (instead - found.place) % found.period == 0


def test_kinds_are_what_comes_round_and_nothing_else() -> None:
    """Every second layer slides, every third knows no positions, the first is dense."""
    config = {
        "layer_types": ["a", "b"] * 6,
        "no_rope_layers": [1, 1, 0] * 4,
        "mlp_layer_types": ["dense", *["sparse"] * 11],
    }
    kinds = kinds_of(config, 12)
    assert kinds[:3] == [("'a'", "1"), ("'b'", "1"), ("'a'", "0")]
    assert period_of(kinds) == 6


def test_kinds_that_config_json_leaves_unsaid_are_those_of_the_model_type() -> None:
    assert period_of(kinds_of({"model_type": "gemma3_text", "sliding_window_pattern": 6}, 26)) == 6
    assert period_of(kinds_of({"model_type": "llama"}, 26)) == 1


def test_the_plan_tells_of_a_rhythm_that_is_lost_and_where(desk: Desk) -> None:
    desk.model("a", layers=8, config=ALTERNATING)
    (told,) = desk.notices("stack: [{model: a, layers: 0-4}, {model: a, layers: 2-7}]", "rhythm")
    assert "come round every 2 layers in `a`" in told
    assert "output layers 5-10 of the result" in told
    assert "output layer 5, where layer 2 stands behind layer 4; layer 1 or 3 in its place keeps it" in told
    assert "llama.cpp" in told


def test_nothing_is_told_where_the_rhythm_goes_on(desk: Desk) -> None:
    desk.model("a", layers=8, config=ALTERNATING)
    assert desk.notices("stack: [{model: a, layers: 0-4}, {model: a, layers: 3-7}]", "rhythm") == []
    assert desk.notices("stack: [{model: a, layers: 0-7}]", "rhythm") == []


def test_nothing_is_told_of_layers_of_one_kind(desk: Desk) -> None:
    desk.model("a", layers=8)
    assert desk.notices("stack: [{model: a, layers: 0-4}, {model: a, layers: 2-7}]", "rhythm") == []
