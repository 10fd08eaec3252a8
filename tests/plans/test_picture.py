"""The picture of the layers: what stands in it, for whom, and that no name can break it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import SPEC, Recipe, delta, end, job, merged, plan_of, read

from lamina.expressions.nodes import Merge, Read
from lamina.plans.ink import COLOURS
from lamina.plans.picture import in_words, layer_map_svg
from lamina.plans.plan import Input, Plan
from lamina.plans.sheet import LEFT, RIGHT

SVG = "{http://www.w3.org/2000/svg}"


def test_copies_are_bars_with_their_source_layers_in_them() -> None:
    drawn = picture([[("base", i, 1.0)] for i in (*range(8), *range(4, 12))])
    assert {"16 layers", "16 copied", "0-7", "4-11", "layers 0-7", "layers 4-11"} <= texts(drawn)
    assert len(bars(drawn)) == 16


def test_the_seam_is_marked_with_the_layers_that_meet() -> None:
    drawn = picture([[("base", i, 1.0)] for i in (0, 1, 2, 1, 2, 3)])
    assert "2 ▸ 1" in texts(drawn)
    [seam] = lines(drawn, "seam")
    assert seam == pytest.approx((LEFT + RIGHT) / 2, abs=1)  # before output layer 3 of 6


def test_a_blend_is_as_high_as_its_factors() -> None:
    first, second = heights(picture([[("a", 0, 0.25), ("b", 0, 0.75)]]))
    assert second == pytest.approx(3 * first, abs=0.02)


def test_small_factors_are_drawn_larger_and_the_legend_says_so() -> None:
    drawn = picture([[(f"m{i}", 0, 0.1) for i in range(10)]])
    assert min(heights(drawn)) > 10
    assert "blended or scaled: as high as its factor (full height: 0.125)" in texts(drawn)


def test_what_is_subtracted_hangs_below_the_line() -> None:
    drawn = picture([[("a", 0, 1.5), ("b", 0, -0.5)]])
    (_, above, *_), (_, below, *_) = (bars(drawn, colour)[0] for colour in ("c0", "c1"))
    line_a, line_b = (float(path.split()[1].partition("H")[0]) for path in paths(drawn, "rule") if "H" in path)
    assert above < line_a
    assert below == line_b
    assert "below the line: subtracted" in texts(drawn)


def test_a_delta_is_hatched_and_marked() -> None:
    drawn = svg(plan_of([job("model.layers.0.w", delta("base", "tuned", 0, 0.7))]))
    assert any("layer 0 · Δ × 0.7" in each for each in texts(drawn))
    hatched = [each for each in drawn.iter(f"{SVG}path") if each.get("fill", "").startswith("url(#")]
    assert len(hatched) == 2  # its bar, and the sample in the legend


def test_where_the_method_decides_by_what_it_reads_the_factors_are_said_to_be_the_recipe_s() -> None:
    ties = Merge("ties", (read("tuned", 0),), (), read("base", 0), SPEC, (("weight", (0.7,)), ("density", (0.5,))))
    measured, summed = (svg(plan_of([job("model.layers.0.w", each)])) for each in (ties, delta("base", "t", 0, 0.7)))
    said = "factors: as the recipe has them; the method weighs each tensor by what is in it"
    assert said in texts(measured)
    assert said not in texts(summed)


def test_a_layer_that_adds_nothing_is_hollow() -> None:
    factors = {"mlp.down_proj.weight": 0.0, "mlp.up_proj.weight": 1.0}
    jobs = [job(f"model.layers.0.{name}", merged([("a", 0, factor)], name)) for name, factor in factors.items()]
    drawn = svg(plan_of(jobs))
    assert len(bars(drawn, "c0 some")) == 1
    assert "adds nothing yet: its outputs are multiplied by 0" in texts(drawn)


def test_ends_are_in_the_lane_of_the_model_that_gives_them() -> None:
    plan = plan_of(
        [
            end("model.embed_tokens.weight", ("a", 1.0)),
            job("model.layers.0.w", read("b", 0)),
            end("model.norm.weight", ("b", 1.0)),
            end("lm_head.weight", ("b", 1.0)),
        ]
    )
    drawn = svg(plan)
    assert {"embed", "norm", "head", "ends only"} <= texts(drawn)
    assert "head: tied to the embedding" not in texts(drawn)
    assert [len(bars(drawn, colour)) for colour in ("c0", "c1")] == [3, 1]


def test_a_head_that_is_not_written_is_said_to_be_tied() -> None:
    assert "head: tied to the embedding" in texts(picture([[("a", 0, 1.0)]]))


# For everyone


def test_it_says_in_words_what_it_shows() -> None:
    plan = plan_of([[("base", i, 1.0)] for i in (0, 1, 2, 1, 2, 3)])
    told = "6 layers. Layers 0-2: base 0-2, copied. Layers 3-5: base 1-3, copied."
    assert in_words(plan) == told
    drawn = svg(plan)
    assert drawn.get("role") == "img"
    labels = [next(each.text for each in drawn.iter() if each.get("id") == name) for name in named_by(drawn)]
    assert labels == ["Layer map: 6 layers", told]


def test_words_about_very_many_rows_stop() -> None:
    assert in_words(plan_of([[("base", i % 2 * 5, 1.0)] for i in range(50)])).endswith("And 42 further rows.")


def test_dark_paper_has_colours_of_its_own() -> None:
    text = layer_map_svg(plan_of([[("base", 0, 1.0)]]))
    light, dark = text.split("@media (prefers-color-scheme:dark)")
    assert COLOURS[0][0] in light
    assert COLOURS[0][1] in dark


def test_words_on_every_colour_and_paper_are_readable() -> None:
    """A contrast of 4.5 to 1, as WCAG 2.1 asks of text (success criterion 1.4.3)."""
    for light, dark in COLOURS:
        assert contrast(light, "#ffffff") >= 4.5
        assert contrast(dark, "#0d1117") >= 4.5


def test_pictures_in_one_page_do_not_share_names() -> None:
    one, other = picture([[("base", 0, 1.0)]]), picture([[("base", 1, 1.0)]])
    assert not set(named_by(one)) & set(named_by(other))


# Any plan, any name


def test_the_same_plan_gives_the_same_bytes() -> None:
    layers = [[("a", i, 1 / 3), ("b", i, 2 / 3)] for i in range(5)]
    assert layer_map_svg(plan_of(layers)) == layer_map_svg(plan_of(layers))


HOSTILE = [
    "<script>alert(1)</script>", '"onload="', "]]>&amp;", "a\0b\x1b[31m\n", "\ud800", "\ufffe", "🦙" * 60,
    "x" * 9_999, "\u202egnp.exe", "url(#hatch)", "日本語モデル" * 9, "e" + "\u0301" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:20])
def test_no_name_breaks_it(name: str) -> None:
    plan = plan_of([[(name, 0, 0.5), ("b", 0, 0.5)]])
    text = layer_map_svg(plan)
    text.encode()
    drawn = ElementTree.fromstring(text)
    assert "script" not in {each.tag.removeprefix(SVG) for each in drawn.iter()}
    assert not {key for each in drawn.iter() for key in each.attrib if key.startswith("on")}
    assert "\u202e" not in text


def test_long_names_keep_their_beginning_and_their_end() -> None:
    drawn = picture([[("organisation-with-a-long-name-of-a-model-v2", 0, 1.0)]])
    [name] = [each for each in texts(drawn) if "…" in each]
    assert name.startswith("organisation")
    assert name.endswith("-v2")


@pytest.mark.parametrize("depth", [1, 2, 3, 24, 32, 80, 200, 400])
def test_the_ruler_begins_and_ends_with_the_layers_and_never_overlaps(depth: int) -> None:
    drawn = picture([[("base", i, 1.0)] for i in range(depth)])
    marks = [each for each in drawn.iter(f"{SVG}text") if each.get("class") == "ink small mid"]
    assert [marks[0].text, marks[-1].text] == ["0", str(depth - 1)]
    places = [float(each.get("x", "")) for each in marks]
    assert all(b - a >= 20 for a, b in pairwise(places))


def test_many_sources_share_lanes_where_they_never_meet() -> None:
    layers: list[Recipe] = [[(("a", "b")[i % 2], i * i * 7 % 40, 1.0)] for i in range(50)]
    drawn = picture(layers)
    assert len([each for each in drawn.iter(f"{SVG}g") if each.find(f"{SVG}title") is not None]) == 2


factor = st.sampled_from([-3.0, -1.0, 0.0, 0.1, 0.5, 1.0, 2.5])
layers_of_any_kind = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), factor), min_size=1, max_size=4),
    min_size=0,
    max_size=30,
)


@given(layers_of_any_kind)
def test_every_plan_has_a_picture_in_which_all_bars_lie_within_the_sheet(layers: list[Any]) -> None:
    drawn = picture(layers)
    height = float(drawn.get("height", ""))
    for path in paths(drawn, r"(c\d|room)( some)?"):
        for x, y, width, tall in boxes(path):
            assert x >= 0
            assert x + width <= 960
            assert tall >= -0.02
            assert 0 <= y <= y + tall <= height


def test_models_are_named_without_their_place() -> None:
    folders = ("/home/ann/base", "/home/joe/base", "./models/rev", "org/name")
    reads = [Read(folder, f"model.layers.{i}.w", read("a", 0).spec) for i, folder in enumerate(folders)]
    plan = plan_of([job(f"model.layers.{i}.w", each) for i, each in enumerate(reads)])
    plan = replace(plan, inputs=tuple(Input(folder, "") for folder in folders))
    assert {"base", "base (2)", "rev", "name"} <= texts(svg(plan))
    assert not re.search("ann|joe|models/", layer_map_svg(plan))


# Helpers


def svg(plan: Plan) -> ElementTree.Element:
    return ElementTree.fromstring(layer_map_svg(plan))


def picture(layers: Sequence[Recipe]) -> ElementTree.Element:
    return svg(plan_of(layers))


def texts(drawn: ElementTree.Element) -> set[str]:
    return {each.text or "" for tag in ("text", "tspan") for each in drawn.iter(f"{SVG}{tag}")}


def paths(drawn: ElementTree.Element, classes: str) -> list[str]:
    """What is drawn in the lanes and the legend, in these classes."""
    return [each.get("d", "") for each in drawn.iter(f"{SVG}path") if re.fullmatch(classes, each.get("class", ""))]


def lines(drawn: ElementTree.Element, classes: str) -> list[float]:
    """Where lines through all lanes stand."""
    return [float(path[1:].split()[0]) for path in paths(drawn, classes) if "V" in path]


def boxes(path: str) -> list[tuple[float, float, float, float]]:
    found = re.findall(r"M(-?[\d.]+) (-?[\d.]+)h(-?[\d.]+)v(-?[\d.]+)h", path)
    return [(float(x), float(y), float(width), float(height)) for x, y, width, height in found]


def bars(drawn: ElementTree.Element, classes: str = r"c\d") -> list[tuple[float, float, float, float]]:
    """The bars of layers and ends: not the samples, which begin at 0, and nothing in the column of names."""
    behind_numbers = 14  # high
    return [
        each for path in paths(drawn, classes) for each in boxes(path) if each[0] > 190 and each[3] != behind_numbers
    ]


def heights(drawn: ElementTree.Element) -> list[float]:
    return [height for *_, height in bars(drawn)]


def named_by(drawn: ElementTree.Element) -> list[str]:
    return drawn.get("aria-labelledby", "").split()


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2.1 defines it."""
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
