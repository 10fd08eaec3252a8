"""`stack`: any model's layers at any depth, any number of times, blended where they cross."""

from __future__ import annotations

import pytest

from .checkpoints import all_bits, depth_map, same_bits, same_layer
from .conftest import Bench
from .reference import assert_rounded_once, linear


def blended(bench: Bench, recipe: str, layer: int, parts: list[tuple[str, int]], weights: list[float]) -> None:
    """Merges `recipe` and asserts that one output layer is the weighted mean of the given source layers."""
    merged = bench.merge(recipe)
    for suffix, tensor in merged.layer(layer).items():
        sources = [bench[model].layer(i)[suffix] for model, i in parts]
        assert_rounded_once(tensor, linear(sources, weights), f"layer {layer} {suffix}")


# Concatenation: nothing crosses


def test_entries_without_at_follow_each_other(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-2}
          - {model: a, layers: 1-3}
        """)
    assert depth_map(merged, [bench["a"]]) == ["a:0", "a:1", "a:2", "a:1", "a:2", "a:3"]
    assert merged.config["num_hidden_layers"] == 6


def test_solar_has_three_spellings_with_the_same_bytes(bench: Bench) -> None:
    cut = bench.merge("""
        stack:
          - {model: deep, layers: 0-31, at: 0}
          - {model: deep, layers: 0-31, at: 16}
        overlap: cut
        """)
    two_entries = bench.merge("""
        stack:
          - {model: deep, layers: 0-23}
          - {model: deep, layers: 8-31}
        """)
    one_entry = bench.merge("stack: [{model: deep, layers: [0-23, 8-31]}]")

    assert all_bits(cut) == all_bits(two_entries) == all_bits(one_entry)
    expected = [f"deep:{i}" for i in [*range(24), *range(8, 32)]]
    assert depth_map(cut, [bench["deep"]]) == expected
    assert cut.config["num_hidden_layers"] == two_entries.config["num_hidden_layers"] == 48


def test_layers_of_two_models_are_stacked_with_the_ends_of_each(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-2}
          - {model: b, layers: 2-3}
        """)
    assert depth_map(merged, [bench["a"], bench["b"]]) == ["a:0", "a:1", "a:2", "b:2", "b:3"]
    assert same_bits(merged.embed, bench["a"].embed)
    assert same_bits(merged.norm, bench["b"].norm)
    assert same_bits(merged.head, bench["b"].head)


def test_one_layer_models_are_stacked(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: one_a, layers: 0}
          - {model: one_b, layers: 0-}
        """)
    assert depth_map(merged, [bench["one_a"], bench["one_b"]]) == ["one_a:0", "one_b:0"]


def test_models_of_different_depth_are_stacked(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: eight, layers: 5-7}
          - {model: one_a, layers: 0}
        """)
    sources = [bench["eight"], bench["one_a"]]
    assert depth_map(merged, sources) == ["eight:5", "eight:6", "eight:7", "one_a:0"]


def test_one_entry_that_is_the_whole_model_copies_it(bench: Bench) -> None:
    assert all_bits(bench.merge("stack: [{model: a, layers: 0-3}]")) == all_bits(bench["a"])


# Two entries that cross


def test_cut_gives_the_first_half_to_the_earlier_entry_and_the_odd_layer_too(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: eight, layers: 0-7, at: 0}
          - {model: eight, layers: 0-7, at: 3}
        overlap: cut
        """)
    # They cross on layers 3 to 7: three to the earlier, two to the later.
    expected = [f"eight:{i}" for i in [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7]]
    assert depth_map(merged, [bench["eight"]]) == expected


def test_ramp_over_an_odd_number_of_layers_is_one_half_in_the_middle(bench: Bench) -> None:
    recipe = """
        stack:
          - {model: eight, layers: 0-7, at: 0}
          - {model: eight, layers: 0-7, at: 3}
        overlap: ramp
        """
    merged = bench.merge(recipe)
    for i, later in enumerate([0, 0.25, 0.5, 0.75, 1]):
        for suffix, tensor in merged.layer(3 + i).items():
            sources = [bench["eight"].layer(3 + i)[suffix], bench["eight"].layer(i)[suffix]]
            assert_rounded_once(tensor, linear(sources, [1 - later, later]), suffix)


def test_average_halves_every_crossing_layer(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-3, at: 0}
          - {model: b, layers: 0-3, at: 1}
        overlap: average
        """)
    assert same_layer(merged.layer(0), bench["a"].layer(0))
    assert same_layer(merged.layer(4), bench["b"].layer(3))
    for i in range(1, 4):
        for suffix, tensor in merged.layer(i).items():
            sources = [bench["a"].layer(i)[suffix], bench["b"].layer(i - 1)[suffix]]
            assert_rounded_once(tensor, linear(sources, [1, 1]), f"layer {i} {suffix}")


