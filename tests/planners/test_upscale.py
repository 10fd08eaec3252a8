"""The recipes that up-scalings stand for: which layers where, what is zero, and what is refused with which reason."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import lamina
from lamina.architectures.quirks import PARTS
from lamina.errors import RecipeError
from lamina.models.plain import PlainModel
from lamina.planners.training import training_files
from lamina.planners.upscale import Upscaling, cuts_to, llama_pro, middle_cut, solar
from lamina.recipe.load import parse_recipe
from lamina.recipe.stack import slices_of_stack
from lamina.tensor_spec import DTYPES, TensorSpec
from lamina.upscaling import Method

LLAMA = (
    "input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.o_proj.weight", "post_attention_layernorm.weight",
    "mlp.up_proj.weight", "mlp.down_proj.weight",
)  # fmt: skip
ENDS = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")


def model(
    layers: int,
    suffixes: Sequence[str] | Sequence[Sequence[str]] = LLAMA,
    *,
    kind: str = "llama",
    config: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, str] | None = None,
    ends: Sequence[str] = ENDS,
    prefix: str = "model.layers",
) -> PlainModel:
    """A model of names and shapes alone; `suffixes` of every layer, or one list a layer."""
    each = [suffixes if isinstance(suffixes[0], str) else suffixes[layer] for layer in range(layers)]
    names = [ends[0], *(f"{prefix}.{i}.{suffix}" for i in range(layers) for suffix in each[i]), *ends[1:]]
    specs = {
        name: TensorSpec((8,) if "norm" in name or name.endswith("bias") else (8, 8), DTYPES["F32"]) for name in names
    }
    for end, dtype in (dtypes or {}).items():
        specs |= {name: TensorSpec((8, 8), DTYPES[dtype]) for name in specs if name.endswith(end)}
    whole = {"model_type": kind, "num_hidden_layers": layers, **(config or {})}
    return PlainModel("base", SimpleNamespace(specs=specs), whole)  # type: ignore[arg-type]


def sources(upscaling: Upscaling, layers: int) -> list[list[int]]:
    """The source layers of each output layer, as the recipe's own planner has them."""
    problems: list[Any] = []
    slices = slices_of_stack(parse_recipe(upscaling.text, "recipe"), lambda _ref: layers, problems)
    assert problems == []
    return [[source.start + i for source in entry.sources] for entry in slices for i in range(entry.depth)]


def scales(upscaling: Upscaling) -> list[dict[str, float]]:
    """For each entry of the stack its filters and values."""
    entries = yaml.safe_load(upscaling.text)["stack"]
    return [{rule["filter"]: rule["value"] for rule in e.get("parameters", {}).get("scale", [])} for e in entries]


