"""README.md of a merge: its head for the Hub, its licenses, and no place of a machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import lamina
from lamina.plans.plan import Plan

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name in ("rev", "sort"):
        shutil.copytree(EXAMPLES / name, tmp_path / name)
    return tmp_path


def planned(models: Path) -> Plan:
    return lamina.plan(
        f"# {models}\nmodels:\n- model: {models / 'rev'}\n- model: {models / 'sort'}\n"
        "merge_method: linear\nparameters: {weight: 0.5}\n"
    )


def card(plan: Plan) -> str:
    [text] = [file.content.decode() for file in plan.files if file.name == "README.md"]
    return text


def head(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card(plan).split("---\n")[1])
    return found


def write_card(folder: Path, text: str) -> None:
    (folder / "README.md").write_text(text)


def test_models_are_named_without_their_place(models: Path) -> None:
    text = card(planned(models))
    assert "- model: rev\n- model: sort\n" in text
    assert "- rev\n- sort\n" in text
    assert f"{models / 'rev'}" not in text


def test_the_head_says_what_it_is(models: Path) -> None:
    assert head(planned(models)) == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["merge", "lamina"],
    }  # fmt: skip


def test_a_license_that_all_share_is_that_of_the_merge(models: Path) -> None:
    for name in ("rev", "sort"):
        write_card(models / name, "---\r\nlicense: apache-2.0\r\n---\r\n# A model\n")
    plan = planned(models)
    assert head(plan)["license"] == "apache-2.0"
    assert not [notice for notice in plan.notices if notice.code == "licenses"]
    assert "- rev (apache-2.0)\n" in card(plan)


@pytest.mark.parametrize(
    "other", ["---\nlicense: llama3\n---\n", "# no head\n", None], ids=["other", "none", "no card"]
)
def test_licenses_that_differ_are_all_listed_with_a_notice(models: Path, other: str | None) -> None:
    write_card(models / "rev", "---\nlicense: apache-2.0\n---\n")
    if other is not None:
        write_card(models / "sort", other)
    plan = planned(models)
    [notice] = [notice for notice in plan.notices if notice.code == "licenses"]
    assert "rev: apache-2.0, sort: " in notice.message
    assert "license" not in head(plan)


@pytest.mark.parametrize(
    "text", ["---\n: [\n---\n", "---\n- 3\n---\n", "---\nlicense: 3\n---\n", "", "\xff"], ids=range(5)
)
def test_a_card_that_is_none_is_no_obstacle(models: Path, text: str) -> None:
    write_card(models / "rev", text)
    assert "license" not in head(planned(models))


def test_cards_do_not_change_the_digest(models: Path) -> None:
    before = planned(models).digest
    write_card(models / "rev", "---\nlicense: apache-2.0\n---\n")
    assert planned(models).digest == before


def test_the_card_shows_the_picture_and_says_it_in_words(models: Path) -> None:
    plan = planned(models)
    [picture] = [file for file in plan.files if file.name == "layers.svg"]
    assert picture.content.startswith(b"<svg ")
    assert picture.about_the_merge
    assert f"{models}".encode() not in picture.content
    assert "![4 layers. Layers 0-3: rev 0-3 + sort 0-3, 0.5 + 0.5.](layers.svg)\n" in card(plan)


def test_a_name_with_the_signs_of_markdown_is_written_as_it_is(models: Path) -> None:
    name = "a](x)![`b`]_<i>_"
    (models / "rev").rename(models / name)
    plan = lamina.plan({"models": [{"model": str(models / name)}], "merge_method": "passthrough"})
    assert r"a\](x)\!\[\`b\`\]\_\<i\>\_ 0-3, copied.](layers.svg)" in card(plan)
