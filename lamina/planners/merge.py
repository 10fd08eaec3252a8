"""Plan a recipe: open its models by their headers, find every fault, say what each tensor is made of.

The story: models are opened, the recipe's layers become slices, slices become jobs, and what lies beside
the tensors is written down. Nothing but configs and headers is read.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePath

from lamina.errors import RecipeError
from lamina.expressions.inspect import reads
from lamina.model_ref import ModelRef
from lamina.models.plain import PlainModel
from lamina.planners.chat import check_chat_template, chosen_template, tell_of_chat
from lamina.planners.crossing import tell_of_slices_that_do_not_cross
from lamina.planners.ends import check_weights, ends_are_sound
from lamina.planners.method import method_of
from lamina.planners.model_card import licenses_of
from lamina.planners.notices import (
    tell_of_blends,
    tell_of_configs,
    tell_of_ends,
    tell_of_filters,
    tell_of_lone_weights,
    tell_of_next_token,
    tell_of_rhythm,
    tell_of_scale,
    tell_of_uneven_layers,
    tell_of_weight_sums,
)
from lamina.planners.opened import OpenModel, opened, referenced_models
from lamina.planners.ranges import is_sound, slices_of
from lamina.planners.request import Findings, Request, typed_parameters, typed_slices
from lamina.planners.side_files import check_one_family, files_about_the_merge, side_files
from lamina.planners.slices import Jobs, jobs_of
from lamina.planners.values import Trace
from lamina.planners.vocabularies import check_tokenizer_keys, check_vocabularies
from lamina.plans.plan import Dropped, Input, Notice, Plan, reads_by_model
from lamina.recipe.load import Recipe
from lamina.recipe.steps import Put, Remove
from lamina.recipe.text import KEY


@contextmanager
def _no_search_for_circles() -> Iterator[None]:
    """Leave the garbage collector out: a plan is a million small objects without a circle among them.

    Looking for one, again and again as they grow in number, was a third of the time of a plan of 20,000 tensors.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_no_search_for_circles()
def plan_merge(
    recipe: Recipe,
    open_model: OpenModel,
    *,
    seed: int = 0,
    unlike_models: bool = False,
    assume_per_layer: Sequence[str] = (),
    own_code: bool = False,
    trace: Trace | None = None,
) -> Plan:
    """The plan of a recipe. Raises RecipeError with every fault that was found, each with its place.

    `unlike_models` lets models be merged whose configs say that they compute differently, if their tensors
    have equal shapes. `assume_per_layer` names keys of config.json whose lists go with the layers, where that is not
    known. `own_code` lets a recipe that came with a model run the code it names. `trace` watches the making of one
    tensor.
    """
    findings = Findings(recipe, list(recipe.problems), unlike_models=unlike_models)
    for slip in recipe.slips:
        findings.notices.append(Notice(slip.code, slip.message, slip.place))
    method = method_of(recipe, findings, own_code=own_code)
    check_tokenizer_keys(recipe, findings)
    check_chat_template(recipe, findings)
    models = opened(recipe, open_model, findings)
    slices = slices_of(recipe, models, findings)
    if method is None:
        raise RecipeError(findings.problems)
    parameters = typed_parameters(recipe.schema.parameters, method, ("parameters",), findings)
    check_weights(findings)
    slices = typed_slices(slices, method, findings)
    donor = next((models.get(ref) for ref in referenced_models(recipe)), None)
    apart = recipe.incomplete | tell_of_slices_that_do_not_cross(slices, findings)
    sound = tuple(entry for entry in slices if is_sound(entry, models) and entry.way not in apart)
    if donor is None or not ends_are_sound(donor, models, findings) or not sound or () in recipe.incomplete:
        raise RecipeError(findings.problems)
    request = Request(recipe, method, models, donor, sound, parameters, seed, assume_per_layer)
    check_one_family(request, findings)
    jobs = jobs_of(request, findings, trace)
    dropped = () if findings.problems else tuple(_dropped(request, jobs, findings))
    check_vocabularies(request, jobs.all, findings)
    template = chosen_template(request, findings)
    files = side_files(request, jobs, template, findings)
    licenses = licenses_of(request, findings)
    for key in ("input_model_parameters", "name"):
        if getattr(recipe.schema, key) is not None:
            message = f"`{key}` has no effect on this merge."
            findings.without_effect("no-effect", message, (key, KEY), steps=[Remove((key,))])
    if len(sound) == len(slices):
        tell_of_filters(request, jobs.filters_used, findings)
        tell_of_lone_weights(request, findings)
    if findings.problems:
        raise RecipeError(findings.problems)
    tell_of_configs(request, jobs, findings)
    tell_of_blends(jobs, findings)
    tell_of_ends(request, jobs, findings)
    tell_of_uneven_layers(request, findings)
    tell_of_rhythm(request, findings)
    tell_of_next_token(request, findings)
    tell_of_scale(request, findings)
    tell_of_weight_sums(request, jobs, findings)
    tell_of_chat(request, template, findings)
    for model in models.values():
        if model.checkpoint.files.note:
            findings.notice("hub", model.checkpoint.files.note)
    plan = Plan(
        title=PurePath(recipe.file).name,
        method=method.name,
        jobs=jobs.all,
        files=files,
        inputs=_inputs(models, jobs),
        notices=tuple(findings.notices),
        dropped=dropped,
        seed=seed,
    )
    return plan.with_files((*files, *files_about_the_merge(request, licenses, plan)))


