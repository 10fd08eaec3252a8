"""A stack is sugar: `lamina plan --as-slices` prints the slices that it stands for."""

from __future__ import annotations

import pytest
import yaml

import lamina

from .checkpoints import all_bits, read_checkpoint
from .conftest import Bench, command

STACKS = {
    "ramp": """
        stack:
          - {model: eight, layers: 0-7, at: 0}
          - {model: eight, layers: 0-7, at: 3}
        overlap: ramp
        """,
    "cut": """
        stack:
          - {model: eight, layers: 0-7, at: 0}
          - {model: eight, layers: 0-7, at: 3}
        overlap: cut
        """,
    "three entries averaged": """
        stack:
          - {model: a, layers: 0-3, at: 0}
          - {model: b, layers: 0-3, at: 1}
          - {model: c, layers: 0-3, at: 2}
        overlap: average
        dtype: float32
        """,
    "a ramp over the whole model": """
        stack:
          - {model: a, layers: 0-3, at: 0}
          - {model: b, layers: 0-3, at: 0}
        overlap: ramp
        """,
    "a ramp up to the last layer of tied models": """
        stack:
          - {model: tied, layers: 0-3, at: 0}
          - {model: tied_b, layers: 1-3, at: 1}
        overlap: average
        """,
    "lists, steps and a scale": """
        stack:
          - {model: eight, layers: ["0-7:2", 7]}
          - {model: eight, layers: 7, parameters: {scale: [{filter: o_proj, value: 0}, {filter: mlp, value: 0.5}]}}
        """,
    "ends from elsewhere": """
        stack:
          - {model: a, layers: 0-3}
          - {model: a, layers: 2-3}
        base_model: a
        embed: b
        head: c
        """,
}


@pytest.mark.parametrize("name", STACKS)
def test_the_printed_slices_give_the_bytes_of_the_stack(bench: Bench, name: str) -> None:
    printed = command("plan", bench.recipe(STACKS[name]), "--as-slices")
    assert printed.code == 0, printed.text
    assert "slices" in yaml.safe_load(printed.stdout)
    assert "stack" not in yaml.safe_load(printed.stdout)

    out = bench.new_folder()
    lamina.merge(bench.recipe(printed.stdout), out)
    slices, stack = read_checkpoint(out), bench.merge(STACKS[name])
    assert all_bits(slices) == all_bits(stack)
    assert slices.config == stack.config


def test_each_run_of_layers_with_the_same_entries_is_one_slice(bench: Bench) -> None:
    printed = command("plan", bench.recipe(STACKS["ramp"]), "--as-slices")
    slices = yaml.safe_load(printed.stdout)["slices"]
    assert [[source["layer_range"] for source in part["sources"]] for part in slices] == [
        [[0, 3]],
        [[3, 8], [0, 5]],
        [[5, 8]],
    ]
    assert [source["parameters"]["weight"] for source in slices[1]["sources"]] == [[1, 0], [0, 1]]
