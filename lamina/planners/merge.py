"""Plan a recipe: open its models by their headers, find every fault, say what each tensor is made of.

The story: models are opened, the recipe's layers become slices, slices become jobs, and what lies beside
the tensors is written down. Nothing but configs and headers is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath

import yaml

from lamina.errors import CheckpointError, Problem, RecipeError, did_you_mean, nearest
from lamina.expressions.inspect import reads
from lamina.merge_methods import METHODS, MergeMethod
from lamina.model_ref import AdapterRef, ModelRef
from lamina.models.plain import PlainModel
from lamina.planners.advice import OTHER_NAMES, likely_method, models_as_slices, without_modules
from lamina.planners.chat import check_chat_template, tell_of_chat
from lamina.planners.crossing import tell_of_slices_that_do_not_cross
from lamina.planners.ends import check_weights, ends_are_sound
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
from lamina.planners.own_code import NoSuchMethod, names_code, offered_methods, own_method
from lamina.planners.request import Findings, Request, typed_parameters, typed_slices
from lamina.planners.side_files import check_one_family, side_files
from lamina.planners.slices import Jobs, Trace, jobs_of
from lamina.planners.vocabularies import check_tokenizer_keys, check_vocabularies, place_of_wish
from lamina.plans.plan import Dropped, Input, Notice, Plan, reads_by_model
from lamina.recipe.load import CARRIED_RECIPES, Recipe
from lamina.recipe.mending import Put, Remove, Step
from lamina.recipe.schema import UNTOLD
from lamina.recipe.slices import Depth, Slice, Source, slices_as_written, slices_of_models
from lamina.recipe.stack import slices_of_stack
from lamina.recipe.text import KEY, Way

OpenModel = Callable[[ModelRef], PlainModel]


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
    method = _method(recipe, findings, own_code)
    check_tokenizer_keys(recipe, findings)
    check_chat_template(recipe, findings)
    models = _opened(recipe, open_model, findings)
    slices = slices_of(recipe, models, findings)
    if method is None:
        raise RecipeError(findings.problems)
    parameters = typed_parameters(recipe.schema.parameters, method, ("parameters",), findings)
    check_weights(findings)
    slices = typed_slices(slices, method, findings)
    donor = next((models.get(ref) for ref in referenced_models(recipe)), None)
    apart = recipe.incomplete | tell_of_slices_that_do_not_cross(slices, findings)
    sound = tuple(entry for entry in slices if _is_sound(entry, models) and entry.way not in apart)
    if donor is None or not ends_are_sound(donor, models, findings) or not sound or () in recipe.incomplete:
        raise RecipeError(findings.problems)
    request = Request(recipe, method, models, donor, sound, parameters, seed, assume_per_layer)
    check_one_family(request, findings)
    jobs = jobs_of(request, findings, trace)
    dropped = () if findings.problems else tuple(_dropped(request, jobs, findings))
    check_vocabularies(request, jobs.all, findings)
    files = side_files(request, jobs, findings)
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
    tell_of_chat(request, findings)
    for model in models.values():
        if model.checkpoint.files.note:
            findings.notice("hub", model.checkpoint.files.note)
    return Plan(
        title=PurePath(recipe.file).name,
        method=method.name,
        jobs=jobs.all,
        files=files,
        inputs=_inputs(models, jobs),
        notices=tuple(findings.notices),
        dropped=dropped,
        seed=seed,
    )


def _inputs(models: Mapping[ModelRef, PlainModel], jobs: Jobs) -> tuple[Input, ...]:
    names = reads_by_model(jobs.all)
    checkpoints = {model.name: model.checkpoint for model in models.values()}
    return tuple(
        Input(name, each.fingerprint, each.files.commit, each.bytes_to_fetch(names.get(name, ())))
        for name, each in checkpoints.items()
    )


def slices_of(recipe: Recipe, models: Mapping[ModelRef, PlainModel], findings: Findings) -> list[Slice]:
    """The recipe's layers as slices, however they are spelled. Faults go to `findings`.

    Slices that are at fault are among them, so that what else is wrong there is told in the same breath.
    """

    def depth(ref: ModelRef) -> int | None:
        return models[ref].architecture.depth if ref in models else None

    schema = recipe.schema
    if schema.stack is not None:
        return slices_of_stack(recipe, depth, findings.problems)
    slices = slices_of_models(recipe, depth) if schema.models is not None else slices_as_written(recipe)
    for problem in (problem for entry in slices for problem in _range_problems(recipe, entry, depth)):
        place = (problem.code, problem.line, problem.column)  # told without the model's layers, it is told anew
        findings.problems = [each for each in findings.problems if (each.code, each.line, each.column) != place]
        findings.problems.append(problem)
    return slices


def _is_sound(entry: Slice, models: Mapping[ModelRef, PlainModel]) -> bool:
    """True when every layer that the slice names is there."""
    return all(
        source.ref in models
        and 0 <= source.start < source.stop <= models[source.ref].architecture.depth
        and source.stop - source.start == entry.depth
        for source in entry.sources
    )


def referenced_models(recipe: Recipe) -> dict[ModelRef, Way]:
    """Every model that the recipe names and where; first the one that gives config and tokenizer."""
    schema = recipe.schema
    named: list[tuple[ModelRef | None, Way]] = [(schema.base_model, ("base_model",))]
    named += [(entry.model, ("models", i, "model")) for i, entry in enumerate(schema.models or ())]
    for i, entry in enumerate(schema.slices or ()):
        named += [(source.model, ("slices", i, "sources", j, "model")) for j, source in enumerate(entry.sources)]
        named.append((entry.base_model, ("slices", i, "base_model")))
    named += [(entry.model, ("stack", i, "model")) for i, entry in enumerate(schema.stack or ())]
    for key in ("embed", "norm", "head"):
        named += [(source.model, (key, i, "model")) for i, source in enumerate(getattr(schema, key) or ())]
    if isinstance(schema.vocabulary_source, ModelRef):
        named.append((schema.vocabulary_source, place_of_wish(schema)))
    found: dict[ModelRef, Way] = {}
    for ref, way in named:
        if ref is not None:
            found.setdefault(ref, way)
    return found


def _method(recipe: Recipe, findings: Findings, own_code: bool) -> MergeMethod | None:
    """The method that the recipe names, once it asks for something that can be done at all."""
    schema = recipe.schema
    given = [key for key in ("models", "slices", "stack", "modules") if getattr(schema, key) is not None]
    if len(given) != 1 and not (recipe.incomplete and not given):
        found = " and ".join(f"`{key}`" for key in given) or "none of them"
        if given:
            kept = "stack" if "stack" in given and schema.merge_method is None else given[0]
            message = f"a recipe has exactly one of `models`, `slices`, `stack`; this one has {found}. Keep one."
            steps = [Remove((key,)) for key in given if key != kept]
            findings.fault("layers-twice", message, (given[-1], KEY), steps=steps)
        else:
            message = (
                f"a recipe has exactly one of `models`, `slices`, `stack`; this one has {found}. The simplest is "
                "`models: [{model: org/name, parameters: {weight: 1}}]`, an entry for each model."
            )
            findings.fault("layers-missing", message, ())
    if schema.modules is not None:
        message = (
            "`modules` is not merged yet; of a model that is one module, `models` or `slices` stands at the top level."
        )
        findings.fault("not-yet", message, ("modules", KEY), steps=without_modules(schema, given))
    if schema.overlap is not None and schema.stack is None:
        message = "`overlap` says how entries of `stack` cross; here is no stack, and it can be left out."
        findings.fault("misplaced-key", message, ("overlap", KEY), steps=[Remove(("overlap",))])
    name = schema.merge_method or ("linear" if schema.stack is not None else None)
    if name is None and recipe.incomplete and ("merge_method",) in recipe.places:
        return None
    if name is None:
        meant = likely_method(schema)
        message = f"`merge_method` is missing: `merge_method: {meant}`, or another of `lamina methods`."
        findings.fault("missing-key", message, (), steps=[Put(("merge_method",), meant)])
        return None
    if name not in METHODS and (names_code(name) or name in offered_methods()):
        return _own_method(name, recipe, findings, own_code)
    if name not in METHODS:
        spelled = name.lower().replace("-", "_")
        near = OTHER_NAMES.get(spelled) or nearest(spelled, list(METHODS))
        hint = f" Did you mean `{near}`?" if near else did_you_mean(spelled, list(METHODS))
        step = Put(("merge_method",), near or likely_method(schema))
        findings.fault("unknown-method", f"unknown method `{name}`.{hint}", ("merge_method",), near or "", [step])
        return METHODS[near] if near else None
    if schema.stack is not None and name not in ("linear", "slerp", "passthrough"):
        message = (
            f"the entries of a `stack` are blended by linear or slerp, not by {name}. Where nothing crosses, linear "
            "copies them, as passthrough does."
        )
        findings.fault("stack-method", message, ("merge_method",), "linear", [Put(("merge_method",), "linear")])
        return METHODS["linear"]  # stands in, so that the rest can be looked at
    return METHODS[name]


def _own_method(name: str, recipe: Recipe, findings: Findings, own_code: bool) -> MergeMethod | None:
    """Somebody's own method. A recipe that came with a model runs nothing unless that is asked for."""
    way = ("merge_method",)
    if recipe.schema.stack is not None:
        message = "the entries of a `stack` are blended by linear or slerp; in `slices`, methods of your own may stand."
        findings.fault("stack-method", message, way, "linear", [Put(way, "linear")])
        return METHODS["linear"]  # stands in, so that the rest can be looked at
    if names_code(name) and PurePath(recipe.file).name in CARRIED_RECIPES and not own_code:
        message = (
            f"this recipe came with a model, and names code, `{name}`, which is not run unasked: read that file, then "
            "give `--allow-own-code`."
        )
        findings.fault("own-code", message, way)
        return None
    try:
        method = own_method(name, recipe.folder)
    except NoSuchMethod as error:
        meant = error.suggestion
        whole = meant if ":" in meant else f"{meant}:{name.rpartition(':')[2]}"  # a file, or one with its function
        findings.fault("own-code", str(error), way, meant, [Put(way, whole)] if meant else [])
        return None
    findings.notice("own-code", f"the merge runs code that does not come with Lamina: {method.file}.", way)
    return method


