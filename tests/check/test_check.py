"""`lamina check`: what is sound is healthy, and every planted fault is found and named."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import lamina
from benchmarks.tampering import (
    EMBEDDING,
    HEAD,
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
from lamina.check.check import check as full_check
from lamina.check.findings import Level

from .family import MODELS, Weights, changed

check = partial(full_check, behaviour=False)
BASE, REV, SORT, KJV = (MODELS / name for name in ("base", "rev", "sort", "kjv"))


def _without_eos(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


def _eos_of_another_model(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 128009}))


FAULTS = [
    Fault("a block of NaN", nan_block(2), layer=2, key=in_layer(2, "mlp.up_proj"), level=Level.BROKEN),
    Fault("an infinite norm", infinite_norm, key="model.norm.weight",
          level=Level.BROKEN),
    Fault("a zeroed layer", zeroed(1), layer=1, level=Level.BROKEN),
    Fault("a zeroed matrix", lambda w: w[in_layer(2, "mlp.down_proj")].zero_(), layer=2,
          key=in_layer(2, "mlp.down_proj")),
    Fault("a dead head", lambda w: w[in_layer(1, "self_attn.q_proj")][24:48].zero_(), layer=1,
          key=in_layer(1, "self_attn.q_proj")),
    Fault("a norm of another size", lambda w: w[in_layer(3, "input_layernorm")].mul_(3), layer=3,
          key=in_layer(3, "input_layernorm")),
    Fault("two layers swapped", swapped(1, 2), layer=1),
    Fault("a layer twice where another belongs", late(2, 2), layer=2),
    Fault("layers off by one", late(2, 3), layer=2),
    Fault("halves of two layers", other_mlp(2, 0), layer=2, key=in_layer(2, "mlp.up_proj")),
    Fault("an embedding of another tokenizer", shuffled(EMBEDDING), key="model.embed_tokens.weight"),
    Fault("rolled query heads", rolled("q_proj", 1, 24), layer=1, key=in_layer(1, "self_attn.q_proj")),
    Fault("rolled key heads", rolled("k_proj", 3, 24), layer=3, key=in_layer(3, "self_attn.k_proj")),
    Fault("rolled rows", rolled("v_proj", 2, 5), layer=2, key=in_layer(2, "self_attn.v_proj")),
    Fault("a layer of another model", stranger(2), layer=2),
    Fault("weights that sum to 3", three_times, layer=0),
    Fault("a head of another tokenizer", shuffled(HEAD), key="lm_head.weight"),
    Fault("a truncated embedding", cut_to(512, EMBEDDING), key="model.embed_tokens.weight", level=Level.BROKEN),
    Fault("fewer rows than tokens", cut_to(700, EMBEDDING, HEAD), lambda c: c.update(vocab_size=700),
          key="model.embed_tokens.weight", level=Level.BROKEN),
    Fault("another theta", config=lambda c: c.update(rope_parameters={"rope_theta": 5e5, "rope_type": "default"}),
          key="rope_theta"),
    Fault("another eps", config=lambda c: c.update(rms_norm_eps=1e-5), key="norm eps"),
    Fault("another activation", config=lambda c: c.update(hidden_act="gelu"), key="activation"),
    Fault("fewer heads in config.json", config=lambda c: c.update(num_attention_heads=8), layer=0,
          key=in_layer(0, "self_attn.q_proj"), level=Level.BROKEN),
    Fault("no eos", config=lambda c: c.pop("eos_token_id"), folder=_without_eos, key="eos_token_id"),
    Fault("an eos of another model", folder=_eos_of_another_model, key="eos_token_id"),
    Fault("a lost tensor", lambda w: w.pop(in_layer(2, "mlp.up_proj")), layer=2, key=in_layer(2, "mlp.up_proj"),
          level=Level.BROKEN),
    Fault("a tensor of another shape", cut_to(200, in_layer(3, "mlp.gate_proj")), layer=3,
          key=in_layer(3, "mlp.gate_proj"), level=Level.BROKEN),
    Fault("a lost head", lambda w: w.pop("lm_head.weight"), key="lm_head.weight", level=Level.BROKEN),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found_and_named(fault: Fault, tmp_path: Path) -> None:
    folder = changed(REV, tmp_path / "faulty", fault.weights, fault.config)
    fault.folder(folder)
    report = check(folder, [BASE])
    named = [found for found in report.findings if found.level >= Level.SUSPICIOUS]
    assert report.verdict == fault.level, report
    assert (fault.layer, fault.key) in [(found.layer, found.key or "") for found in named] or (
        not fault.key and fault.layer in [found.layer for found in named]
    ), named


def test_what_was_done_to_a_matrix_is_said(tmp_path: Path) -> None:
    heads = changed(REV, tmp_path / "heads", rolled("q_proj", 1, 24))
    rows = changed(REV, tmp_path / "rows", rolled("q_proj", 1, 5))
    places = changed(REV, tmp_path / "swapped", swapped(1, 2))
    told = [[found.message for found in check(folder, [BASE]).findings] for folder in (heads, rows, places)]
    assert told[0] == [
        "layer 1: self_attn.q_proj.weight is that of base's layer 1 with its heads permuted (by 24 rows)."
    ]
    assert told[1] == ["layer 1: self_attn.q_proj.weight is that of base's layer 1 with its rows permuted (by 5 rows)."]
    dead = changed(REV, tmp_path / "dead", lambda weights: weights[in_layer(1, "self_attn.q_proj")][24:48].zero_())
    (found,) = check(dead, [BASE]).findings
    assert found.message == ("layer 1: self_attn.q_proj.weight has 24 dead rows (24-47) that base's layer 1 has not.")
    assert told[2][0] == "layer 1 is base's layer 2, where 1 belongs."


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["mlp.up_proj", "input_layernorm"])
def test_one_element_that_is_not_finite_is_all_that_is_told(name: str, value: float, tmp_path: Path) -> None:
    """Though it stands in a row by which the layer's origin is told."""
    spoilt = changed(REV, tmp_path / "spoilt", lambda weights: weights[in_layer(1, name)].view(-1)[:1].fill_(value))
    report = check(spoilt, [BASE])
    assert report.verdict is Level.BROKEN
    assert [(found.code, found.key) for found in report.findings] == [("non-finite", in_layer(1, name))]
    assert check(REV, [spoilt]).verdict is Level.HEALTHY


