"""Is `lamina check` right? On a real chat model, SmolLM2-135M, and on merges of the example models.

    python benchmarks/check_study.py --model build/smollm2 --report docs/check.md

What is sound must be healthy, what is as its recipe wants it and not yet of use must need training, and every planted
fault must be found, with its layer or key named. Which merges of the example models are sound is not for the check to
say: those whose skills are not below their base's, as `skill_table.py` scores them. The exit code is 1 where one of
these does not hold. The record goes between two marks of the page.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from check_faults import FAULTS, planted
from skill_table import FAMILIES, MODELS, Recipe, answers, answers_of_model, candidates
from tampering import Fault

import lamina
from lamina.chance import difference
from lamina.check.check import check
from lamina.check.findings import Level, Report
from lamina.cli.check import lines
from lamina.merge_methods import METHODS

START, END = "<!-- measured: written by benchmarks/check_study.py -->", "<!-- end of what was measured -->"
WIDTH = 100
BAR = "\\|"  # in a cell of a table
MOST_UNHEALTHY = 1  # of fifty sound merges


@dataclass(frozen=True)
class Made:
    """A way to make a folder from the model, and the verdict that it must have."""

    name: str
    make: Callable[[Path, Path], object]
    wanted: Level


def _stack(text: str) -> Callable[[Path, Path], object]:
    def make(model: Path, out: Path) -> object:
        return lamina.merge(text.replace("MODEL", str(model)), out, force=True)

    return make


def _crossing(overlap: str) -> Callable[[Path, Path], object]:
    whole = "  - {model: MODEL, layers: 0-29"
    return _stack(f"stack:\n{whole}}}\n{whole}, at: 8}}\noverlap: {overlap}\n")


def _with_itself(method: str, rest: str) -> Callable[[Path, Path], object]:
    return _stack(f"models: [{{model: MODEL}}, {{model: MODEL}}]\nmerge_method: {method}\n{rest}")


def _copy(model: Path, out: Path) -> object:
    shutil.rmtree(out, ignore_errors=True)
    return shutil.copytree(model, out)


def _pro(model: Path, out: Path) -> object:
    return lamina.upscale(model, out, method="llama-pro", force=True)


SOLAR = "SOLAR, 30 to 48 layers"
ITSELF = (
    Made("the model itself", _copy, Level.HEALTHY),
    Made("llama-pro, a quarter more layers", _pro, Level.HEALTHY),
    Made("linear with itself", _with_itself("linear", "parameters: {weight: 0.5}\n"), Level.HEALTHY),
    Made("slerp with itself", _with_itself("slerp", "base_model: MODEL\nparameters: {t: 0.5}\n"), Level.HEALTHY),
)
DEEP = (
    Made(SOLAR, _stack("stack: [{model: MODEL, layers: [0-23, 6-29]}]\n"), Level.NEEDS_TRAINING),
    Made("whole at 0 and 8, `cut`", _crossing("cut"), Level.NEEDS_TRAINING),
    Made("whole at 0 and 8, `average`", _crossing("average"), Level.BROKEN),
)
TINY = ("base", "rev", "sort", "max", "kjv")


@dataclass(frozen=True)
class Outcome:
    """One line of the record."""

    name: str
    verdict: str
    said: str
    seconds: float
    right: bool
    is_sound: bool = True  # a merge whose skills are not below its base's
    skills: str = ""  # in points over the base's, with the interval


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("build/smollm2"), help="as tools/gguf_to_hf.py makes it")
    parser.add_argument("--work", type=Path, default=Path("build/check"), help="1.5 GB while it runs")
    parser.add_argument("--report", type=Path, help="the page to write into, docs/check.md")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    shown: dict[str, Report] = {}
    merges = told(sound_merges(given.work))
    tiny = [each for name in TINY for each in told(made_of(MODELS / name, ITSELF, given.work, {}))]
    planted_faults = told(faults(given.model, given.work))
    made = told(made_of(given.model, (*ITSELF, *DEEP), given.work, shown))
    unhealthy = [each for each in merges if each.is_sound and not each.right]
    wrong = [each.name for each in (*made, *tiny, *planted_faults) if not each.right]
    if len(unhealthy) * 50 > MOST_UNHEALTHY * sum(each.is_sound for each in merges):
        wrong += [each.name for each in unhealthy]
    if given.report:
        record = "\n".join(page(made, tiny, planted_faults, merges, shown[SOLAR]))
        before, rest = given.report.read_text(encoding="utf-8").split(START)
        after = rest.split(END)[1]
        given.report.write_text(f"{before}{START}\n\n{record}\n{END}{after}", encoding="utf-8")
    print("wrong: " + "; ".join(wrong) if wrong else "all that must hold holds")
    sys.exit(1 if wrong else 0)


def told(outcomes: Iterator[Outcome]) -> list[Outcome]:
    """All of them, each printed when it is there."""
    found = []
    for outcome in outcomes:
        mark = "" if outcome.right else "WRONG "
        skills = f" (skills {outcome.skills})" if outcome.skills else ""
        print(f"{mark}{outcome.name}{skills}: {outcome.verdict}, {outcome.seconds:.1f} s. {outcome.said}", flush=True)
        found.append(outcome)
    return found


def made_of(model: Path, ways: Sequence[Made], work: Path, shown: dict[str, Report]) -> Iterator[Outcome]:
    """The model and what is made of it alone, with a run of each."""
    for made in ways:
        out = work / "made"
        made.make(model, out)
        report = check(out, [model], quick=True)
        shown[made.name] = report
        yield _outcome(f"{model.name}: {made.name}", report, report.verdict is made.wanted)
        shutil.rmtree(out)


def faults(model: Path, work: Path) -> Iterator[Outcome]:
    """Every planted fault, by its weights and files alone."""
    for fault in FAULTS:
        out = planted(fault, model, work / "fault")
        report = check(out, [model], behaviour=False)
        yield _outcome(fault.name, report, _is_named(fault, report))
        shutil.rmtree(out)


def _is_named(fault: Fault, report: Report) -> bool:
    """Whether a finding that is bad enough names the layer or the key."""
    return report.verdict >= fault.level and any(
        (fault.layer is None or finding.layer == fault.layer) and (not fault.key or finding.key == fault.key)
        for finding in report.findings
        if finding.level >= Level.SUSPICIOUS
    )


def sound_merges(work: Path) -> Iterator[Outcome]:
    """Merges of the example models: with their recipe and run, and without it by likeness."""
    for name, parents, recipe in recipes():
        out, bare = work / "merge", work / "bare"
        lamina.merge(json.loads(json.dumps(recipe)), out, force=True)
        report = check(out, quick=True)
        shutil.copytree(out, bare)
        for carried in ("lamina.yml", "mergekit_config.yml", "lamina.json"):
            (bare / carried).unlink(missing_ok=True)
        without = check(bare, _models(recipe), behaviour=False)
        level = max(report.verdict, without.verdict)
        shutil.rmtree(out)
        shutil.rmtree(bare)
        found, base = answers(recipe, "test", parents), answers_of_model("base", "test")
        above = difference([found[skill] for skill in parents], [base[skill] for skill in parents])
        is_sound = above.share + above.margin >= 0
        chosen = report if report.verdict is level else without
        right = is_sound is (level is Level.HEALTHY)
        yield replace(_outcome(name, chosen, right), is_sound=is_sound, skills=str(above))


def recipes() -> Iterator[tuple[str, Sequence[str], Recipe]]:
    """Every method with its defaults for two and for three parents, and two settings of each that are not."""
    for number in range(3):
        for parents in FAMILIES:
            for method in METHODS:
                tried = candidates(method, parents)
                if len(tried) > number and (number == 0 or method in TUNED):
                    name = f"{method} of {', '.join(parents)}: {tried[number].told or 'default'}"
                    yield name, parents, tried[number].recipe


TUNED = ("slerp", "nuslerp", "task_arithmetic", "ties", "dare_linear", "dare_ties", "della", "breadcrumbs", "sce")


def _models(recipe: Recipe) -> list[str]:
    sources = [*recipe.get("models", ()), *(s for part in recipe.get("slices", ()) for s in part["sources"])]
    named = [source["model"] for source in sources] + [recipe.get("base_model")]
    return list(dict.fromkeys(name for name in named if name))


def _outcome(name: str, report: Report, right: bool) -> Outcome:
    worst = [finding for finding in report.findings if finding.level is report.verdict]
    said = worst[0].message if worst and report.verdict else ""
    return Outcome(name, str(report.verdict), said, report.seconds, right)


def page(
    made: Sequence[Outcome],
    tiny: Sequence[Outcome],
    faults: Sequence[Outcome],
    merges: Sequence[Outcome],
    solar: Report,
) -> Iterator[str]:
    """The record: a report as it is printed, and three tables."""
    yield "A quick check of SmolLM2-135M made deeper as SOLAR is:\n\n```"
    yield from (line.rstrip() for line in lines(solar, WIDTH))
    yield "```\n"
    yield "| checked beside the model that it was made of | of | verdict |\n|---|---|---|"
    alike: dict[tuple[str, str], list[str]] = {}
    for each in (*made, *tiny):
        model, _, way = each.name.partition(": ")
        alike.setdefault((way, each.verdict), []).append(model)
    yield from (f"| {way} | {', '.join(models)} | {verdict} |" for (way, verdict), models in alike.items())
    found = sum(each.right for each in faults)
    yield f"\n{found} of {len(faults)} faults planted in SmolLM2-135M were found and named (weights and files alone):\n"
    yield "| fault | verdict | what it says |\n|---|---|---|"
    yield from (f"| {each.name} | {each.verdict} | {each.said.replace('|', BAR)} |" for each in faults)
    sound = [each for each in merges if each.is_sound]
    healthy = sum(each.right for each in sound)
    yield f"\nOf {len(merges)} merges of the example models, each checked with its recipe and run, and without it by"
    yield f"likeness, {len(sound)} are sound: their skills are not below their base's. {healthy} of these are healthy."
    yield "Those below their base, and any whose verdict is not what its skills say:\n"
    yield "| merge | skills, in points over base | verdict |\n|---|---:|---|"
    for each in merges:
        if not each.is_sound or not each.right:
            yield f"| {each.name} | {each.skills} | {each.verdict} |"


if __name__ == "__main__":
    main()
