"""Write the generated pages of docs/: what the code says of itself. A test holds that they are current.

python tools/make_docs.py
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import click
from click.testing import CliRunner

import lamina
from lamina.checkpoints.layout import INDEX_NAME, lay_out
from lamina.checkpoints.writer import MADE_BY
from lamina.cli.check import CHECK_FIELDS
from lamina.cli.diff import DIFF_FIELDS
from lamina.cli.eval import EVAL_FIELDS
from lamina.cli.main import EXIT_CODES, cli
from lamina.cli.merge import RESULT_FIELDS
from lamina.cli.mergekit_flags import IDLE_FLAGS, ON_CPU
from lamina.cli.methods import explained
from lamina.cli.options import ALIASES
from lamina.cli.plan import FORECAST_FIELDS
from lamina.cli.push import PUSH_FIELDS
from lamina.cli.reproduce import REPRODUCTION_FIELDS
from lamina.cli.runs import RUNS_FIELDS
from lamina.cli.runs_shown import RUNS_DIFF_FIELDS
from lamina.cli.scan import SCAN_FIELDS
from lamina.cli.sweep_shown import SWEEP_FIELDS
from lamina.cli.upscale import UPSCALE_FIELDS
from lamina.execute.provenance import RECORD_FIELDS
from lamina.ledger.runs import RUN_FIELDS
from lamina.merge_methods import METHODS
from lamina.planners.side_files import OTHER_FILES, TOKENIZER_FILES
from lamina.planners.training import TRAINING_FIELDS
from lamina.plans.origin import EXPLAIN_FIELDS
from lamina.plans.picture import layer_map_svg
from lamina.report.comparison import COMPARISON_FIELDS
from lamina.report.sheet import SHEET_FIELDS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # for the shapes of big models, which the benchmarks know
from make_synthetic import PRESETS, side_files, tensor_specs  # noqa: E402

RECIPE = """\
stack:
  - {model: base, layers: 0-31, at: 0}
  - {model: base, layers: 0-31, at: 8}
overlap: ramp
dtype: bfloat16
"""


def pages() -> dict[str, str]:
    """Each generated page by its file name."""
    return {
        "methods.md": methods_page(),
        "commands.md": commands_page(),
        "provenance.md": provenance_page(),
        "plan.svg": plan_picture(),
        "layers.svg": layers_picture(),
    }


def methods_page() -> str:
    more = "[own-method.md](own-method.md) tells of methods of your own."
    parts = ["# Merge methods\n", f"What `lamina methods NAME` prints. {more}\n"]
    parts += [f"## {method.name}\n\n```\n{explained(method)}\n```\n" for method in METHODS.values()]
    return "\n".join(parts)


def commands_page() -> str:
    parts = ["# Commands\n", "What `lamina VERB --help` prints, and what it leaves out.\n", f"```\n{_help([])}```\n"]
    for verb in cli.list_commands(click.Context(cli)):
        parts.append(f"## lamina {verb}\n\n```\n{_help([verb])}```\n")
        command = cli.get_command(click.Context(cli), verb)
        if isinstance(command, click.Group):
            parts += [f"### lamina {verb} {each}\n\n```\n{_help([verb, each])}```\n" for each in command.commands]
    parts += [
        f"## Exit codes\n\n{_table(('code', 'meaning'), EXIT_CODES.items())}",
        f"## Files written\n\n{FILES_INTRO}\n\n{_table(('file', 'what it is'), FILES_WRITTEN.items())}",
        f"## Flags of mergekit-yaml\n\n{MERGEKIT_INTRO}\n\n{_table(('flag', 'here'), _mergekit_flags())}",
        f"## JSON\n\n{JSON_INTRO}\n",
        *(f"### {title}\n\n{_table(('key', 'holds'), _keys(fields))}" for title, fields in JSON_FIELDS.items()),
        SURROUNDINGS,
    ]
    return "\n".join(parts)


def provenance_page() -> str:
    return PROVENANCE.format(fields=_table(("key", "holds"), _keys(RECORD_FIELDS)))


PROVENANCE = f"""\
# Provenance

Every merge writes `{MADE_BY}` into its folder: what the folder was made of, and a digest of every tensor that was read
or written, taken while the bytes went by. It holds no path of a machine and no time, so that the same merge writes the
same record anywhere, after an interruption too.

{{fields}}
A tensor's digest is xxh3-128 over the xxh3-128 of its pieces of 4 MiB, as 32 hex digits; a tensor without elements has
no pieces. In Python:

```python
def digest(data):
    pieces = (data[first : first + (4 << 20)] for first in range(0, len(data), 4 << 20))
    return xxhash.xxh3_128_hexdigest(b"".join(xxhash.xxh3_128_digest(piece) for piece in pieces))
```

