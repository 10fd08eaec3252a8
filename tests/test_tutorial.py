"""What docs/tutorial.md shows is what its commands print; the tool that holds that tells when it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from tutorial import EXAMPLES, Command, CommandFailed, alike, commands_of, run_page, shortened, with_outputs

ROOT = Path(__file__).parents[1]
PAGE = """\
```yaml title=a.yml
a: 1
```
```console
$ cat a.yml
old
$ printf '1\\n2\\n3\\n4\\n' | \\
  cat
1
...
4
$ false   # exit code 1
```
"""


def test_the_commands_of_the_tutorial_print_what_it_shows(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    ran = 0
    for command, said in run_page(page, tmp_path, EXAMPLES):
        assert alike(said, command.shown), f"$ {command.text}\n{said}\nis not\n{command.shown}"
        ran += command.text.startswith("lamina ")
    assert ran >= 10


def test_a_page_runs_in_order_and_is_written_with_what_was_printed(tmp_path: Path) -> None:
    printed = [said for _, said in run_page(PAGE, tmp_path, {})]
    assert printed == ["a: 1\n", "1\n2\n3\n4\n", ""]
    assert with_outputs(PAGE, printed) == PAGE.replace("old\n", "a: 1\n")


def test_a_command_that_ends_otherwise_than_it_says_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="exit code 0, not 3"):
        list(run_page("```console\n$ true   # exit code 3\n```\n", tmp_path, {}))


def test_a_continued_command_is_one() -> None:
    assert list(commands_of("$ a \\\n  b\nsaid\nmore\n$ c\n")) == [
        Command("a \\\n  b", "said\nmore\n"),
        Command("c", ""),
    ]


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("best 89.9 ± 1.0 in 12 s\n", "best 89.9  ± 1.1 in 3 min 4 s\n", True),
        ("best 89.9\n", "best 78.9\n", False),
        ("best r4\n", "near r4\n", False),
        ("a\nb\nc\nd\n", "a\n...\nd\n", True),
        ("a\nb\nc\ne\n", "a\n...\nd\n", False),
    ],
)
def test_words_are_held_and_figures_nearly(printed: str, shown: str, same: bool) -> None:
    assert alike(printed, shown) is same


def test_what_is_shorter_than_what_is_shown_of_it_is_whole() -> None:
    assert shortened("a\n", "a\nb\n...\nc\n") == "a\n"
