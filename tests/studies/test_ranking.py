"""A ranking: the best first, what cannot be told from it, never a part of the items beside all of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lamina.errors import LedgerError
from lamina.ledger.runs import Parent, Run, Score
from lamina.studies.ranking import Ranking, ranking

QUESTIONS = 400


def answers(share: float, seed: int = 0) -> np.ndarray:
    """Right answers to the share of questions; those of one seed are right on the same ones as far as they go."""
    order = np.random.default_rng(seed).permutation(QUESTIONS)
    return (order < round(share * QUESTIONS)).astype(np.float64)


def score(name: str, right: np.ndarray, *, digest: str = "", **more: object) -> Score:
    error = float(right.std()) / math.sqrt(len(right))
    items = tuple(right.tolist())
    return Score(name, float(right.mean()), error, len(right), "share", items=items,
                 items_digest=digest or name, **more)  # type: ignore[arg-type]  # fmt: skip


def evaluated(number: int, rev: float, sort: float, *, seed: int = 0, **more: object) -> Run:
    scores = (score("rev", answers(rev, seed)), score("sort", answers(sort, seed)))
    known = {"plan": f"plan {number}", "recipe": "a: 1", "scores": scores} | more
    return Run("eval", f"recipe {number}", number=number, **known)  # type: ignore[arg-type]


def marks(found: Ranking) -> dict[str, str]:
    return {each.run.id: each.mark for each in found.whole}


def test_an_evaluation_has_the_mean_of_its_kinds_as_a_sweep_has() -> None:
    right = [answers(0.9), answers(0.7)]
    composite = score("skills", np.concatenate(right), digest="sweep")
    composite = replace(composite, stderr=math.hypot(*(each.std() / 20 for each in right)) / 2)
    parts = tuple(score(name, each, digest="sweep") for name, each in zip(("rev", "sort"), right, strict=True))
    swept = Run("sweep", "swept", plan="p", number=1, scores=(composite, *parts))
    first, second = ranking([evaluated(2, 0.9, 0.7), swept], "skills").whole
    assert first.mean == pytest.approx(second.mean) == 0.8
    assert first.error == pytest.approx(second.error)
    assert second.run.scores[0].name == "skills"
    assert not second.paired


def test_recipes_that_plan_alike_from_other_models_are_two() -> None:
    """Fine-tunes of one shape look alike to a plan: slerp at t = 0 and at t = 1 has one digest."""
    first, last = evaluated(1, 0.9, 0.9, plan="p", recipe="t: 0"), evaluated(2, 0.5, 0.9, plan="p", recipe="t: 1")
    again = evaluated(3, 0.6, 0.9, plan="p", recipe="t: 1")
    found = ranking([again, last, first], "skills")
    assert [each.run.id for each in found.whole] == ["r1", "r3"]
    assert found.older == 1


def test_runs_that_answer_alike_are_told_apart_in_pairs_and_not_as_independent_ones() -> None:
    best, next_ = evaluated(1, 0.90, 0.90), evaluated(2, 0.88, 0.88)
    assert marks(ranking([best, next_], "skills")) == {"r1": "best", "r2": "beyond chance"}
    other = replace(next_, scores=tuple(replace(each, items_digest="others") for each in next_.scores))
    apart = ranking([best, other], "skills").whole[1]
    assert (apart.mark, apart.paired) == ("within chance", False)
    # Independent: 1.96 · sqrt(of the four variances) / 2
    errors = [each.stderr or 0 for each in (*best.scores, *other.scores)]
    assert apart.margin == pytest.approx(1.96 * math.hypot(*errors) / 2, rel=0.01)


def test_the_interval_is_of_each_kind_apart_and_wider_for_more_pairs() -> None:
    best, next_ = evaluated(1, 0.9, 0.9), evaluated(2, 0.9, 0.5)
    differences = np.subtract(next_.scores[1].items, best.scores[1].items)
    alone = ranking([best, next_], "skills").whole[1]
    # What is equal in one kind and differs in the other has no spread from between the kinds.
    assert alone.margin == pytest.approx(1.96 * differences.std(ddof=1) / 20 / 2, rel=0.01)
    more = ranking([best, next_, *(evaluated(number, 0.3, 0.3) for number in range(3, 11))], "skills").whole[1]
    # 45 pairs: the normal point of 1 - 0.05 / 90 is 3.26.
    assert (more.margin or 0) / (alone.margin or 1) == pytest.approx(3.26 / 1.96, rel=0.01)


def test_chance_alone_seldom_calls_one_of_ten_equal_recipes_worse_than_the_best() -> None:
    draws = np.random.default_rng(5)

    def drawn(number: int) -> Run:
        right = [(draws.random(QUESTIONS) < 0.8).astype(np.float64) for _ in range(2)]
        return Run(
            "eval", "a", plan=str(number), number=number, scores=(score("rev", right[0]), score("sort", right[1]))
        )

    wrong = sum(
        "beyond chance" in marks(ranking([drawn(number) for number in range(10)], "skills")).values()
        for _ in range(200)
    )
    assert wrong <= 200 * 0.05 + 2 * math.sqrt(200 * 0.05 * 0.95)


def test_answers_that_are_the_same_are_within_chance() -> None:
    first, second = ranking([evaluated(1, 0.9, 0.9), evaluated(2, 0.9, 0.9)], "skills").whole
    assert (first.mark, second.mark, second.margin) == ("best", "within chance", 0.0)


def test_limited_scores_are_apart_and_have_no_marks() -> None:
    part = evaluated(1, 1.0, 1.0)
    part = replace(part, scores=tuple(replace(each, limited=True) for each in part.scores))
    found = ranking([part, evaluated(2, 0.5, 0.5)], "skills")
    assert [each.run.id for each in found.whole] == ["r2"]
    assert [(each.run.id, each.mark, each.margin) for each in found.limited] == [("r1", "", None)]


def test_a_look_at_a_part_does_not_hide_the_whole_score_of_a_model() -> None:
    whole = evaluated(1, 0.5, 0.5)
    part = replace(whole, number=2, scores=tuple(replace(each, limited=True) for each in whole.scores))
    found = ranking([part, whole], "skills")
    assert ([each.run.id for each in found.whole], found.limited) == (["r1"], ())


def test_a_model_that_was_scored_often_stands_once_with_its_newest_scores() -> None:
    rows = [evaluated(number, 0.1 * number, 0.5, plan="same") for number in (3, 2, 1)]
    found = ranking([*rows, evaluated(4, 0.9, 0.9)], "skills")
    assert ([each.run.id for each in found.whole], found.older) == (["r4", "r3"], 2)
    every = ranking([*rows, evaluated(4, 0.9, 0.9)], "skills", every=True)
    assert ([each.run.id for each in every.whole], every.older) == (["r4", "r3", "r2", "r1"], 0)


def test_kinds_that_were_asked_one_after_the_other_make_one_mean() -> None:
    rev, sort = evaluated(1, 0.9, 0.7).scores
    rows = [evaluated(2, 0, 0, plan="p", scores=(sort,)), evaluated(1, 0, 0, plan="p", scores=(rev,))]
    (found,) = ranking(rows, "skills").whole
    assert (found.run.id, found.mean) == ("r2", pytest.approx(0.8))


def test_parents_stand_in_the_table_whatever_rows_were_asked_for() -> None:
    merged = evaluated(2, 0.9, 0.9, parents=(Parent("models/rev"),))
    rev = evaluated(1, 0.8, 0.5, plan="", recipe="", output="/somewhere/models/rev")
    stranger = evaluated(3, 0.8, 0.5, plan="", recipe="", output="/somewhere/else")
    found = ranking([merged], "skills", among=[merged, rev, stranger])
    assert [(each.run.id, each.is_parent) for each in found.whole] == [("r2", False), ("r1", True)]
    assert found.best_parent is found.whole[1]


def test_less_is_better_of_a_loss_and_no_number_is_last() -> None:
    losses = [Score("loss", value, 0.01, 100, "nats", lower_is_better=True) for value in (math.nan, 4.1, 4.0)]
    rows = [Run("sweep", "a", number=number, scores=(each,)) for number, each in enumerate(losses)]
    found = ranking(rows, "loss")
    assert marks(found) == {"r2": "best", "r1": "beyond chance", "r0": ""}
    assert found.whole[1].difference == pytest.approx(0.1)


def test_scores_without_errors_are_ranked_and_not_judged() -> None:
    rows = [Run("eval", "a", number=number, scores=(Score("loss", number),)) for number in (1, 2)]
    best, other = ranking(rows, "loss").whole
    assert (best.run.id, other.margin, other.mark) == ("r2", None, "")


def test_what_has_no_mean_is_a_letter() -> None:
    loss = Score("loss", 4.0, unit="nats", lower_is_better=True)
    run = replace(evaluated(1, 0.5, 0.5), scores=(*evaluated(1, 0.5, 0.5).scores, loss))
    with pytest.raises(LedgerError, match="in one unit"):
        ranking([run], "rev,loss")
    with pytest.raises(LedgerError, match="has a score `max`"):
        ranking([run], "rev,max")