def _opened(recipe: Recipe, open_model: OpenModel, findings: Findings) -> dict[ModelRef, PlainModel]:
    models = {}
    for ref, way in referenced_models(recipe).items():
        if ref.adapters:
            bare = AdapterRef(ref.path, ref.revision)
            adapter = "it" if len(ref.adapters) == 1 else "them"
            message = (
                f"`{ref}`: adapters are not merged yet. Merge {adapter} into `{bare}` first and name the result, or "
                f"write `{bare}`, the model without."
            )
            findings.fault("not-yet", message, way, steps=[Put(way, str(bare))])
            continue
        try:
            models[ref] = open_model(ref)
            _ = models[ref].architecture
        except CheckpointError as error:
            _tell_of_missing(ref, error, way, findings)
    return models


def _tell_of_missing(ref: ModelRef, error: CheckpointError, way: Way, findings: Findings) -> None:
    """A model that is not there, and what may be meant: a word for a model, a folder nearby."""
    words = ("union", "base") if way[0] in ("tokenizer", "tokenizer_source") else ()
    folder, path = findings.recipe.folder, PurePath(ref.path)
    around = (folder / path).parent
    try:
        beside = [each.name for each in around.iterdir() if each.name != path.name and (each / "config.json").is_file()]
        is_file = (folder / path).is_file()
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        beside, is_file = [], False
    meant = nearest(ref.path, words)
    if meant is None and is_file:
        meant = str(path.parent)
    elif meant is None and (near := nearest(path.name, beside)) is not None:
        meant = str(path.parent / near)
    said = str(error) if str(error)[-1:] in (".", "?", ")", "`") else f"{error}."
    message = f"{said}{f' Did you mean `{meant}`?' if meant else ''}"
    if words and meant is None:
        message += " Without a model, `base` is valid, or `union`."
    chosen = meant or ("base" if words else None)
    findings.fault("model", message, way, meant or "", [Put(way, chosen)] if chosen else ())


