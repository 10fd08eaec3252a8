"""`lamina plan`: the table, the data, what stands in the way at OUT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lamina.cli.plan import FORECAST_FIELDS

from .conftest import AVERAGE, Lamina


def test_the_table_has_every_layer_and_the_sizes(lamina: Lamina) -> None:
    run = lamina("plan", "stack.yml")
    assert (run.code, run.err) == (0, "")
    assert "stack.yml · linear · bfloat16 · 5 layers" in run.out
    assert "base 2  +  base 1  0.5  +  0.5" in run.out
    assert "disk free" in run.out
    assert run.out.endswith("no errors\n")


def test_the_data_have_the_documented_keys_and_no_others(lamina: Lamina) -> None:
    data = lamina("plan", "stack.yml", "--json").data
    assert list(data) == list(FORECAST_FIELDS)
    assert data["layers"] == 5
    assert data["rows"][0] == {
        "first": 0, "last": 1, "copied": True, "blend": "copied",
        "parts": [{"model": "base", "first": 0, "last": 1, "of_delta": False, "factors": [[1, 1], [1, 1]]}],
    }  # fmt: skip
    assert data["disk"]["needed"] > 600_000
    assert data["notices"][0]["code"] == "unlike-depths"


def test_a_recipe_comes_in_by_a_pipe(lamina: Lamina) -> None:
    assert "recipe · linear" in lamina("plan", "-", stdin=AVERAGE).out


def test_the_folder_of_a_published_merge_plans_to_the_same_digest(lamina: Lamina) -> None:
    made = lamina("merge", "average.yml", "out", "--json").data
    assert lamina("plan", "out", "--json").data["digest"] == made["digest"]


def test_the_layers_are_drawn_as_a_merge_has_them(lamina: Lamina, folder: Path) -> None:
    run = lamina("plan", "stack.yml", "--svg", "picture.svg")
    assert run.out.endswith("no errors\n")
    lamina("merge", "stack.yml", "out")
    assert (folder / "picture.svg").read_bytes() == (folder / "out" / "layers.svg").read_bytes()


def test_no_other_file_is_drawn_over(lamina: Lamina, folder: Path) -> None:
    before = (folder / "stack.yml").read_bytes()
    run = lamina("plan", "stack.yml", "--svg", "stack.yml")
    assert run.code == 2
    assert "write stack.svg" in run.err
    assert (folder / "stack.yml").read_bytes() == before


def test_a_picture_that_cannot_be_written_is_a_letter(lamina: Lamina) -> None:
    run = lamina("plan", "stack.yml", "--svg", "nowhere/picture.svg")
    assert run.code == 1
    assert "nowhere/picture.svg: no such file or directory" in run.err.lower()


def test_as_slices_plans_to_the_same_digest(lamina: Lamina, folder: Path) -> None:
    (folder / "slices.yml").write_text(lamina("plan", "stack.yml", "--as-slices").out)
    plans = [lamina("plan", name, "--json").data for name in ("stack.yml", "slices.yml")]
    assert plans[0]["digest"] == plans[1]["digest"]


def test_as_slices_in_json_is_the_same_recipe(lamina: Lamina) -> None:
    as_yaml, as_json = (lamina("plan", "stack.yml", "--as-slices", *more).out for more in ([], ["--json"]))
    assert json.loads(as_json) == yaml.safe_load(as_yaml)


def test_set_changes_the_recipe_and_a_fault_of_it_names_the_flag(lamina: Lamina) -> None:
    assert "float32" in lamina("plan", "average.yml", "--set", "dtype=float32").out.splitlines()[0]
    run = lamina("plan", "average.yml", "--set", "dtype=float31")
    assert run.code == 2
    assert "--set dtype=float31" in run.err


def test_faults_beside_a_set_keep_their_lines(lamina: Lamina) -> None:
    run = lamina("plan", "faulty.yml", "--set", "merge_method=linear")
    assert "faulty.yml:7:1" in run.err
    assert "dtpye: bfloat16" in run.err


def test_lenient_passes_what_normal_refuses(lamina: Lamina) -> None:
    assert lamina("plan", "faulty.yml").code == 2
    run = lamina("plan", "average.yml", "--set", "whatever=1", "--strict")
    assert (run.code, lamina("plan", "average.yml", "--set", "whatever=1").code) == (2, 0)
    assert lamina("plan", "average.yml", "--set", "dtpye=1", "--lenient").code == 0


def test_what_stands_at_out_is_told_after_the_plan_with_exit_code_2(lamina: Lamina, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.tex").write_text("years of work")
    run = lamina("plan", "average.yml", "out")
    assert run.code == 2
    assert "average.yml · linear" in run.out
    assert "out exists and was not made by this recipe" in run.err
    data = lamina("merge", "average.yml", "out", "--dry-run", "--json")
    assert (data.code, data.data["refusal"]["code"]) == (2, "output")
    assert lamina("merge", "average.yml", "out", "--dry-run", "--force").code == 0


def test_what_this_plan_made_is_already_there(lamina: Lamina) -> None:
    lamina("merge", "average.yml", "out")
    assert "out is already there" in lamina("plan", "average.yml", "out").out


def test_memory_that_cannot_do_is_an_error_of_the_plan(lamina: Lamina) -> None:
    run = lamina("plan", "average.yml", "--memory", "1MB")
    assert run.code == 2
    assert "needs" in run.err


@pytest.mark.parametrize("columns", ["1", "8", "40"])
def test_a_narrow_terminal_is_no_reason_to_fail(lamina: Lamina, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert lamina("plan", "stack.yml").code == 0
