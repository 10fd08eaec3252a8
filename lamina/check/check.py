"""Is it healthy? `lamina check`: structure, identity, config and weights of a folder, and a verdict.

The story: the folder and its parents are opened; what needs no weight is looked at first; all weights are read
once; each layer's origin is found; with a recipe, every tensor is compared with what it makes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lamina.check.against_parents import Descent, check_against_parents, check_config, check_order, descent_of
from lamina.check.against_plan import check_against_plan
from lamina.check.behaviour import check_behaviour
from lamina.check.findings import Finding, Level, Report, Section
from lamina.check.likeness import Progress
from lamina.check.models import kept, opened
from lamina.check.structure import check_structure
from lamina.check.weights import check_weights, figures, idle_layers
from lamina.checkpoints.hub_client import HubOptions
from lamina.errors import CheckpointError, RecipeError
from lamina.execute.memory import peak_memory
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel, files_of, open_model
from lamina.planners.merge import plan_merge
from lamina.plans.plan import Plan
from lamina.recipe.load import CARRIED_RECIPES, Recipe, RecipeLike, load_recipe

# Notices of a plan about what nobody asked for: something has no effect, or parents disagree.
UNASKED = ("no-effect", "unmatched-filter", "unknown-parameter", "weight-sum", "unlike-configs")


def check(
    model: str | Path,
    parents: Sequence[str | Path] = (),
    *,
    recipe: RecipeLike | None = None,
    hub: HubOptions | None = None,
    behaviour: bool = True,
    quick: bool = False,
    texts: Mapping[str, str] | None = None,
    memory: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
    on_start: Callable[[int], None] = lambda _total: None,
    progress: Progress = lambda _name, _nbytes: None,
    running: Callable[[str], None] = lambda _model: None,
) -> Report:
    """Check a folder, or a model of the Hub, against its parents and the recipe that made it.

    Without `recipe` the one that the folder carries counts, if it carries one and the parents are found: under
    the names that it gives, or among `parents` by the last part of their name. Reads the model once, and of the
    parents what was copied.

    With `behaviour`, and the extra `hf` installed, the model and its parents are run on three bundled texts, or on
    `texts` by name, on a `device` of torch; one larger than `memory` bytes is brought in layer by layer;
    `quick` takes a quarter of the tokens and asks for no answers. `running`
    is called with the name of each.

    Raises CheckpointError where the model or a parent cannot be opened, RecipeError where a recipe that was given
    is at fault.
    """
    started, options = time.monotonic(), hub or HubOptions()
    with ExitStack() as stack:
        own = stack.enter_context(opened(model, options))
        known = {str(parent): stack.enter_context(opened(parent, options)) for parent in parents}
        sections = [check_structure(own)]
        if _has_layers(own):
            found, descent = _by_weights(own, known, recipe, options, stack, workers, on_start, progress)
            sections += found
            ran: list[Section] = []
            if behaviour:
                ran = check_behaviour(
                    own, descent, memory=memory, device=device, texts=texts, quick=quick, progress=running
                )
            if not any(section.name == "seams" for section in ran) and descent.parents:
                ran.append(check_order(descent))
            sections += ran
        names = tuple(known)
    return Report(str(model), names, tuple(sections), time.monotonic() - started, peak_memory())


def _by_weights(
    own: PlainModel,
    parents: dict[str, PlainModel],
    recipe: RecipeLike | None,
    hub: HubOptions,
    stack: ExitStack,
    workers: int | None,
    on_start: Callable[[int], None],
    progress: Progress,
) -> tuple[list[Section], Descent]:
    """The sections that read weights, in the order in which they are shown, and where each layer comes from."""
    planned = _planned(own, parents, recipe, hub, stack)
    parents |= planned.models if isinstance(planned, _Planned) else {}
    size = sum(spec.nbytes for spec in own.checkpoint.specs.values())
    on_start(size * (2 if isinstance(planned, _Planned) else 1))
    found = figures(own.checkpoint, list(own.checkpoint.specs), workers=workers, progress=progress)
    descent = descent_of(own, list(parents.values()), idle_layers(own, found))
    sections = []
    if isinstance(planned, _Planned):
        sources = {name: each.checkpoint for name, each in planned.models.items()}
        sections.append(check_against_plan(own, planned.plan, sources, descent, workers=workers, progress=progress))
        sections.append(_request(planned.plan))
    elif parents:
        sections.append(check_against_parents(descent))
    else:
        sections.append(Section("identity", not_run=planned))
    if parents:
        sections.append(check_config(own, list(parents.values())))
    return [*sections, check_weights(own, found)], descent


@dataclass(frozen=True)
class _Planned:
    """The plan of the recipe that made a folder, and the models that it reads, by the names it gives them."""

    plan: Plan
    models: Mapping[str, PlainModel]


def _planned(
    own: PlainModel, parents: Mapping[str, PlainModel], given: RecipeLike | None, hub: HubOptions, stack: ExitStack
) -> _Planned | str:
    """The plan that made the folder; a sentence where there is none to be had."""
    recipe = _recipe(own) if given is None else load_recipe(given)
    if recipe is None:
        return "neither a recipe nor parents are known: name them with --parents MODEL"
    read: dict[str, PlainModel] = {}

    def open_parent(ref: ModelRef) -> PlainModel:
        if str(ref) not in read:
            folder = _named_alike(ref, parents) or files_of(ref, recipe.folder, hub)
            read[str(ref)] = stack.enter_context(kept(open_model(str(ref), folder)))
        return read[str(ref)]

    try:
        plan = plan_merge(recipe, open_parent)
    except RecipeError as error:
        if given is not None:
            raise
        unknown = [problem.message for problem in error.problems]
        return f"the recipe in the folder cannot be planned here ({unknown[0]}) name its models with --parents MODEL"
    for name, each in read.items():
        each.checkpoint.fetch(plan.reads_of(name))
    return _Planned(plan, read)


def _recipe(own: PlainModel) -> Recipe | None:
    """The recipe that a folder carries."""
    folder = own.checkpoint.folder
    return load_recipe(folder) if any((folder / name).is_file() for name in CARRIED_RECIPES) else None


def _named_alike(ref: ModelRef, parents: Mapping[str, PlainModel]) -> Path | None:
    """The folder of the parent whose name ends as the recipe's does."""
    last = ref.path.rstrip("/").rpartition("/")[2]
    return next((each.checkpoint.folder for name, each in parents.items() if name.rstrip("/").endswith(last)), None)


def _request(plan: Plan) -> Section:
    """What the recipe asks for without effect, and where its models disagree."""
    findings = tuple(
        Finding(Level.SUSPICIOUS, notice.code, notice.message, place=notice.place)
        for notice in plan.notices
        if notice.code in UNASKED
    )
    return Section("recipe", "everything in it has an effect, and its models agree", findings)


def _has_layers(own: PlainModel) -> bool:
    try:
        return own.architecture.depth > 0
    except CheckpointError:
        return False
