"""Models to put on the server: small ones with values, and ones of any size that are all header."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from lamina.checkpoints.safetensors import format_header
from lamina.tensor_spec import BF16, TensorSpec

from .server import Content

LAYER = {
    "input_layernorm": (0,), "self_attn.q_proj": (0, 0), "self_attn.k_proj": (0, 0), "self_attn.v_proj": (0, 0),
    "self_attn.o_proj": (0, 0), "post_attention_layernorm": (0,), "mlp.gate_proj": (1, 0), "mlp.up_proj": (1, 0),
    "mlp.down_proj": (0, 1),
}  # fmt: skip


VOCABULARY = {f"token {number}": number for number in range(32)}


def specs(layers: int, hidden: int = 8, intermediate: int = 16, vocabulary: int = 32) -> dict[str, TensorSpec]:
    """A Llama's tensors. Shapes above are written with 0 for hidden and 1 for intermediate."""
    found = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for index in range(layers):
        for name, shape in LAYER.items():
            found[f"model.layers.{index}.{name}.weight"] = tuple((hidden, intermediate)[each] for each in shape)
    found |= {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}
    return {name: TensorSpec(shape, BF16) for name, shape in found.items()}


def config(layers: int, hidden: int = 8, intermediate: int = 16, vocabulary: int = 32) -> bytes:
    return json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "vocab_size": vocabulary,
        "intermediate_size": intermediate, "num_attention_heads": 2, "num_key_value_heads": 2,
        "num_hidden_layers": layers, "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }).encode()  # fmt: skip


def write_model(folder: Path, layers: int = 4, shards: int = 1) -> Path:
    """A small model, whose folder's name seeds its values. Shard k of n holds layers k, k+n, ...; 1 the ends."""
    folder.mkdir(parents=True)
    found = specs(layers)
    shard_of = {name: int(name.split(".")[2]) % shards if ".layers." in name else 0 for name in found}
    for number in range(shards):
        mine = {name: spec for name, spec in found.items() if shard_of[name] == number}
        values = b"".join(_values(folder.name + name, spec.count) for name, spec in mine.items())
        (folder / _shard_name(number, shards)).write_bytes(format_header(mine) + values)
    if shards > 1:
        (folder / "model.safetensors.index.json").write_bytes(
            _index({name: _shard_name(number, shards) for name, number in shard_of.items()})
        )
    (folder / "config.json").write_bytes(config(layers))
    (folder / "tokenizer.json").write_text(json.dumps({"of": folder.name, "model": {"vocab": VOCABULARY}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"config of": folder.name}))
    return folder


def as_pickles(folder: Path) -> Path:
    """The same model as `torch.save` writes it, with every matrix kept as the transpose of another."""
    shards = sorted(folder.glob("*.safetensors"))
    for shard in shards:
        tensors = {name: _transposed(tensor) for name, tensor in load_file(shard).items()}
        torch.save(tensors, folder / _pickle_name(shard.name))
        shard.unlink()
    index = folder / "model.safetensors.index.json"
    if index.exists():
        homes = json.loads(index.read_bytes())["weight_map"]
        names = {name: _pickle_name(home) for name, home in homes.items()}
        (folder / "pytorch_model.bin.index.json").write_bytes(_index(names))
        index.unlink()
    return folder


def _pickle_name(name: str) -> str:
    return f"pytorch_{name}".replace(".safetensors", ".bin")


def _transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.t().contiguous().t()


def large_model(layers: int, shards: int, hidden: int, tokenizer: int) -> dict[str, Content]:
    """A model as large as one likes: headers, and zeros that nobody should ask for."""
    shape = {"hidden": hidden, "intermediate": 4 * hidden, "vocabulary": 128_000}
    found = specs(layers, **shape)
    names = list(found)
    files = {}
    for number in range(shards):
        mine = {name: found[name] for name in names[number::shards]}
        header = format_header(mine)
        size = len(header) + sum(spec.nbytes for spec in mine.values())
        files[_shard_name(number, shards)] = Content(header, size, large=True)
    index = _index({name: _shard_name(position % shards, shards) for position, name in enumerate(names)})
    files["model.safetensors.index.json"] = Content(index, len(index), large=False)
    raw = config(layers, **shape)
    files["config.json"] = Content(raw, len(raw), large=False)
    noise = np.random.default_rng(0).integers(0, 256, tokenizer, np.uint8).tobytes()
    files["tokenizer.json"] = Content(noise, tokenizer, large=True)
    return files


def _shard_name(number: int, shards: int) -> str:
    return "model.safetensors" if shards == 1 else f"model-{number + 1:05}-of-{shards:05}.safetensors"


def _index(weight_map: Mapping[str, str]) -> bytes:
    return json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}).encode()


def _values(seed: str, count: int) -> bytes:
    """Finite bf16 values around 1, decided by the seed."""
    generator = np.random.default_rng(zlib.crc32(seed.encode()))
    return (generator.normal(1, 0.3, count).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
