"""Tiny checkpoints to merge, and the reading back of what came out.

Every tensor of every checkpoint differs from every other, so a layer taken from the wrong place cannot pass unseen.
Knows nothing of Lamina: files are written and read with the `safetensors` package and torch.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, VOCABULARY = 8, 12, 2, 1, 24
DTYPE_NAMES = {
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float32: "float32",
    torch.float64: "float64",
}
SIDE_FILES = {  # carried by a merge, byte for byte
    "tokenizer.json": '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}\n',
    "tokenizer_config.json": '{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}',
    "special_tokens_map.json": '{"bos_token": "<s>"}\n',
    "generation_config.json": '{"bos_token_id": 1, "eos_token_id": 2, "transformers_version": "5.0.0"}\n',
    "chat_template.jinja": "{% for m in messages %}{{ m.content }}{% endfor %}",
}


@dataclass(frozen=True)
class Checkpoint:
    """A folder on disk, with what the test knows to be in it."""

    folder: Path
    tensors: Mapping[str, torch.Tensor]
    config: Mapping[str, Any]

    @property
    def depth(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def embed(self) -> torch.Tensor:
        return self.tensors["model.embed_tokens.weight"]

    @property
    def norm(self) -> torch.Tensor:
        return self.tensors["model.norm.weight"]

    @property
    def head(self) -> torch.Tensor:
        """The head as the model computes with it: of a tied model, its embeddings."""
        return self.tensors.get("lm_head.weight", self.embed)

    def layer(self, index: int) -> dict[str, torch.Tensor]:
        prefix = f"model.layers.{index}."
        found = {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}
        assert found, f"no tensor of layer {index}"
        return found


def llama_shapes(
    layers: int, *, tied: bool, vocabulary: int = VOCABULARY, hidden: int = HIDDEN
) -> Iterator[tuple[str, tuple[int, ...]]]:
    head_size = hidden // HEADS
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for i in range(layers):
        prefix = f"model.layers.{i}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "self_attn.q_proj.weight", (hidden, hidden)
        yield prefix + "self_attn.k_proj.weight", (KV_HEADS * head_size, hidden)
        yield prefix + "self_attn.v_proj.weight", (KV_HEADS * head_size, hidden)
        yield prefix + "self_attn.o_proj.weight", (hidden, hidden)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        yield prefix + "mlp.gate_proj.weight", (INTERMEDIATE, hidden)
        yield prefix + "mlp.up_proj.weight", (INTERMEDIATE, hidden)
        yield prefix + "mlp.down_proj.weight", (hidden, INTERMEDIATE)
    yield "model.norm.weight", (hidden,)
    if not tied:
        yield "lm_head.weight", (vocabulary, hidden)


def random_tensor(seed: str, name: str, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Normal values over nine binades, decided by (seed, name) alone."""
    generator = np.random.default_rng(zlib.crc32(f"{seed}/{name}".encode()))
    values = generator.standard_normal(tuple(shape)) * np.exp2(generator.integers(-6, 3, tuple(shape)))
    return torch.from_numpy(np.asarray(values)).to(dtype)


def llama_config(layers: int, dtype: torch.dtype, *, tied: bool, vocabulary: int = VOCABULARY) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 1,
        "dtype": DTYPE_NAMES[dtype],
        "eos_token_id": 2,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": 64,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": tied,
        "vocab_size": vocabulary,
    }


def write_llama(
    folder: Path,
    layers: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    tied: bool = False,
    shards: int = 1,
    vocabulary: int = VOCABULARY,
    extra: Mapping[str, torch.Tensor] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """A Llama-like checkpoint in `folder`, whose name seeds its values; `extra` tensors and `config` keys are added."""
    tensors = {
        name: random_tensor(folder.name, name, shape, dtype)
        for name, shape in llama_shapes(layers, tied=tied, vocabulary=vocabulary)
    }
    return write_checkpoint(
        folder,
        tensors | dict(extra or {}),
        llama_config(layers, dtype, tied=tied, vocabulary=vocabulary) | dict(config or {}),
        shards=shards,
    )


def write_checkpoint(
    folder: Path, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], *, shards: int = 1
) -> Checkpoint:
    folder.mkdir(parents=True)
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    else:
        save_sharded(folder, tensors, shards)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for name, text in SIDE_FILES.items():
        # Each donor's files are its own, so that the wrong donor is seen.
        (folder / name).write_text(text.replace("<s>", f"<s {folder.name}>") + "\n")
    return Checkpoint(folder, tensors, config)


def save_sharded(folder: Path, tensors: Mapping[str, torch.Tensor], shards: int) -> None:
    """Deals the tensors round robin, so that every layer is spread over several files."""
    names = list(tensors)
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    for i, file in enumerate(files):
        save_file({name: tensors[name] for name in names[i::shards]}, folder / file, metadata={"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: files[i % shards] for i, name in enumerate(names)},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Reads a folder as its consumers do: by the index where there is one, else the single file."""
    index_file = folder / "model.safetensors.index.json"
    config = json.loads((folder / "config.json").read_text())
    if not index_file.exists():
        assert sorted(p.name for p in folder.glob("*.safetensors")) == ["model.safetensors"]
        return Checkpoint(folder, read_safetensors(folder / "model.safetensors"), config)

    index = json.loads(index_file.read_text())
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(set(index["weight_map"].values())):
        found = read_safetensors(folder / file)
        assert set(found) == {name for name, home in index["weight_map"].items() if home == file}
        tensors |= found
    assert sorted(p.name for p in folder.glob("*.safetensors")) == sorted(set(index["weight_map"].values()))
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in tensors.values())
    return Checkpoint(folder, tensors, config)


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        assert (file.metadata() or {}).get("format") == "pt"
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def bits(tensor: torch.Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    """What two tensors must share to be the same bytes."""
    flat = tensor.contiguous().reshape(-1)
    return tensor.dtype, tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes()


def same_bits(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return bits(actual) == bits(expected)


def same_layer(actual: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    return set(actual) == set(expected) and all(same_bits(actual[name], expected[name]) for name in expected)


def all_bits(checkpoint: Checkpoint) -> dict[str, tuple[torch.dtype, tuple[int, ...], bytes]]:
    return {name: bits(tensor) for name, tensor in checkpoint.tensors.items()}


def depth_map(merged: Checkpoint, sources: Sequence[Checkpoint]) -> list[str]:
    """For every layer of `merged`, the "folder:layer" whose bits it is, or "?" where it is nobody's copy."""
    homes = {
        bits(source.layer(i)["self_attn.q_proj.weight"]): f"{source.folder.name}:{i}"
        for source in sources
        for i in range(source.depth)
    }
    found = []
    for i in range(merged.depth):
        home = homes.get(bits(merged.layer(i)["self_attn.q_proj.weight"]), "?")
        if home != "?":
            name, index = home.split(":")
            source = next(s for s in sources if s.folder.name == name)
            home = home if same_layer(merged.layer(i), source.layer(int(index))) else "?"
        found.append(home)
    return found
