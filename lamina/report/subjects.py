"""What a page is about: a folder, a row of the ledger or a recipe, with the plan and all rows that speak of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lamina import api
from lamina.checkpoints.hub_client import HubOptions
from lamina.checkpoints.writer import made_by
from lamina.errors import CheckpointError, LaminaError
from lamina.execute.reproduce import checked_record
from lamina.ledger.ledger import Ledger
from lamina.ledger.merges import by_merge, recipes_of
from lamina.ledger.noting import FOLDER
from lamina.ledger.runs import Run
from lamina.plans.plan import Plan
from lamina.recipe.load import CARRIED_RECIPES, Recipe, load_recipe, names_a_recipe, parse_recipe

RUN = re.compile(r"r(\d{1,18})")
NO_RECIPE = "no recipe is known of it"


@dataclass(frozen=True)
class ParentModel:
    """A model that went in: as the recipe calls it, and the folder in which it lies, None where that is not known."""

    name: str
    folder: Path | None
    commit: str | None = None


@dataclass(frozen=True)
class Subject:
    """One merge, or a model made elsewhere, and what is known of it.

    `source` is as it was named. `plan` is the recipe planned again, None where `unplanned` says why it is not.
    `digest` is that by which rows of the ledger speak of it, `rows` those rows, newest first, their scores with
    items. `record` is its `lamina.json`, empty where there is none.
    """

    source: str
    name: str
    folder: Path | None
    recipe: str
    plan: Plan | None
    unplanned: str
    digest: str
    parents: tuple[ParentModel, ...]
    record: Mapping[str, Any] = field(repr=False)
    rows: tuple[Run, ...] = field(repr=False)

    @property
    def check(self) -> Run | None:
        """The newest check."""
        return next((run for run in self.rows if run.kind == "check"), None)


def subject_of(source: str, ledger: Ledger | None, hub: HubOptions, *, allow_own_code: bool = False) -> Subject:
    """A folder, a run (`r12`) or a recipe, as it is named on a command line.

    `allow_own_code` lets a recipe that came with a model run the merge method that it brings.
    Raises LedgerError for a run that is not in the ledger, CheckpointError for a name of nothing that is here, and
    RecipeError for a recipe file that cannot be planned.
    """
    path = Path(source)
    asked = {"allow_own_code": allow_own_code}
    number = RUN.fullmatch(source)
    if number is not None and not path.exists():
        if ledger is None:
            raise CheckpointError(f"{source}: there is no ledger here that could have this run; name it: --ledger FILE")
        return _of_run(source, ledger.run(int(number[1])), ledger, hub, asked)
    if not path.exists():
        raise CheckpointError(
            f"there is no {source}: name a folder, a recipe, or a run as `lamina runs` lists it (r12)"
        )
    if names_a_recipe(path) and not (path / "config.json").exists():
        return _of_recipe(source, load_recipe(path), ledger, hub, asked)
    return _of_folder(source, path, ledger, hub, asked)


@dataclass(frozen=True)
class _Planned:
    plan: Plan | None
    why_not: str
    parents: tuple[ParentModel, ...]


def _of_recipe(
    source: str, recipe: Recipe, ledger: Ledger | None, hub: HubOptions, asked: Mapping[str, Any]
) -> Subject:
    planned = _planned_of(recipe, asked, hub)
    assert planned.plan is not None
    rows = _rows(ledger, planned.plan.digest, recipe.text, None)
    return Subject(
        source, planned.plan.title, None, recipe.text, planned.plan, "", planned.plan.digest, planned.parents, {}, rows
    )


def _of_folder(source: str, folder: Path, ledger: Ledger | None, hub: HubOptions, asked: Mapping[str, Any]) -> Subject:
    known = made_by(folder)
    digest = str(known.get("plan", ""))
    carried = any((folder / name).is_file() for name in CARRIED_RECIPES)
    recipe = load_recipe(folder) if carried else None
    rows = _rows(ledger, digest, "" if recipe is None else recipe.text, folder)
    planned = _Planned(None, NO_RECIPE, ())
    if recipe is not None:
        planned = _tried(_places(recipe, rows), {**_options_of(known, folder), **asked}, hub)
        planned = _only_if_same(planned, digest)
    parents = planned.parents or _parents_in(rows)
    name = folder.name or folder.resolve().name
    text = "" if recipe is None else recipe.text
    return Subject(source, name, folder, text, planned.plan, planned.why_not, digest, parents, known, rows)


def _of_run(source: str, run: Run, ledger: Ledger, hub: HubOptions, asked: Mapping[str, Any]) -> Subject:
    output = Path(run.output) if run.output else None
    text = run.recipe or (recipes_of(ledger.runs(plan=run.plan)).get(run.id, "") if run.plan else "")
    rows = _rows(ledger, run.plan, text, output) or (run,)
    written = next((each for each in rows if each.output and Path(each.output).is_dir()), None)
    folder = Path(written.output) if written is not None else None
    if folder is not None and run.plan and made_by(folder).get("plan") != run.plan:
        folder = None  # something else lies there by now
    known = {} if folder is None else made_by(folder)
    planned = _Planned(None, NO_RECIPE, ())
    if text:
        noted = next((each for each in (run, *rows) if each.seed is not None), run)
        options = {"seed": noted.seed or 0} | (_options_of(known, folder) if folder is not None else {})
        options |= asked
        title = title_of(run) or "recipe.yml"
        recipes = [parse_recipe(text, str(place / Path(title).name)) for place in _folders((run, *rows), ledger)]
        planned = _only_if_same(_tried(recipes, options, hub), run.plan)
    parents = planned.parents or _parents_in((run, *rows))
    return Subject(source, run.name, folder, text, planned.plan, planned.why_not, run.plan, parents, known, rows)


def _options_of(known: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    try:
        record = checked_record(known, str(folder))
    except CheckpointError:  # made by an older Lamina, or elsewhere: then the usual options are the best guess
        return {}
    return dict(record.options)


def _places(recipe: Recipe, rows: Sequence[Run]) -> list[Recipe]:
    """The recipe of a folder, its models looked for where they were when it was merged, then beside it."""
    name = Path(recipe.file).name
    return [*(replace(recipe, file=str(place / name)) for place in _folders(rows)[:-1]), recipe]


def _folders(rows: Sequence[Run], ledger: Ledger | None = None) -> list[Path]:
    """The folders from which names of models may lead: as rows tell, or other merges of the same models; then the
    working directory."""
    merges = [] if ledger is None else ledger.runs(kind="merge")
    alike = {run.parents for run in rows if run.parents}
    noted = [run for run in (*rows, *merges) if run in rows or run.parents in alike]
    found = [Path(str(run.details[FOLDER])) for run in noted if FOLDER in run.details]
    return [*dict.fromkeys(each for each in found if each.is_dir()), Path()]


def _tried(recipes: Sequence[Recipe], options: Mapping[str, Any], hub: HubOptions) -> _Planned:
    """The first recipe of several that can be planned here; else why the first cannot."""
    reasons = []
    for recipe in recipes:
        try:
            return _planned_of(recipe, options, hub)
        except LaminaError as error:
            reasons.append(error.problems[0].message)
    return _Planned(None, f"the recipe cannot be planned here: {reasons[0]}", ())


def _planned_of(recipe: Recipe, options: Mapping[str, Any], hub: HubOptions) -> _Planned:
    found = api.Options(
        cache_dir=hub.cache_dir, token=hub.token, offline=hub.offline, revision=hub.revision, **options  # type: ignore[typeddict-item]
    )  # fmt: skip
    with api.tensors(recipe, **found) as merged:
        plan, folders = merged.plan, merged.folders
    parents = (ParentModel(each.name, folders.get(each.name), each.commit) for each in plan.inputs)
    return _Planned(plan, "", tuple(parents))


def _only_if_same(planned: _Planned, digest: str) -> _Planned:
    """Nothing where the recipe makes another merge now than it did: its picture would be of something else."""
    if planned.plan is None or not digest or planned.plan.digest == digest:
        return planned
    why = "planned again here, the recipe makes another merge: a model, or Lamina, has changed since"
    return _Planned(None, why, planned.parents)


def _parents_in(rows: Sequence[Run]) -> tuple[ParentModel, ...]:
    """The models that the first row with any names; a path that is here is where one lies."""
    named = next((run.parents for run in rows if run.parents), ())
    places = _folders(rows)
    found = []
    for parent in named:
        there = (place / parent.name for place in places)
        found.append(ParentModel(parent.name, next((each for each in there if each.is_dir()), None), parent.revision))
    return tuple(found)


def rows_of_model(ledger: Ledger | None, folder: Path) -> tuple[Run, ...]:
    """Rows about the model in a folder, newest first, their scores with items."""
    carried = any((folder / name).is_file() for name in CARRIED_RECIPES)
    recipe = load_recipe(folder).text if carried else ""
    return _rows(ledger, str(made_by(folder).get("plan", "")), recipe, folder)


def _rows(ledger: Ledger | None, digest: str, recipe: str, output: Path | None) -> tuple[Run, ...]:
    """All rows of a merge; of a model of which no recipe is known, those of its folder."""
    if ledger is None or (not digest and output is None):
        return ()
    found = ledger.runs(plan=digest)
    if digest and recipe:
        # As if it were noted before all else: then the rows that speak of it are those beside it.
        asked = Run("merge", "", recipe, digest, output="" if output is None else str(output.absolute()))
        (kept,) = ([*others] for *others, last in by_merge([*found, asked]) if last is asked)
    else:
        here = None if output is None else output.resolve()
        kept = [run for run in found if not run.recipe and _lies_at(run, here)]
    return tuple(ledger.run(run.number) for run in kept if run.number is not None)


def title_of(run: Run) -> str:
    """What a row is called, without the values that a sweep set in it."""
    return run.name.removesuffix(" ".join(["", *map(str, run.details.get("point") or ())]))


def _lies_at(run: Run, place: Path | None) -> bool:
    return bool(run.output) and place is not None and Path(run.output).resolve() == place
