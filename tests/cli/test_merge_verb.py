"""`lamina merge`: its own flags, and those of mergekit-yaml."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from lamina.cli.main import cli
from lamina.cli.merge import RESULT_FIELDS
from lamina.cli.mergekit_flags import IDLE_FLAGS
from lamina.cli.options import ALIASES
from lamina.cli.sizes import UNLIMITED, Size

from .conftest import SPOILT, Lamina

# Every flag of mergekit-yaml 0.1.5, with a value where it takes one, and whether it has a --no- form.
MERGEKIT_FLAGS = [
    ("allow-crimes", [], True), ("unsafe-truncate-embeddings", [], True), ("transformers-cache", ["cache"], False),
    ("lora-merge-cache", ["cache"], False), ("lora-merge-dtype", ["float16"], False), ("cuda", [], True),
    ("device", ["auto"], False), ("low-cpu-memory", [], True), ("out-shard-size", ["5B"], False),
    ("copy-tokenizer", [], True), ("clone-tensors", [], True), ("trust-remote-code", [], True),
    ("random-seed", ["7"], False), ("lazy-unpickle", [], True), ("write-model-card", [], True),
    ("safe-serialization", [], True), ("quiet", [], True), ("read-to-gpu", [], True), ("multi-gpu", [], True),
    ("num-threads", ["2"], False), ("gpu-rich", [], False), ("async-write", [], True), ("write-threads", ["2"], False),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "value", "has_off"), MERGEKIT_FLAGS, ids=lambda part: str(part))
def test_every_flag_of_mergekit_is_accepted(lamina: Lamina, flag: str, value: list[str], has_off: bool) -> None:
    assert lamina("merge", "average.yml", "out", "--dry-run", f"--{flag}", *value).code == 0
    if has_off:
        assert lamina("merge", "average.yml", "out", "--dry-run", f"--no-{flag}").code == 0


def test_a_flag_without_effect_is_answered_in_one_line(lamina: Lamina) -> None:
    run = lamina("merge", "average.yml", "out", "--lazy-unpickle", "--no-async-write", "--no-safe-serialization")
    assert run.code == 0
    assert run.err.splitlines() == [
        "--lazy-unpickle has no effect: Lamina always reads lazily.",
        "--no-safe-serialization has no effect: Lamina writes safetensors, and no pickles.",
    ]


@pytest.mark.parametrize("flag", [["--cuda"], ["--device", "cuda:1"], ["--gpu-rich"]], ids=str)
def test_who_asks_for_a_gpu_is_told_that_it_computes_on_the_cpu(lamina: Lamina, flag: list[str]) -> None:
    run = lamina("merge", "average.yml", "out", *flag)
    assert run.err.count("\n") == 1
    assert "computes on the CPU" in run.err


def test_the_flags_in_the_table_are_hidden_from_the_help_and_the_aliases_are_not_shown(lamina: Lamina) -> None:
    shown = lamina("merge", "--help").out
    assert not [flag.name for flag in IDLE_FLAGS if flag.name in shown]
    assert not [name for name in ALIASES if name in shown]
    assert "--shard-size SIZE" in shown


def test_every_flag_of_every_verb_stands_on_the_page_of_commands() -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    context = click.Context(cli)
    for verb in cli.list_commands(context):
        command = cli.get_command(context, verb)
        assert command is not None
        flags = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        assert [
            flag.opts for flag in flags if not any(name in page for name in [*flag.opts, *flag.secondary_opts])
        ] in (
            [],
            [["--normal"]],  # the border that needs no flag
        )


def test_the_result_as_data_has_the_documented_keys(lamina: Lamina) -> None:
    data = lamina("merge", "average.yml", "out", "--json", "--cuda").data
    assert [*data, "check"] == list(RESULT_FIELDS)  # which is there with --check
    assert data["shards"] == ["model.safetensors"]
    assert lamina("merge", "average.yml", "out", "--json").data["already_there"] is True


def test_without_tokenizer_and_card_their_files_are_not_there(lamina: Lamina, folder: Path) -> None:
    lamina("merge", "average.yml", "whole")
    lamina("merge", "average.yml", "bare", "--no-copy-tokenizer", "--no-write-model-card")
    whole, bare = ({path.name for path in (folder / name).iterdir()} for name in ("whole", "bare"))
    assert whole - bare == {"tokenizer.json", "tokenizer_config.json", "README.md", "layers.svg", "mergekit_config.yml"}


def test_quiet_says_nothing_and_verbose_shows_the_plan(lamina: Lamina) -> None:
    quiet = lamina("merge", "stack.yml", "quiet", "-q", "--cuda")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    verbose = lamina("merge", "stack.yml", "verbose", "-v")
    assert "5 layers" in verbose.out
    assert "merged in" in verbose.out


def test_the_last_line_says_how_to_check_what_was_made(lamina: Lamina) -> None:
    assert lamina("merge", "average.yml", "my out").out.endswith("\nnext: lamina check 'my out'\n")
    assert lamina("merge", "average.yml", "my out").out.endswith("\nnext: lamina check 'my out'\n")
    assert "next:" not in lamina("merge", "average.yml", "checked", "--check").out


def test_a_dry_run_writes_nothing(lamina: Lamina, folder: Path) -> None:
    assert "no errors" in lamina("merge", "average.yml", "out", "--dry-run").out
    assert not list(folder.glob("*out*"))


def test_models_that_disagree_about_what_they_compute_are_merged_when_asked(lamina: Lamina, folder: Path) -> None:
    _other_model(folder, {"hidden_act": "gelu"})
    arguments = ("average.yml", "out", "--dry-run", "--set", "models[1].model=other")
    assert lamina("merge", *arguments).code == 2
    run = lamina("merge", *arguments, "--allow-crimes")
    assert run.code == 0, run.err
    assert "gelu" in run.out


def test_shapes_that_do_not_fit_are_refused_even_then(lamina: Lamina, folder: Path) -> None:
    _other_model(folder, {"num_attention_heads": 1, "num_hidden_layers": 3})
    run = lamina("merge", "average.yml", "out", "--allow-crimes", "--set", "models[1].model=other")
    assert run.code == 2


def test_sizes_are_read_as_people_and_mergekit_write_them() -> None:
    sizes = {"200MB": 200_000_000, "1.5G": 1_500_000_000, "5B": 5_000_000_000, "5000000": 5_000_000}
    assert {text: Size().convert(text, None, None) for text in sizes} == sizes
    assert Size(zero_is_unlimited=True).convert("0", None, None) == UNLIMITED


def _other_model(folder: Path, changes: dict[str, object]) -> None:
    """`other`: the tensors of `sort` under another config."""
    (folder / "other").mkdir()
    for path in (folder / "models" / "sort").iterdir():
        content = path.read_bytes()
        if path.name == "config.json":
            content = json.dumps(json.loads(content) | changes).encode()
        (folder / "other" / path.name).write_bytes(content)


@pytest.mark.usefixtures("spoilt")
def test_one_tensor_that_is_not_finite_is_told_in_the_singular(lamina: Lamina) -> None:
    run = lamina("merge", "-", "out", stdin="models: [{model: spoilt}]\nmerge_method: passthrough\n")
    assert run.code == 0
    assert f"1 tensor holds NaN or infinity, as its inputs do: {SPOILT}" in " ".join(run.err.split())
