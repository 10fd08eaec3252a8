"""What stands at an output and is not what the recipe makes: said so that one sees what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

import lamina
from lamina.errors import OutputError

MODELS = Path(__file__).parents[2] / "examples" / "models"
SLERP = f"""\
merge_method: slerp
base_model: {MODELS}/rev
models: [{{model: {MODELS}/rev}}, {{model: {MODELS}/sort}}]
parameters: {{t: 0}}
"""


def test_the_other_end_of_a_slerp_reads_another_model_though_it_plans_alike(tmp_path: Path) -> None:
    lamina.merge(SLERP, tmp_path / "out")
    with pytest.raises(OutputError, match="what is read of rev, sort is not what was read for it"):
        lamina.merge(SLERP, tmp_path / "out", set_values=["parameters.t=1"])


def test_another_seed_is_named(tmp_path: Path) -> None:
    lamina.merge(SLERP, tmp_path / "out", seed=3)
    with pytest.raises(OutputError, match=r"another one or with another seed \(3\)"):
        lamina.merge(SLERP, tmp_path / "out")
