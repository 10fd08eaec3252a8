"""`lamina reproduce`: the record is true, and the merge makes it again; where not, it says what differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from safetensors import safe_open

from lamina.cli.reproduce import REPRODUCTION_FIELDS
from lamina.execute.provenance import RECORD_FIELDS

from .conftest import OWN, OWN_RECIPE, Lamina

SLERP = """\
models: [{model: models/rev}, {model: models/sort}]
merge_method: slerp
base_model: models/rev
parameters: {t: 0.3}
"""
DRAWS = """\
models: [{model: models/rev, parameters: {weight: 0.5, density: 0.5}}]
merge_method: dare_linear
base_model: models/base
"""


def by_definition(data: bytes) -> str:
    pieces = [data[first : first + (4 << 20)] for first in range(0, len(data), 4 << 20)]
    return xxhash.xxh3_128_hexdigest(b"".join(map(xxhash.xxh3_128_digest, pieces)))


def digests_of(folder: Path) -> dict[str, str]:
    """Every tensor of a folder, by its bytes in the file."""
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    with safe_open(path, framework="np") as file:
        names = set(file.keys())
    return {name: by_definition(raw[8 + length :][slice(*header[name]["data_offsets"])]) for name in names}


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "lamina.json").read_bytes())
    return found


@pytest.fixture
def merged(lamina: Lamina, folder: Path) -> Path:
    (folder / "slerp.yml").write_text(SLERP)
    assert lamina("merge", "slerp.yml", "out").code == 0
    return folder / "out"


def test_the_record_has_the_digest_of_every_tensor_read_and_written(merged: Path, folder: Path) -> None:
    found = record(merged)
    assert set(found) <= set(RECORD_FIELDS)
    assert found["tensors"] == digests_of(merged)
    assert [each["model"] for each in found["inputs"]] == ["rev", "sort"]
    for each in found["inputs"]:
        assert each["tensors"] == digests_of(folder / "models" / each["model"])
    assert str(folder) not in json.dumps(found)


def test_the_record_has_the_coefficients_that_were_measured(merged: Path) -> None:
    found = record(merged)["coefficients"]
    assert set(found) == set(record(merged)["tensors"])
    for ((first, second),) in found.values():
        assert 0 < second < first < 1
        assert 0.99 < first + second < 1.2  # on the arc, not on the line


def test_a_merge_is_made_again(lamina: Lamina, merged: Path) -> None:
    run = lamina("reproduce", "out")
    assert run.code == 0
    assert run.out.startswith("out · made again, to the bit · ")
    assert lamina("reproduce", "out", "--digests-only").out.startswith("out · as its lamina.json says · ")
    data = lamina("reproduce", "out", "--json").data
    assert list(data) == list(REPRODUCTION_FIELDS)
    assert data["reproduced"] is True
    assert data["tensors"] == len(record(merged)["tensors"])


def test_seed_and_options_are_those_of_the_record(lamina: Lamina, folder: Path) -> None:
    (folder / "draws.yml").write_text(DRAWS)
    lamina(
        "merge", "draws.yml", "out", "--seed", "7", "--no-copy-tokenizer", "--set", "models[0].parameters.density=0.4"
    )
    assert record(folder / "out")["options"] == {"copy_tokenizer": False}
    assert lamina("reproduce", "out").code == 0


def test_lists_that_were_said_to_go_with_the_layers_are_recorded(lamina: Lamina, folder: Path) -> None:
    for name in ("base", "rev"):
        shutil.copytree(folder / "models" / name, folder / name)
        path = folder / name / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "mystery": [1, 2, 3, 4]}))
    (folder / "deeper.yml").write_text(
        "stack:\n- {model: base, layers: 0-3, at: 0}\n- {model: rev, layers: 2-3, at: 4}\n"
    )
    assert lamina("merge", "deeper.yml", "out", "--assume-per-layer", "mystery").code == 0
    assert record(folder / "out")["options"] == {"assume_per_layer": ["mystery"]}
    assert lamina("reproduce", "out").code == 0
    assert "copied byte for byte" in lamina("check", "out", "--weights-only").out


@pytest.mark.parametrize("flag", [[], ["--digests-only"]], ids=str)
def test_a_bit_that_fell_over_is_found_and_named(lamina: Lamina, merged: Path, flag: list[str]) -> None:
    shard = merged / "model.safetensors"
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(raw)
    run = lamina("reproduce", "out", *flag)
    assert run.code == 3
    assert run.out.count(": other bytes\n") == 1
    assert "1 difference" in run.out


def test_files_that_are_changed_cut_off_or_gone_are_found(lamina: Lamina, merged: Path) -> None:
    config, shard = merged / "config.json", merged / "model.safetensors"
    config.write_bytes(config.read_bytes().replace(b"llama", b"lamma"))
    shard.write_bytes(shard.read_bytes()[:-1])
    (merged / "tokenizer.json").unlink()
    run = lamina("reproduce", "out", "--digests-only")
    assert run.code == 3
    assert "config.json: another content" in run.out
    assert "tokenizer.json: its size is not" in run.out
    assert "model.safetensors: the header describes" in run.out


@pytest.mark.usefixtures("merged")
def test_a_model_that_is_another_now_does_not_reproduce(lamina: Lamina, folder: Path) -> None:
    models = folder / "models"
    models.unlink()
    for name in ("rev", "sort"):
        shutil.copytree(Path(__file__).parents[2] / "examples" / "models" / name, models / name)
    shutil.copyfile(models / "rev" / "model.safetensors", models / "sort" / "model.safetensors")
    run = lamina("reproduce", "out")
    assert run.code == 3
    assert "other bytes when it is made again" in run.out
    assert lamina("reproduce", "out", "--digests-only").code == 0


def test_a_folder_without_a_record_is_a_letter(lamina: Lamina) -> None:
    run = lamina("reproduce", "models/base")
    assert run.code == 2
    assert "was not made by `lamina merge`" in run.err


@pytest.mark.parametrize(
    "change",
    [{"tensors": 3}, {"files": {"../x": 3}}, {"seed": "no"}, {"options": []}, {"file_digests": {"a": 3}}],
    ids=str,
)
def test_a_record_of_another_form_is_a_letter(lamina: Lamina, merged: Path, change: dict[str, Any]) -> None:
    (merged / "lamina.json").write_text(json.dumps(record(merged) | change))
    assert lamina("reproduce", "out").code == 2


def test_a_record_cannot_ask_for_anything_but_what_it_records(lamina: Lamina, merged: Path) -> None:
    (merged / "lamina.json").write_text(json.dumps(record(merged) | {"options": {"cache_dir": "/", "border": {}}}))
    assert lamina("reproduce", "out").code == 0


def test_large_tensors_of_every_width_are_digested_by_their_pieces(lamina: Lamina, folder: Path) -> None:
    """Several stretches, whose ends are ends of pieces in every dtype, made by several workers."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    for number, name in enumerate("ab"):
        (folder / name).mkdir()
        tensors = {
            "model.embed_tokens.weight": rng.standard_normal((17_100, 1001), np.float32).astype(np.float16),
            "model.layers.0.mlp.weight": rng.standard_normal((1300, 1001), np.float32),
            "model.norm.weight": np.ones(1001, np.float64) + number,
        }
        save_file(tensors, folder / name / "model.safetensors")
        config = {"num_hidden_layers": 1, "vocab_size": 17_100, "tie_word_embeddings": True}
        (folder / name / "config.json").write_text(json.dumps(config))
    (folder / "large.yml").write_text(
        "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]\n"
        "merge_method: linear\nout_dtype: float32\n"
    )
    assert lamina("merge", "large.yml", "out", "-j", "3").code == 0
    found = record(folder / "out")
    assert found["tensors"] == digests_of(folder / "out")
    assert [each["tensors"] for each in found["inputs"]] == [digests_of(folder / name) for name in "ab"]


def test_it_is_made_again_elsewhere_beside_models_of_the_same_names(
    lamina: Lamina, merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "another" / "machine"
    shutil.copytree(merged, elsewhere / "out")
    shutil.copytree(Path(__file__).parents[2] / "examples" / "models", elsewhere / "models")
    (tmp_path / "models").unlink()
    monkeypatch.chdir(elsewhere)
    assert lamina("reproduce", "out").out.startswith("out · made again, to the bit · ")


def test_a_merge_by_a_method_of_ones_own_is_made_again_when_its_code_may_run(lamina: Lamina, folder: Path) -> None:
    (folder / "own.py").write_text(OWN)
    (folder / "own.yml").write_text(OWN_RECIPE)
    assert lamina("merge", "own.yml", "out").code == 0
    (folder / "own.py").unlink()
    run = lamina("reproduce", "out")
    assert (run.code, "give `--allow-own-code`" in run.err) == (2, True)
    assert lamina("reproduce", "out", "--allow-own-code").code == 0
    code = folder / "out" / "own.py"
    code.write_text(code.read_text().replace("return lambda_", "return 0.9 * lambda_"))
    run = lamina("reproduce", "out", "--allow-own-code")
    assert (run.code, "other bytes when it is made again" in run.out) == (3, True)