def refused(call: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        call()
    return caught.value.problems[0].message


# SOLAR


def test_solar_of_32_layers_is_the_papers() -> None:
    found = solar(model(32))
    assert sources(found, 32) == [[layer] for layer in (*range(24), *range(8, 32))]
    assert found.depth == 48


@pytest.mark.parametrize(("to", "first", "second"), [(48, 24, 6), (38, 19, 11), (47, 24, 7), (60, 30, 0), (31, 16, 15)])
def test_solar_reaches_any_depth_up_to_two_copies(to: int, first: int, second: int) -> None:
    found = solar(model(30), to=to)
    assert sources(found, 30) == [[layer] for layer in (*range(first), *range(second, 30))]


@given(st.integers(2, 60), st.data())
def test_solar_has_the_depth_that_was_asked_for(layers: int, data: st.DataObject) -> None:
    to = data.draw(st.integers(layers + 1, 2 * layers))
    found = solar(model(layers), to=to)
    assert len(sources(found, layers)) == found.depth == to


@given(st.integers(2, 60), st.data())
def test_the_cut_can_be_placed(layers: int, data: st.DataObject) -> None:
    to = data.draw(st.integers(layers + 1, 2 * layers))
    cut = data.draw(st.sampled_from(cuts_to(layers, to)))
    found = solar(model(layers), to=to, first=cut.first)
    assert sources(found, layers) == [[layer] for layer in cut.order(layers)]
    assert len(cut.order(layers)) == to
    assert found.train == {cut.first - 1: cut.first - 1, cut.first: cut.second}
    assert middle_cut(layers, to) in cuts_to(layers, to)
    assert solar(model(layers), to=to, first=middle_cut(layers, to).first).text == solar(model(layers), to=to).text


def test_a_cut_that_cannot_make_the_depth_is_refused() -> None:
    for first in (17, 31):
        message = refused(lambda first=first: solar(model(30), to=48, first=first))
        assert message == f"for 48 layers the first copy can bring 18 to 30 of its 30 layers, not {first}."
    assert "blends whole copies" in refused(lambda: solar(model(30), to=48, first=20, overlap="ramp"))


def test_drop_is_per_copy() -> None:
    assert solar(model(32), drop=8).text == solar(model(32), to=48).text


def test_the_default_is_told() -> None:
    assert "a quarter is dropped from each copy by default" in " ".join(solar(model(32)).said)


def test_a_cut_of_whole_copies_is_the_same_layers() -> None:
    cut, ramp = solar(model(30), to=48), solar(model(30), to=48, overlap="ramp")
    as_cut = Upscaling(ramp.text.replace("overlap: ramp", "overlap: cut"), (), 48, {}, "")
    assert sources(as_cut, 30) == sources(cut, 30)


def test_a_blend_trains_all_that_is_blended() -> None:
    found = solar(model(30), to=38, overlap="average")
    assert list(found.train) == list(range(8, 30))
    assert sources(found, 30)[8] == [8, 0]


def test_a_cut_trains_both_sides_of_the_seam() -> None:
    assert dict(solar(model(30), to=48).train) == {23: 23, 24: 6}


def test_repeated_layers_are_scaled_in_both_copies_and_nothing_else() -> None:
    found = solar(model(8), drop=2, scale_repeated=0.7071)
    assert sources(found, 8) == [[layer] for layer in (*range(6), *range(2, 8))]
    both = {"o_proj": 0.7071, "down_proj": 0.7071}
    assert scales(found) == [{}, both, both, {}]


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"to": 48, "drop": 8}, "say the same thing"),
        ({"to": 32}, "make 33 to 64 layers, not 32"),
        ({"to": 65}, "make 33 to 64 layers, not 65"),
        ({"drop": 16}, "0 to 15 can be dropped from each copy, not 16"),
        ({"drop": -1}, "0 to 15 can be dropped"),
        ({"overlap": "ramp", "scale_repeated": 0.5}, "blends them"),
    ],
)
def test_what_solar_cannot_do_is_told_with_what_it_can(wish: dict[str, Any], told: str) -> None:
    assert told in refused(lambda: solar(model(32), **wish))


def test_a_factor_before_a_norm_is_refused_since_the_norm_undoes_it() -> None:
    gemma = (*LLAMA, "pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight")
    assert "undoes any factor" in refused(lambda: solar(model(8, gemma, kind="gemma2"), scale_repeated=0.7))


# SOLAR, where layer kinds come round


def kinds(period: int, layers: int) -> dict[str, Any]:
    return {"layer_types": ["full" if layer % period == period - 1 else "sliding" for layer in range(layers)]}


@pytest.mark.parametrize(
    ("period", "layers", "depth"), [(2, 26, 40), (6, 26, 38), (6, 62, 92), (4, 28, 44), (2, 27, 43)]
)
def test_the_default_keeps_the_rhythm_of_layer_kinds(period: int, layers: int, depth: int) -> None:
    found = solar(model(layers, config=kinds(period, layers)))
    assert found.depth == depth
    rhythm = kinds(period, 2 * layers)["layer_types"]
    assert [rhythm[layer] for (layer,) in sources(found, layers)] == rhythm[:depth]
    assert f"come round every {period} layers" in " ".join(found.said)


def test_a_depth_that_is_asked_for_is_made_whatever_the_rhythm() -> None:
    assert solar(model(26, config=kinds(6, 26)), to=40).depth == 40


# LLaMA-Pro


def test_llama_pro_of_32_layers_is_the_papers() -> None:
    found = llama_pro(model(32), add=8)
    assert list(found.train) == [4, 9, 14, 19, 24, 29, 34, 39]
    groups = [[[layer] for layer in range(start, start + 4)] + [[start + 3]] for start in range(0, 32, 4)]
    assert sources(found, 32) == [layer for group in groups for layer in group]


@given(st.integers(1, 40), st.data())
def test_every_old_layer_stays_in_order_and_every_new_one_is_a_copy_of_the_one_before(
    layers: int, data: st.DataObject
) -> None:
    add = data.draw(st.integers(1, layers))
    found = llama_pro(model(layers), add=add)
    flat = [layer for (layer,) in sources(found, layers)]
    assert [layer for place, layer in enumerate(flat) if place not in found.train] == list(range(layers))
    assert all(flat[place] == flat[place - 1] for place in found.train)
    assert len(found.train) == add


