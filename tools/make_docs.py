"""Write the generated pages of docs/: what the code says of itself. A test holds that they are current.

python tools/make_docs.py
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import click
from click.testing import CliRunner

from lamina.checkpoints.layout import lay_out
from lamina.cli.main import cli
from lamina.cli.methods import explained
from lamina.merge_methods import METHODS

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
    return {"methods.md": methods_page(), "commands.md": commands_page(), "plan.svg": plan_picture()}


def methods_page() -> str:
    parts = ["# Merge methods\n", "What `lamina methods NAME` prints.\n"]
    parts += [f"## {method.name}\n\n```\n{explained(method)}\n```\n" for method in METHODS.values()]
    return "\n".join(parts)


def commands_page() -> str:
    parts = ["# Commands\n", "What `lamina VERB --help` prints.\n", f"```\n{_help([])}```\n"]
    parts += [f"## lamina {verb}\n\n```\n{_help([verb])}```\n" for verb in cli.list_commands(click.Context(cli))]
    parts.append(
        "## Exit codes\n\n"
        "| code | meaning |\n|---|---|\n"
        "| 0 | done, or already there |\n"
        "| 1 | failed after reading began; nothing is visible at the output |\n"
        "| 2 | the request cannot be planned; nothing was read but configs and headers |\n"
        "| 130 | interrupted; nothing is visible at the output |\n"
    )
    return "\n".join(parts)


def plan_picture() -> str:
    """The README's picture: the plan of a 7B model laid over itself. A plan needs headers, so no data is made."""
    with tempfile.TemporaryDirectory() as folder:
        _headers_only(Path(folder) / "base", "7b")
        recipe = Path(folder) / "solar-ramp.yml"
        recipe.write_text(RECIPE, encoding="utf-8")
        told = CliRunner().invoke(cli, ["plan", str(recipe)], terminal_width=92).output
    told = re.sub(r" · disk free [^\n]*", "", told)
    lines = [f"$ cat {recipe.name}", *RECIPE.splitlines(), "", f"$ lamina plan {recipe.name}", *told.splitlines()]
    return _svg(lines)


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
