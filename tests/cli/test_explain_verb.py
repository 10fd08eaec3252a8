"""`lamina explain`: the tree of one tensor, and the place of every value."""

from __future__ import annotations

from lamina.plans.origin import EXPLAIN_FIELDS

from .conftest import Lamina

MLP = "model.layers.3.mlp.up_proj.weight"

FILTERED = """\
models:
  - model: models/rev
    parameters:
      weight:
        - filter: mlp
          value: [0, 1]
        - value: 0.25
  - model: models/sort
    parameters: {weight: 0.5}
merge_method: linear
parameters: {normalize: false}
"""


def test_every_value_comes_with_the_place_that_sets_it(lamina: Lamina) -> None:
    run = lamina("explain", "-", "model.layers.1.mlp.up_proj.weight", stdin=FILTERED)
    assert run.code == 0, run.err
    lines = [" ".join(line.split()) for line in run.out.splitlines()]
    assert lines == [
        "model.layers.1.mlp.up_proj.weight · bfloat16 [264, 96] · 51 KB · output layer 1",
        "",
        "Linear · bfloat16",
        "├─ 0.333333 × rev: model.layers.1.mlp.up_proj.weight · bfloat16 [264, 96]",
        "└─ 0.5 × sort: model.layers.1.mlp.up_proj.weight · bfloat16 [264, 96]",
        "",
        "parameter of value set at",
        "weight rev 1 0.333333 recipe:5:11, on [0, 1] at layer 1 of 0-3 in its slice",
        "weight sort 1 0.5 recipe:9:26",
        "scale rev 1 1 default",
        "scale sort 1 1 default",
        "normalize all false recipe:11:25",
    ]
    assert "0.25 recipe:7:11" in " ".join(lamina("explain", "-", "lm_head.weight", stdin=FILTERED).out.split())


def test_what_overlap_gives_is_set_by_overlap(lamina: Lamina) -> None:
    run = lamina("explain", "stack.yml", "model.layers.2.mlp.up_proj.weight")
    assert "└─ 0.5 ×  base: model.layers.1.mlp.up_proj.weight" in run.out
    assert "stack.yml:4:10, on [0, 1] at layer 1 of 0-2 in its slice" in run.out


def test_the_data_have_the_documented_keys(lamina: Lamina) -> None:
    data = lamina("explain", "average.yml", MLP, "--json").data
    assert list(data) == list(EXPLAIN_FIELDS)
    assert data["expression"]["op"] == "merge"
    assert [part["coefficient"] for part in data["expression"]["inputs"]] == [0.5, 0.5]
    weights = [value for value in data["values"] if value["parameter"] == "weight"]
    assert [(value["model"], value["place"]) for value in weights] == [
        ("models/rev", "average.yml:3:26"),
        ("models/sort", "average.yml:5:26"),
    ]


def test_a_value_from_the_command_line_names_its_flag(lamina: Lamina) -> None:
    run = lamina("explain", "average.yml", MLP, "--set", "models[1].parameters.weight=2")
    assert "--set models[1].parameters.weight=2" in run.out


def test_an_unknown_name_is_answered_with_near_ones(lamina: Lamina) -> None:
    run = lamina("explain", "average.yml", "model.layers.3.mlp.upproj.weight")
    assert run.code == 2
    assert MLP in run.err
    assert "model.layers.0.mlp.up_proj.weight" in lamina("explain", "average.yml", "up_proj").err


def test_a_copy_is_one_line_and_its_values(lamina: Lamina) -> None:
    run = lamina("explain", "stack.yml", "model.embed_tokens.weight")
    assert "base: model.embed_tokens.weight" in run.out
    assert "├─" not in run.out


def test_a_layer_beyond_the_last_is_told_with_those_that_there_are(lamina: Lamina) -> None:
    run = lamina("explain", "average.yml", "model.layers.9.mlp.up_proj.weight")
    assert run.code == 2
    assert "Its layers are 0 to 3." in " ".join(run.err.split())
