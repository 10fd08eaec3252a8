"""What to train of an up-scaled model, ready to be pasted: `training.json` and `training.md`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from textwrap import fill

from lamina.architectures.roles import Role, role_of
from lamina.models.plain import PlainModel
from lamina.planners.upscale import Upscaling
from lamina.wording import counted, spans

# What `training.json` holds, by key: the page of commands prints it.
TRAINING_FIELDS: Mapping[str, str] = {
    "depth": "number of output layers",
    "layers": "the output layers to train",
    "why": "in words",
    "parameters": "the names of their tensors, as the files have them",
}

_NO_LINEAR = (Role.NORM, Role.ROUTER, Role.OUTPUT_BIAS, Role.OTHER)


def training_files(model: PlainModel, upscaling: Upscaling) -> dict[str, bytes]:
    """Both files, by name."""
    architecture = model.architecture
    parameters = [
        architecture.layer_name(place, suffix)
        for place, layer in upscaling.train.items()
        for suffix in architecture.layers[layer]
    ]
    places = list(upscaling.train)
    data = {"depth": upscaling.depth, "layers": places, "why": upscaling.why, "parameters": parameters}
    stack = architecture.prefix.rpartition(".")[2]  # `layers`, `h`
    page = _PAGE.format(
        said="\n".join(f"- {line}" for line in upscaling.said),
        summary=fill(
            f"Train layer{'s' if len(places) > 1 else ''} {spans(places)} of {upscaling.depth}: {upscaling.why}. "
            f"`training.json` names their {counted(len(parameters), 'tensor')}.",
            120,
        ),
        depth=upscaling.depth,
        stack=stack,
        layers=places,
        either="|".join(map(str, places)),
        prefix=re.escape(architecture.prefix),
        linears=json.dumps(_linears(model, upscaling)),
        factory=_for_llama_factory(upscaling, stack, _linears(model, upscaling)),
    )
    return {"training.json": json.dumps(data, indent=2).encode() + b"\n", "training.md": page.encode()}


def _linears(model: PlainModel, upscaling: Upscaling) -> list[str]:
    """The modules of these layers that an adapter can be laid over: matrices, but norms, routers and single experts."""
    architecture, specs = model.architecture, model.checkpoint.specs
    found = {
        suffix.removesuffix(".weight"): None
        for layer in upscaling.train.values()
        for suffix in architecture.layers[layer]
        if suffix.endswith(".weight")
        and len(specs[architecture.layer_name(layer, suffix)].shape) == 2
        and not any(word.isdecimal() for word in suffix.split("."))
        and role_of(suffix) not in _NO_LINEAR
    }
    return list(found)


def _for_llama_factory(upscaling: Upscaling, stack: str, linears: Sequence[str]) -> str:
    """Its own words for these layers where it has any: it counts them from an end, or takes the last of each group."""
    places, depth = list(upscaling.train), upscaling.depth
    count = len(places)
    freeze = f"finetuning_type: freeze\nfreeze_trainable_modules: all\nfreeze_trainable_layers: {count}"
    if depth % count == 0 and places == list(range(depth // count - 1, depth, depth // count)):
        return f"{freeze}\nuse_llama_pro: true        # the last layer of each of {count} groups of {depth // count}"
    if places == list(range(depth - count, depth)):
        return f"{freeze}        # the last {count}"
    if places == list(range(count)):
        return freeze.replace(f"layers: {count}", f"layers: -{count}        # the first {count}")
    targets = ",".join(f"{stack}.{place}.{name}" for place in places for name in linears)
    return (
        "# `freeze_trainable_layers` counts from an end and cannot name these layers; LoRA can.\n"
        f"finetuning_type: lora\nlora_target: {targets}"
    )


_PAGE = """\
# What to train

{said}

{summary}

The names are those in the files; a library that loads experts into one tensor calls them otherwise, and the number of
the layer is the same everywhere. This is the least that has to be trained. SOLAR's authors went on training the whole
model.

## PyTorch

```python
import re

chosen = re.compile(r"(^|\\.){stack}\\.({either})\\.")
for name, parameter in model.named_parameters():
    parameter.requires_grad = chosen.search(name) is not None
```

## PEFT

Adapters on the matrices of these layers:

```python
from peft import LoraConfig

layers, matrices = {layers}, {linears}
config = LoraConfig(target_modules=[f"{stack}.{{i}}.{{name}}" for i in layers for name in matrices])
```

The layers as a whole, and adapters on all others:

```python
others = [i for i in range({depth}) if i not in layers]
config = LoraConfig(
    modules_to_save=[f"{stack}.{{i}}" for i in layers],
    target_modules=[f"{stack}.{{i}}.{{name}}" for i in others for name in matrices],
)
```

## Axolotl

```yaml
unfrozen_parameters:
  - ^{prefix}\\.({either})\\.
```

## LLaMA-Factory

```yaml
{factory}
```
"""
