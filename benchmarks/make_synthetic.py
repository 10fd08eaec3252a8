"""Write big Llama checkpoints of random numbers: a base, and fine-tunes that lie close to it.

They have the shapes, files and sizes of real models, and mean nothing. A fine-tune is the base plus a small
normal delta on every element, rounded to bfloat16: what merges meet in practice.

    python benchmarks/make_synthetic.py --preset 1b --out models           # models/base, models/A, models/B

The bytes follow from the preset, the seed and the place of a model in the list, for one version of numpy:
every block of every tensor draws from its own stream, so the number of threads is not seen in them.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamina.checkpoints.journal import Finished
from lamina.checkpoints.layout import lay_out
from lamina.checkpoints.writer import CheckpointWriter
from lamina.errors import OutputError
from lamina.evaluate.tiny_llama import LlamaShape, layer_shapes
from lamina.tensor_spec import BF16, TensorSpec, block_rows

SHARD_SIZE = 1_000_000_000  # of the 1b preset in three files, as real models come
MATRIX_DEVIATION = 0.02  # Llama's initializer_range
NORM_DEVIATION = 0.01  # around one
DELTA = 0.05  # a fine-tune's deviation from the base, relative to the base's own
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")

Floats = NDArray[np.float32]


def preset(layers: int, hidden: int, mlp: int, heads: int, kv_heads: int, vocabulary: int) -> LlamaShape:
    """What real models of the size vary; the rest is the same for all of them."""
    return LlamaShape(
        vocabulary=vocabulary, hidden=hidden, mlp=mlp, layers=layers, heads=heads, kv_heads=kv_heads,
        head_dim=hidden // heads, norm_epsilon=1e-5, rope_theta=10000.0, tied=False,
    )  # fmt: skip


PRESETS = {
    "tiny": preset(layers=4, hidden=64, mlp=176, heads=4, kv_heads=2, vocabulary=512),  # 0.5 MB
    "160m": preset(layers=12, hidden=768, mlp=2048, heads=12, kv_heads=12, vocabulary=32000),  # 0.27 GB
    "1b": preset(layers=22, hidden=2048, mlp=5632, heads=32, kv_heads=4, vocabulary=32000),  # 2.2 GB: TinyLlama
    "7b": preset(layers=32, hidden=4096, mlp=11008, heads=32, kv_heads=32, vocabulary=32000),  # 13.5 GB: Llama 2
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write synthetic Llama checkpoints for benchmarks.")
    parser.add_argument("--out", type=Path, required=True, help="the folder that gets one folder a model")
    parser.add_argument("--preset", choices=PRESETS, default="1b", help="default: 1b, 2.2 GB a model")
    parser.add_argument("--models", nargs="+", default=["base", "A", "B"], help="names; the first is the base")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()

    folders = [arguments.out / name for name in arguments.models]
    make_models(PRESETS[arguments.preset], folders, seed=arguments.seed, threads=arguments.threads)
    size = sum(spec.nbytes for spec in tensor_specs(PRESETS[arguments.preset]).values())
    print(f"{len(folders)} models of {size / 1e6:,.1f} MB under {arguments.out}")


def make_models(shape: LlamaShape, folders: Sequence[Path], *, seed: int, threads: int) -> None:
    """Write one model a folder, the first of them the base; each appears whole at the end, or not at all.

    Holds a few blocks of about a million elements per thread, whatever the size of the models. Raises
    OutputError where a folder exists already, and WriteFailed where the disk has too little room.
    """
    specs = tensor_specs(shape)
    layout = lay_out(specs, SHARD_SIZE)
    for folder in folders:
        if folder.exists():
            raise OutputError(f"{folder} exists; remove it, or name another folder.")
    blocks = [
        (number, name, start, end)
        for number, (name, spec) in enumerate(specs.items())
        for start, end in block_rows(spec.shape)
    ]
    with ExitStack() as stack:
        writers = [stack.enter_context(CheckpointWriter(layout, folder)) for folder in folders]

        def put_block(number: int, name: str, start: int, end: int) -> None:
            def draw(model: int) -> Floats:
                stream = np.random.SFC64([seed, model, number, start])
                return np.random.Generator(stream).standard_normal(end - start, dtype=np.float32)

            is_norm = len(specs[name].shape) == 1
            deviation = np.float32(NORM_DEVIATION if is_norm else MATRIX_DEVIATION)
            base = draw(0) * deviation + np.float32(is_norm)
            for model, writer in enumerate(writers):
                values = base + draw(model) * (deviation * np.float32(DELTA)) if model else base
                writer.put(name, 2 * start, bfloat16(values).view(np.uint8).data)

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(put_block, *zip(*blocks, strict=True)):
                pass  # asking for the result is what raises a block's error
        for writer in writers:
            for name in specs:
                writer.finish(Finished(name, digest=""))
            writer.publish(side_files(shape))


def tensor_specs(shape: LlamaShape) -> dict[str, TensorSpec]:
    """Every tensor of a Llama, in the order in which transformers writes them."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, shape.hidden)}
    for layer in range(shape.layers):
        shapes |= {f"model.layers.{layer}.{name}": own for name, own in layer_shapes(shape).items()}
    shapes |= {"model.norm.weight": (shape.hidden,)}
    if not shape.tied:
        shapes |= {"lm_head.weight": (shape.vocabulary, shape.hidden)}
    return {name: TensorSpec(own, BF16) for name, own in shapes.items()}


def bfloat16(values: Floats) -> NDArray[np.uint16]:
    """The upper half of each fp32, rounded to nearest even. For finite values."""
    bits = values.view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def side_files(shape: LlamaShape) -> Mapping[str, bytes]:
    """What transformers and MergeKit want to find beside the tensors."""
    unknown, begin, end = SPECIAL_TOKENS
    names = {"unk_token": unknown, "bos_token": begin, "eos_token": end}
    contents = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": shape.hidden,
            "intermediate_size": shape.mlp,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "vocab_size": shape.vocabulary,
            "max_position_embeddings": 2048,
            "rms_norm_eps": shape.norm_epsilon,
            "rope_theta": shape.rope_theta,
            "initializer_range": MATRIX_DEVIATION,
            "tie_word_embeddings": shape.tied,
            "attention_bias": False,
            "bos_token_id": SPECIAL_TOKENS.index(begin),
            "eos_token_id": SPECIAL_TOKENS.index(end),
            "torch_dtype": str(BF16),
        },
        "tokenizer.json": byte_tokenizer(),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 2048, **names},
        "special_tokens_map.json": names,
    }
    return {name: json.dumps(content, indent=2).encode() + b"\n" for name, content in contents.items()}


def byte_tokenizer() -> Mapping[str, object]:
    """tokenizer.json of a byte-level BPE without merges: 256 bytes and the special tokens."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [
        {"id": number, "content": token, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for number, token in enumerate(SPECIAL_TOKENS)
    ]
    vocabulary = {token: number for number, token in enumerate((*SPECIAL_TOKENS, *byte_letters()))}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "unk_token": SPECIAL_TOKENS[0], "vocab": vocabulary, "merges": []},
    }


def byte_letters() -> list[str]:
    """GPT-2's visible letter for each byte: itself where it can be seen, else one from U+0100 on."""
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte if byte in visible else 256 + hidden.index(byte)) for byte in range(256)]


if __name__ == "__main__":
    main()
