"""`lamina.upscale` on checkpoints: repeated layers keep their bytes, new ones are zero where they have to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import lamina

from .checkpoints import all_bits, depth_map, read_checkpoint, same_bits, same_layer
from .conftest import Bench

OUTPUTS = ("self_attn.o_proj.weight", "mlp.down_proj.weight")


def test_every_layer_of_solar_is_the_source_layer_byte_for_byte(bench: Bench) -> None:
    out = bench.new_folder()
    lamina.upscale(bench["deep"].folder, out)
    made = read_checkpoint(out)
    assert depth_map(made, [bench["deep"]]) == [f"deep:{layer}" for layer in (*range(24), *range(8, 32))]
    assert same_bits(made.embed, bench["deep"].embed)
    assert same_bits(made.norm, bench["deep"].norm)
    assert same_bits(made.head, bench["deep"].head)


def test_new_layers_are_copies_with_plus_zero_in_their_outputs(bench: Bench) -> None:
    out = bench.new_folder()
    lamina.upscale(bench["eight"].folder, out, method="llama-pro", add=4)
    made, source = read_checkpoint(out), bench["eight"]
    for new, old in ((2, 1), (5, 3), (8, 5), (11, 7)):
        layer, its = made.layer(new), source.layer(old)
        assert set(layer) == set(its)
        for name, tensor in layer.items():
            expected = torch.zeros_like(its[name]) if name in OUTPUTS else its[name]
            assert same_bits(tensor, expected), name  # to the bit: no minus zero
    old = [made.layer(place) for place in range(12) if place not in (2, 5, 8, 11)]
    assert all(same_layer(layer, source.layer(number)) for number, layer in enumerate(old))


def test_repeated_layers_are_scaled_to_one_rounding_and_the_others_are_not(bench: Bench) -> None:
    out = bench.new_folder()
    lamina.upscale(bench["eight"].folder, out, drop=2, scale_repeated=0.5)
    made, source = read_checkpoint(out), bench["eight"]
    for place, old in enumerate((*range(6), *range(2, 8))):
        for name, tensor in made.layer(place).items():
            factor = 0.5 if 2 <= old < 6 and name in OUTPUTS else 1
            assert same_bits(tensor, source.layer(old)[name] * factor), (place, name)


@pytest.mark.parametrize("options", [{"to": 12}, {"to": 12, "overlap": "ramp"}, {"method": "llama-pro", "add": 2}])
def test_the_recipe_beside_the_folder_makes_the_same_again(bench: Bench, options: dict[str, object]) -> None:
    out, again = bench.new_folder(), bench.new_folder()
    lamina.upscale(bench["eight"].folder, out, **options)  # type: ignore[arg-type]
    lamina.merge(out.with_name(f"{out.name}.yml"), again)
    assert all_bits(read_checkpoint(out)) == all_bits(read_checkpoint(again))
    made_by = [json.loads((folder / "lamina.json").read_text())["plan"] for folder in (out, again)]
    assert made_by[0] == made_by[1]


def test_a_recipe_is_for_plans_and_tensors_too(bench: Bench) -> None:
    recipe = lamina.upscale_recipe(bench["eight"].folder, method="llama-pro", add=1)
    with lamina.tensors(recipe) as tensors:
        assert not tensors["model.layers.8.mlp.down_proj.weight"].any()
        assert tensors["model.layers.7.mlp.down_proj.weight"].any()


def test_nothing_is_written_where_the_model_cannot_be_up_scaled(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(lamina.RecipeError, match="two copies of 8 layers make 9 to 16 layers, not 20"):
        lamina.upscale(bench["eight"].folder, tmp_path / "out", to=20)
    assert list(tmp_path.iterdir()) == []