def test_new_layers_stand_where_they_are_placed() -> None:
    found = llama_pro(model(8), at=[4, 5, 9])
    assert [layer for (layer,) in sources(found, 8)] == [0, 1, 2, 3, 3, 3, 4, 5, 6, 6, 7]


def test_only_new_layers_have_zeros_and_they_have_all_of_them() -> None:
    found = llama_pro(model(4), add=2)
    zeros = {"o_proj": 0, "down_proj": 0}
    assert scales(found) == [{}, zeros, {}, zeros]


@pytest.mark.parametrize(
    ("kind", "suffixes", "filters"),
    [
        ("qwen2_moe", [*LLAMA[:3], "mlp.experts.0.down_proj.weight", "mlp.experts.1.down_proj.weight",
                       "mlp.shared_expert.down_proj.weight", "mlp.gate.weight"], {"o_proj", "down_proj"}),
        ("mixtral", [*LLAMA[:3], "block_sparse_moe.experts.0.w1.weight", "block_sparse_moe.experts.0.w2.weight"],
         {"o_proj", "w2"}),
        ("gpt2", ["attn.c_attn.weight", "attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_fc.bias", "mlp.c_proj.bias",
                  "mlp.c_proj.weight"], {"c_proj"}),
        ("gpt_oss", [*LLAMA[:3], "self_attn.o_proj.bias", "mlp.experts.down_proj", "mlp.experts.down_proj_bias",
                     "mlp.experts.gate_up_proj"], {"o_proj", "down_proj"}),
        ("falcon", ["self_attention.query_key_value.weight", "self_attention.dense.weight",
                    "mlp.dense_h_to_4h.weight", "mlp.dense_4h_to_h.weight"], {"self_attention.dense", "dense_4h_to_h"}),
        ("mamba", ["mixer.in_proj.weight", "mixer.out_proj.weight", "norm.weight"], {"out_proj"}),
        ("lfm2", ["conv.in_proj.weight", "conv.out_proj.weight", "feed_forward.w1.weight", "feed_forward.w2.weight"],
         {"out_proj", "w2"}),
    ],
)  # fmt: skip
def test_outputs_are_found_by_role_biases_and_experts_included(
    kind: str, suffixes: list[str], filters: set[str]
) -> None:
    found = llama_pro(model(2, suffixes, kind=kind), add=1)
    assert set(scales(found)[1]) == filters


def test_a_filter_matches_nothing_but_outputs() -> None:
    """Falcon's `dense` is an output, and a part of the name of its MLP's input."""
    suffixes = ["self_attention.dense.weight", "mlp.dense_h_to_4h.weight", "mlp.dense_4h_to_h.weight"]
    found = llama_pro(model(2, suffixes, kind="falcon"), add=1)
    names = [f"model.layers.0.{suffix}" for suffix in suffixes]
    assert [any(part in name for part in scales(found)[1]) for name in names] == [True, False, True]


def test_a_filter_does_not_match_the_head() -> None:
    ends = ("transformer.wte.weight", "transformer.ln_f.weight", "c_proj.weight")
    found = llama_pro(model(2, ["attn.c_proj.weight", "mlp.c_proj.weight"], kind="gpt2", ends=ends), add=1)
    assert set(scales(found)[1]) == {"attn.c_proj", "mlp.c_proj"}


@pytest.mark.parametrize(
    ("kind", "config", "told"),
    [
        ("bert", {}, "goes through a norm"),
        ("minimax", {}, "multiplies the stream"),
        ("diffllama", {}, "compute with their own index"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm: true"),
        ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before: false"),
        ("gemma3_text", {"num_kv_shared_layers": 2}, "num_kv_shared_layers: 2"),
        ("somebodys_own", {}, "never measured whether layers of somebodys_own"),
    ],
)
def test_llama_pro_is_refused_with_the_reason(kind: str, config: dict[str, Any], told: str) -> None:
    assert told in refused(lambda: llama_pro(model(4, kind=kind, config=config)))


@pytest.mark.parametrize("method", ["solar", "llama-pro"])
def test_layers_in_several_lists_are_left_to_recipes(tmp_path: Path, method: Method) -> None:
    names = [f"transformer.{part}.{i}.weight" for part in PARTS["xlm"] for i in range(4)]
    save_file({name: np.ones((2, 2), np.float32) for name in [*names, "transformer.embeddings.weight"]},
              tmp_path / "model.safetensors")  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "xlm", "n_layers": 4}))
    with pytest.raises(RecipeError, match=r"has its layers in 4 lists .* A recipe with `stack` moves"):
        lamina.upscale(tmp_path, tmp_path / "out", method=method)
    assert not (tmp_path / "out").exists()