@pytest.mark.parametrize("overlap", ["ramp", "average"])
def test_crossing_on_one_layer_gives_each_one_half(bench: Bench, overlap: str) -> None:
    recipe = f"""
        stack:
          - {{model: a, layers: 0-3, at: 0}}
          - {{model: b, layers: 0-3, at: 3}}
        overlap: {overlap}
        """
    blended(bench, recipe, 3, [("a", 3), ("b", 0)], [0.5, 0.5])


def test_crossing_on_one_layer_with_cut_gives_it_to_the_earlier(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-3, at: 0}
          - {model: b, layers: 0-3, at: 3}
        overlap: cut
        """)
    sources = [bench["a"], bench["b"]]
    assert depth_map(merged, sources) == ["a:0", "a:1", "a:2", "a:3", "b:1", "b:2", "b:3"]


@pytest.mark.parametrize("overlap", ["ramp", "cut"])
def test_crossing_on_two_layers_gives_one_to_each(bench: Bench, overlap: str) -> None:
    merged = bench.merge(f"""
        stack:
          - {{model: a, layers: 0-3, at: 0}}
          - {{model: b, layers: 0-3, at: 2}}
        overlap: {overlap}
        """)
    assert depth_map(merged, [bench["a"], bench["b"]]) == ["a:0", "a:1", "a:2", "b:1", "b:2", "b:3"]


def test_crossing_twice_ramps_twice(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-3, at: 0}
          - {model: b, layers: 0-3, at: 2}
          - {model: c, layers: 0-3, at: 4}
        overlap: ramp
        """)
    sources = [bench[name] for name in "abc"]
    assert depth_map(merged, sources) == ["a:0", "a:1", "a:2", "b:1", "b:2", "c:1", "c:2", "c:3"]


