"""What a model does beside its parents: losses against torch's own, shifts, loops, the cache, and the verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import lamina
from lamina.check.asked import bundled_texts, token_rows
from lamina.check.behaviour import Difference, is_loop, unigram_loss
from lamina.check.check import check
from lamina.check.findings import Level, Report, Section
from lamina.check.running import RunningModel

from .family import MODELS, Weights, changed

BASE, REV = MODELS / "base", MODELS / "rev"
TEXT = {"prose": bundled_texts()["prose"][:3000]}


def _section(report: Report, name: str) -> Section:
    return next(section for section in report.sections if section.name == name)


@pytest.fixture(scope="module")
def running() -> RunningModel:
    return RunningModel(BASE, 4, 563_040)


def test_losses_are_those_of_transformers(running: RunningModel) -> None:
    rows = token_rows(running, TEXT)["prose"]
    model = transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    wanted = model(torch.from_numpy(rows), labels=torch.from_numpy(rows)).loss.item()
    assert float(running.observe(rows).losses.mean()) == pytest.approx(wanted, rel=1e-5)


def test_what_a_layer_receives_is_its_input(running: RunningModel) -> None:
    rows = token_rows(running, TEXT)["prose"][:2]
    seen = running.observe(rows, watched=[5, 9])
    states = running.model(torch.from_numpy(rows), output_hidden_states=True).hidden_states
    for layer in range(4):
        wanted = states[layer][:, [5, 9]].reshape(-1, 96).detach().numpy()
        np.testing.assert_allclose(seen.inputs[layer], wanted, atol=1e-5)


def test_the_three_texts_have_enough_tokens_for_a_large_vocabulary() -> None:
    """Large vocabularies take about 4.5 characters a token on such texts, and 5 at the most."""
    folder = Path(lamina.__file__).parent / "check" / "texts"
    assert sum(path.stat().st_size for path in folder.iterdir()) >= 5 * 8192


def test_a_difference_is_told_to_a_hundredth_and_never_as_minus_nothing() -> None:
    assert str(Difference(0.1449, -0.004, 0.3)) == "+0.14 (0.00 to 0.30)"
    assert str(Difference(-0.001, -0.2, -0.0001)) == "+0.00 (-0.20 to 0.00)"


def test_a_unigram_model_loses_the_entropy_of_the_tokens() -> None:
    assert unigram_loss(np.array([[9, 1, 2, 1, 2]])) == pytest.approx(math.log(2))
    assert unigram_loss(np.array([[9, 1, 1, 1, 1]])) == 0


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [([7] * 30, True), (list(range(30)), False), ([1, 2, 3] * 10, True), ([1, 2, 3] * 4, False)],
)
def test_a_loop_is_a_tail_of_repeats(tokens: list[int], loops: bool) -> None:
    assert is_loop(tokens) is loops


def test_a_fine_tune_is_healthy_beside_its_base() -> None:
    report = check(REV, [BASE], texts=TEXT)
    assert report.verdict is Level.HEALTHY, report.findings
    assert [section.name for section in report.sections][-5:] == ["loads", "language", "seams", "answers", "cache"]
    assert all(section.mark == "ok" for section in report.sections)


def test_a_seam_shows_as_a_shift_of_what_its_layer_receives(tmp_path: Path) -> None:
    lamina.merge(f"stack: [{{model: {BASE}, layers: [0-2, 1-3]}}]\n", tmp_path / "deep")
    found = [each for each in check(tmp_path / "deep", [BASE], texts=TEXT).findings if each.code == "seam"]
    assert [each.layer for each in found] == [3]
    assert "receives 0.9" in found[0].message


def _shuffle(weights: Weights) -> None:
    order = torch.randperm(768, generator=torch.Generator().manual_seed(1))
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][order]


def test_a_model_that_knows_less_than_token_counts_is_broken(tmp_path: Path) -> None:
    report = check(changed(BASE, tmp_path / "ruined", _shuffle), [BASE], texts=TEXT)
    assert report.verdict is Level.BROKEN
    assert any(found.code == "no-language" for found in report.findings)


def test_alone_a_model_is_held_to_prose_and_to_texts_of_ones_own(tmp_path: Path) -> None:
    """Of code and chat a sound model may know nothing."""
    ruined = changed(BASE, tmp_path / "ruined", _shuffle)
    for name, verdict in (("prose", Level.BROKEN), ("mine.txt", Level.BROKEN), ("code", Level.HEALTHY)):
        assert check(ruined, texts={name: TEXT["prose"]}, quick=True).verdict is verdict, name


def test_a_loss_that_nothing_explains_is_suspicious(tmp_path: Path) -> None:
    """Noise in every layer, under which each is still itself and no larger than it may be."""

    def blur(weights: Weights) -> None:
        generator = torch.Generator().manual_seed(2)
        for name, tensor in weights.items():
            if ".layers." in name and tensor.dim() == 2:
                noise = torch.randn(tensor.shape, generator=generator) * tensor.float().std() * 0.8
                weights[name] = (tensor.float() + noise).to(tensor.dtype)

    report = check(changed(BASE, tmp_path / "blurred", blur), [BASE], texts=TEXT)
    assert report.verdict is Level.SUSPICIOUS
    assert "no seam or blend" in _section(report, "language").findings[0].message


def test_three_whole_task_vectors_lose_language_and_are_told_why(tmp_path: Path) -> None:
    """They end 19 points of skill below their base: docs/skills.md."""
    models = ", ".join(f"{{model: {MODELS / name}, parameters: {{weight: 1}}}}" for name in ("rev", "sort", "max"))
    recipe = f"models: [{models}]\nmerge_method: task_arithmetic\nbase_model: {BASE}\n"
    lamina.merge(recipe, tmp_path / "whole")
    lamina.merge(f"{recipe}parameters: {{lambda: 0.5}}\n", tmp_path / "half")
    (found,) = check(tmp_path / "whole", texts=TEXT, quick=True).findings
    assert (found.level, found.code) == (Level.SUSPICIOUS, "lost")
    assert "`lambda`" in found.message
    assert check(tmp_path / "half", texts=TEXT, quick=True).verdict is Level.HEALTHY


def test_a_folder_without_a_tokenizer_is_loaded_and_asked_nothing(tmp_path: Path) -> None:
    lamina.merge(f"models: [{{model: {REV}}}]\nmerge_method: passthrough\n", tmp_path / "out", copy_tokenizer=False)
    report = check(tmp_path / "out", texts=TEXT, quick=True)
    assert report.verdict is Level.HEALTHY
    assert _section(report, "loads").mark == "ok"
    assert _section(report, "language").not_run == "the folder has no tokenizer"


def _with_one_token_more(folder: Path) -> Path:
    changed(BASE, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"].append({"id": 768, "content": "<|more|>"} | flags)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def test_a_parent_with_another_tokenizer_is_told_and_not_compared(tmp_path: Path) -> None:
    other = changed(BASE, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, two = (next(text for text, number in vocabulary.items() if number == wanted) for wanted in (300, 301))
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    report = check(REV, [other, _with_one_token_more(tmp_path / "more")], texts=TEXT, quick=True)
    assert "beside more" in _section(report, "language").told
    assert "beside other" not in _section(report, "language").told
    assert "has another tokenizer" in _section(report, "parent").not_run
    assert report.verdict is Level.HEALTHY


def test_a_tensor_that_transformers_misses_is_named(tmp_path: Path) -> None:
    folder = changed(BASE, tmp_path / "lost", lambda weights: weights.pop("model.norm.weight"))
    report = check(folder, [BASE], texts=TEXT)
    assert report.verdict is Level.BROKEN
    assert [found.key for found in _section(report, "loads").findings] == ["model.norm.weight"]


def test_a_model_larger_than_the_memory_is_run_layer_by_layer() -> None:
    whole, streamed = (check(REV, [BASE], texts=TEXT, memory=memory) for memory in (None, 1_500_000))
    assert _section(streamed, "answers").not_run == "needs 1.1 MB of memory"
    assert _section(streamed, "language").mark == _section(whole, "language").mark == "ok"
