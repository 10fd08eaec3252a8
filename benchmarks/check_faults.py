"""What is done to a real model for `benchmarks/check_study.py` to find: SmolLM2-135M, whose head is its embedding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tampering import (
    EMBEDDING,
    Fault,
    cut_to,
    in_layer,
    infinite_norm,
    late,
    nan_block,
    other_mlp,
    rolled,
    shuffled,
    stranger,
    swapped,
    three_times,
    zeroed,
)

from lamina.check.findings import Level

HEAD_DIM = 64


def planted(fault: Fault, source: Path, out: Path) -> Path:
    """A copy of a model's folder with the fault in it; tensors that stay as they are are linked."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("model.safetensors"))
    if fault.weights is None:
        (out / "model.safetensors").symlink_to((source / "model.safetensors").resolve())
    else:
        from safetensors.torch import load_file, save_file

        weights = load_file(source / "model.safetensors")
        fault.weights(weights)
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, out / "model.safetensors")
    config = json.loads((out / "config.json").read_text())
    fault.config(config)
    (out / "config.json").write_text(json.dumps(config))
    fault.folder(out)
    return out


def _generation(**values: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "generation_config.json").write_text(json.dumps(values))

    return write


FAULTS = (
    Fault("a block of NaN", nan_block(12), layer=12, key=in_layer(12, "mlp.up_proj"), level=Level.BROKEN),
    Fault("an infinite norm", infinite_norm, key="model.norm.weight", level=Level.BROKEN),
    Fault("a zeroed layer", zeroed(7), layer=7, level=Level.BROKEN),
    Fault("a zeroed matrix", lambda w: w[in_layer(2, "mlp.down_proj")].zero_(), layer=2,
          key=in_layer(2, "mlp.down_proj")),
    Fault("a dead head", lambda w: w[in_layer(17, "self_attn.q_proj")][64:128].zero_(), layer=17,
          key=in_layer(17, "self_attn.q_proj")),
    Fault("a norm of another size", lambda w: w[in_layer(22, "input_layernorm")].mul_(3), layer=22,
          key=in_layer(22, "input_layernorm")),
    Fault("two neighbours swapped", swapped(10, 11), layer=10),
    Fault("two far layers swapped", swapped(5, 20), layer=5),
    Fault("a layer twice where another belongs", late(16, 16), layer=16),
    Fault("ten layers off by one", late(20, 29), layer=20),
    Fault("attention and MLP of two layers", other_mlp(11, 4), layer=11),
    Fault("rolled query heads", rolled("q_proj", 14, HEAD_DIM), layer=14, key=in_layer(14, "self_attn.q_proj")),
    Fault("rolled key heads", rolled("k_proj", 3, HEAD_DIM), layer=3, key=in_layer(3, "self_attn.k_proj")),
    Fault("rolled rows of values", rolled("v_proj", 28, 5), layer=28, key=in_layer(28, "self_attn.v_proj")),
    Fault("a layer of another model", stranger(21), layer=21),
    Fault("weights that sum to 3", three_times, layer=0),
    Fault("an embedding of another tokenizer", shuffled(EMBEDDING), key=EMBEDDING),
    Fault("a truncated embedding", cut_to(40000, EMBEDDING), key=EMBEDDING, level=Level.BROKEN),
    Fault("fewer rows than tokens", cut_to(40000, EMBEDDING), lambda c: c.update(vocab_size=40000), key=EMBEDDING,
          level=Level.BROKEN),
    Fault("another theta", config=lambda c: c["rope_parameters"].update(rope_theta=5e5), key="rope_theta"),
    Fault("another eps", config=lambda c: c.update(rms_norm_eps=1e-6), key="norm eps"),
    Fault("another activation", config=lambda c: c.update(hidden_act="gelu"), key="activation"),
    Fault("more heads in config.json", config=lambda c: c.update(num_attention_heads=12), layer=0,
          key=in_layer(0, "self_attn.q_proj"), level=Level.BROKEN),
    Fault("no eos", config=lambda c: c.pop("eos_token_id"), folder=_generation(bos_token_id=1), key="eos_token_id"),
    Fault("an eos of another model", folder=_generation(eos_token_id=128009), key="eos_token_id"),
    Fault("a template whose end of turn is no eos", folder=_generation(eos_token_id=0), key="chat_template"),
    Fault("a lost tensor", lambda w: w.pop(in_layer(25, "mlp.up_proj")), layer=25, key=in_layer(25, "mlp.up_proj"),
          level=Level.BROKEN),
    Fault("a tensor of another shape", cut_to(1200, in_layer(9, "mlp.gate_proj")), layer=9,
          key=in_layer(9, "mlp.gate_proj"), level=Level.BROKEN),
    Fault("a lost head", config=lambda c: c.update(tie_word_embeddings=False), key="lm_head.weight",
          level=Level.BROKEN),
)  # fmt: skip
