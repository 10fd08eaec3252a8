"""Merged folders are what transformers expects: they load whole, generate, and cache what they compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lamina
from lamina.errors import LaminaError

pytestmark = pytest.mark.filterwarnings("ignore")

SHAPE: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "num_key_value_heads": 1,
    "vocab_size": 40,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
WINDOWS = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]


def llama() -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(**SHAPE, tie_word_embeddings=False)


def qwen2() -> Any:
    from transformers import Qwen2Config

    return Qwen2Config(**SHAPE, tie_word_embeddings=True)


def qwen3() -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(
        **SHAPE,
        head_dim=8,
        layer_types=WINDOWS,
        sliding_window=4,
        tie_word_embeddings=False,
        use_sliding_window=True,
    )


def mistral() -> Any:
    from transformers import MistralConfig

    return MistralConfig(**SHAPE, head_dim=8, sliding_window=4, tie_word_embeddings=False)


FAMILIES: dict[str, Callable[[], Any]] = {"llama": llama, "qwen2": qwen2, "qwen3": qwen3, "mistral": mistral}
DEPTHS = [0, 1, 2, 1, 2, 3]
STACKED = "stack: [{model: source, layers: 0-2}, {model: source, layers: 1-3}]"
BLENDED = """
stack:
  - {model: source, layers: 0-3, at: 0}
  - {model: source, layers: 0-3, at: 2}
overlap: average
"""


def random_model(config: Any) -> Any:
    """A model of which no parameter is zero, one, or equal to another."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def load(folder: Path) -> Any:
    """The model of a folder, every one of whose tensors found its place."""
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager", dtype=torch.float32
    )
    assert not info["missing_keys"], info
    assert not info["unexpected_keys"], info
    assert not info["mismatched_keys"], info
    return model.eval()


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens, use_cache=False).logits


def close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal but for sums whose order follows where a tensor lies in memory."""
    return torch.allclose(actual, expected, rtol=1e-5, atol=1e-5)


def cached_logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    steps, cache = [], None
    with torch.no_grad():
        for i in range(tokens.shape[1]):
            out = model(tokens[:, i : i + 1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            steps.append(out.logits)
    return torch.cat(steps, dim=1)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each family a random model, its stacked and its blended merge."""
    folder = tmp_path_factory.mktemp("families")
    for name, config in FAMILIES.items():
        random_model(config()).save_pretrained(folder / name / "source")
        for kind, recipe in (("stacked", STACKED), ("blended", BLENDED)):
            (folder / name / f"{kind}.yml").write_text(recipe)
            lamina.merge(folder / name / f"{kind}.yml", folder / name / kind)
    return folder


TOKENS = torch.tensor([[3, 14, 15, 9, 26, 5, 35, 8, 9, 7]])
each = pytest.mark.parametrize("family", FAMILIES)
each_kind = pytest.mark.parametrize("kind", ["stacked", "blended"])


@each
@each_kind
def test_a_merge_loads_whole_and_generates(families: Path, family: str, kind: str) -> None:
    model = load(families / family / kind)
    assert model.config.num_hidden_layers == 6
    with torch.no_grad():
        generated = model.generate(TOKENS, max_new_tokens=5, do_sample=False)
    assert generated.shape == (1, TOKENS.shape[1] + 5)
    assert torch.isfinite(logits(model, TOKENS)).all()


@each
@each_kind
def test_cached_and_uncached_logits_agree(families: Path, family: str, kind: str) -> None:
    model = load(families / family / kind)
    assert torch.allclose(cached_logits(model, TOKENS), logits(model, TOKENS), rtol=1e-4, atol=1e-4)