def _inputs(models: Mapping[ModelRef, PlainModel], jobs: Jobs) -> tuple[Input, ...]:
    names = reads_by_model(jobs.all)
    checkpoints = {model.name: model.checkpoint for model in models.values()}
    return tuple(
        Input(name, each.fingerprint, each.files.commit, each.bytes_to_fetch(names.get(name, ())))
        for name, each in checkpoints.items()
    )


def _dropped(request: Request, jobs: Jobs, findings: Findings) -> Iterator[Dropped]:
    """Every tensor of a model that the output does not hold, and why. One that is lost is a fault."""
    used = {(read.model, read.name) for job in jobs.all for read in reads(job.expr)}
    made = {job.name for job in jobs.all}
    places = referenced_models(request.recipe)
    for ref, model in request.models.items():
        architecture = model.architecture
        if places[ref][0] in ("tokenizer_source", "tokenizer"):
            yield from (Dropped(model.name, name, "only its tokenizer is used") for name in model.checkpoint.specs)
            continue
        taken = {
            source.start + index
            for entry in request.slices
            for source in entry.sources
            if request.models[source.ref] is model
            for index in range(entry.depth)
        }
        reasons = {
            architecture.layer_name(index, suffix): "it counts for nothing (weight 0)"
            if index in taken
            else "its layer is not used"
            for index, layer in enumerate(architecture.layers)
            for suffix in layer
        }
        for name in model.checkpoint.specs:
            if (model.name, name) in used:
                continue
            if name in reasons:
                yield Dropped(model.name, name, reasons[name])
            elif name in (architecture.layer_name(architecture.sharing[0], each) for each in architecture.shared):
                yield Dropped(model.name, name, "no layer that uses this block is used")
            elif name in architecture.next_token:
                yield Dropped(model.name, name, "it predicts further tokens from a layer that is not the last")
            elif architecture.tied and name == architecture.head:
                yield Dropped(model.name, name, "the embedding stands for it (tied)")
            elif name == architecture.head and jobs.tied:
                yield Dropped(model.name, name, "the embedding stands for it in the result (tied)")
            elif name in made or name == architecture.head:
                yield Dropped(model.name, name, "this end is taken from another model")
            else:
                message = (
                    f"`{name}` of `{ref}` would be lost: the models that give this end do not have it. "
                    f"`norm: {ref}` takes what follows the layers from there."
                )
                findings.fault("lost-tensor", message, places[ref], steps=[Put(("norm",), str(ref))])
