"""A plan as a live transformers model. The one module of Lamina that imports torch and transformers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from lamina.errors import CheckpointError, DeviceError, MissingExtra, nearest
from lamina.execute.tensors import Tensors
from lamina.plans.plan import Plan
from lamina.tensor_spec import TensorSpec


def live_model(tensors: Tensors, device: str, dtype: str = "auto") -> Any:
    """The model that `from_pretrained` would load from the published folder; nothing is written.

    `dtype` is what it computes in, `float32` or the like; "auto" is as its tensors are stored.
    Raises MissingExtra without torch and transformers, and CheckpointError where transformers has no class
    for the model.
    """
    torch, transformers = frameworks()
    config = _json(tensors.plan, "config.json")
    family = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    name = next(iter(config.get("architectures") or ()), "")
    if config.get("model_type") not in family or not hasattr(transformers, name):
        raise CheckpointError(
            f"transformers {transformers.__version__} has no model `{name or config.get('model_type')}` of its own. "
            "Merge into a folder, and load that as its model card says."
        )
    settings = family[config["model_type"]].from_dict(config)
    weights = {name: _tensor(torch, tensors.stored(name), tensors.spec(name)) for name in tensors}
    model = getattr(transformers, name).from_pretrained(None, config=settings, state_dict=weights, dtype=dtype)
    model.config.name_or_path = tensors.plan.title
    if generation := _json(tensors.plan, "generation_config.json"):
        model.generation_config = transformers.GenerationConfig.from_dict(generation)
    return model.to(device).eval()


def live_tokenizer(plan: Plan) -> Any:
    """The tokenizer of transformers that the published folder would have.

    Raises MissingExtra without transformers, and CheckpointError where it can read none.
    """
    _, transformers = frameworks()
    with tempfile.TemporaryDirectory(prefix="lamina-") as folder:
        for file in plan.files:
            if not file.about_the_merge:
                (Path(folder) / file.name).write_bytes(file.content)
        try:
            return transformers.AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{plan.title}: the merge has no tokenizer that transformers reads.") from error


def device_here(name: str) -> str:
    """The name of a device that models can be run on here. To be asked before any other work.

    Raises DeviceError, which tells those that there are, and MissingExtra without the extra `hf`; the CPU is always
    there, and torch is not imported for it.
    """
    if name == "cpu":
        return name
    torch, _ = frameworks()
    here = _devices(torch)
    if name in here:
        return name
    near = nearest(name, here)
    raise DeviceError(
        f"--device {name}: torch {torch.__version__} finds no such device here. "
        + (f"Did you mean `{near}`? " if near else "")
        + f"This machine has {', '.join(f'`{each}`' for each in here)}."
        + (" Leave --device out to run on the CPU." if len(here) == 1 else "")
    )


def _devices(torch: Any) -> list[str]:
    """What torch can compute on in this process, as it calls them: `cpu`, `cuda`, `cuda:0`."""
    found = ["cpu"]
    for kind in ("cuda", "xpu"):
        backend = getattr(torch, kind)
        if backend.is_available():
            found += [kind, *(f"{kind}:{number}" for number in range(backend.device_count()))]
    return [*found, *(["mps"] if torch.backends.mps.is_available() else [])]


def frameworks() -> tuple[Any, Any]:
    """torch and transformers. Raises MissingExtra where one is not installed."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra("hf", str(error.name or "transformers").partition(".")[0]) from error
    return torch, transformers


def _json(plan: Plan, name: str) -> dict[str, Any]:
    """A side file's mapping; empty where the plan has no such file."""
    content = next((file.content for file in plan.files if file.name == name), b"{}")
    return dict(json.loads(content))


def _tensor(torch: Any, content: bytearray, spec: TensorSpec) -> Any:
    """A torch tensor on the bytes themselves."""
    dtypes = {
        "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
        "U64": "uint64", "I64": "int64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64",
    }  # fmt: skip
    dtype = getattr(torch, spec.dtype.torch_name or dtypes[spec.dtype.name])
    if not content:
        return torch.empty(spec.shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype).reshape(spec.shape)