@each
def test_a_stacked_merge_computes_what_its_layers_in_that_order_compute(families: Path, family: str) -> None:
    source = load(families / family / "source")
    config = source.config.to_dict() | {"num_hidden_layers": len(DEPTHS)}
    if config.get("layer_types"):
        config["layer_types"] = [config["layer_types"][i] for i in DEPTHS]
    expected = random_model(type(source.config)(**config))
    for i, depth in enumerate(DEPTHS):
        expected.model.layers[i].load_state_dict(source.model.layers[depth].state_dict())
    expected.model.embed_tokens.load_state_dict(source.model.embed_tokens.state_dict())
    expected.model.norm.load_state_dict(source.model.norm.state_dict())
    expected.lm_head.load_state_dict(source.lm_head.state_dict())
    assert close(logits(load(families / family / "stacked"), TOKENS), logits(expected, TOKENS))


@each
def test_a_copied_model_computes_the_same(families: Path, family: str) -> None:
    folder = families / family
    (folder / "copy.yml").write_text("stack: [{model: source, layers: 0-}]")
    lamina.merge(folder / "copy.yml", folder / "copy")
    assert close(logits(load(folder / "copy"), TOKENS), logits(load(folder / "source"), TOKENS))


def test_layer_types_travel_with_their_layers(families: Path) -> None:
    config = json.loads((families / "qwen3" / "stacked" / "config.json").read_text())
    assert config["layer_types"] == [WINDOWS[i] for i in DEPTHS]


def test_biases_and_the_tied_head_survive(families: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(families / "qwen2" / "stacked" / "model.safetensors")
    assert "lm_head.weight" not in tensors
    assert all(f"model.layers.{i}.self_attn.{p}_proj.bias" in tensors for i in range(6) for p in "qkv")


def test_query_and_key_norms_survive(families: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(families / "qwen3" / "stacked" / "model.safetensors")
    assert all(f"model.layers.{i}.self_attn.{p}_norm.weight" in tensors for i in range(6) for p in "qk")


def older_config(source: Path, folder: Path, **changes: Any) -> None:
    """A copy of a model whose config.json has no `layer_types`, as checkpoints of some years ago."""
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | changes
    del config["layer_types"]
    (folder / "config.json").write_text(json.dumps(config))


def test_a_window_that_is_switched_off_does_not_stand_in_the_way(families: Path, tmp_path: Path) -> None:
    # Most Qwen2 and Qwen3 models say `use_sliding_window: false`, and `max_window_layers: 28` all the same.
    older_config(
        families / "qwen2" / "source",
        tmp_path / "source",
        use_sliding_window=False,
        max_window_layers=3,
        sliding_window=4096,
    )
    (tmp_path / "recipe.yml").write_text(STACKED)
    lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    assert load(tmp_path / "out").config.layer_types == ["full_attention"] * 6


def test_layer_kinds_that_a_scalar_decides_travel_or_are_refused_with_the_reason(
    families: Path, tmp_path: Path
) -> None:
    older_config(families / "qwen3" / "source", tmp_path / "source", max_window_layers=2)
    (tmp_path / "recipe.yml").write_text(STACKED)
    refusal = ""
    try:
        lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    except LaminaError as error:
        refusal = str(error)
    if refusal:
        assert "max_window_layers" in refusal
        return
    kinds = ["full_attention", "full_attention", "sliding_attention", "sliding_attention"]
    assert load(tmp_path / "source").config.layer_types == kinds
    assert load(tmp_path / "out").config.layer_types == [kinds[i] for i in DEPTHS]


def test_two_tied_models_that_are_untied_load_whole_and_use_both_ends(tmp_path: Path) -> None:
    torch.manual_seed(1)
    random_model(qwen2()).save_pretrained(tmp_path / "first")
    torch.manual_seed(2)
    second = random_model(qwen2())
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.mul_(-0.7)
    second.save_pretrained(tmp_path / "second")
    (tmp_path / "recipe.yml").write_text("stack: [{model: first, layers: 0-1}, {model: second, layers: 2-3}]")
    lamina.merge(tmp_path / "recipe.yml", tmp_path / "out")
    merged = load(tmp_path / "out")
    assert torch.equal(merged.lm_head.weight, second.model.embed_tokens.weight)
    assert torch.equal(merged.model.embed_tokens.weight, load(tmp_path / "first").model.embed_tokens.weight)
