"""The recipe that made a folder, planned again as it was then: what to hold the folder against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from lamina.api import Options, planning_options
from lamina.check.findings import Finding, Level, Section
from lamina.check.models import kept
from lamina.check.naming import short_name
from lamina.checkpoints.hub_client import HubOptions
from lamina.checkpoints.writer import MADE_BY, made_by
from lamina.errors import CheckpointError, RecipeError
from lamina.execute.reproduce import Record, checked_record
from lamina.merge_methods import METHODS
from lamina.model_ref import ModelRef, parse_model_ref
from lamina.models.plain import PlainModel, files_of, open_model
from lamina.planners.merge import plan_merge
from lamina.planners.ranges import slices_of
from lamina.planners.request import Findings
from lamina.plans.plan import Plan
from lamina.recipe.load import CARRIED_RECIPES, Recipe, RecipeLike, load_recipe

# Notices of a plan about what nobody asked for: something has no effect, or parents disagree.
UNASKED = ("no-effect", "unmatched-filter", "unknown-parameter", "weight-sum", "unlike-configs")


@dataclass(frozen=True)
class Planned:
    """The plan of the recipe that made a folder, the models that it reads by the names it gives them, and places.

    `places[layer]` is where the recipe says what an output layer is made of: file:line:column.
    """

    plan: Plan
    models: Mapping[str, PlainModel]
    places: Sequence[str]

    @property
    def hint(self) -> str:
        """What may have cost a merge of this method its language; empty where nothing of it is known to."""
        method = METHODS.get(self.plan.method)
        if method is None or "lambda" not in method.parameters:
            return ""
        return " Task vectors that are added up whole overshoot: a smaller `lambda` keeps more."

    def placed(self, section: Section) -> Section:
        """The section, with the recipe's place at each finding about a layer that has none."""
        found = [
            replace(finding, place=self.places[finding.layer])
            if finding.layer is not None and finding.layer < len(self.places) and not finding.place
            else finding
            for finding in section.findings
        ]
        return replace(section, findings=tuple(found))


def planned(
    own: PlainModel,
    parents: Mapping[str, PlainModel],
    given: RecipeLike | None,
    options: Options | None,
    hub: HubOptions,
    stack: ExitStack,
    beside: Path | None = None,
    *,
    allow_own_code: bool = False,
) -> Planned | str:
    """The plan that made the folder; a sentence where it cannot be had, "" where the folder has no recipe.

    `options` are those that the recipe was merged with; without them those that the folder's record has. `beside` is
    the folder from which the names in the recipe that it carries lead; by default itself. `allow_own_code` lets that
    recipe run the merge method that it brings.
    """
    record = record_of(own)
    asked = options if options is not None else _options_of(record)
    asked = Options(**{**asked, "allow_own_code": allow_own_code or asked.get("allow_own_code", False)})
    border, changes = asked.get("border", "normal"), asked.get("set_values", ())
    recipe = _carried(own) if given is None else load_recipe(given, border=border, set_values=changes)
    if recipe is None:
        return ""
    read: dict[ModelRef, PlainModel] = {}
    hub = replace(hub, commits=_options_of(record).get("commits", {}))

    def open_parent(ref: ModelRef) -> PlainModel:
        if ref not in read:
            folder = _named_alike(ref, parents) or files_of(
                ref, beside if beside and given is None else recipe.folder, hub
            )
            read[ref] = stack.enter_context(kept(open_model(str(ref), folder)))
        return read[ref]

    try:
        plan = plan_merge(recipe, open_parent, **planning_options(asked))
    except RecipeError as error:
        if given is not None:
            raise
        return f"the recipe in the folder cannot be planned here: {_advised(error, asked)}"
    for ref, each in read.items():
        each.checkpoint.fetch(plan.reads_of(str(ref)))
    return Planned(plan, {str(ref): each for ref, each in read.items()}, _places(recipe, read))


def _advised(error: RecipeError, asked: Options) -> str:
    """Why a recipe cannot be planned, and what helps against that."""
    about_code = next((each for each in error.problems if each.code == "own-code"), None)
    if about_code is None:
        reason = error.problems[0].message
        return f"{reason} Name its models with --parents MODEL, or the recipe with --recipe."
    if not asked.get("allow_own_code"):
        return about_code.message  # which says what to do
    return f"{about_code.message} Name the recipe beside its code with --recipe."


def check_request(plan: Plan) -> Section:
    """What the recipe asks for without effect, and where its models disagree."""
    findings = tuple(
        Finding(Level.SUSPICIOUS, notice.code, notice.message, place=notice.place)
        for notice in plan.notices
        if notice.code in UNASKED
    )
    return Section("recipe", "everything in it has an effect, and its models agree", findings)


def record_of(model: PlainModel) -> Record | None:
    """What a folder's `lamina.json` says of its merge; None where it has none."""
    folder = model.checkpoint.folder
    try:
        return checked_record(made_by(folder), str(folder / MADE_BY))
    except CheckpointError:
        return None


def _options_of(record: Record | None) -> Options:
    return Options() if record is None else Options(**record.options)  # type: ignore[typeddict-item]


def _carried(own: PlainModel) -> Recipe | None:
    """The recipe that a folder carries. It has been changed by `--set` already."""
    folder = own.checkpoint.folder
    return load_recipe(folder) if any((folder / name).is_file() for name in CARRIED_RECIPES) else None


def _named_alike(ref: ModelRef, parents: Mapping[str, PlainModel]) -> Path | None:
    """The folder of the parent that is called as the recipe calls it, wherever it lies."""
    called = short_name(ref.path)
    return next((each.checkpoint.folder for name, each in parents.items() if _own_name(name) == called), None)


def _own_name(source: str) -> str:
    return short_name(parse_model_ref(source).path)


def _places(recipe: Recipe, models: Mapping[ModelRef, PlainModel]) -> list[str]:
    """For each output layer the place of the first source that it is made of."""
    return [
        recipe.problem("", "", entry.sources[0].way).place
        for entry in slices_of(recipe, models, Findings(recipe))
        for _ in range(entry.depth)
    ]