@pytest.mark.parametrize("model", [BASE, REV, SORT, KJV], ids=lambda path: path.name)
def test_originals_are_healthy_beside_their_base(model: Path) -> None:
    assert check(model, [BASE]).verdict is Level.HEALTHY
    assert check(model).verdict is Level.HEALTHY


SOUND = [
    f"models: [{{model: {REV}}}, {{model: {SORT}}}]\nmerge_method: linear\nparameters: {{weight: 0.5}}\n",
    f"models: [{{model: {BASE}}}, {{model: {REV}}}]\nmerge_method: slerp\nbase_model: {BASE}\nparameters: {{t: 0.5}}\n",
    *(
        f"models: [{{model: {REV}}}, {{model: {SORT}}}]\nmerge_method: {method}\nbase_model: {BASE}\n"
        "parameters: {weight: 0.5, density: 0.5}\n"
        for method in ("ties", "dare_ties", "dare_linear")
    ),
    f"models: [{{model: {REV}}}, {{model: {REV}}}]\nmerge_method: linear\nparameters: {{weight: 0.5}}\n",
]


@pytest.mark.parametrize("recipe", SOUND, ids=lambda text: text.split("merge_method: ")[1].split()[0])
def test_sound_merges_are_healthy_with_and_without_their_recipe(recipe: str, tmp_path: Path) -> None:
    lamina.merge(recipe, tmp_path / "out")
    assert check(tmp_path / "out").verdict is Level.HEALTHY
    for carried in ("lamina.yml", "mergekit_config.yml"):
        (tmp_path / "out" / carried).unlink(missing_ok=True)
    assert check(tmp_path / "out", [REV, SORT, BASE]).verdict is Level.HEALTHY


def test_a_stack_needs_training_and_names_its_seam(tmp_path: Path) -> None:
    lamina.merge(f"stack: [{{model: {BASE}, layers: [0-2, 1-3]}}]\n", tmp_path / "deep")
    report = check(tmp_path / "deep")
    assert report.verdict is Level.NEEDS_TRAINING
    assert [(found.code, found.layer) for found in report.findings] == [("seam", 3)]


def test_layers_laid_as_llama_pro_lays_them_are_healthy(tmp_path: Path) -> None:
    recipe = f"""
slices:
  - sources: [{{model: {BASE}, layer_range: [0, 2]}}]
  - sources:
      - model: {BASE}
        layer_range: [1, 2]
        parameters:
          scale:
            - {{filter: o_proj, value: 0.0}}
            - {{filter: down_proj, value: 0.0}}
            - {{value: 1.0}}
  - sources: [{{model: {BASE}, layer_range: [2, 4]}}]
merge_method: passthrough
"""
    lamina.merge(recipe, tmp_path / "pro")
    assert check(tmp_path / "pro").verdict is Level.HEALTHY
    (tmp_path / "pro" / "mergekit_config.yml").unlink()
    assert check(tmp_path / "pro", [BASE]).verdict is Level.HEALTHY


