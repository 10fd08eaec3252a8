"""A sheet as a page: the verdict and the best score first, then what it is made of, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lamina.check.naming import short_name
from lamina.ledger.runs import Run, Score
from lamina.plans.explain import layer_rows, tracks
from lamina.plans.picture import layer_map_svg
from lamina.plans.plan import Plan
from lamina.plans.seams import seams
from lamina.plans.weights import EffectiveWeights, Factors, effective_weights
from lamina.report import charts
from lamina.report.figures import plain, signed, with_interval
from lamina.report.html import chart, folded, key_values, paragraph, section, table, text, told, whole_page
from lamina.report.scores import Scored, ScoreTable, Swept, SweptPoint, interval, is_dev
from lamina.report.sheet import DiffMap, Sheet
from lamina.wording import counted, in_bytes, in_parameters, in_seconds, span

LEVELS = {"healthy": "good", "needs training": "warn", "suspicious": "bad", "broken": "bad"}
PARTS = {
    "scores": "scores", "plan": "layer map and weights", "check": "verdict", "shift": "input of the layers",
    "diff": "distance from the parent",
}  # fmt: skip
TILES = 4  # scores in the headline
MOST_POINTS = 60  # lines of a sweep's table
SCHEME = '<button id="scheme" type="button" aria-label="light or dark">dark</button>'


def page(sheet: Sheet) -> str:
    """The whole page of one merge. Raises MissingExtra without the extra `report`."""
    parts = [*_sections(sheet)]
    links = "".join(f'<a href="#{key}">{text(title)}</a>' for key, title, _ in parts)
    body = _headline(sheet) + f"<nav>{links}</nav>\n" + "".join(section(*part) for part in parts)
    return whole_page(f"{sheet.subject.name} · Lamina", body)


def _sections(sheet: Sheet) -> Iterator[tuple[str, str, str]]:
    """Key, title and content of each section, in the order of the page."""
    subject, plan = sheet.subject, sheet.subject.plan
    if sheet.scores is not None:
        yield "scores", "Scores", _scores(sheet.scores)
    if sheet.sweeps:
        yield "sweep", "Sweep", "".join(_sweep(each, number) for number, each in enumerate(sheet.sweeps))
    weights = None if plan is None else effective_weights(plan)
    if plan is not None and weights is not None and weights.depth:
        yield "layers", "Layer map", _layers(plan)
        yield "weights", "Effective weights", _weights(weights)
        gradients = _gradients(plan)
        if gradients:
            yield "gradients", "Gradients", gradients
    if sheet.shifts:
        yield "input", "Input of the layers", _shift(sheet.shifts, weights)
    if sheet.diff is not None:
        yield "diff", "Distance from the parent", _diff(sheet.diff)
    if subject.check is not None:
        yield "check", "Check", _check(subject.check)
    if plan is not None and plan.notices:
        yield "notices", "Notices", _notices(plan)
    if subject.recipe:
        yield "recipe", "Recipe", f"<pre>{text(subject.recipe)}</pre>\n"
    yield "provenance", "Provenance", _provenance(sheet)
    if sheet.missing:
        yield "missing", "Not on this page", _missing(sheet.missing)


def _headline(sheet: Sheet) -> str:
    subject, plan, check = sheet.subject, sheet.subject.plan, sheet.subject.check
    verdict = ""
    if check is not None and check.verdict:
        verdict = f'<span class="verdict {LEVELS.get(check.verdict, "warn")}">{text(check.verdict)}</span>'
    facts = []
    if plan is not None:
        dtypes = dict.fromkeys(str(spec.dtype) for spec in plan.specs.values())
        depth = layer_rows(plan)[-1].last + 1 if layer_rows(plan) else 0
        facts = [
            plan.method,
            ", ".join(dtypes),
            counted(depth, "layer"),
            f"{in_parameters(plan.parameters)} parameters",
        ]
    if subject.parents:
        facts.append(f"of {', '.join(short_name(parent.name) for parent in subject.parents)}")
    head = f'<div class="title"><h1>{text(subject.name)}</h1>{verdict}{SCHEME}</div>\n'
    return head + paragraph(" · ".join(facts), "soft") + _tiles(sheet.scores)


def _tiles(scores: ScoreTable | None) -> str:
    if scores is None:
        return ""
    own = scores.models[0]
    names = _told_names(scores)
    tiles = []
    for name in names[:TILES]:
        score = own.score(name)
        assert score is not None
        beside = _worth(scores, name)
        tiles.append(
            f'<div class="tile"><span>{text(name)}</span><b>{_big(score)}</b><span>{text(beside)}</span></div>'
        )
    return f'<div class="tiles">{"".join(tiles)}</div>\n'


def _worth(scores: ScoreTable, name: str) -> str:
    """`+4.1 ± 2.5 over rev, beyond chance`."""
    if name not in scores.over:
        return "no parent was asked"
    parent, compared = scores.over[name]
    over = "beside" if compared.first.lower_is_better else "over"
    if compared.margin is None:
        return f"{signed(compared.first, compared.difference)} {over} {parent}"
    worth = "beyond chance" if compared.is_beyond_chance else "within chance"
    difference = signed(compared.first, compared.difference)
    return f"{difference} ± {plain(compared.first, compared.margin)} {over} {parent}, {worth}"


def _scores(scores: ScoreTable) -> str:
    parts = []
    told = _told_names(scores)
    for number, unit in enumerate(dict.fromkeys(_unit(scores, name) for name in told)):
        names = [name for name in told if _unit(scores, name) == unit]
        parts.append(chart(charts.score_chart(scores, names), f"scores-{number}", _score_rows(scores, names)))
    notes = ["± is half a 95% interval; a difference is paired, question by question, where both were asked the same."]
    if any(map(is_dev, _told_names(scores))):
        notes.append("-dev are the items that a sweep chose by: the chosen one's score on them is partly luck.")
    if any(score.limited for score in scores.models[0].scores):
        notes.append("* is of a part of the items.")
    if len(scores.models) == 1:
        notes.append("No score of its parents is noted: lamina eval with --parents asks them too.")
    return "".join(parts) + paragraph(" ".join(notes), "note")


def _told_names(scores: ScoreTable) -> list[str]:
    """The scores that nothing was chosen by; all, where there are no others."""
    return [name for name in scores.names if not is_dev(name)] or list(scores.names)


def _unit(scores: ScoreTable, name: str) -> tuple[str, bool]:
    score = scores.models[0].score(name)
    assert score is not None
    return score.unit, score.lower_is_better


def _score_rows(scores: ScoreTable, names: Sequence[str]) -> str:
    head = ["", *names]
    rows = [
        [text(f"{model.label} (parent)" if model.is_parent else model.label), *(_cell(model, name) for name in names)]
        for model in scores.models
    ]
    rows.append(["beside the best parent", *(text(_worth(scores, name)) for name in names)])
    kinds = ["parent" if model.is_parent else "own" for model in scores.models]
    return table(head, rows, numbers=range(1, len(head)), kinds=[*kinds, ""])


def _cell(model: Scored, name: str) -> str:
    score = model.score(name)
    return "" if score is None else text(with_interval(score))


def _big(score: Score) -> str:
    margin = interval(score)
    spread = "" if margin is None else f" <small>± {plain(score, margin)}</small>"
    return f"{plain(score, score.value)}{'*' * score.limited}{spread}"


def _sweep(swept: Swept, number: int) -> str:
    best = swept.best
    near = sum(point.standing.is_near_best and not point.standing.is_best for point in swept.points)
    values = ", ".join(f"{path}={value}" for path, value in zip(swept.paths, best.values, strict=True))
    said = f"Best of {len(swept.points)}: {values}, {with_interval(best.score)} ({best.run}). "
    if best.is_written:
        said += "That is the recipe as it is written. "
    elif (over := best.standing.over) is not None:
        worth = "beyond chance" if over.is_beyond_chance else "within chance"
        difference = f"{signed(best.score, over.difference)} ± {plain(best.score, over.margin)}"
        said += f"Over the recipe as it is written {difference}, for all points at once: {worth}. "
    said += f"{counted(near, 'other point')} within chance of the best." if near else "No other is within chance of it."
    drawn = charts.sweep_chart(swept)
    rows = _sweep_rows(swept)
    title = f"<h3>{text(' × '.join(swept.paths))}</h3>" + paragraph(said)
    return title + (rows if drawn is None else chart(drawn, f"sweep-{number}", rows))


def _sweep_rows(swept: Swept) -> str:
    points = list(swept.points)
    if len(points) > MOST_POINTS:
        points = sorted(points, key=lambda point: not (point.standing.is_best or point.standing.is_near_best))[
            :MOST_POINTS
        ]
    rows = [
        [
            text(point.run), *map(text, point.values), text(with_interval(point.score)), _over_written(point),
            ", ".join(_marks(point)),
        ]
        for point in points
    ]  # fmt: skip
    head = ["run", *swept.paths, swept.points[0].score.name, "over as written", ""]
    count = len(swept.paths)
    more = len(swept.points) - len(points)
    return table(
        head, rows, numbers=[count + 1, count + 2], kinds=["own" if point.is_own else "" for point in points]
    ) + (paragraph(f"and {more} more", "note") if more else "")


def _marks(point: SweptPoint) -> list[str]:
    best, near = point.standing.is_best, point.standing.is_near_best
    marks = {
        "as written": point.is_written, "the best": best, "within chance of the best": near and not best,
        "this merge": point.is_own,
    }  # fmt: skip
    return [mark for mark, there in marks.items() if there]


def _over_written(point: SweptPoint) -> str:
    over = point.standing.over
    if over is None or point.is_written:
        return ""
    return text(f"{signed(point.score, over.difference)} ± {plain(point.score, over.margin)}")


def _layers(plan: Plan) -> str:
    rows = [[span(row.first, row.last), text(row.sources), text(row.blend)] for row in layer_rows(plan)]
    return (
        f'<figure><div class="wide map">{layer_map_svg(plan)}</div>'
        f"{folded('as a table', table(['layers', 'from', 'blend'], rows))}</figure>\n"
    )


def _weights(weights: EffectiveWeights) -> str:
    rows = [
        [
            text(f"{row.model}{' Δ' if row.of_delta else ''}"), f"{row.offset:+d}" if row.offset else "", text(kind),
            *map(_factors, cells),
        ]
        for row in weights.rows
        for kind, cells in row.kinds.items()
    ]  # fmt: skip
    head = ["source", "moved by", "tensors", *map(str, range(weights.depth))]
    return chart(charts.weights_chart(weights), "weights-0", table(head, rows, numbers=range(3, len(head))))


def _factors(cell: Factors | None) -> str:
    return "" if cell is None else "..".join(dict.fromkeys((f"{cell.low:.3g}", f"{cell.high:.3g}")))


def _gradients(plan: Plan) -> str:
    """Factors that change with depth; empty where none does."""
    found = [each for each in tracks(plan) if len({factor for factor in each.factors if factor}) > 1]
    if not found:
        return ""
    depth = len(found[0].factors)
    rows = [[text(each.model), f"{each.offset:+d}", *(f"{factor:.3g}" for factor in each.factors)] for each in found]
    head = ["source", "moved by", *map(str, range(depth))]
    return chart(charts.gradient_chart(found), "gradients-0", table(head, rows, numbers=range(2, len(head))))


def _shift(shifts: Mapping[int, float], weights: EffectiveWeights | None) -> str:
    marks = [] if weights is None else [seam.output for seam in seams(weights) if seam.of_depth]
    depth = max(max(shifts) + 1, 0 if weights is None else weights.depth)
    rows = [[str(layer), f"{share:.3f}", "seam" if layer in marks else ""] for layer, share in sorted(shifts.items())]
    lowest = min(shifts, key=lambda layer: shifts[layer])
    said = (
        f"Lowest at layer {lowest}: {shifts[lowest]:.2f}. 1 is what the layer was trained on. "
        f"{counted(len(marks), 'seam') + ', marked.' if marks else 'No seam.'}"
    )
    drawn = chart(
        charts.shift_chart(shifts, marks, depth), "input-0", table(["layer", "cosine", ""], rows, numbers=[0, 1])
    )
    return paragraph(said) + drawn


def _diff(diff: DiffMap) -> str:
    intro = paragraph(
        f"‖b - a‖ / ‖a‖ beside {short_name(diff.parent)}. {diff.identical} of {counted(diff.tensors, 'tensor')} "
        "identical."
    )
    if diff.identical == diff.tensors:
        return intro
    ends = ", ".join(f"{kind} {_distance(value)}" for kind, value in diff.outside.items())
    return (
        intro
        + chart(charts.diff_chart(diff), "diff-0", _diff_rows(diff))
        + (paragraph(f"Outside the layers: {ends}.", "note") if ends else "")
    )


def _diff_rows(diff: DiffMap) -> str:
    rows = [
        [
            str(layer),
            "" if other is None else str(other),
            *(_distance(values[layer]) for values in diff.distances.values()),
        ]
        for layer, other in enumerate(diff.counterparts)
    ]
    head = ["layer", f"of {short_name(diff.parent)}", *diff.distances]
    return table(head, rows, numbers=range(len(head)))


def _distance(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _check(check: Run) -> str:
    findings = check.details.get("findings", [])
    said = f"{check.verdict}, by {check.id} of {check.at:%Y-%m-%d %H:%M} UTC"
    if not findings:
        return paragraph(f"{said}: nothing was found.")
    rows = [
        [text(each.get("section", "")), _level(str(each.get("level", ""))), text(each.get("message", ""))]
        for each in findings
        if isinstance(each, Mapping)
    ]
    return paragraph(f"{said}.") + table(["part", "level", "what was found"], rows)


def _level(level: str) -> str:
    return f'<span class="{LEVELS.get(level, "warn")}">{text(level)}</span>'


def _notices(plan: Plan) -> str:
    rows = [[text(each.code), text(each.message), text(each.place)] for each in plan.notices]
    return table(["notice", "what it says", "place"], rows)


def _missing(missing: Mapping[str, str]) -> str:
    rows = "".join(f"<li>{text(PARTS[part])}: {told(why)}</li>" for part, why in missing.items())
    return f'<ul class="missing">{rows}</ul>\n'


def _provenance(sheet: Sheet) -> str:
    subject, record = sheet.subject, sheet.subject.record
    facts: dict[str, str] = {}
    if subject.folder is not None:
        facts["folder"] = f"<code>{text(subject.folder)}</code>"
    if subject.digest:
        facts["plan"] = f"<code>{text(subject.digest)}</code>"
    seed = record.get("seed", None if subject.plan is None else subject.plan.seed)
    if seed is not None:
        facts["seed"] = text(seed)
    merged = next((run for run in subject.rows if run.kind == "merge"), None)
    made_with = {"lamina": record["lamina"]} if "lamina" in record else {}
    made_with = {**made_with, **(merged.versions if merged is not None else {})}
    if made_with:
        facts["made with"] = text(", ".join(f"{name} {version}" for name, version in made_with.items()))
    if merged is not None and merged.seconds is not None:
        memory = "" if merged.peak_memory is None else f", peak memory {in_bytes(merged.peak_memory)}"
        facts["took"] = text(f"{in_seconds(merged.seconds)}{memory}")
    if subject.plan is not None:
        facts["size"] = text(f"{counted(len(subject.plan.jobs), 'tensor')}, {in_bytes(subject.plan.bytes_written)}")
    for label, command in _commands(sheet):
        facts[label] = f"<code>{text(command)}</code>"
    parts = [key_values(facts)] if facts else []
    parts += [_models(sheet)] if subject.parents else []
    parts += [_rows(subject.rows)] if subject.rows else []
    return "".join(parts) or paragraph("nothing is known of where it comes from", "missing")


def _commands(sheet: Sheet) -> Iterator[tuple[str, str]]:
    """How to make it again."""
    subject = sheet.subject
    if subject.folder is not None and subject.record.get("tensors"):
        yield "make it again", f"lamina reproduce {subject.folder}"
    elif subject.recipe:
        seed = f" --seed {subject.plan.seed}" if subject.plan is not None and subject.plan.seed else ""
        yield "make it", f"lamina merge recipe.yml out{seed}   (the recipe above, beside its models)"


def _models(sheet: Sheet) -> str:
    subject = sheet.subject
    headers = {} if subject.plan is None else {each.name: each.fingerprint for each in subject.plan.inputs}
    rows = [
        [text(parent.name), text(parent.commit or ""), f"<code>{text(headers.get(parent.name, ''))}</code>"]
        for parent in subject.parents
    ]
    return "<h3>Models that went in</h3>" + table(["model", "commit", "fingerprint of its headers"], rows)


def _rows(rows: Sequence[Run]) -> str:
    lines = [
        [
            text(run.id), text(f"{run.at:%Y-%m-%d %H:%M}"), run.kind, text(run.name),
            text(run.verdict or ", ".join(f"{each.name} {each}" for each in run.scores[:3])),
        ]
        for run in rows
    ]  # fmt: skip
    return "<h3>In the ledger</h3>" + table(["run", "when, UTC", "kind", "what", "outcome"], lines)