def _range_problems(recipe: Recipe, entry: Slice, depth: Depth) -> Iterator[Problem]:
    first = entry.sources[0]
    for source in entry.sources:
        layers = f"layer_range [{source.start}, {source.stop}]"
        way, count = (*source.way, "layer_range"), depth(source.ref)
        suggestion = ""
        if source.stop == UNTOLD:
            yield _untold_range(recipe, source, count)
            continue
        steps: Sequence[Step] | None = None
        if source.way[0] in ("models", "base_model"):
            if None in (count, depth(first.ref)) or source.stop == first.stop:
                continue
            message = (
                f"`{source.ref}` has {source.stop} layers, and `{first.ref}` has {first.stop}: under `models` all have "
                "equally many. `slices` takes the same number of layers from each."
            )
            steps = models_as_slices(recipe, entry, depth)
        elif source.start < 0 or source.stop < 0:
            known = f": `{source.ref}` has {count}, and `{count}` as the end includes the last" if count else ""
            message = f"{layers} counts from the end, and layers are counted from 0{known}."
            end = source.stop if 0 < source.stop <= (count or 0) else count
            suggestion = f"[{max(source.start, 0)}, {end}]" if end and source.start < end else ""
        elif source.stop == source.start:
            message = f"{layers} is empty; the form is [start, end], the end not included."
            start = source.start - (source.start == count)
            suggestion = f"[{start}, {start + 1}]"
        elif source.stop < source.start:
            suggestion = f"[{source.stop}, {source.start}]"
            message = f"{layers} runs backwards; the form is [start, end], the end not included."
        elif count is not None and source.stop > count:
            message = f"{layers} ends beyond `{source.ref}`, which has {count} layers (0 to {count} is valid)."
            suggestion = f"[{source.start}, {count}]" if source.start < count else ""
        elif (
            source.stop - source.start != entry.depth
            and first.stop != UNTOLD
            and 0 <= first.start < first.stop <= (depth(first.ref) or first.stop)
        ):
            message = (
                f"{layers} of `{source.ref}` are {source.stop - source.start} layers, and the first source of this "
                f"slice has {entry.depth}: sources of one slice need equally many."
            )
            start = source.start if source.start + entry.depth <= (count or 0) else (count or 0) - entry.depth
            suggestion = f"[{start}, {start + entry.depth}]" if start >= 0 else ""
        else:
            continue
        hint = f" Did you mean `{suggestion}`?" if suggestion else ""
        if steps is None:
            steps = [Put(way, yaml.safe_load(suggestion))] if suggestion else []
        yield recipe.problem("layer-range", message + hint, way, suggestion, steps)


def _untold_range(recipe: Recipe, source: Source, count: int | None) -> Problem:
    """A layer_range that is missing, or that nobody can read."""
    way = (*source.way, "layer_range")
    form = "`layer_range: [start, end]`, the end not included"
    whole = f"[0, {count}]" if count else ""
    if recipe.says(way):
        hint = f" Did you mean `{whole}`, all layers of `{source.ref}`?" if whole else ""
        message = f"a layer_range is two whole numbers, `[start, end]`, the end not included, and this is not.{hint}"
        return recipe.problem("wrong-value", message, way, whole, [Put(way, [0, count])] if whole else ())
    hint = f" `layer_range: {whole}` takes all layers of `{source.ref}`." if whole else ""
    message = f"`layer_range` is missing here: {form}.{hint}"
    return recipe.problem("missing-key", message, source.way, "layer_range", [Put(way, [0, count])] if whole else ())


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
