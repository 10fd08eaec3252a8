"""`lamina push`: what arrives is what was sent, content is sent once, and no model is replaced unasked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from huggingface_hub import constants
from safetensors.numpy import save_file

import lamina
from lamina.cli.main import cli
from lamina.cli.push import PUSH_FIELDS
from lamina.errors import CheckpointError, LaminaError, OutputError, PushFailed
from lamina.ledger.ledger import Ledger, ledger_file
from lamina.ledger.runs import Run, Score

from .models import write_model
from .server import HubServer


@pytest.fixture
def out(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """A merge to publish. Contents go by plain requests: the other way, hf_xet's, ends at servers of its own."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    parents = [write_model(tmp_path / "parents" / name, layers=2, shards=1) for name in ("a", "b")]
    recipe = {"models": [{"model": str(each), "parameters": {"weight": 0.5}} for each in parents]}
    lamina.merge({**recipe, "merge_method": "linear"}, tmp_path / "out", shard_size=2_000)
    return tmp_path / "out"


def push(*arguments: object, token: str = "writer") -> Result:
    given = ["push", *map(str, arguments), *(["--token", token] if token else [])]
    result = CliRunner().invoke(cli, given)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def on_the_hub(server: HubServer, repo: str = "org/m", branch: str = "main") -> dict[str, bytes]:
    found = server.repos[repo]
    return {name: content.head for name, content in found.commits[found.refs[branch]].items()}


def of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_arrives_is_the_folder_and_reads_as_a_model(server: HubServer, out: Path) -> None:
    told = push(out, "org/m").output
    assert on_the_hub(server) == of(out)
    assert told.startswith(f"{server.endpoint}/org/m · {len(of(out))} files, ")
    again = lamina.tensors({"models": [{"model": "org/m"}], "merge_method": "passthrough"})
    here = lamina.tensors({"models": [{"model": str(out)}], "merge_method": "passthrough"})
    assert all(np.array_equal(again[name], here[name]) for name in here)
    assert "Lamina" in server.uploads.messages[-1]


def test_a_second_push_sends_no_content(server: HubServer, out: Path) -> None:
    push(out, "org/m")
    arrived = list(server.uploads.arrived)
    assert push(out, "org/m").exit_code == 0
    assert server.uploads.arrived == arrived
    assert on_the_hub(server) == of(out)


def test_a_push_that_failed_goes_on(server: HubServer, out: Path) -> None:
    server.uploads.refuse = [400]
    with pytest.raises(PushFailed, match="refuses what was sent"):
        push(out, "org/m")
    before = list(server.uploads.arrived)
    assert push(out, "org/m").exit_code == 0
    assert len(server.uploads.arrived) == len(set(server.uploads.arrived)) > len(before)
    assert on_the_hub(server) == of(out)


