"""Random recipes against the float64 reference: what the examples elsewhere did not think of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .checkpoints import Checkpoint
from .conftest import Bench
from .reference import assert_rounded_once, covered_layers, expected_output

PROFILE = settings.get_profile("acceptance")
DEPTH = {"a": 4, "b": 4, "c": 4, "eight": 8, "one_a": 1, "half": 4, "single": 4, "tied": 4}
BF16 = ["a", "b", "c", "eight", "one_a"]
FILTERS = ["self_attn", "mlp", "q_proj", "layers.1", "layers.0.", "norm", "lm_head", "embed", "*", "nothing_has_this"]

# Multiples of 1/16 up to 2: sums of three are zero or at least 1/16, never almost zero.
numbers = st.integers(-16, 32).map(lambda i: i / 16)
gradients = st.lists(numbers, min_size=1, max_size=4)


@st.composite
def settings_of(draw: Any, values: Any = numbers) -> Any:
    """A scalar, a gradient, or a list of filters that ends in a value for all."""
    plain = st.one_of(values, st.lists(values, min_size=1, max_size=4))
    if draw(st.booleans()):
        return draw(plain)
    rules = [{"filter": draw(st.sampled_from(FILTERS)), "value": draw(plain)} for _ in range(draw(st.integers(1, 3)))]
    return [*rules, {"value": draw(plain)}]


@st.composite
def ranged_sources(draw: Any, models: list[str], count: int) -> list[dict[str, Any]]:
    chosen = [draw(st.sampled_from(models)) for _ in range(count)]
    length = draw(st.integers(1, min(DEPTH[model] for model in chosen)))
    sources = []
    for model in chosen:
        start = draw(st.integers(0, DEPTH[model] - length))
        sources.append({"model": model, "layer_range": [start, start + length]})
    return sources


@st.composite
def linear_slices(draw: Any, models: list[str]) -> dict[str, Any]:
    slices = []
    for _ in range(draw(st.integers(1, 3))):
        sources = draw(ranged_sources(models, draw(st.integers(1, 3))))
        for source in sources:
            if draw(st.integers(0, 3)):
                source["parameters"] = {"weight": draw(settings_of())}
        part: dict[str, Any] = {"sources": sources}
        if draw(st.booleans()):
            part["parameters"] = {"weight": draw(settings_of())}
        slices.append(part)
    recipe: dict[str, Any] = {"slices": slices, "merge_method": "linear", "parameters": {"weight": draw(numbers)}}
    if draw(st.booleans()):
        recipe["parameters"]["normalize"] = draw(st.booleans())
    dtype = draw(st.sampled_from([None, "bfloat16", "float32", "float16", "float64"]))
    return recipe | ({"dtype": dtype} if dtype else {})


@st.composite
def task_vectors(draw: Any) -> dict[str, Any]:
    others = draw(st.lists(st.sampled_from(["b", "c"]), min_size=1, max_size=2, unique=True))
    entries: list[dict[str, Any]] = [{"model": m, "parameters": {"weight": draw(settings_of())}} for m in others]
    if draw(st.booleans()):
        entries.insert(draw(st.integers(0, len(entries))), {"model": "a"})
    parameters: dict[str, Any] = {}
    if draw(st.booleans()):
        parameters["lambda"] = draw(settings_of())
    if draw(st.booleans()):
        parameters["normalize"] = draw(st.booleans())
    return {
        "models": entries,
        "merge_method": "task_arithmetic",
        "base_model": "a",
        "parameters": parameters,
        "dtype": draw(st.sampled_from(["bfloat16", "float32"])),
    }


@st.composite
def stacks(draw: Any) -> dict[str, Any]:
    """Entries in any arrangement; what cannot be cut or ramped is averaged or weighted."""
    entries: list[dict[str, Any]] = []
    end = 0
    for i in range(draw(st.integers(1, 4))):
        model = draw(st.sampled_from(BF16))
        first = draw(st.integers(0, DEPTH[model] - 1))
        last = draw(st.integers(first, DEPTH[model] - 1))
        entry: dict[str, Any] = {"model": model, "layers": f"{first}-{last}"}
        if i and draw(st.booleans()):
            entry["at"] = draw(st.integers(0, end))
        end = entry.get("at", end) + last - first + 1
        entries.append(entry)
    return {"stack": entries, "overlap": draw(st.sampled_from(["cut", "ramp", "average"]))}


def agree(bench: Bench, recipe: Mapping[str, Any], expected: Mapping[str, Any]) -> Checkpoint:
    merged = bench.merge(recipe)
    assert set(merged.tensors) == set(expected)
    for name, tensor in merged.tensors.items():
        assert_rounded_once(tensor, expected[name], name)
    return merged


def reference(bench: Bench, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The expected output; recipes that a weight sum of zero makes an error are passed over."""
    try:
        return expected_output(recipe, bench.checkpoints)
    except ZeroDivisionError:
        assume(False)
        raise


@PROFILE
@given(recipe=linear_slices(BF16))
def test_random_linear_slices(session_bench: Bench, recipe: dict[str, Any]) -> None:
    agree(session_bench, recipe, reference(session_bench, recipe))


@PROFILE
@given(recipe=linear_slices(["a", "half", "single"]))
def test_random_linear_slices_of_mixed_dtypes(session_bench: Bench, recipe: dict[str, Any]) -> None:
    assume("dtype" in recipe)
    agree(session_bench, recipe, reference(session_bench, recipe))


@PROFILE
@given(recipe=task_vectors())
def test_random_task_arithmetic(session_bench: Bench, recipe: dict[str, Any]) -> None:
    agree(session_bench, recipe, reference(session_bench, recipe))


@PROFILE
@given(recipe=stacks())
def test_random_stacks(session_bench: Bench, recipe: dict[str, Any]) -> None:
    covers = covered_layers_or_none(recipe)
    assume(covers is not None)
    agree(session_bench, recipe, expected_output(recipe, session_bench.checkpoints))


@PROFILE
@given(recipe=stacks(), weights=st.lists(st.integers(1, 16), min_size=4, max_size=4))
def test_random_stacks_with_weights(session_bench: Bench, recipe: dict[str, Any], weights: list[int]) -> None:
    entries = [
        entry | {"parameters": {"weight": weight / 4}} for entry, weight in zip(recipe["stack"], weights, strict=False)
    ]
    weighted = {"stack": entries}
    agree(session_bench, weighted, expected_output(weighted, session_bench.checkpoints))


def covered_layers_or_none(recipe: dict[str, Any]) -> Any:
    """The covers of a stack whose every crossing is between two entries that follow one another, or None."""
    covers = covered_layers(recipe)
    if recipe["overlap"] == "average":
        return covers
    spans: dict[int, tuple[int, int]] = {}
    for depth, cover in enumerate(covers):
        for c in cover:
            spans[c.entry] = (spans.get(c.entry, (depth, depth))[0], depth)
    ordered = all(
        spans[i][0] < spans[i + 1][0] and spans[i][1] < spans[i + 1][1] for i in range(len(recipe["stack"]) - 1)
    )
    consecutive = all(len(cover) <= 2 and cover[-1].entry - cover[0].entry <= 1 for cover in covers)
    return covers if ordered and consecutive else None