def test_a_folder_that_is_not_what_its_recipe_makes_is_broken(tmp_path: Path) -> None:
    """An off-by-one stack passes for a stack; its recipe tells it."""
    lamina.merge(f"stack: [{{model: {BASE}, layers: [0-1, 2-3]}}]\n", tmp_path / "right")
    wrong = changed(tmp_path / "right", tmp_path / "wrong", swapped(2, 3))
    report = check(wrong)
    assert report.verdict is Level.BROKEN
    assert [found.layer for found in report.findings if found.code == "not-as-planned"] == [2, 3]
    assert "most like" in report.findings[0].message


def test_a_blend_with_other_weights_than_its_recipe_gives_is_broken(tmp_path: Path) -> None:
    lamina.merge(SOUND[0], tmp_path / "right")
    other = SOUND[0].replace(f"model: {REV}", f"model: {REV}, parameters: {{weight: 0.6}}")
    (tmp_path / "other.yml").write_text(other)
    assert check(tmp_path / "right", recipe=tmp_path / "other.yml").verdict is Level.BROKEN


def test_one_element_that_changed_after_the_merge_is_named(tmp_path: Path) -> None:
    """Though the recipe is compared with a part of what it computes, and its models may be gone."""
    lamina.merge(SOUND[0], tmp_path / "right")

    def flip(weights: Weights) -> None:
        weights[in_layer(3, "mlp.up_proj")][-1, -1] *= 2

    altered = changed(tmp_path / "right", tmp_path / "altered", flip)
    next(altered.glob("*.yml")).unlink()
    report = check(altered, [REV, SORT])
    assert report.verdict is Level.BROKEN
    assert [(found.code, found.layer, found.key) for found in report.findings] == [
        ("altered", 3, in_layer(3, "mlp.up_proj"))
    ]
    told = next(section.told for section in check(tmp_path / "right").sections if section.name == "weights")
    assert "as the merge wrote them" in told


def test_weights_that_sum_to_three_are_told_by_the_recipe_and_without_it(tmp_path: Path) -> None:
    thrice = SOUND[0].replace("weight: 0.5", "weight: 1.5, normalize: false")
    lamina.merge(thrice, tmp_path / "out")
    assert [(found.level, found.code) for found in check(tmp_path / "out").findings] == [
        (Level.SUSPICIOUS, "weight-sum")
    ]
    next((tmp_path / "out").glob("*.yml")).unlink()
    assert "norm" in {found.code for found in check(tmp_path / "out", [REV, SORT]).findings}


def test_a_recipe_whose_models_are_gone_says_how_to_name_them(tmp_path: Path) -> None:
    lamina.merge(
        f"models: [{{model: {REV}}}, {{model: {SORT}}}]\nmerge_method: linear\nparameters: {{weight: 0.5}}\n",
        tmp_path / "out",
    )
    carried = next(tmp_path.glob("out/*.yml"))
    carried.write_text(carried.read_text().replace(str(MODELS), "gone"))
    report = check(tmp_path / "out")
    identity = next(section for section in report.sections if section.name == "identity")
    assert "--parents" in identity.not_run
    assert check(tmp_path / "out", [REV, SORT]).verdict is Level.HEALTHY


def test_rows_of_an_embedding_are_compared_without_what_they_have_in_common(tmp_path: Path) -> None:
    """Rows of a real embedding share much of their direction: shuffled ones are alike, and not the same."""

    def lean(weights: Weights) -> None:
        weights["model.embed_tokens.weight"] += 0.5

    def shuffle(weights: Weights) -> None:
        lean(weights)
        shuffled(EMBEDDING)(weights)

    parent = changed(BASE, tmp_path / "parent", lean)
    report = check(changed(BASE, tmp_path / "shuffled", shuffle), [parent])
    assert [(found.code, found.key) for found in report.findings] == [("stranger", "model.embed_tokens.weight")]


def test_an_eps_that_went_through_fp32_is_the_same(tmp_path: Path) -> None:
    written = changed(BASE, tmp_path / "parent", config=lambda content: content.update(rms_norm_eps=1e-5))
    rounded = changed(
        BASE, tmp_path / "rounded", config=lambda content: content.update(rms_norm_eps=9.999999747378752e-06)
    )
    assert check(rounded, [written]).verdict is Level.HEALTHY


