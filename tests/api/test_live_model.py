"""`lamina.load_model`: the logits of the published folder, bit for bit, and nothing on disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import lamina
from lamina.errors import CheckpointError, MissingExtra

from .test_recipe_forms import MAPPING

TOKENS = torch.tensor([[1, 5, 9, 2, 7, 3]])


def test_a_llama_computes_what_its_published_folder_does(tmp_path: Path) -> None:
    _assert_same({**MAPPING, "dtype": "bfloat16"}, tmp_path)


def test_a_tied_qwen2_computes_what_its_published_folder_does(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        config = transformers.Qwen2Config(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=64,
        )  # fmt: skip
        transformers.Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / name)
    recipe = {"stack": [{"model": str(tmp_path / name), "layers": "0-1"} for name in "ab"]}
    model = _assert_same({**recipe, "embed": str(tmp_path / "a"), "head": str(tmp_path / "a")}, tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    untied = _assert_same(recipe, tmp_path / "untied")  # the head follows the last layer, which is b's
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lamina.load_model(MAPPING)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"lamina\[hf\]"):
        lamina.load_model(MAPPING)


def test_a_model_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for path in Path(MAPPING["models"][0]["model"]).iterdir():  # type: ignore[index]
        (own / path.name).write_bytes(path.read_bytes())
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"architectures": ["OwnForCausalLM"]}))
    with pytest.raises(CheckpointError, match="no model `OwnForCausalLM`"):
        lamina.load_model({"stack": [{"model": str(own), "layers": "0-3"}]})


def _assert_same(recipe: dict[str, Any], folder: Path) -> Any:
    lamina.merge(recipe, folder / "out")
    published = transformers.AutoModelForCausalLM.from_pretrained(folder / "out").eval()
    live = lamina.load_model(recipe)
    assert type(live) is type(published)
    assert live.dtype == published.dtype
    assert live.generation_config.to_dict() == published.generation_config.to_dict()
    with torch.no_grad():
        assert torch.equal(live(TOKENS).logits, published(TOKENS).logits)
    return live
