"""Run the targets with atheris (libFuzzer): bytes are changed towards code that was not reached yet.

    python -m fuzz.run --minutes 5              every target in turn, so long each
    python -m fuzz.run --minutes 60 pickle      one of them
    python -m fuzz.run --replay FILE pickle     one input, with its traceback

What a target found, that it goes on from, is kept in build/fuzz/; an input that did wrong is put into
fuzz/corpus/TARGET/, where the tests replay it. Ends with 1 where there is such an input.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS_EACH = 20  # of one input, before it counts as a hang
MEMORY = 1_500  # MB resident, before an input counts as a bomb
ADDRESSES = 8 << 30  # bytes of address space: an allocation beyond fails, and is seen


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", help="names of targets; none: all")
    parser.add_argument("--minutes", type=float, default=5, help="for each target (default 5)")
    parser.add_argument("--replay", type=Path, help="run this one input")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.in_process:
        return _fuzz(options.targets[0], options.minutes * 60)
    from fuzz.targets import TARGETS

    if unknown := [name for name in options.targets if name not in TARGETS]:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if options.replay:
        for name in options.targets:
            TARGETS[name](options.replay.read_bytes())
        return 0
    names = options.targets or list(TARGETS)
    print(f"{'target':12} {'executions':>10} {'a second':>9} {'seconds':>8}  result", flush=True)
    found = [_run(name, options.minutes) for name in names]
    return 1 if any(found) else 0


def _run(name: str, minutes: float) -> bool:
    """Fuzz one target in a process of its own, tell how it went; true where something was found."""
    started = time.monotonic()
    command = [sys.executable, "-m", "fuzz.run", "--in-process", "--minutes", str(minutes), name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    log = ROOT / "build" / "fuzz" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(done.stdout + done.stderr)
    executions = int((re.findall(r"number_of_executed_units: (\d+)", done.stderr) or [0])[-1])
    found = re.findall(r"Test unit written to (\S+)", done.stderr)
    seconds = time.monotonic() - started
    result = "nothing found" if done.returncode == 0 else f"FOUND {', '.join(found)}" if found else f"failed: see {log}"
    print(f"{name:12} {executions:10} {executions / seconds:9.0f} {seconds:8.0f}  {result}", flush=True)
    return done.returncode != 0


def _fuzz(name: str, seconds: float) -> int:
    try:
        import atheris
    except ImportError:
        print("this needs the package `atheris`: pip install 'lamina[fuzz]' (Linux and macOS only)", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["lamina", "zipfile", "json"]):
        from fuzz.targets import CORPUS, TARGETS
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    target = TARGETS[name]
    grown, kept = ROOT / "build" / "fuzz" / name, CORPUS / name
    for folder in (grown, kept):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (grown / f"seed-{number}").write_bytes(seed)
    flags = {
        "max_total_time": int(seconds), "timeout": SECONDS_EACH, "rss_limit_mb": MEMORY, "print_final_stats": 1,
        "artifact_prefix": f"{kept}/", "len_control": 0,
    }  # fmt: skip
    atheris.Setup([sys.argv[0], *(f"-{flag}={value}" for flag, value in flags.items()), str(grown), str(kept)], target)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
