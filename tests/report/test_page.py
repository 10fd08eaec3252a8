"""The page in a browser: it draws every chart, asks for nothing, and complains of nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.ledger.ledger import Ledger
from lamina.ledger.runs import Run, Score
from tests.cli.conftest import Lamina

from .conftest import Browser

HOSTILE = "<script>alert(1)</script>&lt;b&gt;\"'</script><img src=x onerror=alert(2)>"
GRADIENT = """\
models: [{model: models/rev}, {model: models/sort}]
base_model: models/rev
merge_method: slerp
parameters: {t: [0, 1]}
"""


def score(name: str, right: int, items: str = "same") -> Score:
    """A score of 40 items, the first of them right."""
    share = right / 40
    answers = tuple(1.0 if number < right else 0.0 for number in range(40))
    error = (share * (1 - share) / 40) ** 0.5
    return Score(name, share, error, 40, "share", items=answers, items_digest=items)


@pytest.fixture
def out(lamina: Lamina, folder: Path, ledger_file: Path) -> Path:
    """A merge and its parents with scores, a check with input shifts, and a sweep that it is a point of."""
    (folder / "gradient.yml").write_text(GRADIENT)
    assert lamina("merge", "gradient.yml", "out", "-q").code == 0
    with Ledger(ledger_file) as ledger:
        (merge,) = ledger.runs(kind="merge")
        for name, right in (("rev", 30), ("sort", 10)):
            output = str(folder / "models" / name)
            ledger.add(Run("eval", name, output=output, scores=(score("rev", right), score(HOSTILE, 40 - right))))
        ledger.add(
            Run("eval", "out", plan=merge.plan, output=merge.output, scores=(score("rev", 38), score(HOSTILE, 12)))
        )
        ledger.add(
            Run(
                "check", "out", plan=merge.plan, output=merge.output, verdict="needs training",
                details={
                    "findings": [{"section": "seams", "level": "needs training", "code": "seam", "message": HOSTILE}],
                    "input_shift": {"0": 1.0, "1": 0.7, "2": 0.9, "3": 0.95},
                },
            )
        )  # fmt: skip
        for number, value in enumerate(("[0, 1]", "[1, 0]", "0.5")):
            recipe = GRADIENT.replace("[0, 1]", value)
            details = {"split": "dev", "metric": "rev", "point": [f"parameters.t={value}"] if number else []}
            plan = merge.plan if number == 0 else f"plan-{value}"
            ledger.add(
                Run("sweep", "gradient.yml", recipe, plan, merge.parents, scores=(score("rev-dev", 20 + 5 * number),),
                    details=details)
            )  # fmt: skip
    return folder / "out"


@pytest.fixture
def page(lamina: Lamina, out: Path, folder: Path) -> Path:
    run = lamina("report", "out")
    assert (run.code, run.err) == (0, "")
    assert out.exists()
    return folder / "out-report.html"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 390)])
def test_every_chart_is_drawn_without_a_word_and_without_a_network(
    page: Path, browser: Browser, scheme: str, width: int
) -> None:
    shown = browser.show(page, scheme=scheme, width=width)
    charts = shown.page.evaluate(
        "[...document.querySelectorAll('.chart')].map((it) => [it.id, it.querySelector('svg.main-svg')"
        "?.getBoundingClientRect().width ?? 0, it.querySelectorAll('.point, .heatmaplayer image').length])"
    )
    assert [key for key, *_ in charts] == ["scores-0", "sweep-0", "weights-0", "gradients-0", "input-0", "diff-0"]
    assert all(drawn > 0.8 * min(width, 1000) and marks for _, drawn, marks in charts)
    assert shown.page.evaluate("document.querySelector('.layer-map').getBoundingClientRect().width") > 300
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    paper = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
    assert (shown.faults, shown.asked) == ([], [])


def test_the_button_turns_page_picture_and_charts_to_the_other_scheme(page: Path, browser: Browser) -> None:
    shown = browser.show(page)
    colours = (
        "[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('.layer-map .ink')).fill, "
        "document.querySelector('.chart .xtick text').style.fill]"
    )
    light = shown.page.evaluate(colours)
    shown.page.click("#scheme")
    dark = shown.page.evaluate(colours)
    assert all(before != after for before, after in zip(light, dark, strict=True))
    shown.page.click("#scheme")
    assert shown.page.evaluate(colours) == light
    assert shown.faults == []


def test_what_users_wrote_is_shown_and_never_run(page: Path, browser: Browser) -> None:
    shown = browser.show(page)
    shown.page.on("dialog", lambda dialog: shown.faults.append(dialog.message))
    assert HOSTILE in shown.page.inner_text("#check")
    assert shown.page.evaluate("document.querySelectorAll('main script:not([type])').length") == 0
    assert shown.page.evaluate("document.querySelectorAll('main img').length") == 0
    ticks = shown.page.evaluate("[...document.querySelectorAll('#scores-0 .ytick text')].map((it) => it.textContent)")
    assert HOSTILE in ticks  # plotly, which reads some HTML, shows it as it is
    assert (shown.faults, shown.asked) == ([], [])


def test_on_paper_all_is_black_on_white_whatever_the_scheme(page: Path, browser: Browser) -> None:
    shown = browser.show(page, scheme="dark")
    colours = "[getComputedStyle(document.body).color, document.querySelector('.chart .xtick text').style.fill]"
    dark = shown.page.evaluate(colours)
    shown.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.page.evaluate(colours) == ["rgb(31, 35, 40)", "rgb(31, 35, 40)"]
    shown.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shown.page.evaluate(colours) == dark
