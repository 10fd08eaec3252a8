"""`lamina check` and `lamina merge --check`: verdicts, exit codes, places, JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lamina.cli.check import CHECK_FIELDS

from .conftest import OWN, OWN_RECIPE, Lamina

DEEP = "stack:\n  - {model: models/base, layers: 0-2}\n  - {model: models/base, layers: 1-3}\n"


@pytest.fixture
def another(folder: Path) -> Path:
    """rev, but for the activation that its config.json says."""
    shutil.copytree(folder / "models" / "rev", folder / "another")
    config = json.loads((folder / "another" / "config.json").read_text())
    (folder / "another" / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    return folder / "another"


def test_a_healthy_model_is_told_with_what_was_measured(lamina: Lamina) -> None:
    run = lamina("check", "models/rev", "--parents", "models/base", "--weights-only")
    assert run.code == 0
    assert run.out.startswith("models/rev · healthy\n")
    assert "layers come from base 0-3" in run.out


def test_parents_of_a_merge_are_found_where_the_ledger_says_the_recipe_was(lamina: Lamina, folder: Path) -> None:
    (folder / "recipes").mkdir()
    text = (folder / "average.yml").read_text().replace("models/", "../models/")
    (folder / "recipes" / "average.yml").write_text(text)
    assert lamina("merge", "recipes/average.yml", "made/out", "-q").code == 0
    run = lamina("check", "made/out", "--weights-only")
    assert run.out.startswith("made/out · healthy\n")
    assert "with the values that the recipe" in run.out
    unknown = lamina("check", "made/out", "--weights-only", "--no-ledger")
    assert unknown.out.startswith("made/out · healthy, as far as it was looked at: identity not run\n")
    assert "cannot be planned here" in unknown.out


def test_what_was_left_out_because_it_was_asked_for_leaves_nothing_open(lamina: Lamina) -> None:
    run = lamina("check", "models/rev", "--parents", "models/base", "--quick")
    assert run.out.startswith("models/rev · healthy\n")
    assert "left out of a quick check" in run.out


def test_suspicious_is_3_and_broken_4_unless_asked_otherwise(lamina: Lamina, another: Path) -> None:
    asked = ("check", another, "--parents", "models/base", "--weights-only")
    assert lamina(*asked).code == 3
    assert lamina(*asked, "--fail-on", "broken").code == 0
    config = json.loads((another / "config.json").read_text())
    (another / "config.json").write_text(json.dumps(config | {"vocab_size": 700}))
    assert lamina(*asked).code == lamina(*asked, "--fail-on", "broken").code == 4


def test_a_model_that_holds_nan_is_broken_and_is_not_run(lamina: Lamina, spoilt: Path) -> None:
    run = lamina("check", spoilt, "--parents", "models/base", "--quick")
    assert run.code == 4
    assert "up_proj.weight holds 1 element that is NaN or infinite." in " ".join(run.out.split())
    assert "there is nothing to measure" in " ".join(run.out.split())
    assert "nats" not in run.out


def test_the_mildest_verdict_that_fails_may_be_needs_training(lamina: Lamina, folder: Path) -> None:
    (folder / "deep.yml").write_text(DEEP)
    assert lamina("merge", "deep.yml", "deep").code == 0
    run = lamina("check", "deep", "--weights-only")
    assert (run.code, run.out.splitlines()[0]) == (0, "deep · needs training")
    assert "(deep/lamina.yml:3:5)" in run.out
    assert lamina("check", "deep", "--weights-only", "--fail-on", "needs training").code == 3


def test_what_is_up_scaled_says_which_layers_to_train(lamina: Lamina) -> None:
    assert lamina("upscale", "models/base", "deeper", "--to", "6", "-q").code == 0
    assert "deeper/training.md says which layers." in lamina("check", "deeper", "--weights-only").out


def test_findings_come_as_data_with_layer_and_place(lamina: Lamina, folder: Path) -> None:
    (folder / "deep.yml").write_text(DEEP)
    lamina("merge", "deep.yml", "deep")
    data = lamina("check", "deep", "--weights-only", "--recipe", "deep.yml", "--json").data
    assert data["verdict"] == "needs training"
    assert [(each["layer"], each["place"]) for each in data["findings"]] == [(3, "deep.yml:3:5")]
    assert set(data) == {key for keys in CHECK_FIELDS for key in keys.split(", ")}


def test_a_merge_is_checked_when_it_is_there(lamina: Lamina) -> None:
    run = lamina("merge", "average.yml", "out", "--check", "--seed", "3")
    assert run.code == 0
    assert "merged in" in run.out
    assert "out · healthy" in run.out
    assert "with the values that the recipe" in run.out


def test_what_a_check_finds_is_the_exit_code_of_the_merge_which_stays(lamina: Lamina, another: Path) -> None:
    recipe = "models: [{model: another}, {model: models/base}]\nmerge_method: linear\n"
    asked = ("merge", "-", "out", "--check", "--allow-crimes", "--json")
    run = lamina(*asked, stdin=recipe + "parameters: {weight: 0.5}\n")
    assert run.code == 3
    assert (another.parent / "out" / "model.safetensors").is_file()
    found = run.data["check"]
    assert found["verdict"] == "suspicious"
    assert "config" in [each["code"] for each in found["findings"]]


def test_a_merge_by_a_method_of_ones_own_is_checked_as_the_merge_and_the_check_say(
    lamina: Lamina, folder: Path
) -> None:
    (folder / "own.py").write_text(OWN)
    (folder / "own.yml").write_text(OWN_RECIPE)
    told = lamina("merge", "own.yml", "out").out.splitlines()[-1]
    assert told == "next: lamina check out --allow-own-code"
    for parents in ((), ("--parents", "models/base")):
        unasked = " ".join(lamina("check", "out", "--weights-only", *parents).out.split())
        assert "read that file, then give `--allow-own-code`." in unasked
        assert "--parents" not in unasked
        run = lamina("check", "out", "--weights-only", "--allow-own-code", *parents)
        assert run.out.startswith("out · healthy\n")
        assert "with the values that the recipe" in run.out
    (folder / "out" / "own.py").unlink()
    lost = " ".join(lamina("check", "out", "--weights-only", "--allow-own-code").out.split())
    assert "there is no file `own.py`" in lost
    assert "Name the recipe beside its code with --recipe." in lost
    assert lamina("check", "out", "--weights-only", "--recipe", "own.yml").out.startswith("out · healthy\n")


def test_a_plan_is_not_checked(lamina: Lamina) -> None:
    run = lamina("merge", "average.yml", "out", "--dry-run", "--check")
    assert run.code == 0
    assert "healthy" not in run.out