def test_a_list_of_ranges_crosses_as_one_entry(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: [0-1, 2-3], at: 0}
          - {model: b, layers: ["3", 0-2], at: 2}
        overlap: ramp
        """)
    assert depth_map(merged, [bench["a"], bench["b"]]) == ["a:0", "a:1", "a:2", "b:0", "b:1", "b:2"]


def test_crossing_without_overlap_is_refused_with_the_choices(bench: Bench) -> None:
    refusal = bench.refused("""
        stack:
          - {model: a, layers: 0-3, at: 0}
          - {model: b, layers: 0-3, at: 2}
        """)
    for choice in ("cut", "average", "ramp"):
        assert choice in refusal.text


def test_an_unknown_overlap_is_refused(bench: Bench) -> None:
    refusal = bench.refused("""
        stack:
          - {model: a, layers: 0-3, at: 0}
          - {model: b, layers: 0-3, at: 2}
        overlap: rampe
        """)
    assert "ramp" in refusal.text


# Three at once, nesting, and going back: average or weights


THREE = """
        stack:
          - {{model: a, layers: 0-3, at: 0{0}}}
          - {{model: b, layers: 0-3, at: 1{1}}}
          - {{model: c, layers: 0-3, at: 2{2}}}
        {3}
        """


def test_three_crossing_entries_average_to_thirds(bench: Bench) -> None:
    recipe = THREE.format("", "", "", "overlap: average")
    blended(bench, recipe, 2, [("a", 2), ("b", 1), ("c", 0)], [1 / 3, 1 / 3, 1 / 3])
    blended(bench, recipe, 3, [("a", 3), ("b", 2), ("c", 1)], [1 / 3, 1 / 3, 1 / 3])
    blended(bench, recipe, 1, [("a", 1), ("b", 0)], [1 / 2, 1 / 2])
    blended(bench, recipe, 4, [("b", 3), ("c", 2)], [1 / 2, 1 / 2])


@pytest.mark.parametrize("overlap", ["ramp", "cut"])
def test_three_crossing_entries_are_neither_ramped_nor_cut(bench: Bench, overlap: str) -> None:
    assert "average" in bench.refused(THREE.format("", "", "", f"overlap: {overlap}")).text


@pytest.mark.parametrize("spelling", ["weight: {0}", "parameters: {{weight: {0}}}"])
def test_three_crossing_entries_take_explicit_weights(bench: Bench, spelling: str) -> None:
    recipe = THREE.format(*[f", {spelling.format(weight)}" for weight in (1, 2, 5)], "")
    blended(bench, recipe, 2, [("a", 2), ("b", 1), ("c", 0)], [1 / 8, 2 / 8, 5 / 8])
    blended(bench, recipe, 1, [("a", 1), ("b", 0)], [1 / 3, 2 / 3])
    blended(bench, recipe, 4, [("b", 3), ("c", 2)], [2 / 7, 5 / 7])


def test_a_weighted_entry_alone_is_a_copy(bench: Bench) -> None:
    merged = bench.merge(THREE.format(*[f", parameters: {{weight: {w}}}" for w in (0.1, 2, 5)], ""))
    assert same_layer(merged.layer(0), bench["a"].layer(0))
    assert same_layer(merged.layer(5), bench["c"].layer(3))
    assert same_bits(merged.embed, bench["a"].embed)
    assert same_bits(merged.head, bench["c"].head)


NESTED = """
        stack:
          - {{model: eight, layers: 0-7, at: 0}}
          - {{model: a, layers: 1-2, at: 3}}
        overlap: {0}
        """


def test_a_nested_entry_is_averaged(bench: Bench) -> None:
    recipe = NESTED.format("average")
    blended(bench, recipe, 3, [("eight", 3), ("a", 1)], [0.5, 0.5])
    blended(bench, recipe, 4, [("eight", 4), ("a", 2)], [0.5, 0.5])
    merged = bench.merge(recipe)
    assert merged.config["num_hidden_layers"] == 8
    copies = [f"eight:{i}" for i in range(8)]
    copies[3] = copies[4] = "?"
    assert depth_map(merged, [bench["eight"]]) == copies


@pytest.mark.parametrize("overlap", ["ramp", "cut"])
def test_a_nested_entry_is_neither_ramped_nor_cut(bench: Bench, overlap: str) -> None:
    assert "average" in bench.refused(NESTED.format(overlap)).text


def test_the_ends_follow_the_outer_of_two_nested_entries(bench: Bench) -> None:
    merged = bench.merge(NESTED.format("average"))
    assert same_bits(merged.embed, bench["eight"].embed)
    assert same_bits(merged.norm, bench["eight"].norm)
    assert same_bits(merged.head, bench["eight"].head)


BACKWARDS = """
        stack:
          - {{model: a, layers: 0-3, at: 2}}
          - {{model: b, layers: 0-3, at: 0}}
        overlap: {0}
        """


def test_an_entry_placed_before_the_previous_one_is_averaged(bench: Bench) -> None:
    recipe = BACKWARDS.format("average")
    blended(bench, recipe, 2, [("a", 0), ("b", 2)], [0.5, 0.5])
    blended(bench, recipe, 3, [("a", 1), ("b", 3)], [0.5, 0.5])
    merged = bench.merge(recipe)
    assert depth_map(merged, [bench["a"], bench["b"]]) == ["b:0", "b:1", "?", "?", "a:2", "a:3"]
    assert same_bits(merged.embed, bench["b"].embed)
    assert same_bits(merged.head, bench["a"].head)


@pytest.mark.parametrize("overlap", ["ramp", "cut"])
def test_an_entry_placed_before_the_previous_one_is_neither_ramped_nor_cut(bench: Bench, overlap: str) -> None:
    assert "average" in bench.refused(BACKWARDS.format(overlap)).text


# Gaps


def test_a_gap_between_entries_is_refused(bench: Bench) -> None:
    refusal = bench.refused("""
        stack:
          - {model: a, layers: 0-3, at: 0}
          - {model: b, layers: 0-3, at: 6}
        """)
    assert "4-5" in refusal.text or ("4" in refusal.text and "5" in refusal.text)


def test_a_gap_before_the_first_entry_is_refused(bench: Bench) -> None:
    bench.refused("stack: [{model: a, layers: 0-3, at: 1}]")


def test_a_gap_filled_by_a_later_entry_is_no_gap(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-1, at: 0}
          - {model: b, layers: 2-3, at: 4}
          - {model: c, layers: 1-2, at: 2}
        overlap: average
        """)
    sources = [bench[name] for name in "abc"]
    assert depth_map(merged, sources) == ["a:0", "a:1", "c:1", "c:2", "b:2", "b:3"]


# Ends of the model


def test_a_whole_model_ramp_takes_embeddings_from_the_first_and_head_from_the_second(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-3, at: 0}
          - {model: b, layers: 0-3, at: 0}
        overlap: ramp
        """)
    assert same_bits(merged.embed, bench["a"].embed)
    assert same_bits(merged.norm, bench["b"].norm)
    assert same_bits(merged.head, bench["b"].head)
    assert depth_map(merged, [bench["a"], bench["b"]]) == ["a:0", "?", "?", "b:3"]
    for suffix, tensor in merged.layer(1).items():
        sources = [bench["a"].layer(1)[suffix], bench["b"].layer(1)[suffix]]
        assert_rounded_once(tensor, linear(sources, [2 / 3, 1 / 3]), suffix)


def test_a_whole_model_average_averages_the_ends_too(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-3, at: 0}
          - {model: b, layers: 0-3, at: 0}
        overlap: average
        """)
    for ours, name in ((merged.embed, "embed"), (merged.norm, "norm"), (merged.head, "head")):
        sources = [getattr(bench[model], name) for model in "ab"]
        assert_rounded_once(ours, linear(sources, [1, 1]), name)