def test_a_merge_with_draws_of_another_seed_is_as_its_record_says(tmp_path: Path) -> None:
    lamina.merge(SOUND[3], tmp_path / "out", seed=5)
    assert check(tmp_path / "out").verdict is Level.HEALTHY
    assert check(tmp_path / "out", options={"seed": 6}).verdict is Level.BROKEN


def test_models_that_disagree_and_were_merged_all_the_same_are_planned_again(tmp_path: Path) -> None:
    other = changed(SORT, tmp_path / "sort", config=lambda content: content.update(rms_norm_eps=1e-5))
    recipe = f"models: [{{model: {REV}}}, {{model: {other}}}]\nmerge_method: linear\nparameters: {{weight: 0.5}}\n"
    lamina.merge(recipe, tmp_path / "out", unlike_models=True)
    report = check(tmp_path / "out")
    assert report.verdict is Level.SUSPICIOUS
    assert {found.code for found in report.findings} == {"unlike-configs", "config"}


def test_a_finding_has_the_place_in_the_recipe_that_makes_its_layer(tmp_path: Path) -> None:
    recipe = tmp_path / "deep.yml"
    recipe.write_text(f"stack:\n  - {{model: {BASE}, layers: 0-2}}\n  - {{model: {BASE}, layers: 1-3}}\n")
    lamina.merge(recipe, tmp_path / "deep")
    (seam,) = check(tmp_path / "deep", recipe=recipe).findings
    assert (seam.layer, seam.place) == (3, f"{recipe}:3:5")


def test_a_recipe_that_cannot_be_planned_says_so_beside_the_parents(tmp_path: Path) -> None:
    lamina.merge(SOUND[0], tmp_path / "out")
    carried = next(tmp_path.glob("out/*.yml"))
    carried.write_text(carried.read_text().replace(str(SORT), "gone"))
    report = check(tmp_path / "out", [REV])
    assert report.verdict is Level.HEALTHY
    told = next(section.not_run for section in report.sections if section.name == "recipe")
    assert "gone" in told
    assert "--recipe" in told


def test_a_parent_stands_for_the_model_of_its_name_and_for_no_other(tmp_path: Path) -> None:
    """What is called `prev` is not `rev`."""
    lamina.merge(SOUND[0], tmp_path / "out")
    other = changed(KJV, tmp_path / "prev")
    assert check(tmp_path / "out", [other]).verdict is Level.HEALTHY


def test_a_parent_that_the_recipe_calls_otherwise_is_looked_at_once(tmp_path: Path) -> None:
    lamina.merge(SOUND[0], tmp_path / "out")
    (tmp_path / "rev").symlink_to(REV)
    assert check(tmp_path / "out", [tmp_path / "rev"]).parents == (str(tmp_path / "rev"), str(SORT))


CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def _chatty(folder: Path, template: str, eos: int) -> Path:
    """The folder with two tokens of a chat in its tokenizer, a template, and a token that ends a text."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    known = tokenizer["model"]["vocab"]
    for number, token in enumerate(("<|im_start|>", "<|im_end|>")):
        replaced = next(text for text, id_ in known.items() if id_ == 700 + number)
        known[token] = known.pop(replaced)
        tokenizer["model"]["merges"] = [
            pair for pair in tokenizer["model"]["merges"] if replaced not in (*pair, "".join(pair))
        ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "chat_template.jinja").write_text(template)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    return folder


def test_a_template_whose_end_of_turn_is_no_eos_is_suspicious(tmp_path: Path) -> None:
    right = _chatty(changed(BASE, tmp_path / "right"), CHAT, 701)
    wrong = _chatty(changed(BASE, tmp_path / "wrong"), CHAT, 1)
    assert check(right, [BASE]).verdict is Level.HEALTHY
    (found,) = check(wrong, [BASE, right]).findings
    assert (found.level, found.key) == (Level.SUSPICIOUS, "chat_template")
    assert "<|im_end|>" in found.message


def test_an_end_of_turn_that_a_parent_lacks_too_is_told_and_no_fault(tmp_path: Path) -> None:
    parent = _chatty(changed(BASE, tmp_path / "parent"), CHAT, 1)
    report = check(_chatty(changed(BASE, tmp_path / "own"), CHAT, 1), [parent])
    assert report.verdict is Level.HEALTHY
    assert [found.code for found in report.findings] == ["end-of-turn"]


def test_files_that_are_no_json_are_findings(tmp_path: Path) -> None:
    folder = changed(BASE, tmp_path / "own")
    (folder / "generation_config.json").write_text("{")
    report = check(folder, [BASE])
    assert report.verdict is Level.BROKEN
    assert any("generation_config.json" in found.message for found in report.findings)
