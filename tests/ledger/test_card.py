"""Scores in a model card: as the Hub reads them, as people do, once however often they are written."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from lamina.ledger.card import publishable, with_scores
from lamina.ledger.runs import Run, Score

CARD = "---\nlicense: mit\ntags: [merge]\n---\n\n# A merge\n\nText with --- and | signs.\n"


def run(*scores: Score, number: int = 1) -> Run:
    details = {"metrics": {"arc": "acc_norm"}, "settings": {"arc": {"few_shot": 25, "template": True}}}
    return Run("eval", "m", scores=scores, versions={"lm_eval": "0.4.13"}, details=details, number=number)


ARC = Score("arc", 0.612345678, 0.0142, 1172, unit="share")


def test_the_hub_reads_the_scores() -> None:
    card = ModelCard(with_scores(CARD, "my-merge", publishable([run(ARC)])))
    assert card.data.license == "mit"
    assert card.data.model_name == "my-merge"
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.metric_type, result.metric_value) == ("arc", "acc_norm", 0.612346)


def test_people_read_them_with_how_they_were_asked() -> None:
    text = with_scores(CARD, "m", publishable([run(ARC)]))
    row = "| arc | acc_norm | 61.2 ± 1.4 | 1172 | lm-evaluation-harness 0.4.13, 25 examples, chat template |"
    assert row in text
    assert "# A merge\n\nText with --- and | signs.\n" in text


def test_written_again_they_take_the_place_of_the_old() -> None:
    once = with_scores(CARD, "m", publishable([run(Score("arc", 0.1))]))
    assert with_scores(once, "m", publishable([run(ARC)])) == with_scores(CARD, "m", publishable([run(ARC)]))


def test_the_newest_whole_score_counts() -> None:
    newest = run(Score("arc", 0.9, limited=True), Score("boolq", 0.5), number=3)
    found = publishable([newest, run(ARC, number=2), run(Score("arc", 0.2), number=1)])
    assert [(at.number, score.name, score.value) for at, score in found] == [(2, "arc", ARC.value), (3, "boolq", 0.5)]
    assert publishable([newest])[0][1].name == "boolq"  # a part of arc is no score of arc


def test_a_card_without_a_head_gets_one() -> None:
    assert with_scores("# Mine\n", "m", publishable([run(ARC)])).startswith("---\nmodel-index:\n")


def test_a_head_that_is_no_yaml_is_told() -> None:
    with pytest.raises(ValueError, match="not valid YAML"):
        with_scores("---\na: [\n---\n# Mine\n", "m", publishable([run(ARC)]))