def test_another_model_is_replaced_only_where_asked_and_leaves_no_weights(
    server: HubServer, out: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(out, other)
    first = sorted(other.glob("*.safetensors"))[0]
    first.rename(other / "model-00001-of-00099.safetensors")
    server.add("org/m", other)
    with pytest.raises(OutputError) as caught:
        push(out, "org/m")
    assert "holds another model already" in str(caught.value)
    assert "model-00001-of-00099.safetensors" in str(caught.value)
    assert on_the_hub(server) == of(other)
    assert push(out, "org/m", "--force").exit_code == 0
    assert on_the_hub(server) == of(out)


def test_weights_of_equal_size_but_other_values_are_another_model(server: HubServer, out: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(out, other)
    shard = sorted(other.glob("*.safetensors"))[0]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    server.add("org/m", other)
    with pytest.raises(OutputError, match="another model"):
        push(out, "org/m")


def test_a_branch_of_its_own(server: HubServer, out: Path) -> None:
    server.add("org/m", {"notes.txt": server.content("notes.txt", b"kept")})
    told = push(out, "org/m", "--revision", "trial").output
    assert told.startswith(f"{server.endpoint}/org/m/tree/trial · ")
    assert on_the_hub(server) == {"notes.txt": b"kept"}
    assert on_the_hub(server, branch="trial") == {"notes.txt": b"kept", **of(out)}


def test_private_is_asked_for(server: HubServer, out: Path) -> None:
    push(out, "org/m", "--private")
    push(out, "org/open")
    assert server.uploads.private == {"org/m"}


def test_a_dry_run_asks_nothing(server: HubServer, out: Path) -> None:
    told = push(out, "org/m", "--dry-run").output
    assert all(name in told for name in of(out))
    assert "nothing was sent" in told
    assert server.requests == []


def test_json_says_all(server: HubServer, out: Path) -> None:
    data = json.loads(push(out, "org/m", "--json").output)
    assert set(data) == set(PUSH_FIELDS)
    assert data["url"] == f"{server.endpoint}/org/m"
    assert data["files"] == {name: len(content) for name, content in of(out).items()}


@pytest.mark.parametrize(
    ("repo", "token", "said"),
    [
        ("org/m", "wrong", "does not let you write org/m"),
        ("org/m", "", "does not let you write org/m"),
        ("others/m", "writer", "`others` has to be you or an organization of yours"),
        ("m", "writer", "`org/name`"),
        ("a/b/c", "writer", "`org/name`"),
        ("org/..m", "writer", "`org/name`"),
    ],
)
def test_who_may_not_write_is_told(server: HubServer, out: Path, repo: str, token: str, said: str) -> None:
    with pytest.raises(OutputError) as caught:
        push(out, repo, token=token)
    assert said in str(caught.value)
    assert server.repos == {}


def test_offline_is_a_letter(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OutputError, match=r"offline .* nothing is sent"):
        push(out, "org/m")


def test_a_folder_that_is_no_whole_model_is_not_sent(server: HubServer, out: Path, tmp_path: Path) -> None:
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    save_file({"x": np.zeros(2, np.float32)}, hollow / "model.safetensors")
    sorted(out.glob("*.safetensors"))[0].unlink()
    for folder in (hollow, out, tmp_path / "absent"):
        with pytest.raises(CheckpointError):
            push(folder, "org/m")
    assert server.requests == []


def test_scores_of_another_merge_that_plans_alike_stay_out(out: Path) -> None:
    """Fine-tunes of one shape look alike to a plan."""
    plan = json.loads((out / "lamina.json").read_text())["plan"]
    with Ledger(ledger_file()) as ledger:
        for number, folder in enumerate((out, out.with_name("other"))):
            ledger.add(Run("merge", "m", recipe=f"t: {number}", plan=plan, output=str(folder)))
            ledger.add(Run("eval", folder.name, plan=plan, output=str(folder), scores=(Score(f"arc{number}", 0.5),)))
    shown = push(out, "org/m", "--dry-run").output
    assert "has: arc0\n" in shown
    assert "arc1" not in shown


def test_scores_that_the_ledger_has_are_in_the_card(server: HubServer, out: Path) -> None:
    plan = json.loads((out / "lamina.json").read_text())["plan"]
    with Ledger(ledger_file()) as ledger:
        ledger.add(Run("eval", "out", plan=plan, scores=(Score("arc", 0.5, 0.01, 100, unit="share"),)))
        ledger.add(Run("eval", "other", plan="0" * 32, scores=(Score("boolq", 0.5),)))
    before = of(out)
    assert "README.md would get the scores that the ledger has: arc" in push(out, "org/m", "--dry-run").output
    push(out, "org/m", "--no-ledger")
    assert on_the_hub(server) == of(out) == before
    assert "README.md has the scores that the ledger has: arc" in push(out, "org/m").output
    card = on_the_hub(server)["README.md"].decode()
    assert "model-index" in card
    assert "50.0 ± 1.0" in card
    assert "boolq" not in card
    assert on_the_hub(server) == of(out) == {**before, "README.md": card.encode()}


def test_hidden_files_and_folders_stay_here(server: HubServer, out: Path) -> None:
    (out / ".secret").write_text("token")
    (out / "logs").mkdir()
    push(out, "org/m")
    assert {".secret", "logs"}.isdisjoint(on_the_hub(server))


def test_no_answer_is_a_letter_that_says_how_to_go_on(server: HubServer, out: Path) -> None:
    server.stop()
    with pytest.raises(LaminaError, match="does not answer"):
        push(out, "org/m")
