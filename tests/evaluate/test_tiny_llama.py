"""The numpy forward pass computes what transformers computes, and refuses what it does not know."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamina.checkpoints.checkpoint import open_checkpoint
from lamina.evaluate.tiny_llama import (
    TinyLlama,
    build_tiny_llama,
    load_tiny_llama,
    read_fp32,
    shape_of,
    tensor_shapes,
)

MODELS = Path(__file__).parents[2] / "examples" / "models"

# One layer of hidden size 4 with one head: small enough to change one thing at a time.
SMALL_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 5,
    "hidden_size": 4,
    "intermediate_size": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
}
TOKENS = np.array([[0, 1, 2, 3, 4], [4, 4, 0, 0, 3]])


def random_weights(config: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = tensor_shapes(shape_of(config))
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def small_llama(**changes: Any) -> TinyLlama:
    config = {**SMALL_CONFIG, **changes}
    return build_tiny_llama(config, random_weights(config))


@pytest.mark.parametrize("name", ["base", "rev", "sort", "max", "kjv"])
def test_logits_of_a_bundled_model_are_those_of_transformers(name: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.LlamaForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32)
    tokens = np.random.default_rng(1).integers(0, 768, size=(3, 50))

    with torch.no_grad():
        expected = reference(torch.from_numpy(tokens)).logits.numpy()

    np.testing.assert_allclose(load_tiny_llama(MODELS / name).logits(tokens), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": True},
        {"head_dim": 6},  # not hidden_size / heads
        {"num_attention_heads": 4, "num_key_value_heads": 1},
        {"rope_theta": 500.0},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        {"rms_norm_eps": 0.1},
        {"num_hidden_layers": 3},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_every_setting_means_what_it_means_to_transformers(changes: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = {**SMALL_CONFIG, "hidden_size": 8, "num_attention_heads": 2, **changes}
    weights = random_weights(config)
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig.from_dict(config)).eval()
    for name, parameter in reference.named_parameters():  # a tied head is listed once, as the embedding
        parameter.data = torch.from_numpy(weights[name])

    with torch.no_grad():
        expected = reference(torch.from_numpy(TOKENS)).logits.numpy()

    np.testing.assert_allclose(build_tiny_llama(config, weights).logits(TOKENS), expected, rtol=0, atol=1e-4)


def test_what_stands_right_of_a_position_does_not_change_its_logits() -> None:
    model = small_llama()
    padded = model.logits(np.array([[1, 2, 0, 0]]))
    other = model.logits(np.array([[1, 2, 3, 4]]))
    np.testing.assert_array_equal(padded[:, :2], other[:, :2])


def test_a_row_has_the_same_logits_alone_and_in_a_batch() -> None:
    model = small_llama()
    np.testing.assert_allclose(model.logits(TOKENS)[1], model.logits(TOKENS[1:])[0], rtol=0, atol=1e-6)


def test_a_layer_that_writes_zeros_changes_nothing() -> None:
    config = {**SMALL_CONFIG, "num_hidden_layers": 2}
    weights = random_weights(config)
    for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
        weights[f"model.layers.1.{name}"] = np.zeros_like(weights[f"model.layers.1.{name}"])

    one_layer = {name: tensor for name, tensor in weights.items() if "layers.1." not in name}

    np.testing.assert_array_equal(
        build_tiny_llama(config, weights).logits(TOKENS),
        build_tiny_llama(SMALL_CONFIG, one_layer).logits(TOKENS),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "qwen2"}, "knows `model_type: llama`, not `qwen2`"),
        ({"attention_bias": True}, "knows no `attention_bias: true`, only `false`"),
        ({"mlp_bias": True}, "knows no `mlp_bias: true`"),
        ({"hidden_act": "gelu"}, 'knows no `hidden_act: "gelu"`, only `"silu"`'),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8}}, "knows .* `rope_type: default`"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "knows .* `rope_type: default`"),
        ({"quantization_config": {"bits": 4}}, "knows no `quantization_config"),
    ],
)
def test_a_config_with_an_unknown_feature_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shape_of({**SMALL_CONFIG, **changes})


def test_a_config_without_a_needed_entry_is_refused() -> None:
    without = {name: value for name, value in SMALL_CONFIG.items() if name != "vocab_size"}
    with pytest.raises(ValueError, match=r"config.json has no 'vocab_size'"):
        shape_of(without)


def test_a_missing_tensor_is_named() -> None:
    weights = random_weights(SMALL_CONFIG)
    del weights["lm_head.weight"]
    with pytest.raises(ValueError, match=r"lm_head.weight is missing \(1 of 12 are\)"):
        build_tiny_llama(SMALL_CONFIG, weights)


def test_a_tensor_without_a_place_is_named() -> None:
    bias = {"model.layers.0.self_attn.q_proj.bias": np.zeros(4, dtype=np.float32)}
    with pytest.raises(ValueError, match=r"no place for model.layers.0.self_attn.q_proj.bias"):
        build_tiny_llama(SMALL_CONFIG, random_weights(SMALL_CONFIG) | bias)


def test_a_tensor_of_another_shape_is_named_with_both_shapes() -> None:
    wrong = {"model.norm.weight": np.zeros(3, dtype=np.float32)}
    with pytest.raises(ValueError, match=r"model.norm.weight has shape \(3,\); config.json asks for \(4,\)"):
        build_tiny_llama(SMALL_CONFIG, random_weights(SMALL_CONFIG) | wrong)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("BF16", b"\xc0\x3f"),
        ("F16", b"\x00\x3e"),
        ("F32", b"\x00\x00\xc0\x3f"),
        ("F64", b"\x00\x00\x00\x00\x00\x00\xf8\x3f"),
    ],
)
def test_one_and_a_half_is_read_from_every_float_dtype(dtype: str, stored: bytes, tmp_path: Path) -> None:
    write_one_tensor(tmp_path, dtype, stored)
    with closing(open_checkpoint(tmp_path)) as checkpoint:
        assert read_fp32(checkpoint, "x").tolist() == [1.5]


def test_an_integer_tensor_is_refused(tmp_path: Path) -> None:
    write_one_tensor(tmp_path, "I32", b"\0\0\0\0")
    with pytest.raises(ValueError, match=r"x is stored as I32; this forward pass reads floating-point tensors"):
        load_tiny_llama(tmp_path)


def write_one_tensor(folder: Path, dtype: str, data: bytes) -> None:
    header = json.dumps({"x": {"dtype": dtype, "shape": [1], "data_offsets": [0, len(data)]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    (folder / "config.json").write_text(json.dumps(SMALL_CONFIG))
