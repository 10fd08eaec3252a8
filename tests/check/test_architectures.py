"""No false alarms: sound merges of models of many kinds, with their recipe and without it."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
import transformers

import lamina
from lamina.check.check import check
from lamina.check.findings import Level, Report

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from shrink import tiny_model

# Experts, one norm more, norms around zero, matrices laid the other way round, fused projections, no attention,
# biases, kinds of layers that take turns.
TYPES = ("mixtral", "qwen2_moe", "gemma2", "gpt2", "phi3", "gpt_neox", "falcon", "mamba", "opt", "cohere2", "gpt_oss")

LINEAR = """
models:
  - {model: A, parameters: {weight: [0.2, 0.5, 1.0]}}
  - {model: B, parameters: {weight: [{filter: down, value: 0.3}, {value: 0.5}]}}
merge_method: linear
"""
DARE = """
models: [{model: A, parameters: {weight: 0.5}}, {model: B, parameters: {weight: 0.5}}]
merge_method: dare_ties
base_model: base
parameters: {density: 0.3}
out_dtype: bfloat16
"""
DEEPER = "stack: [{model: A, layers: [0-4, 1-5]}]\n"


@pytest.mark.parametrize("model_type", TYPES)
def test_sound_merges_raise_no_alarm(model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    transformers.logging.disable_progress_bar()
    base = tiny_model(model_type)
    for seed, name in enumerate(("base", "A", "B")):
        _tuned(base, seed).save_pretrained(name)
    assert _alarms(check("A", ["base"], behaviour=False)) == []
    for text, parents in ((LINEAR, ["A", "B"]), (DARE, ["A", "B", "base"]), (DARE, ["base"]), (DEEPER, ["A"])):
        Path("recipe.yml").write_text(text)
        lamina.merge("recipe.yml", "out", force=True)
        assert _alarms(check("out", recipe="recipe.yml", behaviour=False)) == [], text
        for carried in ("lamina.yml", "mergekit_config.yml"):
            Path("out", carried).unlink(missing_ok=True)
        assert _alarms(check("out", parents, behaviour=False)) == [], text


def _tuned(model: torch.nn.Module, seed: int) -> transformers.PreTrainedModel:
    """A copy that has moved by a tenth in every element; for seed 0 the same."""
    moved: transformers.PreTrainedModel = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in moved.parameters() if seed else ():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * parameter.float().std() * 0.1)
    return moved


def _alarms(report: Report) -> list[str]:
    """Findings that are no seams. A tiny instance has no tokenizer, some have no eos or nothing called `down`."""
    idle = ("eos", "unmatched-filter")
    return [each.message for each in report.findings if each.level >= Level.SUSPICIOUS and each.code not in idle]