def test_a_one_layer_ramp_of_two_models_is_their_mean_throughout(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: one_a, layers: 0, at: 0}
          - {model: one_b, layers: 0, at: 0}
        overlap: ramp
        """)
    for name, tensor in merged.tensors.items():
        sources = [bench[model].tensors[name] for model in ("one_a", "one_b")]
        assert_rounded_once(tensor, linear(sources, [1, 1]), name)


@pytest.mark.parametrize("part", ["embed", "norm", "head"])
def test_the_ends_can_be_taken_from_another_model(bench: Bench, part: str) -> None:
    merged = bench.merge(f"""
        stack:
          - {{model: a, layers: 0-3}}
          - {{model: a, layers: 2-3}}
        {part}: b
        """)
    for name in ("embed", "norm", "head"):
        donor = "b" if name == part else "a"
        assert same_bits(getattr(merged, name), getattr(bench[donor], name)), name
    assert depth_map(merged, [bench["a"]]) == [f"a:{i}" for i in [0, 1, 2, 3, 2, 3]]


# Parameters of an entry


def test_scale_by_filter_makes_blocks_that_add_nothing(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-3}
          - model: a
            layers: 3
            parameters:
              scale:
                - {filter: o_proj, value: 0}
                - {filter: down_proj, value: 0}
        """)
    block, original = merged.layer(4), bench["a"].layer(3)
    for suffix, tensor in block.items():
        if "o_proj" in suffix or "down_proj" in suffix:
            assert (tensor == 0).all(), suffix
        else:
            assert same_bits(tensor, original[suffix]), suffix
    for i in range(4):
        assert same_layer(merged.layer(i), bench["a"].layer(i))


def test_scale_multiplies_what_its_filter_names(bench: Bench) -> None:
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-1}
          - model: b
            layers: 2-3
            parameters: {scale: [{filter: up_proj, value: 0.3}, {filter: layers.3.mlp.gate, value: 2}]}
        """)
    for i in (2, 3):
        for suffix, tensor in merged.layer(i).items():
            source = bench["b"].layer(i)[suffix]
            if "up_proj" in suffix:
                expected = linear([source], [0.3], normalize=False)
            elif "gate" in suffix and i == 3:
                expected = linear([source], [2], normalize=False)
            else:
                assert same_bits(tensor, source), f"layer {i} {suffix}"
                continue
            assert_rounded_once(tensor, expected, f"layer {i} {suffix}")


def test_filters_of_an_entry_name_the_source_layer(bench: Bench) -> None:
    # As in MergeKit, a parameter of one model is filtered by the model's own tensor names.
    merged = bench.merge("""
        stack:
          - {model: a, layers: 0-3}
          - {model: b, layers: 1-2, parameters: {scale: [{filter: layers.1.mlp.up_proj, value: 0}]}}
        """)
    assert (merged.layer(4)["mlp.up_proj.weight"] == 0).all()
    assert same_bits(merged.layer(1)["mlp.up_proj.weight"], bench["a"].layer(1)["mlp.up_proj.weight"])
    assert same_bits(merged.layer(5)["mlp.up_proj.weight"], bench["b"].layer(2)["mlp.up_proj.weight"])


# Where everything else comes from


def test_config_and_side_files_come_from_the_first_entry(bench: Bench) -> None:
    merged = bench.merge("stack: [{model: b, layers: 0-1}, {model: a, layers: 2-3}]")
    assert (merged.folder / "tokenizer.json").read_bytes() == (bench["b"].folder / "tokenizer.json").read_bytes()


def test_config_and_side_files_come_from_base_model_where_it_is_given(bench: Bench) -> None:
    merged = bench.merge("""
        stack: [{model: b, layers: 0-1}, {model: a, layers: 2-3}]
        base_model: c
        """)
    assert (merged.folder / "tokenizer.json").read_bytes() == (bench["c"].folder / "tokenizer.json").read_bytes()
    assert depth_map(merged, [bench["a"], bench["b"]]) == ["b:0", "b:1", "a:2", "a:3"]
    assert same_bits(merged.embed, bench["b"].embed)
