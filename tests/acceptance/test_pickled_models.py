"""Models that are pickles: merged to the bytes that the same models give as safetensors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import lamina

from .checkpoints import Checkpoint, all_bits, read_checkpoint, write_llama

RECIPES = {
    "stack": "stack: [{model: a, layers: 0-2}, {model: b, layers: 0-2, at: 1}]\noverlap: ramp\n",
    "linear": "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 2}}]\n"
    "merge_method: linear\n",
    "ties": "models: [{model: a}, {model: b, parameters: {density: 0.5, weight: 1}}]\nbase_model: a\n"
    "merge_method: ties\n",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models as safetensors, and in `pickled` as torch writes them: one file with views, and shards."""
    folder = tmp_path_factory.mktemp("models")
    one, two = write_llama(folder / "safe" / "a", 3), write_llama(folder / "safe" / "b", 3, tied=True)
    for model in (one, two):
        shutil.copytree(model.folder, folder / "pickled" / model.folder.name)
        (folder / "pickled" / model.folder.name / "model.safetensors").unlink()
    turned = {name: tensor.t().contiguous().t() for name, tensor in one.tensors.items()}
    torch.save({"state_dict": turned, "epoch": 3}, folder / "pickled" / "a" / "pytorch_model.bin")
    save_shards(folder / "pickled" / "b", two)
    return folder


def save_shards(folder: Path, model: Checkpoint) -> None:
    """As transformers once saved a tied model: its head beside its embeddings, of one storage."""
    tensors = {**model.tensors, "lm_head.weight": model.embed}
    homes = {name: "1" if name in ("lm_head.weight", "model.embed_tokens.weight") else "2" for name in tensors}
    for home in "12":
        mine = {name: tensor for name, tensor in tensors.items() if homes[name] == home}
        torch.save(mine, folder / f"pytorch_model-{home}.bin")
    weight_map = {name: f"pytorch_model-{home}.bin" for name, home in homes.items()}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_merge_of_pickles_has_the_bytes_of_the_same_merge_of_safetensors(
    recipe: str, models: Path, tmp_path: Path
) -> None:
    for kind in ("safe", "pickled"):
        (models / kind / "recipe.yml").write_text(RECIPES[recipe])
        lamina.merge(models / kind / "recipe.yml", tmp_path / kind)
    merged, expected = read_checkpoint(tmp_path / "pickled"), read_checkpoint(tmp_path / "safe")
    assert all_bits(merged) == all_bits(expected)
    assert merged.config == expected.config
    assert sorted(path.name for path in merged.folder.iterdir()) == sorted(
        path.name for path in expected.folder.iterdir()
    )
