"""Moved layers compute what they computed: a sample of the sweep that `make architectures` runs over all classes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import LlamaModel

from lamina.architectures import layer_config

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from compare import Difference, check_move, check_self_merge, check_tensors, merge, open_source  # noqa: E402
from reassemble import reassembled  # noqa: E402
from refusals import needless  # noqa: E402
from shrink import causal_types, tiny_model  # noqa: E402
from sweep_architectures import (  # noqa: E402
    NEEDLESS,
    REFUSED,
    WORKS,
    WRONG,
    examine,
    page,
    read_lines,
    shuffled,
    up_scaled,
)

pytestmark = pytest.mark.filterwarnings("ignore")

COMMON = (
    "llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "mixtral", "gemma2", "gemma3_text", "phi3", "gpt2", "gpt_neox",
    "gpt_oss", "falcon", "olmo2", "cohere2", "smollm3", "exaone4", "granite", "granitemoehybrid", "lfm2", "starcoder2",
    "stablelm", "glm4", "deepseek_v3", "mamba",
)  # fmt: skip

# Its dense layers are the first `first_k_dense_replace`, and shuffled they are not.
REFUSED_WHEN_SHUFFLED = {"deepseek_v3"}

PAGE = ROOT / "docs" / "architectures.md"


@pytest.fixture(autouse=True)
def sums_in_one_order() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("model_type", COMMON)
def test_moved_layers_compute_what_moved_modules_compute(model_type: str, tmp_path: Path) -> None:
    row = examine(model_type, tmp_path)
    assert row.not_made == ""
    assert row.maps["up-scaled"].verdict == WORKS, row
    assert row.maps["shuffled"].verdict == (REFUSED if model_type in REFUSED_WHEN_SHUFFLED else WORKS), row


def test_layers_in_another_order_are_told_from_the_right_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(tiny_model("qwen3"), tmp_path / "source")
    swapped = reassembled(source.model, [0, 2, 1])
    monkeypatch.setattr("compare.reassembled", lambda _model, _order: swapped)
    with pytest.raises(Difference, match="tensors have other values"):
        check_move(source, [0, 1, 2], tmp_path / "out")


def test_a_layer_of_another_kind_is_told_by_its_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(tiny_model("qwen3"), tmp_path / "source")
    assert source.model.config.layer_types[1:3] == ["full_attention", "sliding_attention"]
    unlike = reassembled(source.model, [1, 2])
    unlike.config.layer_types = ["full_attention"] * 2
    unlike.model.layers[1].attention_type = "full_attention"
    unlike.model.layers[1].self_attn.sliding_window = None
    monkeypatch.setattr("compare.reassembled", lambda _model, _order: unlike)
    with pytest.raises(Difference, match="logits differ"):
        check_move(source, [1, 2], tmp_path / "out")


def test_a_refusal_that_was_not_needed_is_found_out(tmp_path: Path) -> None:
    source = open_source(tiny_model("deepseek_v3"), tmp_path)
    letter = "`first_k_dense_replace` decides a layer's kind by its index."
    assert needless(source, [0, 0, 2, 3], letter) is not None  # two dense layers, then sparse ones
    assert needless(source, [2, 0, 3], letter) is None


def test_layers_that_compute_with_their_number_are_refused(tmp_path: Path) -> None:
    """And needfully: no config of the class makes the moved layers what they were."""
    assert {found.verdict for found in examine("beam", tmp_path).maps.values()} == {REFUSED}


@pytest.mark.parametrize("model_type", ["beam", "diffllama"])
def test_unrefused_they_are_told_by_their_logits(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = [fact for fact in layer_config.FACTS if fact.name != f"place in {model_type}"]
    monkeypatch.setattr(layer_config, "FACTS", facts)
    source = open_source(tiny_model(model_type), tmp_path / "source")
    assert check_move(source, range(source.depth - 1), tmp_path / "first") == ""  # each where it was
    with pytest.raises(Difference, match="logits differ"):
        check_move(source, up_scaled(source.depth), tmp_path / "out")


def test_a_model_that_goes_by_place_on_its_way_through_the_layers_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the loop over the layers does something by their number, modules that moved do it too."""
    source = open_source(tiny_model("llama"), tmp_path / "source")
    monkeypatch.setattr(LlamaModel, "forward", _louder_by_the_layer)
    with pytest.raises(Difference, match="from those of the layers run in this order where they stand"):
        check_move(source, up_scaled(source.depth), tmp_path / "out")


def _louder_by_the_layer(self: Any, input_ids: torch.Tensor, **_more: Any) -> Any:
    hidden = self.embed_tokens(input_ids)
    places = torch.arange(input_ids.shape[1])[None]
    rotation = self.rotary_emb(hidden, places)
    for index, layer in enumerate(self.layers):
        hidden = layer(hidden, position_embeddings=rotation) + index
    return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden))


