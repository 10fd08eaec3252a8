"""Recipes that name models of the Hub: what is asked for, what is fetched, what comes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

import lamina
from lamina.api import forecast
from lamina.check.check import check
from lamina.check.findings import Level
from lamina.checkpoints import hub
from lamina.checkpoints.checkpoint import LocalFiles, open_checkpoint, same_file
from lamina.checkpoints.hub_client import HubOptions
from lamina.errors import FetchFailed, OutputError, RecipeError

from .models import as_pickles, large_model, write_model
from .server import HubServer

MEAN = (
    "{models: [{model: org/a, parameters: {weight: 1}}, {model: org/b, parameters: {weight: 3}}], merge_method: linear}"
)
SHALLOW = "{slices: [{sources: [{model: org/a, layer_range: [0, 2]}]}], merge_method: passthrough}"
SHARDS = [f"model-{number:05}-of-00004.safetensors" for number in (1, 2, 3, 4)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with two models, which are on the Hub too."""
    for name in ("a", "b"):
        write_model(tmp_path / "source" / "org" / name, layers=4, shards=4)
    return tmp_path / "source"


@pytest.fixture
def hub_server(server: HubServer, source: Path) -> HubServer:
    for name in ("a", "b"):
        server.add(f"org/{name}", source / "org" / name)
    return server


@pytest.fixture
def mean(tmp_path: Path) -> Path:
    return recipe(tmp_path, MEAN)


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.yml"
    path.write_text(text)
    return path


