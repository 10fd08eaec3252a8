"""`lamina upscale`: a deeper model, its recipe beside it, and what to train of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lamina.cli.scan import SCAN_FIELDS

from .conftest import Lamina

BASE = "models/base"


def test_the_model_its_recipe_and_what_to_train_are_written(lamina: Lamina, folder: Path) -> None:
    run = lamina("upscale", BASE, "deep", "--to", 6)
    assert run.code == 0
    assert "4 layers up-scaled to 6, as in SOLAR" in run.out
    assert "recipe: deep.yml · to train: deep/training.md" in run.out
    assert json.loads((folder / "deep/config.json").read_text())["num_hidden_layers"] == 6
    assert (folder / "deep.yml").read_bytes() == (folder / "deep/lamina.yml").read_bytes()
    assert json.loads((folder / "deep/training.json").read_text())["layers"] == [2, 3]


def test_the_recipe_alone_makes_the_same_bytes(lamina: Lamina, folder: Path) -> None:
    lamina("upscale", BASE, "deep", "--method", "llama-pro", "--add", 2)
    assert lamina("merge", "deep.yml", "again").code == 0
    tensors, again = (folder / name / "model.safetensors" for name in ("deep", "again"))
    assert tensors.read_bytes() == again.read_bytes()


def test_the_recipe_finds_the_model_from_where_it_lies(lamina: Lamina, folder: Path) -> None:
    run = lamina("upscale", BASE, "far/away/deep", "--to", 6)
    assert run.code == 0, run.err
    text = (folder / "far/away/deep.yml").read_text()
    assert "model: ../../models/base," in text
    assert lamina("plan", "far/away/deep.yml").code == 0


def test_the_same_command_again_finds_it_there(lamina: Lamina) -> None:
    lamina("upscale", BASE, "deep", "--to", 6)
    run = lamina("upscale", BASE, "deep", "--to", 6)
    assert run.code == 0
    assert "already there" in run.out


def test_another_recipe_of_that_name_is_not_replaced_unasked(lamina: Lamina, folder: Path) -> None:
    (folder / "deep.yml").write_text("mine\n")
    run = lamina("upscale", BASE, "deep", "--to", 6)
    assert run.code == 2
    assert "deep.yml is there and holds something else" in run.err
    assert not (folder / "deep").exists()
    assert (folder / "deep.yml").read_text() == "mine\n"
    assert lamina("upscale", BASE, "deep", "--to", 6, "--force").code == 0
    assert "stack:" in (folder / "deep.yml").read_text()


def test_a_dry_run_shows_the_plan_and_writes_nothing(lamina: Lamina, folder: Path) -> None:
    before = sorted(folder.iterdir())
    run = lamina("upscale", BASE, "deep", "--method", "llama-pro", "--at", "1,4", "--dry-run")
    assert run.code == 0
    assert "Layers 1, 4 are new" in run.out
    assert "num_hidden_layers 4 -> 6" in run.out
    assert sorted(folder.iterdir()) == before


def test_the_recipe_can_be_had_alone(lamina: Lamina, folder: Path) -> None:
    run = lamina("upscale", BASE, "deep", "--to", 6, "--recipe")
    (folder / "piped.yml").write_text(run.out)
    assert lamina("plan", "piped.yml").code == 0
    assert not (folder / "deep.yml").exists()
    alone = lamina("upscale", BASE, "--to", 6, "--recipe")
    assert (alone.code, alone.out) == (0, run.out)


def test_json_tells_where_the_recipe_is(lamina: Lamina) -> None:
    data = lamina("upscale", BASE, "deep", "--to", 6, "--json").data
    assert (data["out"], data["recipe"], data["train"]) == ("deep", "deep.yml", [2, 3])


def test_quiet_says_nothing(lamina: Lamina) -> None:
    run = lamina("upscale", BASE, "deep", "--to", 6, "-q")
    assert (run.code, run.out, run.err) == (0, "", "")


def test_what_cannot_be_done_is_told_before_anything_is_written(lamina: Lamina, folder: Path) -> None:
    run = lamina("upscale", BASE, "deep", "--to", 9)
    assert run.code == 2
    assert "two copies of 4 layers make 5 to 8 layers, not 9" in run.err
    assert not (folder / "deep.yml").exists()


def test_flags_of_the_other_method_are_told(lamina: Lamina) -> None:
    assert (
        "`--to` says nothing to --method llama-pro"
        in lamina("upscale", BASE, "deep", "--method", "llama-pro", "--to", 6).err
    )
    assert "`--add` says nothing to --method solar" in lamina("upscale", BASE, "deep", "--add", 1).err
    assert "`--overlap`" in lamina("upscale", BASE, "deep", "--method", "llama-pro", "--overlap", "ramp").err


def test_places_are_a_list_of_numbers(lamina: Lamina) -> None:
    run = lamina("upscale", BASE, "deep", "--method", "llama-pro", "--at", "1;4")
    assert run.code == 2
    assert "the form is `4,9,14`" in run.err


def test_a_model_that_is_not_there_is_told(lamina: Lamina) -> None:
    run = lamina("upscale", "nowhere", "deep")
    assert run.code == 2
    assert "nowhere" in run.err


def test_a_scan_writes_nothing_and_names_the_command_that_writes_the_best(lamina: Lamina, folder: Path) -> None:
    before = sorted(folder.iterdir())
    run = lamina("upscale", BASE, "--scan", "--to", 6, "--limit", 2)
    assert run.code == 0, run.err
    assert sorted(folder.iterdir()) == before
    assert "rows of 256 tokens: prose (2), code (2), chat (2)" in run.out
    assert "0-2, then 1-3" in run.out
    assert "SOLAR" in run.out
    command = run.out.splitlines()[-1].removeprefix("next: lamina ").replace("OUT", "deep").split()
    assert lamina(*command).code == 0
    assert json.loads((folder / "deep/config.json").read_text())["num_hidden_layers"] == 6


def test_a_scan_in_json_has_every_layer_and_cut(lamina: Lamina) -> None:
    data = lamina("upscale", BASE, "deep", "--scan", "--drop", 1, "--limit", 2, "--json").data
    assert set(data) == set(SCAN_FIELDS)
    assert [(each["first"], each["second"]) for each in data["cuts"]] == [(2, 0), (3, 1), (4, 2)]
    assert len(data["layers"]) == 4
    assert data["best"] in data["cuts"]
    assert data["next"].startswith(f"lamina upscale {BASE} deep --to 6")
    assert data["best"]["loss"] == min(each["loss"] for each in data["cuts"])


def test_a_scan_takes_a_text_of_ones_own(lamina: Lamina, folder: Path) -> None:
    (folder / "own.txt").write_text("It is a truth universally acknowledged. " * 200)
    run = lamina("upscale", BASE, "--scan", "--to", 5, "--limit", 2, "--text", "own.txt")
    assert "own.txt (2)" in run.out


def test_cuts_are_noted_by_their_layers_and_found_again(lamina: Lamina) -> None:
    first = lamina("upscale", BASE, "--scan", "--to", 6, "--text", "average.yml", "--text", BASE + "/tokenizer.json")
    assert "from the ledger" not in first.out
    best = re.search(r"^best  +(\S+), then (\S+): .* · (r\d)$", first.out, re.M)
    assert best is not None
    again = lamina("upscale", BASE, "--scan", "--to", 6, "--text", "average.yml", "--text", BASE + "/tokenizer.json")
    known = re.search(r" · (\d) of (\d) from the ledger$", again.out.splitlines()[0])
    assert known is not None
    assert known[1] == known[2]
    assert again.out.splitlines()[1:] == first.out.splitlines()[1:]
    rows = lamina("runs", "--json").data
    assert {row["id"]: row["name"] for row in rows}[best[3]] == f"base {best[1]},{best[2]}"
    ranked = lamina("runs", "--sort", "loss-dev").out
    assert "base (parent)" in ranked
    assert "or all pairs of the 4 at once" in ranked


def test_without_a_ledger_nothing_is_noted_and_all_is_measured_anew(lamina: Lamina) -> None:
    for _ in range(2):
        data = lamina("upscale", BASE, "--scan", "--to", 8, "--limit", 2, "--no-ledger", "--json").data
        assert data["measured"] == data["measurements"] == 4
        assert data["best"]["run"] is None
    assert lamina("runs", "--json").data == []


def test_flags_that_do_not_go_with_a_scan_are_told(lamina: Lamina) -> None:
    run = lamina("upscale", BASE, "--scan", "--first", 3, "--overlap", "ramp")
    assert (run.code, "leave out --first, --overlap" in run.err) == (2, True)
    run = lamina("upscale", BASE, "deep", "--limit", 2)
    assert (run.code, "they go with --scan" in run.err) == (2, True)
    run = lamina("upscale", BASE)
    assert (run.code, "Missing argument 'OUT'" in run.err) == (2, True)


def test_the_cut_can_be_placed(lamina: Lamina, folder: Path) -> None:
    assert lamina("upscale", BASE, "deep", "--to", 6, "--first", 2).code == 0
    text = (folder / "deep.yml").read_text()
    assert "layers: 0-1}" in text
    assert "layers: 0-3}" in text
    assert "`--first` says nothing to" in lamina("upscale", BASE, "d", "--method", "llama-pro", "--first", 2).err
