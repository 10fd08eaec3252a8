"""Carry out a run and write its report; see the package."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from conformance.peer import ROOT, make_environment
from conformance.records import write_records
from conformance.report import above, report
from conformance.study import describe, failures, study, touched

RECORDED = 185424  # the seed of report.md and of the digests in the tests
LEAST_PLAIN = 0.8  # the share of recipes that must touch no row


def main() -> int:
    """0 where nothing differs that no row explains, no mean error is above MergeKit's, and few recipes touch a row."""
    parser = argparse.ArgumentParser(prog="python -m conformance", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipes", type=int, default=520, help="how many; default: 520")
    parser.add_argument("--seed", type=int, default=RECORDED, help=f"of the recipes; default: {RECORDED}, as recorded")
    parser.add_argument("--mergekit", type=Path, metavar="PYTHON", help="a Python with MergeKit 0.1.5; default: made")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one a core")
    parser.add_argument("--report", type=Path, default=ROOT / "conformance" / "report.md", help="where to write it")
    parser.add_argument("--record", type=Path, metavar="CSV", help="write digests and values for the tests")
    arguments = parser.parse_args()
    python = arguments.mergekit or make_environment(ROOT / "build" / "mergekit")
    found = study(python.absolute(), arguments.seed, arguments.recipes, arguments.jobs)
    arguments.report.write_text(report(arguments.seed, found))
    if arguments.record:
        write_records(arguments.record, [each.record for each in found if each.record is not None])
    failed, worse = failures(found), above(found)
    for each in failed:
        print(f"recipe {each.drawn.number}, {each.drawn.method}: {describe(each)}")
    plain = 1 - touched(found) / len(found)
    print(
        f"{len(found)} recipes, {plain:.1%} touch no row; {len(failed)} differences; above in error: {worse or 'none'}"
    )
    return 1 if failed or worse or plain < LEAST_PLAIN else 0


if __name__ == "__main__":
    sys.exit(main())
