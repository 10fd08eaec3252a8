"""Small files that are right: seeds, and the models beside a hostile one."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fuzz.guard import new_folder
from lamina.checkpoints.safetensors import format_header
from lamina.tensor_spec import BF16, TensorSpec

LAYERS, HIDDEN, INTERMEDIATE, VOCABULARY = 2, 4, 6, 8
TOKENS = {f"t{number}": number for number in range(VOCABULARY)}
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "vocab_size": VOCABULARY,
    "intermediate_size": INTERMEDIATE, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 2,
    "num_hidden_layers": LAYERS, "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "layer_types": ["full_attention"] * LAYERS, "eos_token_id": 2, "rope_scaling": None,
}  # fmt: skip
TOKENIZER_FILES: Mapping[str, object] = {
    "tokenizer.json": {
        "version": "1.0",
        "added_tokens": [{"id": 2, "content": "t2", "special": True}],
        "model": {"type": "BPE", "vocab": TOKENS, "merges": ["t 0", ["t", "1"]]},
    },
    "tokenizer_config.json": {
        "eos_token": "t2",
        "added_tokens_decoder": {"2": {"content": "t2"}},
        "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    },
    "vocab.json": TOKENS,
    "added_tokens.json": {"t7": 7},
    "special_tokens_map.json": {"eos_token": "t2"},
    "generation_config.json": {"eos_token_id": 2},
}
AVERAGE = (
    "models: [{model: a, parameters: {weight: 1}}, {model: x, parameters: {weight: [1, 2]}}]\nmerge_method: linear\n"
)


def specs() -> dict[str, TensorSpec]:
    """The tensors of a small Llama."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"):
            shapes[f"{prefix}{name}.weight"] = (HIDDEN, HIDDEN)
        for name in ("mlp.gate_proj", "mlp.up_proj"):
            shapes[f"{prefix}{name}.weight"] = (INTERMEDIATE, HIDDEN)
        shapes[f"{prefix}mlp.down_proj.weight"] = (HIDDEN, INTERMEDIATE)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}{name}.weight"] = (HIDDEN,)
    shapes |= {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}
    return {name: TensorSpec(shape, BF16) for name, shape in shapes.items()}


def safetensors(tensors: Mapping[str, TensorSpec]) -> bytes:
    """A file of zeros."""
    return format_header(tensors) + bytes(sum(spec.nbytes for spec in tensors.values()))


def torch_archive(pickle: bytes) -> bytes:
    """A file as torch.save writes it, of this pickle and storages of 0, 4, 8, ... 28 bytes."""
    before, directory = _storages()
    sizes = struct.pack("<II", len(pickle), len(pickle))
    local = b"PK\3\4" + bytes(14) + sizes + struct.pack("<HH", 10, 0) + b"m/data.pkl"
    place = struct.pack("<I", len(before))
    entry = b"PK\1\2" + bytes(16) + sizes + struct.pack("<H", 10) + bytes(12) + place + b"m/data.pkl"
    start = len(before) + len(local) + len(pickle)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 10, 10, len(directory) + len(entry), start, 0)
    return before + local + pickle + directory + entry + end


@cache
def _storages() -> tuple[bytes, bytes]:
    """The beginning of an archive, and its part of the directory."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/byteorder", b"little")
        for number in range(8):
            archive.writestr(f"m/data/{number}", bytes(4 * number))
    raw = file.getvalue()
    start = raw.index(b"PK\1\2")
    return raw[:start], raw[start : raw.rindex(b"PK\5\6")]


def torch_pickle(shape: tuple[int, int] = (2, 3), strides: tuple[int, int] = (3, 1), protocol: int = 2) -> bytes:
    """The pickle of a state dict with one matrix of the storage 6."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return b"X" + struct.pack("<I", len(raw)) + raw if protocol < 4 else b"\x8c" + bytes([len(raw)]) + raw

    def name(module: str, value: str) -> bytes:
        if protocol < 4:
            return b"c" + module.encode() + b"\n" + value.encode() + b"\n"
        return text(module) + text(value) + b"\x93"

    storage = b"(" + text("storage") + name("torch", "FloatStorage") + text("6") + text("cpu") + b"K\x06tQ"
    sizes = b"".join(b"K" + bytes([one]) + b"K" + bytes([other]) + b"\x86" for one, other in (shape, strides))
    hooks = name("collections", "OrderedDict") + b"q\x01)R"
    tensor = (
        name("torch._utils", "_rebuild_tensor_v2") + b"q\x00(" + storage + b"K\x00" + sizes + b"\x89" + hooks + b"tR"
    )
    items = b"(" + text("a") + tensor + b"u"
    attributes = b"}" + text("_metadata") + b"}s"
    return bytes([0x80, protocol]) + hooks + items + attributes + b"b."


def write_model(folder: Path) -> None:
    """A small Llama, right in all its files."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(safetensors(specs()))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (folder / name).write_text(json.dumps(TOKENIZER_FILES[name]))


@cache
def world() -> Path:
    """A folder of this process with the models a, b and x, where x is what hostile files are written into."""
    folder = new_folder()
    for name in "abx":
        write_model(folder / name)
    return folder
