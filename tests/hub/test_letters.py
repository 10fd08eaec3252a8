"""What goes wrong between here and the Hub is a letter: what happened, what to do. No traceback, no endless retries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

import lamina
from lamina.errors import LaminaError, RecipeError

from .models import write_model
from .server import Content, HubServer, Repo

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "source" / "m", layers=2, shards=2)


@pytest.fixture
def m(server: HubServer, folder: Path) -> HubServer:
    server.add("org/m", folder)
    return server


def letter(tmp_path: Path, model: str = "org/m", **options: object) -> str:
    path = tmp_path / "recipe.yml"
    path.write_text(f"stack:\n- model: {model}\n  layers: 0-1\n")
    with pytest.raises(RecipeError) as caught:
        lamina.plan(path, **options)  # type: ignore[arg-type]
    assert [(each.code, each.line, each.column) for each in caught.value.problems] == [("model", 2, 10)]
    return caught.value.problems[0].message


def test_a_gated_model(m: HubServer, tmp_path: Path) -> None:
    m.repos["org/m"].gated = True
    for token in (None, "of-somebody-else"):
        told = letter(tmp_path, token=token)
        assert f"licence must be accepted at {m.endpoint}/org/m" in told
        assert "hf auth login" in told
    m.faults.no_blobs = True
    assert "licence must be accepted" in letter(tmp_path)


def test_a_model_that_is_not_there_or_private(m: HubServer, tmp_path: Path) -> None:
    m.repos["org/m"].token = "secret"
    for model in ("org/m", "org/absent"):
        for token in (None, "wrong"):
            told = letter(tmp_path, model, token=token)
            assert f"no folder `{model}`, and no model `{model}`" in told
            assert "hf auth login" in told


@pytest.mark.usefixtures("m")
def test_a_revision_that_is_not_there(tmp_path: Path) -> None:
    for revision in ("v9", "0" * 40, "refs/pr/9"):
        assert f"org/m has no revision `{revision}`" in letter(tmp_path, f"org/m@{revision}")


def test_a_model_of_what_is_no_checkpoint(server: HubServer, folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*safetensors*"):
        path.unlink()
    (folder / "model-q4.gguf").write_bytes(b"GGUF")
    server.add("org/m", folder)
    told = letter(tmp_path)
    assert "org/m holds neither model.safetensors nor" in told
    assert "model-q4.gguf" in told


def test_a_pickle_that_is_code_is_refused_before_it_is_fetched(server: HubServer, folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*safetensors*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n" * 100_000)
    server.add("org/m", folder)
    assert "org/m/pytorch_model.bin: its 1100000 bytes do not begin as a file of torch.save does" in letter(tmp_path)
    assert server.bytes_sent("pytorch_model.bin") < 200_000


def test_a_model_without_a_config(server: HubServer, folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    server.add("org/m", folder)
    assert "org/m has no file config.json" in letter(tmp_path)


def test_offline_without_a_cache(m: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hf download org/m" in letter(tmp_path, offline=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "Offline" in letter(tmp_path)
    assert m.requests == []


@pytest.mark.usefixtures("m")
def test_offline_with_a_file_missing(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text("stack: [{model: org/m, layers: 0-1}]")
    lamina.plan(path)
    with pytest.raises(LaminaError, match=r"model-0000\d-of-00002.safetensors is not in the cache"):
        lamina.merge(path, tmp_path / "out", offline=True)
    next(cache.glob("*/snapshots/*/tokenizer.json")).resolve().unlink()
    with pytest.raises(LaminaError, match=r"tokenizer.json is not in the cache"):
        lamina.plan(path, offline=True)


def test_no_network(m: HubServer, tmp_path: Path) -> None:
    m.stop()
    told = letter(tmp_path)
    assert "does not answer" in told
    assert m.endpoint in told


def test_a_server_that_hangs(m: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    for name in ("listing", "model-00001-of-00002.safetensors", "config.json"):
        m.faults.delay = {name: 0.5}
        started = time.monotonic()
        told = letter(tmp_path)
        assert "does not answer" in told or "timed out" in told
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("name", ["listing", "config.json", "model-00001-of-00002.safetensors"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 410, 416, 418, 429, 451, 500, 502, 503, 504, 599])
def test_any_status_is_a_letter_after_few_requests(m: HubServer, tmp_path: Path, name: str, status: int) -> None:
    m.faults.status = {name: [status] * 100}
    assert "org/m" in letter(tmp_path)
    assert len(m.requests) < 20


def test_a_header_that_is_cut_off(m: HubServer, tmp_path: Path) -> None:
    m.faults.short = {"model-00001-of-00002.safetensors": [0, 100]}
    told = letter(tmp_path)
    assert "org/m/model-00001-of-00002.safetensors" in told
    assert "cut off" in told


def test_a_header_whose_connection_breaks_is_asked_for_again(m: HubServer, tmp_path: Path) -> None:
    m.faults.cut_after = {"model-00001-of-00002.safetensors": [4, 4]}
    path = tmp_path / "recipe.yml"
    path.write_text("stack: [{model: org/m, layers: 0-1}]")
    lamina.plan(path)


def test_a_small_file_that_does_not_arrive(m: HubServer, tmp_path: Path) -> None:
    m.faults.cut_after = {"config.json": [10] * 100}
    assert "failed 5 times in a row" in letter(tmp_path)
    m.faults.cut_after = {}
    m.faults.corrupt = {"config.json"}
    assert "did not arrive as the Hub lists it" in letter(tmp_path)


def test_a_server_without_ranges(m: HubServer, tmp_path: Path) -> None:
    m.faults.no_ranges = True
    assert "the whole file where a part is asked for" in letter(tmp_path)
    assert m.tensor_bytes_sent() < 200_000


def test_a_captive_portal(m: HubServer, tmp_path: Path) -> None:
    m.faults.html = True
    assert "does not answer as the Hub does" in letter(tmp_path)


BREAKS: dict[str, Callable[[bytes], bytes]] = {
    "too short": lambda raw: raw[:5],
    "a length beyond the file": lambda raw: (1 << 40).to_bytes(8, "little") + raw[8:],
    "no JSON": lambda raw: raw[:8] + b"{" + b"x" * (len(raw) - 9),
    "not UTF-8": lambda raw: raw[:8] + b"\xff" * (len(raw) - 8),
    "a byte too few": lambda raw: raw[:-1],
    "a byte too many": lambda raw: raw + b"\0",
    "a pointer of Git LFS": lambda _raw: b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n",
    "empty": lambda _raw: b"",
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_shard_is_named_without_being_fetched(
    server: HubServer, folder: Path, tmp_path: Path, kind: str
) -> None:
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(BREAKS[kind](shard.read_bytes()))
    server.add("org/m", folder)
    assert "org/m/model-00002-of-00002.safetensors" in letter(tmp_path)


@pytest.mark.parametrize("home", ["../../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "absent.safetensors"])
def test_an_index_that_leads_astray(server: HubServer, folder: Path, tmp_path: Path, home: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": home}}))
    server.add("org/m", folder)
    assert home in letter(tmp_path)


def test_digests_that_lead_out_of_the_cache(server: HubServer, tmp_path: Path) -> None:
    class Evil(Content):
        digest = "../../../evil"

    commit = "f" * 40
    server.repos["org/m"] = Repo({commit: {"config.json": Evil(b"{}", 2, large=True)}}, {"main": commit})
    assert "digests that the Hub does not use" in letter(tmp_path)


@pytest.mark.parametrize("revision", ["/etc/hostname", "../../x", "..", "a/../../b"])
def test_revisions_that_are_paths(m: HubServer, tmp_path: Path, revision: str) -> None:
    assert f"`{revision}` is no revision of org/m" in letter(tmp_path, f"org/m@{revision}")
    assert m.requests == []


@pytest.mark.parametrize("model", ["org/m--m", "org/m..m", "org/m.git", "org/" + "m" * 100])
@pytest.mark.usefixtures("m")
def test_names_that_the_hub_does_not_allow(tmp_path: Path, model: str) -> None:
    assert "no id of a model on the Hub" in letter(tmp_path, model)


@pytest.mark.parametrize("model", ["m", "./org/m", "a/b/c", "~/org/m", "/org/m", "org/m/", "org//m"])
def test_what_is_no_id_is_never_asked_for(m: HubServer, tmp_path: Path, model: str) -> None:
    assert "there is no folder" in letter(tmp_path, model)
    assert m.requests == []


@pytest.mark.usefixtures("m")
def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "name another cache folder" in letter(tmp_path, cache_dir=tmp_path / "file")


@pytest.mark.usefixtures("m")
def test_every_model_at_fault_is_told_in_one_go(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text("stack:\n- model: org/absent\n  layers: 0-1\n- model: org/m@v9\n  layers: 0-1\n- model: nowhere\n")
    with pytest.raises(RecipeError) as caught:
        lamina.plan(path)
    assert [each.line for each in caught.value.problems if each.code == "model"] == [2, 4, 6]


# The command line, set up as people set it up


def environment(server: HubServer, tmp_path: Path) -> dict[str, str]:
    others = {
        name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()
    }
    return others | {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}


def command(server: HubServer, tmp_path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lamina", *arguments],
        cwd=tmp_path,
        env=environment(server, tmp_path) | more,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_line_merges_from_the_hub(m: HubServer, tmp_path: Path) -> None:
    (tmp_path / "recipe.yml").write_text("stack: [{model: org/m, layers: 0-1}]")
    run = command(m, tmp_path, "merge", "recipe.yml", "out")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    m.stop()
    run = command(m, tmp_path, "merge", "recipe.yml", "out", HF_HUB_OFFLINE="1")
    assert run.returncode == 0, run.stderr
    assert "already there" in run.stdout


def test_a_process_that_was_killed_left_what_had_arrived(m: HubServer, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yml").write_text("stack: [{model: org/m, layers: 0-1}]")
    shard = "model-00002-of-00002.safetensors"
    assert command(m, tmp_path, "plan", "recipe.yml").returncode == 0
    m.forget()
    m.faults.stall_after = {shard: [700]}
    arguments = [sys.executable, "-m", "lamina", "merge", "recipe.yml", "out"]
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=environment(m, tmp_path) | {"HF_HUB_DOWNLOAD_TIMEOUT": "60"}
    )
    assert m.stalled.wait(20)
    parts = tmp_path / "hf" / "hub" / "models--org--m" / "blobs"
    while not any(path.stat().st_size == 700 for path in parts.glob("*.incomplete")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    run = command(m, tmp_path, "merge", "recipe.yml", "out")
    assert run.returncode == 0, run.stderr
    assert m.bytes_sent(shard) == (folder / shard).stat().st_size
    assert f"bytes=700-{(folder / shard).stat().st_size - 1}" in [each.range for each in m.requests]


def test_the_command_line_tells_without_a_traceback(m: HubServer, tmp_path: Path) -> None:
    (tmp_path / "recipe.yml").write_text("stack: [{model: org/m, layers: 0-1}]")
    m.repos["org/m"].gated = True
    run = command(m, tmp_path, "plan", "recipe.yml")
    assert (run.returncode, "Traceback" in run.stderr) == (2, False)
    assert "hf auth login" in run.stderr
    m.repos["org/m"].gated = False
    m.faults.status = {"model-00001-of-00002.safetensors": [0, 0, *[404] * 9]}
    run = command(m, tmp_path, "merge", "recipe.yml", "out")
    assert (run.returncode, "Traceback" in run.stderr) == (1, False)
    assert "does not have it" in run.stderr or "no model" in run.stderr or "404" in run.stderr


def test_local_models_are_planned_without_importing_what_asks_the_hub(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yml").write_text(f"stack: [{{model: {folder}, layers: 0-1}}]")
    probe = (
        "import sys, lamina; lamina.merge('recipe.yml', 'out'); "
        "assert not {'huggingface_hub', 'httpx', 'httpx2'} & set(sys.modules)"
    )
    found = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, env=found, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