def test_the_moved_layers_know_their_new_places() -> None:
    moved = reassembled(tiny_model("bamba"), [5, 4, 2])
    mixers = [getattr(layer, "self_attn", None) or layer.mamba for layer in moved.model.layers]
    assert [mixer.layer_idx for mixer in mixers] == [0, 1, 2]
    assert moved.config.num_hidden_layers == 3


@pytest.mark.parametrize("model_type", ["gemma3n_text", "gemma4_text"])
def test_layers_before_those_that_share_keys_and_values_are_repeated(model_type: str, tmp_path: Path) -> None:
    """The tensors that pack something of every layer are taken apart and put together again."""
    source = open_source(tiny_model(model_type), tmp_path / "source")
    assert source.model.config.num_kv_shared_layers == 2
    assert check_self_merge(source, tmp_path / "whole") == ""
    assert check_move(source, [0, 1, 0, 1, 2, 3, 4, 5], tmp_path / "out") == ""


@pytest.mark.parametrize("model_type", ["gemma3n_text", "gemma4_text"])
def test_without_shared_keys_and_values_they_go_anywhere(model_type: str, tmp_path: Path) -> None:
    source = open_source(tiny_model(model_type, {"num_kv_shared_layers": 0}), tmp_path / "source")
    for order in (up_scaled(source.depth), shuffled(source.depth)):
        assert check_move(source, order, tmp_path / f"of {len(order)}") == ""


def test_the_decoder_of_gemma_3n_moves_beside_its_towers_as_it_does_alone(tmp_path: Path) -> None:
    """Its class needs more than transformers; the files of the whole model are those of the decoder, renamed."""
    order, prefix = [0, 1, 0, 1, 2, 3, 4, 5], "model.language_model."
    source = open_source(tiny_model("gemma3n_text"), tmp_path / "alone")
    tensors = load_file(tmp_path / "alone" / "model.safetensors")
    config = json.loads((tmp_path / "alone" / "config.json").read_text())
    whole = {name.replace("model.", prefix, 1): tensor for name, tensor in tensors.items()}
    towers = {f"model.{name}.{i}.x": torch.ones(2) for name in ("vision_tower.blocks", "audio_tower") for i in range(6)}
    (tmp_path / "whole").mkdir()
    save_file(whole | towers, tmp_path / "whole" / "model.safetensors")
    (tmp_path / "whole" / "config.json").write_text(json.dumps({"model_type": "gemma3n", "text_config": config}))
    for name, each in (("of alone", source), ("of whole", replace(source, folder=tmp_path / "whole"))):
        merge(each, order, tmp_path / name)
    alone, found = (load_file(tmp_path / name / "model.safetensors") for name in ("of alone", "of whole"))
    check_tensors(found, {name.replace("model.", prefix, 1): t for name, t in alone.items()} | towers, "beside towers")
    ours, theirs = (json.loads((tmp_path / f"of {name}" / "config.json").read_text()) for name in ("whole", "alone"))
    assert ours["text_config"]["layer_types"] == theirs["layer_types"]
    assert ours["text_config"]["num_hidden_layers"] == theirs["num_hidden_layers"] == len(order)


def test_a_block_that_layers_share_goes_with_the_first_of_them(tmp_path: Path) -> None:
    assert {found.verdict for found in examine("zamba", tmp_path).maps.values()} == {WORKS}


# Its lists of tensors beside the layers are numbered from the second layer on.
REFUSED_NEEDLESSLY = {"inkling2_text"}


def test_the_page_has_every_class_once_and_nothing_that_is_wrong() -> None:
    text = PAGE.read_text()
    rows = re.findall(r"^\| ([\w-]+) \|", text, re.M)
    assert sorted(row for row in rows if row != "type") == list(causal_types())
    assert f"| {WRONG} |" not in text
    assert {row.split("|")[1].strip() for row in text.splitlines() if f"| {NEEDLESS} |" in row} == REFUSED_NEEDLESSLY


def test_rows_that_are_made_again_leave_the_others_and_the_counts_follow() -> None:
    text = PAGE.read_text()
    assert page(read_lines(text)) == text
    again = page(read_lines(text) | {"llama": f"| llama | {WRONG} | {WORKS} | why |"})
    changed = [new for old, new in zip(text.splitlines(), again.splitlines(), strict=True) if new != old]
    assert len(changed) == 2  # the count of up-scaled ones, and the row
    assert f"1 {WRONG}" in changed[0]
    assert changed[1] == f"| llama | {WRONG} | {WORKS} | why |"


def test_the_page_was_made_with_the_transformers_that_the_layer_kinds_come_from() -> None:
    version = json.loads((ROOT / "lamina" / "architectures" / "layer_kinds.json").read_text())["transformers"]
    assert f"with transformers {version}:" in PAGE.read_text()


def test_the_orders_drop_repeat_and_turn_round() -> None:
    assert up_scaled(4) == [0, 1, 2, 1, 2, 3]
    assert shuffled(6) == [5, 0, 0, 3, 1, 4, 3]