These digests tell of accidents, not of malice: xxh3 is no cryptographic hash.

## Checking

`lamina reproduce OUT --digests-only` reads the folder once and compares. `lamina reproduce OUT` also makes the merge
again, without writing it, and compares every tensor and file; models are looked for as the recipe names them, beside it
and in the working directory, and `--recipe` names another copy of it. Models of the Hub are read at the `commits` of
the record, though their branches have moved on, and so they are by `lamina check` and `lamina report`. Where anything
differs the exit code is 3. A merge by a method of one's own carries the method's file; read it, and `--allow-own-code`
runs it.

## The model card

`README.md` has, in its head, `base_model` (the parents that are on the Hub), `base_model_relation: merge`, the license
where the parents agree (else each one's, and a notice in the plan), `pipeline_tag` and `tags`; below it the method, the
parents as the recipe names them, with their revisions, the layers as a picture (`layers.svg`), and the recipe without
any place of a machine. The recipe's own file beside it is kept byte for byte; the commits that were read stand in
`lamina.json`.
"""

FILES_INTRO = """\
Only `lamina merge` writes, and `lamina upscale` and `lamina demo`, which merge. While it works, everything is in
`.OUT.lamina/` beside OUT, with a journal of the tensors that are on the disk for good; one rename publishes it. A
merge that was stopped or killed leaves that folder: the same command goes on from it, and `lamina clean` removes
it. Where nothing can be put beside OUT, or OUT has to stay (a mount point, the working directory), the folder is
`OUT/.lamina/`, and config.json is moved out of it last. Models of the Hub are fetched into its cache (--cache-dir)
before. `lamina eval` keeps scores."""
FILES_WRITTEN = {
    "`OUT/model.safetensors`": "the tensors; or `model-00001-of-0000N.safetensors` and so on, with "
    f"`{INDEX_NAME}`, where they are larger than --shard-size",
    "`OUT/config.json`": "the first model's (or the base's), true to the tensors",
    "the tokenizer": f"{', '.join(f'`{name}`' for name in TOKENIZER_FILES)}, what there is of them: of the model "
    "that gives the tokenizer",
    "other small files": f"{', '.join(f'`{name}`' for name in OTHER_FILES)}, and `*.py` where config.json names code "
    "of its own",
    "`OUT/README.md`": "the model card",
    "`OUT/layers.svg`": "a picture of the layers, which the card shows: each source's share of every output layer",
    "`OUT/mergekit_config.yml`": "the recipe; `OUT/lamina.yml` where it has words that only Lamina reads",
    "`OUT.yml`": "of `lamina upscale`: the recipe that it stands for, beside OUT; `lamina merge` makes the same of it",
    "`OUT/training.md`, `OUT/training.json`": "of `lamina upscale`: which layers to train, ready for PyTorch, PEFT, "
    "Axolotl and LLaMA-Factory",
    f"`OUT/{MADE_BY}`": "what made the folder, with a digest of every tensor: docs/provenance.md",
    "`lamina-evaluations/MODEL-TASK-*.json`": "of `lamina eval`: each score with its items (docs/eval.md); --out names "
    "another folder",
    "`NAME-report.html`, `report.html`": "of `lamina report`: a page that needs nothing beside it; --out names another",
}

MERGEKIT_INTRO = "All are accepted by `lamina merge`, in their `--no-` forms too, so that a command line can be kept."
SAME = {
    "-j N": "the same: threads that compute",
    "--device DEVICE": f"{ON_CPU} Any other device is answered in one line",
    "--copy-tokenizer": "the same, on by default",
    "--write-model-card": "the same, on by default; off leaves out the picture and the copy of the recipe too",
    "--allow-crimes": "models may disagree in their configs about what they compute, if their tensors have equal "
    "shapes; without it that is an error",
    "--quiet": "the same",
    "-v": "prints the plan before merging",
}


def _mergekit_flags() -> Iterator[tuple[str, str]]:
    yield from ((f"`{flag}`", what) for flag, what in SAME.items())
    yield from ((f"`{theirs}`", f"`{ours}`") for theirs, ours in ALIASES.items())
    for flag in IDLE_FLAGS:
        shown = f"--{flag.name} {flag.value}".strip() if flag.tell_when else f"--no-{flag.name}"
        yield f"`{shown}`", f"no effect: {flag.reason}"


JSON_INTRO = (
    "With `--json` a verb prints one JSON document on stdout and no text. What goes wrong comes the same way, with\n"
    "the same exit code: `exit_code` and `problems`, each with its `code`, `message`, `file`, `line`, `column` (from\n"
    "1; 0 where no line applies) and `suggestion` (what to write instead, where one thing is likely)."
)
JSON_FIELDS = {
    "lamina plan --json": FORECAST_FIELDS,
    "lamina merge --json": RESULT_FIELDS,
    "lamina upscale --json": UPSCALE_FIELDS,
    "lamina upscale --scan --json": SCAN_FIELDS,
    "training.json": TRAINING_FIELDS,
    "lamina explain --json": EXPLAIN_FIELDS,
    "lamina reproduce --json": REPRODUCTION_FIELDS,
    "lamina check --json": CHECK_FIELDS,
    "lamina diff --json": DIFF_FIELDS,
    "lamina eval --json": EVAL_FIELDS,
    "lamina sweep --json": SWEEP_FIELDS,
    "lamina runs --json, a list": RUNS_FIELDS,
    "lamina runs show --json": RUN_FIELDS,
    "lamina runs diff --json": RUNS_DIFF_FIELDS,
    "lamina report --json": SHEET_FIELDS,
    "lamina report --json, of several": COMPARISON_FIELDS,
    "lamina push --json": PUSH_FIELDS,
}

SURROUNDINGS = """\
## Around it

A recipe may be `-`: `generate | lamina plan -`. A name `org/name` of no file is a merge
published on the Hub, and the recipe that it carries. `--revision` is of that and of models named without one; a recipe
gives each its own by `model: org/name@REVISION`.

`NO_COLOR` set to anything takes colour away; where the output is no terminal there is none. The line that moves is
shown on a terminal only.

Completion of verbs, flags and files by the shell, for a line in its start file:

| shell | line |
|---|---|
| bash | `eval "$(_LAMINA_COMPLETE=bash_source lamina)"` |
| zsh | `eval "$(_LAMINA_COMPLETE=zsh_source lamina)"` |
| fish | `_LAMINA_COMPLETE=fish_source lamina \\| source` |
"""


def _table(head: tuple[str, str], rows: Iterable[tuple[object, str]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {_cell(key)} | {_cell(what)} |" for key, what in rows)]
    return "\n".join(lines) + "\n"


def plan_picture() -> str:
    """The README's picture: the plan of a 7B model laid over itself. A plan needs headers, so no data is made."""
    with _recipe_of_a_7b() as recipe:
        told = CliRunner().invoke(cli, ["plan", str(recipe)], terminal_width=92).output
    told = re.sub(r" · disk free [^\n]*", "", told)
    lines = [f"$ cat {recipe.name}", *RECIPE.splitlines(), "", f"$ lamina plan {recipe.name}", *told.splitlines()]
    return _svg(lines)


def layers_picture() -> str:
    """The layers of the same plan, as its card shows them."""
    with _recipe_of_a_7b() as recipe:
        return layer_map_svg(lamina.plan(recipe))


@contextmanager
def _recipe_of_a_7b() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        _headers_only(Path(folder) / "base", "7b")
        recipe = Path(folder) / "solar-ramp.yml"
        recipe.write_text(RECIPE, encoding="utf-8")
        yield recipe


def _keys(fields: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield from ((f"`{key}`", what) for key, what in fields.items())


def _cell(content: object) -> str:
    return str(content).replace("|", "\\|")


def _help(arguments: Sequence[str]) -> str:
    return CliRunner().invoke(cli, [*arguments, "--help"], prog_name="lamina", terminal_width=100).output


def _headers_only(folder: Path, preset: str) -> None:
    """A model whose files have their full size and headers, and holes where the tensors would be."""
    shape = PRESETS[preset]
    layout = lay_out(tensor_specs(shape))
    folder.mkdir()
    for shard in layout.shards:
        with (folder / shard.file_name).open("wb") as file:
            file.write(shard.header)
            file.truncate(shard.size)
    (folder / "model.safetensors.index.json").write_bytes(layout.index_json)
    for name, content in side_files(shape).items():
        (folder / name).write_bytes(content)
    assert json.loads((folder / "config.json").read_bytes())["num_hidden_layers"] == shape.layers


def _svg(lines: Sequence[str]) -> str:
    """Terminal lines as a picture that needs no font but a monospaced one."""
    width, height = 8.43 * max(map(len, lines)) + 40, 19 * len(lines) + 36
    rows = "\n".join(
        f'<text x="20" y="{33 + 19 * number}" xml:space="preserve"{_style(line)}>{escape(line)}</text>'
        for number, line in enumerate(lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}" role="img" aria-label="lamina plan">\n'
        '<rect width="100%" height="100%" rx="8" fill="#16181d"/>\n'
        "<g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" "
        f'font-size="14" fill="#d7dae0">\n{rows}\n</g>\n</svg>\n'
    )


def _style(line: str) -> str:
    if line.startswith("$"):
        return ' fill="#8bd5a0"'
    return ' fill="#e5c07b"' if line.startswith("notice") else ""


def main() -> None:
    for name, content in pages().items():
        (ROOT / "docs" / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
