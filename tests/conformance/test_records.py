"""What a run against MergeKit found, held without MergeKit: the same recipes, the same bytes, near the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conformance import ours
from conformance.compare import TOLERANCE, step_of_bf16
from conformance.models import BF16, write_models
from conformance.recipes import draw_recipe
from conformance.records import Record, read_records, recipe_digest

RECORDS = read_records(Path(__file__).with_name("digests.csv"))
EVERY = 7
SAMPLE = sorted(RECORDS, key=lambda record: (record.method, record.number))[::EVERY]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_models(folder)
    return folder


def test_the_sample_has_every_method() -> None:
    assert {record.method for record in SAMPLE} == {record.method for record in RECORDS}
    assert len({record.method for record in RECORDS}) == 16


@pytest.mark.parametrize("record", SAMPLE, ids=lambda record: f"{record.number}-{record.method}")
def test_a_recorded_recipe_gives_its_bytes_and_mergekit_s_values(record: Record, world: Path) -> None:
    drawn = draw_recipe(record.seed, record.number)
    assert recipe_digest(drawn.recipe) == record.recipe, (
        "conformance/recipes.py draws another recipe than when this was recorded; record again: "
        "python -m conformance --record tests/conformance/digests.csv"
    )
    made = ours.merge(drawn.recipe, world)
    assert made.checkpoint is not None, made.error
    names = sorted(made.checkpoint.tensors)
    for sample in record.mergekit:
        values = made.checkpoint.tensors[names[sample.tensor]]
        found, theirs = np.array(values.reshape(-1)[sample.index]), np.array(sample.value)
        step = float(step_of_bf16(found, theirs)) if made.checkpoint.dtypes[names[sample.tensor]] == BF16 else 0.0
        assert abs(found - theirs) <= step + TOLERANCE * np.abs(values).max(), names[sample.tensor]
    assert ours.digest(made) == record.digest, "the values agree with MergeKit's, and other bytes are made than before"
