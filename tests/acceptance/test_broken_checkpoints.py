"""Checkpoints that are not what they claim are refused from their headers, each with a letter that names the file."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lamina
from lamina.errors import LaminaError

from .checkpoints import VOCABULARY, llama_config, random_tensor, write_checkpoint, write_llama
from .conftest import Bench

RECIPE = "stack: [{model: x, layers: [0-1, 0-1]}]"


def letter(folder: Path, recipe: str = RECIPE) -> str:
    """What `lamina.merge` answers to a stack of the model `x` in `folder`; no output may appear."""
    (folder / "recipe.yml").write_text(recipe)
    with pytest.raises(LaminaError) as caught:
        lamina.merge(folder / "recipe.yml", folder / "out")
    assert not (folder / "out").exists()
    problems = getattr(caught.value, "problems", ())
    return " ".join([str(caught.value), *(problem.message for problem in problems)])


# A safetensors file: 8 bytes of header length, the header, the data


def take_apart(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def put_together(header: dict[str, Any] | bytes, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def edited(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], bytes]:
    """A break that changes the header only."""

    def broken(path: Path) -> bytes:
        header, data = take_apart(path)
        edit(header)
        return put_together(header, data)

    return broken


NAME = "model.layers.1.mlp.up_proj.weight"
OTHER = "model.layers.0.mlp.up_proj.weight"


def entry(**changes: Any) -> Callable[[Path], bytes]:
    return edited(lambda header: header[NAME].update(changes))


def shifted(by: int) -> Callable[[Path], bytes]:
    def edit(header: dict[str, Any]) -> None:
        start, end = header[NAME]["data_offsets"]
        header[NAME]["data_offsets"] = [start + by, end + by]

    return edited(edit)


def overlapping(header: dict[str, Any]) -> None:
    header[NAME]["data_offsets"] = header[OTHER]["data_offsets"]


def replaced_by(content: bytes) -> Callable[[Path], bytes]:
    return lambda _: content


def duplicated(path: Path) -> bytes:
    header, data = take_apart(path)
    text = json.dumps(header)
    again = json.dumps({NAME: header[NAME]})[1:-1]
    return put_together((text[:-1] + ", " + again + "}").encode(), data)


def with_gap(path: Path) -> bytes:
    header, data = take_apart(path)
    last = max((e["data_offsets"][1], name) for name, e in header.items() if name != "__metadata__")[1]
    start, end = header[last]["data_offsets"]
    header[last]["data_offsets"] = [start + 8, end + 8]
    return put_together(header, data + b"\0" * 8)


BREAKS: dict[str, Callable[[Path], bytes]] = {
    "empty file": replaced_by(b""),
    "shorter than its length field": lambda path: path.read_bytes()[:5],
    "cut inside the header": lambda path: path.read_bytes()[:200],
    "cut at the end of the header": lambda path: put_together(take_apart(path)[0], b""),
    "cut inside the data": lambda path: path.read_bytes()[:-1],
    "bytes after the data": lambda path: path.read_bytes() + b"\0",
    "a gap in the data": with_gap,
    "overlapping offsets": edited(overlapping),
    "offsets that are shifted": shifted(8),
    "offsets in the wrong order": edited(lambda h: h[NAME]["data_offsets"].reverse()),
    "negative offsets": shifted(-(1 << 20)),
    "offsets beyond the file": shifted(1 << 40),
    "offsets that overflow": entry(data_offsets=[(1 << 64) - 8, 1 << 64]),
    "offsets that are fractions": entry(data_offsets=[0.5, 1.5]),
    "offsets that are text": entry(data_offsets="0-10"),
    "one offset": entry(data_offsets=[0]),
    "no offsets": edited(lambda h: h[NAME].pop("data_offsets")),
    "a shape of the wrong size": entry(shape=[5, 5]),
    "a negative shape": entry(shape=[-12, -8]),
    "a shape that is a number": entry(shape=96),
    "a shape that overflows": entry(shape=[1 << 40, 1 << 40]),
    "no shape": edited(lambda h: h[NAME].pop("shape")),
    "a dtype of the wrong size": entry(dtype="F64"),
    "an unknown dtype": entry(dtype="BF17"),
    "a dtype that is a number": entry(dtype=16),
    "no dtype": edited(lambda h: h[NAME].pop("dtype")),
    "an entry that is a list": edited(lambda h: h.update({NAME: []})),
    "metadata that are no text": edited(lambda h: h.update({"__metadata__": {"format": {"deep": 1}}})),
    "one name twice": duplicated,
    "a header that is no JSON": lambda path: put_together(b"{not json", take_apart(path)[1]),
    "a header that is a list": lambda path: put_together(b"[]", take_apart(path)[1]),
    "a header that is no UTF-8": lambda path: put_together(b'{"\xff": 1}', take_apart(path)[1]),
    "a header nested a million deep": replaced_by(put_together(b"[" * 1_000_000, b"")),
    "a length beyond the file": lambda path: put_together(*take_apart(path), length=1 << 30),
    "a length beyond all files": lambda path: put_together(*take_apart(path), length=(1 << 64) - 1),
    "a length of zero": lambda path: put_together(*take_apart(path), length=0),
    "a pickle by another name": replaced_by(b"\x80\x02ccollections\nOrderedDict\n)R."),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = write_llama(tmp_path / "x", 2).folder / "model.safetensors"
    path.write_bytes(BREAKS[kind](path))
    assert "model.safetensors" in letter(tmp_path)


def test_a_header_that_is_too_long_is_refused_without_being_read(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "x", 2).folder / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 200_000_000))
        file.truncate(300_000_000)  # sparse: costs no disk
    assert "model.safetensors" in letter(tmp_path)


def test_both_broken_shards_of_a_model_are_named(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "x", 2, shards=3).folder
    for number in (1, 3):
        shard = folder / f"model-{number:05}-of-00003.safetensors"
        shard.write_bytes(shard.read_bytes()[:-1])
    told = letter(tmp_path)
    assert "model-00001-of-00003.safetensors" in told
    assert "model-00003-of-00003.safetensors" in told


# The index of a sharded checkpoint


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "x", 2, shards=2).folder


def edit_index(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    edit(index)
    path.write_text(json.dumps(index))


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in letter(sharded.parent)


def test_a_tensor_that_its_shard_does_not_hold_is_named(sharded: Path) -> None:
    edit_index(sharded, lambda index: index["weight_map"].update({NAME: "model-00001-of-00002.safetensors"}))
    edit_index(sharded, lambda index: index["weight_map"].update({OTHER: "model-00002-of-00002.safetensors"}))
    told = letter(sharded.parent)
    assert NAME in told or OTHER in told


def test_a_tensor_that_no_shard_holds_is_named(sharded: Path) -> None:
    edit_index(sharded, lambda index: index["weight_map"].update({"model.ghost": "model-00001-of-00002.safetensors"}))
    assert "model.ghost" in letter(sharded.parent)


@pytest.mark.parametrize("where", ["../y/model.safetensors", "/etc/passwd", "{absolute}/y/model.safetensors"])
def test_an_index_does_not_lead_out_of_its_folder(sharded: Path, where: str) -> None:
    write_llama(sharded.parent / "y", 2)
    target = where.format(absolute=sharded.parent)
    edit_index(sharded, lambda index: index["weight_map"].update(dict.fromkeys(index["weight_map"], target)))
    assert "model.safetensors.index.json" in letter(sharded.parent) or target in letter(sharded.parent)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"model.norm.weight": 5}}']
)
def test_an_index_that_is_none_is_named(sharded: Path, text: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json" in letter(sharded.parent)


# The rest of the folder


@pytest.mark.parametrize("text", [None, "", "[]", "{", '{"num_hidden_layers": 2}trailing', "\x00"])
def test_a_config_that_is_none_is_named(tmp_path: Path, text: str | None) -> None:
    path = write_llama(tmp_path / "x", 2).folder / "config.json"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    assert "config.json" in letter(tmp_path)


def test_layers_that_only_the_config_promises_are_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "x", 2, config={"num_hidden_layers": 3})
    assert "layers" in letter(tmp_path, "stack: [{model: x, layers: 0-2}]")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "x", 2).folder
    (folder / "model.safetensors").unlink()
    assert "x" in letter(tmp_path)


def test_pickled_weights_are_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_llama(tmp_path / "x", 2).folder
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    letter(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_a_layer_that_lacks_a_tensor_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    whole = write_llama(tmp_path / "whole", 3)
    tensors = {name: tensor for name, tensor in whole.tensors.items() if name != NAME}
    write_checkpoint(tmp_path / "x", tensors, whole.config)
    (tmp_path / "recipe.yml").write_text("stack: [{model: x, layers: [0-2, 0-2]}]")
    try:
        told = " ".join(notice.message for notice in lamina.plan(tmp_path / "recipe.yml").notices)
    except LaminaError as refusal:
        told = str(refusal)
    assert "mlp.up_proj.weight" in told


# Models that do not fit each other


def mean_of(bench: Bench, first: Path, second: Path) -> str:
    refusal = bench.refused(f"""
        models:
          - {{model: {first}, parameters: {{weight: 1}}}}
          - {{model: {second}, parameters: {{weight: 1}}}}
        merge_method: linear
        """)
    return refusal.text


def test_different_vocabularies_are_refused_with_both_shapes(bench: Bench, tmp_path: Path) -> None:
    write_llama(tmp_path / "wider", 4, vocabulary=VOCABULARY + 2)
    told = mean_of(bench, bench["a"].folder, tmp_path / "wider")
    assert str(VOCABULARY) in told
    assert str(VOCABULARY + 2) in told
    assert "embed_tokens" in told or "lm_head" in told


def test_a_tensor_of_another_shape_is_refused_by_name(bench: Bench, tmp_path: Path) -> None:
    changed = write_llama(tmp_path / "x", 4, extra={NAME: torch.ones(3, 8).bfloat16()})
    assert "model.layers.1.mlp.up_proj.weight" in mean_of(bench, bench["a"].folder, changed.folder)


def test_stacked_models_of_another_width_are_refused(bench: Bench, tmp_path: Path) -> None:
    tensors = {
        name: random_tensor("narrow", name, [size // 2 if size == 8 else size for size in tensor.shape], tensor.dtype)
        for name, tensor in bench["a"].tensors.items()
    }
    config = llama_config(4, torch.bfloat16, tied=False) | {"hidden_size": 4, "head_dim": 2}
    write_checkpoint(tmp_path / "narrow", tensors, config)
    bench.refused(f"stack: [{{model: a, layers: 0-1}}, {{model: {tmp_path / 'narrow'}, layers: 0-1}}]")


def test_a_layer_kind_that_another_model_lacks_is_refused(bench: Bench, tmp_path: Path) -> None:
    # A bias in the layers of one model and not of the other: no config describes both halves.
    extra = {f"model.layers.{i}.self_attn.q_proj.bias": torch.ones(8).bfloat16() for i in range(4)}
    biased = write_llama(tmp_path / "biased", 4, extra=extra, config={"attention_bias": True})
    bench.refused(f"stack: [{{model: a, layers: 0-1}}, {{model: {biased.folder}, layers: 0-1}}]")
