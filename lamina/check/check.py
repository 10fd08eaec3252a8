"""Is it healthy? `lamina check`: structure, identity, config and weights of a folder, and a verdict.

The story: the folder and its parents are opened; what needs no weight is looked at first; all weights are read
once; each layer's origin is found; with a recipe, every tensor is compared with what it makes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from lamina.api import Options
from lamina.check.against_parents import check_against_parents, check_config, check_order
from lamina.check.against_plan import check_against_plan
from lamina.check.behaviour import check_behaviour
from lamina.check.chat import check_chat
from lamina.check.descent import Descent, descent_of
from lamina.check.findings import Report, Section
from lamina.check.likeness import Progress
from lamina.check.models import opened
from lamina.check.planned import Planned, check_request, planned, record_of
from lamina.check.structure import check_structure
from lamina.check.weights import NON_FINITE, check_weights, figures, idle_layers
from lamina.checkpoints.hub_client import HubOptions
from lamina.errors import CheckpointError
from lamina.execute.memory import peak_memory
from lamina.models.plain import PlainModel
from lamina.recipe.load import RecipeLike

NOTHING_KNOWN = "neither a recipe nor parents are known: name them with --parents MODEL"
NOTHING_TO_RUN = "weights that are NaN or infinite make every answer NaN: there is nothing to measure"


def check(
    model: str | Path,
    parents: Sequence[str | Path] = (),
    *,
    recipe: RecipeLike | None = None,
    beside: Path | None = None,
    options: Options | None = None,
    allow_own_code: bool = False,
    hub: HubOptions | None = None,
    behaviour: bool = True,
    quick: bool = False,
    texts: Mapping[str, str] | None = None,
    memory: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
    on_start: Callable[[int], None] = lambda _total: None,
    progress: Progress = lambda _name, _nbytes: None,
    running: Callable[[str], None] = lambda _step: None,
) -> Report:
    """Check a folder, or a model of the Hub, against its parents and the recipe that made it.

    Without `recipe` the one that the folder carries counts, if it carries one and the parents are found: under
    the names that it gives, from the folder `beside` where that is given, or among `parents` by the last part of
    their name. It is planned with `options`, by default with those that the folder's record has; `allow_own_code` runs
    the merge method that it brings. Reads the model once, and of the parents what was copied.

    With `behaviour`, and the extra `hf` installed, the model and its parents are run on three bundled texts, or on
    `texts` by name, on a `device` of torch; one larger than `memory` bytes is brought in layer by layer; one with
    weights that are not finite is not run;
    `quick` takes a quarter of the tokens and asks for no answers. `running` is called with each step of that, in words.

    Raises CheckpointError where the model or a parent cannot be opened, RecipeError where a recipe that was given
    is at fault.
    """
    started, hub = time.monotonic(), hub or HubOptions()
    with ExitStack() as stack:
        own = stack.enter_context(opened(model, hub))
        known = {str(parent): stack.enter_context(opened(parent, hub)) for parent in parents}
        sections = [check_structure(own)]
        if _has_layers(own):
            asked = planned(own, known, recipe, options, hub, stack, beside, allow_own_code=allow_own_code)
            found, descent = _by_weights(own, known, asked, workers, on_start, progress)
            sections += found
            ran: list[Section] = []
            if behaviour and _holds_nan(found):
                ran = [Section("behaviour", not_run=NOTHING_TO_RUN)]
            elif behaviour:
                hint = asked.hint if isinstance(asked, Planned) else ""
                ran = check_behaviour(
                    own, descent, memory=memory, device=device, texts=texts, quick=quick, hint=hint, progress=running
                )
            if not any(section.name == "seams" for section in ran) and descent.parents:
                ran.append(check_order(descent))
            sections += ran
            sections = [asked.placed(each) for each in sections] if isinstance(asked, Planned) else sections
        names = tuple(known)
    return Report(str(model), names, tuple(sections), time.monotonic() - started, peak_memory())


def _by_weights(
    own: PlainModel,
    parents: dict[str, PlainModel],
    asked: Planned | str,
    workers: int | None,
    on_start: Callable[[int], None],
    progress: Progress,
) -> tuple[list[Section], Descent]:
    """The sections that read weights, in the order in which they are shown, and where each layer comes from."""
    if isinstance(asked, Planned):
        there = {each.checkpoint.folder.resolve() for each in parents.values()}  # by whatever name
        parents |= {name: each for name, each in asked.models.items() if each.checkpoint.folder.resolve() not in there}
    size = sum(spec.nbytes for spec in own.checkpoint.specs.values())
    on_start(size * (2 if isinstance(asked, Planned) else 1))
    found = figures(own.checkpoint, list(own.checkpoint.specs), workers=workers, progress=progress)
    descent = descent_of(own, list(parents.values()), idle_layers(own, found))
    sections = []
    if isinstance(asked, Planned):
        sources = {name: each.checkpoint for name, each in asked.models.items()}
        sections.append(check_against_plan(own, asked.plan, sources, descent, workers=workers, progress=progress))
        sections.append(check_request(asked.plan))
    elif parents:
        sections.append(check_against_parents(descent, found))
        sections += [Section("recipe", not_run=asked)] if asked else []
    else:
        sections.append(Section("identity", not_run=asked or NOTHING_KNOWN))
    if parents:
        sections.append(check_config(own, list(parents.values())))
    chat = check_chat(own, list(parents.values()))
    sections += [chat] if chat is not None else []
    record = record_of(own)
    return [*sections, check_weights(own, found, {} if record is None else record.tensors)], descent


def _holds_nan(sections: Sequence[Section]) -> bool:
    return any(finding.code == NON_FINITE for section in sections for finding in section.findings)


def _has_layers(own: PlainModel) -> bool:
    try:
        return own.architecture.depth > 0
    except CheckpointError:
        return False