def test_packed_outputs_cannot_be_zeroed() -> None:
    packed = model(2, dtypes={"down_proj.weight": "U8"})
    assert "down_proj.weight` is stored as" in refused(lambda: llama_pro(packed))
    quantised = model(2, kind="gpt_oss", config={"quantization_config": {"quant_method": "mxfp4"}})
    assert "it is quantised" in refused(lambda: llama_pro(quantised))


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"add": 0}, "1 to 4 new layers can be spread over 4, not 0"),
        ({"add": 5}, "not 5"),
        ({"at": [0]}, "different output layers of 1 to 4"),
        ({"at": [3, 3]}, "different output layers"),
        ({"at": [6, 7]}, "different output layers of 1 to 5"),
        ({"at": [2], "add": 2}, "one of them is enough"),
    ],
)
def test_places_that_are_none_are_told(wish: dict[str, Any], told: str) -> None:
    assert told in refused(lambda: llama_pro(model(4), **wish))


def test_a_norm_behind_the_block_is_told_for_training() -> None:
    gemma = (*LLAMA, "pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight")
    assert "1/sqrt(eps)" in llama_pro(model(4, gemma, kind="gemma2")).text
    assert "1/sqrt(eps)" not in llama_pro(model(4)).text


# The recipe as text


@pytest.mark.parametrize("name", ["a, b", "{x}", "*y", "1.10", "org/name@main", "a: b", "#c", "naïve", "a'b"])
def test_a_model_may_have_any_name(name: str) -> None:
    plain = model(4)
    found = solar(PlainModel(name, plain.checkpoint, plain.config), to=6)
    assert {str(entry["model"]) for entry in yaml.safe_load(found.text)["stack"]} == {name}


# What to train


def test_the_files_name_every_tensor_of_the_layers_to_train() -> None:
    base = model(4)
    data = json.loads(training_files(base, llama_pro(base, add=2))["training.json"])
    assert data["layers"] == [2, 5]
    assert data["parameters"] == [f"model.layers.{layer}.{suffix}" for layer in (2, 5) for suffix in LLAMA]


def page(base: PlainModel, upscaling: Upscaling) -> str:
    return training_files(base, upscaling)["training.md"].decode()


def test_the_axolotl_line_matches_these_layers_alone() -> None:
    base = model(32)
    line = re.search(r"unfrozen_parameters:\n  - (.*)\n", page(base, llama_pro(base, add=8)))
    assert line is not None
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(40)]
    matched = [int(name.split(".")[2]) for name in names if re.match(yaml.safe_load(line[1]), name)]
    assert matched == [4, 9, 14, 19, 24, 29, 34, 39]


def test_llama_factory_has_words_of_its_own_for_even_groups() -> None:
    base = model(32)
    text = page(base, llama_pro(base, add=8))
    assert "freeze_trainable_layers: 8\nuse_llama_pro: true" in text


def test_llama_factory_has_none_for_a_seam_and_is_given_adapters() -> None:
    base = model(32)
    text = page(base, solar(base))
    assert "use_llama_pro" not in text
    assert "lora_target: layers.23.self_attn.q_proj,layers.23.self_attn.o_proj," in text


def test_adapters_are_laid_over_matrices_and_not_over_norms_routers_or_single_experts() -> None:
    suffixes = [*LLAMA[:3], "mlp.gate.weight", "mlp.experts.0.down_proj.weight", "mlp.shared_expert.down_proj.weight"]
    base = model(4, suffixes, kind="qwen2_moe")
    assert '["self_attn.q_proj", "self_attn.o_proj", "mlp.shared_expert.down_proj"]' in page(base, llama_pro(base))


def test_the_python_in_the_page_is_python() -> None:
    base = model(8)
    for block in re.findall(r"```python\n(.*?)```", page(base, solar(base)), re.DOTALL):
        compile(block, "training.md", "exec")