def content(folder: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    made_by = json.loads(found.pop("lamina.json"))
    made_by.pop("commits", None)
    return found | {"lamina.json": json.dumps(made_by).encode()}


# Planning


def test_five_large_models_are_planned_without_a_tensor_byte(server: HubServer, tmp_path: Path) -> None:
    large = large_model(layers=80, shards=30, hidden=8192, tokenizer=9_000_000)
    for number in range(5):
        server.add(f"org/m{number}", large)
    entries = ", ".join(f"{{model: org/m{number}, parameters: {{weight: 1}}}}" for number in range(5))
    found = lamina.plan(recipe(tmp_path, f"{{models: [{entries}], merge_method: linear}}"))
    assert server.tensor_bytes_sent() == 0
    assert server.bytes_sent() < 15_000_000
    assert found.bytes_to_fetch == 5 * sum(each.size for name, each in large.items() if name.endswith("safetensors"))
    assert found.bytes_to_fetch > 500e9


def test_a_model_of_pickles_is_planned_from_two_parts_of_each_file(
    server: HubServer, source: Path, tmp_path: Path
) -> None:
    folder = as_pickles(source / "org" / "a")
    padding = torch.zeros(1_000_000)
    for path in folder.glob("*.bin"):
        torch.save({**torch.load(path), f"{path.name}.padding": padding}, path)
    server.add("org/m", folder)
    text = SHALLOW.replace("org/a", "org/m")
    server.forget()
    lamina.plan(recipe(tmp_path, text))
    for path in folder.glob("*.bin"):
        assert server.bytes_sent(path.name) < 300_000
        assert len([each for each in server.requests if each.on_cdn and each.path.endswith(path.name)]) == 2
    lamina.merge(recipe(tmp_path, text), tmp_path / "out")
    lamina.merge(recipe(source, SHALLOW), tmp_path / "local")
    tensors = "model.safetensors"
    assert (tmp_path / "out" / tensors).read_bytes() == (tmp_path / "local" / tensors).read_bytes()


def test_what_was_planned_once_is_planned_again_with_one_request_a_model(hub_server: HubServer, mean: Path) -> None:
    first = lamina.plan(mean)
    hub_server.forget()
    assert lamina.plan(mean).digest == first.digest
    assert [request.path for request in hub_server.requests] == [
        "/api/models/org/a/revision/main", "/api/models/org/b/revision/main",
    ]  # fmt: skip
    assert hub_server.bytes_sent() == 0


def test_a_folder_beside_the_recipe_comes_before_the_hub(hub_server: HubServer, source: Path) -> None:
    assert lamina.plan(recipe(source, MEAN)).bytes_to_fetch == 0
    assert hub_server.requests == []


def test_a_folder_in_the_working_directory_comes_before_the_hub(
    hub_server: HubServer, source: Path, mean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source)
    lamina.plan(mean)
    assert hub_server.requests == []


def test_a_plan_knows_commits_and_its_digest_does_not(hub_server: HubServer, source: Path, mean: Path) -> None:
    remote, local = lamina.plan(mean), lamina.plan(recipe(source, MEAN))
    assert remote.digest == local.digest
    assert [each.commit for each in remote.inputs] == [hub_server.repos[f"org/{name}"].refs["main"] for name in "ab"]


def test_files_are_compared_without_being_fetched(hub_server: HubServer, source: Path) -> None:
    hub_server.add("org/copy", source / "org" / "a")
    a, b, copy = (hub.open_hub_files(f"org/{name}", None, HubOptions()) for name in ("a", "b", "copy"))
    assert same_file(a, copy, "tokenizer.json")
    assert same_file(a, copy, SHARDS[0])
    assert not same_file(a, b, "tokenizer.json")
    assert hub_server.bytes_sent() == 0
    assert same_file(a, LocalFiles(source / "org" / "a"), "tokenizer.json")
    assert not same_file(LocalFiles(source / "org" / "b"), a, "tokenizer.json")


def test_what_another_model_has_in_the_cache_is_not_fetched_again(hub_server: HubServer, source: Path) -> None:
    hub_server.add("org/copy", source / "org" / "a")
    first, second = (open_checkpoint(hub.open_hub_files(f"org/{name}", None, HubOptions())) for name in ("a", "copy"))
    first.fetch(first.specs)
    first.files.read("tokenizer.json")
    hub_server.forget()
    assert second.bytes_to_fetch(second.specs) == 0
    second.fetch(second.specs)
    assert second.files.read("tokenizer.json") == first.files.read("tokenizer.json")
    assert second.sample() == first.sample()
    assert hub_server.bytes_sent() == 0


# Merging


def test_a_merge_is_the_same_bytes_wherever_its_models_lie(
    hub_server: HubServer, source: Path, mean: Path, tmp_path: Path
) -> None:
    lamina.merge(recipe(source, MEAN), tmp_path / "local")
    lamina.merge(mean, tmp_path / "remote")
    assert content(tmp_path / "remote") == content(tmp_path / "local")
    commits = json.loads((tmp_path / "remote" / "lamina.json").read_text())["commits"]
    assert commits == {f"org/{name}": hub_server.repos[f"org/{name}"].refs["main"] for name in "ab"}


def test_only_the_shards_that_the_plan_reads_are_fetched(hub_server: HubServer, tmp_path: Path, source: Path) -> None:
    shallow, arrived = recipe(tmp_path, SHALLOW), []
    announced = lamina.plan(shallow).bytes_to_fetch
    lamina.merge(shallow, tmp_path / "out", fetching=lambda file, nbytes: arrived.append((file, nbytes)))
    sizes = {name: (source / "org" / "a" / name).stat().st_size for name in SHARDS}
    assert announced == sizes[SHARDS[0]] + sizes[SHARDS[1]] == sum(nbytes for _, nbytes in arrived)
    assert {file for file, _ in arrived} == set(SHARDS[:2])
    assert hub_server.bytes_sent(SHARDS[2]) < sizes[SHARDS[2]] - 1000


def test_notices_come_before_anything_is_fetched(hub_server: HubServer, mean: Path, tmp_path: Path) -> None:
    sent: list[int] = []
    lamina.merge(mean, tmp_path / "out", on_plan=lambda _plan: sent.append(hub_server.tensor_bytes_sent()))
    assert sent == [0]


def test_the_plan_of_an_output_fetches_no_tensor(hub_server: HubServer, mean: Path, tmp_path: Path) -> None:
    found = forecast(mean, tmp_path / "out")
    assert (found.refusal, found.staged) == (None, 0)
    assert hub_server.tensor_bytes_sent() == 0


def test_a_merge_that_is_there_already_is_left_as_it_is(hub_server: HubServer, mean: Path, tmp_path: Path) -> None:
    lamina.merge(mean, tmp_path / "out")
    hub_server.forget()
    assert lamina.merge(mean, tmp_path / "out").already_there
    assert hub_server.bytes_sent() == 0


def test_an_output_of_somebody_elses_is_refused_before_anything_is_fetched(
    hub_server: HubServer, mean: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "out")
    with pytest.raises(OutputError, match="not made by this recipe"):
        lamina.merge(mean, tmp_path / "out")
    assert hub_server.tensor_bytes_sent() == 0


@pytest.mark.usefixtures("hub_server")
def test_what_is_fetched_counts_where_the_disk_is_full(
    mean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = lamina.plan(mean)
    monkeypatch.setattr("lamina.checkpoints.writer.free_bytes", lambda _folder: found.bytes_to_fetch)
    with pytest.raises(OutputError, match="are fetched to the same disk"):
        lamina.merge(mean, tmp_path / "out")
    monkeypatch.undo()


def test_a_cache_that_is_too_small_is_a_letter(
    hub_server: HubServer, mean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "free_bytes", lambda _folder: 10)
    with pytest.raises(FetchFailed, match="10 bytes are free in the cache"):
        lamina.merge(mean, tmp_path / "out")
    assert hub_server.tensor_bytes_sent() == 0
    assert not (tmp_path / "out").exists()


# Revisions


def test_a_revision_is_the_model_as_it_was(hub_server: HubServer, source: Path, tmp_path: Path) -> None:
    old = hub_server.add("org/a", source / "org" / "a", ref="v1")
    hub_server.add("org/a", source / "org" / "b")
    hub_server.add("org/a", source / "org" / "b", ref="refs/pr/1")
    digests = {}
    for revision in ("", "@v1", f"@{old}", "@refs/pr/1"):
        out = tmp_path / f"out{revision.replace('/', '-')}"
        lamina.merge(recipe(tmp_path, SHALLOW.replace("org/a", f"org/a{revision}")), out)
        digests[revision] = (out / "model.safetensors").read_bytes(), (out / "tokenizer.json").read_bytes()
    assert digests["@v1"] == digests[f"@{old}"] != digests[""] == digests["@refs/pr/1"]


def test_a_revision_may_be_given_for_all_that_have_none(hub_server: HubServer, source: Path, tmp_path: Path) -> None:
    hub_server.add("org/a", source / "org" / "a", ref="v1")
    hub_server.add("org/a", source / "org" / "b")
    lamina.merge(recipe(tmp_path, SHALLOW), tmp_path / "out", revision="v1")
    lamina.merge(recipe(tmp_path, SHALLOW.replace("org/a", "org/a@v1")), tmp_path / "same")
    ours, theirs = (tmp_path / name / "model.safetensors" for name in ("out", "same"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_merge_is_made_again_and_checked_at_the_commits_that_went_into_it(
    hub_server: HubServer, source: Path, mean: Path, tmp_path: Path
) -> None:
    lamina.merge(mean, tmp_path / "out")
    first = check(tmp_path / "out", behaviour=False)
    assert first.verdict < Level.BROKEN
    hub_server.add("org/a", source / "org" / "b")  # main moves on
    assert not lamina.reproduce(tmp_path / "out").differing
    assert check(tmp_path / "out", behaviour=False).verdict is first.verdict
    record = json.loads((tmp_path / "out" / "lamina.json").read_bytes())
    unknown = record | {"commits": {"org/a": "main/../.."}}  # anybody's: what is no commit is not asked for
    (tmp_path / "out" / "lamina.json").write_text(json.dumps(unknown))
    assert lamina.reproduce(tmp_path / "out").differing
    assert check(tmp_path / "out", behaviour=False).verdict is Level.BROKEN


def test_a_merge_is_made_again_from_the_cache_alone(
    hub_server: HubServer, mean: Path, cache: Path, tmp_path: Path
) -> None:
    lamina.merge(mean, tmp_path / "out")
    hub_server.stop()
    made = subprocess.run(
        [sys.executable, "-m", "lamina", "reproduce", "out", "--offline", "--cache-dir", str(cache)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "made again, to the bit" in made.stdout


def test_a_published_merge_is_planned_by_the_recipe_it_carries(hub_server: HubServer, tmp_path: Path) -> None:
    lamina.merge(recipe(tmp_path, MEAN), tmp_path / "out")
    hub_server.add("org/merged", tmp_path / "out")
    assert lamina.plan("org/merged").digest == lamina.plan(tmp_path / "recipe.yml").digest
    with pytest.raises(RecipeError, match="org/a is a model without a recipe"):
        lamina.plan("org/a")


def test_all_files_are_of_the_commit_that_was_resolved_first(hub_server: HubServer, source: Path) -> None:
    files = hub.open_hub_files("org/a", None, HubOptions())
    checkpoint = open_checkpoint(files)
    hub_server.add("org/a", source / "org" / "b")  # main moves on
    checkpoint.fetch(checkpoint.specs)
    assert files.read("tokenizer.json") == (source / "org" / "a" / "tokenizer.json").read_bytes()
    assert checkpoint.sample() == open_checkpoint(source / "org" / "a").sample()


def test_a_branch_that_moved_on_is_seen(hub_server: HubServer, source: Path, mean: Path) -> None:
    before = lamina.plan(mean)
    hub_server.add("org/a", source / "org" / "b")
    after = lamina.plan(mean)
    assert after.inputs[0].commit != before.inputs[0].commit
    assert after.inputs[1] == before.inputs[1]


# The cache


def test_a_second_merge_needs_no_server_even_of_a_model_that_was_fetched_in_part(
    hub_server: HubServer, tmp_path: Path
) -> None:
    shallow = recipe(tmp_path, SHALLOW)
    lamina.merge(shallow, tmp_path / "first")
    hub_server.stop()
    again = lamina.merge(shallow, tmp_path / "second")
    assert content(tmp_path / "first") == content(tmp_path / "second")
    assert "the Hub does not answer" in " ".join(notice.message for notice in again.plan.notices)
    third = lamina.merge(shallow, tmp_path / "third", offline=True)
    assert content(tmp_path / "first") == content(tmp_path / "third")
    assert not third.plan.notices


def test_a_commit_in_the_cache_is_not_asked_for(hub_server: HubServer, tmp_path: Path) -> None:
    commit = hub_server.repos["org/a"].refs["main"]
    shallow = recipe(tmp_path, SHALLOW.replace("org/a", f"org/a@{commit}"))
    lamina.merge(shallow, tmp_path / "first")
    hub_server.forget()
    lamina.merge(shallow, tmp_path / "second")
    assert hub_server.requests == []


@pytest.mark.parametrize("revision", ["", "@COMMIT"])
def test_what_other_programs_fetched_is_used(hub_server: HubServer, cache: Path, tmp_path: Path, revision: str) -> None:
    commit = hub_server.repos["org/a"].refs["main"]
    snapshot_download("org/a", cache_dir=cache, endpoint=hub_server.endpoint)
    hub_server.forget()
    text = SHALLOW.replace("org/a", "org/a" + revision.replace("COMMIT", commit))
    assert lamina.plan(recipe(tmp_path, text)).bytes_to_fetch == 0
    lamina.merge(recipe(tmp_path, text), tmp_path / "out")
    assert hub_server.bytes_sent() == 0
    assert len(hub_server.requests) == (0 if revision else 2)
    hub_server.stop()
    result = lamina.merge(recipe(tmp_path, text), tmp_path / "offline", offline=True)
    assert content(tmp_path / "offline") == content(tmp_path / "out")
    assert not result.plan.notices


def test_a_cache_that_may_lack_files_is_told_of(hub_server: HubServer, cache: Path, tmp_path: Path) -> None:
    commit = hub_server.repos["org/a"].refs["main"]
    for name in (*SHARDS, "config.json", "model.safetensors.index.json"):
        hf_hub_download("org/a", name, revision=commit, cache_dir=cache, endpoint=hub_server.endpoint)
    text = recipe(tmp_path, SHALLOW.replace("org/a", f"org/a@{commit}"))
    told = lamina.plan(text, offline=True).notices
    assert [(each.code, "may lack some of its files" in each.message) for each in told] == [("hub", True)]
    found = lamina.plan(text)  # online, the Hub is asked for the rest
    assert not found.notices
    assert "tokenizer.json" in [file.name for file in found.files]


def test_other_programs_use_what_is_fetched_here(
    hub_server: HubServer, cache: Path, mean: Path, tmp_path: Path
) -> None:
    lamina.merge(mean, tmp_path / "out")
    commit = hub_server.repos["org/a"].refs["main"]
    for revision in ("main", commit):
        for name in (*SHARDS, "config.json", "tokenizer.json"):
            found = hf_hub_download("org/a", name, revision=revision, cache_dir=cache, local_files_only=True)
            assert Path(found).read_bytes() == (tmp_path / "source" / "org" / "a" / name).read_bytes()
    seen = scan_cache_dir(cache)
    assert seen.warnings == []
    assert {repo.repo_id for repo in seen.repos} == {"org/a", "org/b"}


@pytest.mark.usefixtures("hub_server")
def test_another_cache_may_be_named(cache: Path, mean: Path, tmp_path: Path) -> None:
    lamina.merge(mean, tmp_path / "out", cache_dir=tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "models--org--a").is_dir()
    assert not cache.exists()


@pytest.mark.usefixtures("hub_server")
def test_a_cache_entry_of_ours_that_is_damaged_is_asked_for_again(cache: Path, mean: Path) -> None:
    found = lamina.plan(mean)
    for memory in cache.glob("*/.lamina/*.json"):
        memory.write_text(memory.read_text()[:100])
    assert lamina.plan(mean) == found


# Downloads that break


def test_a_download_that_is_cut_off_goes_on_with_a_range_request(
    hub_server: HubServer, mean: Path, tmp_path: Path, source: Path
) -> None:
    lamina.plan(mean)
    hub_server.forget()
    hub_server.faults.cut_after[SHARDS[0]] = [1000]
    lamina.merge(mean, tmp_path / "out")
    ranges = [
        each.range for each in hub_server.requests if each.on_cdn and each.path.endswith(SHARDS[0]) and each.range
    ]
    assert [each.split("-")[0] for each in ranges] == ["bytes=1000"]
    sizes = [(source / "org" / name / SHARDS[0]).stat().st_size for name in "ab"]
    assert hub_server.bytes_sent(SHARDS[0]) == sum(sizes)


@pytest.mark.parametrize("how", ["cut_after", "short"])
def test_a_merge_that_failed_goes_on_where_its_download_was_cut_off(
    hub_server: HubServer, tmp_path: Path, source: Path, how: str
) -> None:
    shallow = recipe(tmp_path, SHALLOW)
    before = lamina.plan(shallow).bytes_to_fetch
    getattr(hub_server.faults, how)[SHARDS[1]] = [100] * hub.DOWNLOAD_ATTEMPTS
    with pytest.raises(FetchFailed, match=r"(?s)failed 5 times in a row, last at 500 bytes.*the same command goes on"):
        lamina.merge(shallow, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    after = lamina.plan(shallow).bytes_to_fetch
    assert after <= before - 500
    hub_server.forget()
    lamina.merge(shallow, tmp_path / "out")
    assert hub_server.bytes_sent(SHARDS[1]) == (source / "org" / "a" / SHARDS[1]).stat().st_size - 500
    lamina.merge(recipe(source, SHALLOW), tmp_path / "local")
    assert content(tmp_path / "out") == content(tmp_path / "local")


@pytest.mark.usefixtures("hub_server")
def test_a_download_that_is_interrupted_is_kept(tmp_path: Path) -> None:
    def stop(_file: str, _nbytes: int) -> None:
        raise KeyboardInterrupt

    before = lamina.plan(recipe(tmp_path, SHALLOW)).bytes_to_fetch
    with pytest.raises(KeyboardInterrupt):
        lamina.merge(recipe(tmp_path, SHALLOW), tmp_path / "out", fetching=stop)
    assert not (tmp_path / "out").exists()
    assert lamina.plan(recipe(tmp_path, SHALLOW)).bytes_to_fetch < before
    lamina.merge(recipe(tmp_path, SHALLOW), tmp_path / "out")


def test_bytes_that_are_not_what_the_hub_lists_are_thrown_away(hub_server: HubServer, tmp_path: Path) -> None:
    lamina.plan(recipe(tmp_path, SHALLOW))
    hub_server.faults.corrupt.add(SHARDS[0])
    with pytest.raises(FetchFailed, match="did not arrive as the Hub lists it"):
        lamina.merge(recipe(tmp_path, SHALLOW), tmp_path / "out")
    hub_server.faults.corrupt.clear()
    lamina.merge(recipe(tmp_path, SHALLOW), tmp_path / "out")


def test_a_server_without_ranges_begins_a_download_anew(hub_server: HubServer, tmp_path: Path, source: Path) -> None:
    lamina.plan(recipe(tmp_path, SHALLOW))
    hub_server.faults.cut_after[SHARDS[0]] = [1000]
    hub_server.faults.no_ranges = True
    lamina.merge(recipe(tmp_path, SHALLOW), tmp_path / "out")
    lamina.merge(recipe(source, SHALLOW), tmp_path / "local")
    assert content(tmp_path / "out") == content(tmp_path / "local")


def test_a_passing_fault_of_the_server_is_passed_over(hub_server: HubServer, mean: Path, tmp_path: Path) -> None:
    hub_server.faults.status = {
        "listing": [503, 429],
        "config.json": [500, 502],
        SHARDS[0]: [504, 503],
        SHARDS[2]: [408],
    }
    lamina.merge(mean, tmp_path / "out")


def test_a_mirror_that_lists_names_alone_is_merged_from(hub_server: HubServer, mean: Path, tmp_path: Path) -> None:
    hub_server.faults.no_blobs = True
    lamina.merge(mean, tmp_path / "out")
    assert hub_server.tensor_bytes_sent() > 0


def test_two_that_want_the_same_file_fetch_it_once(hub_server: HubServer, source: Path) -> None:
    checkpoints = [open_checkpoint(hub.open_hub_files("org/a", None, HubOptions())) for _ in range(2)]
    hub_server.forget()
    threads = [threading.Thread(target=each.fetch, args=(each.specs,)) for each in checkpoints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hub_server.bytes_sent() == sum((source / "org" / "a" / name).stat().st_size for name in SHARDS)
    assert checkpoints[0].sample() == checkpoints[1].sample() == open_checkpoint(source / "org" / "a").sample()


# Tokens


def test_a_token_goes_to_the_hub_and_not_to_where_it_redirects(
    hub_server: HubServer, mean: Path, tmp_path: Path
) -> None:
    lamina.merge(mean, tmp_path / "out", token="secret")
    assert {each.token for each in hub_server.requests if not each.on_cdn} == {"Bearer secret"}
    assert {each.token for each in hub_server.requests if each.on_cdn} == {None}


def test_a_private_model_is_merged_with_its_token(hub_server: HubServer, mean: Path, tmp_path: Path) -> None:
    hub_server.repos["org/a"].token = "secret"
    lamina.merge(mean, tmp_path / "out", token="secret")


def test_a_gated_model_is_merged_once_its_licence_is_accepted(
    hub_server: HubServer, mean: Path, tmp_path: Path
) -> None:
    hub_server.repos["org/a"].gated = True
    lamina.merge(mean, tmp_path / "out", token="accepted")


def test_the_token_is_not_in_the_representation_of_the_options() -> None:
    assert "secret" not in repr(HubOptions(token="secret"))


def test_requests_say_who_asks(hub_server: HubServer, mean: Path) -> None:
    lamina.plan(mean)
    assert all("lamina" in each.agent for each in hub_server.requests if not each.on_cdn)


# Tensors in memory


def test_a_tensor_that_is_asked_for_fetches_its_own_shards_and_no_others(
    hub_server: HubServer, mean: Path, source: Path
) -> None:
    weights = {"a": 1, "b": 3}
    local = {
        "merge_method": "linear",
        "models": [{"model": str(source / "org" / name), "parameters": {"weight": weights[name]}} for name in weights],
    }
    with lamina.tensors(mean) as merged, lamina.tensors(local) as expected:
        assert hub_server.tensor_bytes_sent() == 0
        name = next(iter(merged))
        assert (merged[name] == expected[name]).all()
        assert 0 < hub_server.tensor_bytes_sent() < lamina.plan(local).bytes_read


def test_the_plan_says_what_is_to_be_fetched(hub_server: HubServer, mean: Path) -> None:
    assert hub_server.tensor_bytes_sent() == 0
    plan = lamina.plan(mean)
    assert "fetch " in repr(plan)
    data = plan.as_data()
    assert data["bytes_to_fetch"] == plan.bytes_to_fetch > 0
    assert all(source["commit"] for source in data["inputs"])
