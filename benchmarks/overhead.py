"""What a tensor costs beside its bytes: a merge of two models of 20,000 tensors of 64 elements, journal and all.

    python benchmarks/overhead.py

Prints one line of JSON: milliseconds a tensor, of wall time and of CPU, for the run from its first to its last
tensor, and for the whole of `lamina.merge` with planning and publishing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import lamina
from lamina.checkpoints.safetensors import format_header
from lamina.tensor_spec import F32, TensorSpec

LAYERS, A_LAYER, ELEMENTS = 2222, 9, 64


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        count = write_model(folder / "a")
        write_model(folder / "b")
        recipe = {
            "models": [{"model": str(folder / x), "parameters": {"weight": 0.5}} for x in "ab"],
            "merge_method": "linear",
        }
        clocks = {"began": now()}

        def resuming(_kept: int, _discarded: int) -> None:
            clocks["run"] = now()

        def progress(_name: str, _nbytes: int) -> None:
            clocks["ran"] = now()

        lamina.merge(recipe, folder / "out", resuming=resuming, progress=progress)
        clocks["ended"] = now()
    spans = {"run": ("run", "ran"), "whole": ("began", "ended")}
    cost = {
        f"{what}_{clock}_ms": round(1000 * (clocks[last][number] - clocks[first][number]) / count, 3)
        for what, (first, last) in spans.items()
        for number, clock in enumerate(("wall", "cpu"))
    }
    print(json.dumps({"tensors": count, **cost}))


def now() -> tuple[float, float]:
    """Seconds by the clock, and of this process's CPU."""
    return time.perf_counter(), time.process_time()


def write_model(folder: Path) -> int:
    """A model of many tensors of zeros; how many it has."""
    names = [f"model.layers.{layer}.mlp.part_{part}.weight" for layer in range(LAYERS) for part in range(A_LAYER)]
    specs = dict.fromkeys(["model.embed_tokens.weight", *names, "model.norm.weight", "lm_head.weight"])
    tensors = {name: TensorSpec((ELEMENTS // 8, 8), F32) for name in specs}
    folder.mkdir()
    header = format_header(tensors)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(spec.nbytes for spec in tensors.values()))
    config = {"model_type": "llama", "num_hidden_layers": LAYERS, "vocab_size": ELEMENTS // 8}
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return len(tensors)


if __name__ == "__main__":
    main()
