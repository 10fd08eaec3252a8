"""Run the commands of a tutorial in an empty folder, and hold what they print against what the page shows.

    python tools/tutorial.py docs/tutorial.md            # tells what differs; exit code 1
    python tools/tutorial.py docs/tutorial.md --write    # the page shows what they print now

A block of a page that begins with ```yaml title=NAME is a file. One that begins with ```console holds commands, each
behind `$ `, and under it what it prints. A line `...` stands for lines that are left out: as many lines before and
after it are shown as there are. A command that ends with another exit code than 0 says so: `# exit code 2`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLES = {"models": ROOT / "examples" / "models", "questions": ROOT / "examples" / "questions"}
LEFT_OUT = "..."

_BLOCK = re.compile(r"^```(?P<kind>\w+)(?: title=(?P<title>\S+))?\n(?P<body>.*?)^```$", re.M | re.S)
_EXIT_CODE = re.compile(r"# exit code (\d+)$")
# What is another each time: times, dates, speeds, memory, the disk, rounding. Bars are as long as their figures say.
_VARYING = re.compile(
    r"\d+ min(?: \d+ s)?|[\d.]+ m?s\b|\d\d-\d\d \d\d:\d\d|[\d.]+ [kMG]B/s|peak memory [\d.]+ [MG]B"
    r"|[\d.]+e-\d+|disk free [\d.]+ [MGT]B|[█▓▒░]+|[0-9a-f]{16,}"
)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
# Processors round sums differently, and a few answers turn.
RELATIVE, ABSOLUTE = 0.05, 0.15


@dataclass(frozen=True)
class Command:
    """A command of a page, and what is shown under it."""

    text: str
    shown: str

    @property
    def exit_code(self) -> int:
        found = _EXIT_CODE.search(self.text)
        return int(found[1]) if found else 0


class CommandFailed(Exception):
    """A command ended otherwise than the page says."""


def commands_of(block: str) -> Iterator[Command]:
    """The commands of a ```console block, a continued one with its continuation."""
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
        command, shown = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*\n)(.*)", part, re.S).groups()  # type: ignore[union-attr]
        yield Command(command.removesuffix("\n"), shown)


def run_page(page: str, folder: Path, links: Mapping[str, Path]) -> Iterator[tuple[Command, str]]:
    """Write the page's files into a folder and run its commands there, in order; each with what it printed.

    Raises CommandFailed where one ends with another exit code than the page says.
    """
    for name, path in links.items():
        (folder / name).symlink_to(path.resolve(), target_is_directory=True)
    for block in _BLOCK.finditer(page):
        if block["title"]:
            (folder / block["title"]).write_text(block["body"], encoding="utf-8")
        elif block["kind"] == "console":
            for command in commands_of(block["body"]):
                yield command, _printed(command, folder)


def with_outputs(page: str, printed: Sequence[str]) -> str:
    """The page with what its commands printed, in order, in place of what it shows."""
    outputs = iter(printed)

    def rewritten(block: re.Match[str]) -> str:
        if block["kind"] != "console":
            return block[0]
        return "```console\n" + "".join(
            f"$ {command.text}\n{shortened(next(outputs), command.shown)}" for command in commands_of(block["body"])
        ) + "```"  # fmt: skip

    return _BLOCK.sub(rewritten, page)


def shortened(printed: str, shown: str) -> str:
    """What was printed, with as many lines before and after `...` as are shown there; whole without one."""
    lines, pattern = printed.splitlines(keepends=True), [line.strip() for line in shown.splitlines()]
    if LEFT_OUT not in pattern:
        return printed
    before = pattern.index(LEFT_OUT)
    after = len(pattern) - 1 - before
    if before + after >= len(lines):
        return printed
    return "".join([*lines[:before], f"{LEFT_OUT}\n", *lines[len(lines) - after :]])


def alike(printed: str, shown: str) -> bool:
    """True where the words are the same and the figures nearly so, but for what is another each time."""
    ours, theirs = (" ".join(_VARYING.sub(" ", text).split()) for text in (shortened(printed, shown), shown))
    if _NUMBER.sub("#", ours) != _NUMBER.sub("#", theirs):
        return False
    pairs = zip(_NUMBER.findall(ours), _NUMBER.findall(theirs), strict=True)
    return all(abs(float(a) - float(b)) <= max(ABSOLUTE, RELATIVE * abs(float(b))) for a, b in pairs)


def _printed(command: Command, folder: Path) -> str:
    """What a command prints to both of its streams, without a terminal."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "LAMINA_LEDGER": str(folder / ".ledger.sqlite"),
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", command.text], cwd=folder, env=environment, text=True, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    said = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    if done.returncode != command.exit_code:
        raise CommandFailed(f"$ {command.text}\n{said}\nexit code {done.returncode}, not {command.exit_code}")
    return f"{said}\n" if said else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--write", action="store_true", help="show in the page what the commands print")
    parser.add_argument(
        "--link", action="append", default=[], metavar="NAME=PATH", help="put this folder beside the bundled models"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="run in this folder, which is new, and leave it")
    given = parser.parse_args()
    links = EXAMPLES | {name: Path(path) for name, _, path in (each.partition("=") for each in given.link)}
    page = given.page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(exist_ok=given.keep is None, parents=True)
        try:
            printed = []
            for command, said in run_page(page, folder, links):
                print(f"$ {command.text}\n{said}", flush=True)
                if not given.write and not alike(said, command.shown):
                    sys.exit(f"The page shows:\n{command.shown}")
                printed.append(said)
        except CommandFailed as failed:
            sys.exit(str(failed))
    if given.write:
        given.page.write_text(with_outputs(page, printed), encoding="utf-8")


if __name__ == "__main__":
    main()
