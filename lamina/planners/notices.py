"""What a user should know of a merge that can be carried out: nothing wrong, nothing silent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Set

from lamina.architectures.config_values import SHARED, config_values, spelled
from lamina.architectures.layer_config import has_layer_kinds
from lamina.errors import nearest
from lamina.expressions.inspect import shares
from lamina.planners.request import Findings, Request
from lamina.planners.rhythm import kinds_of, lapse
from lamina.planners.slices import Jobs
from lamina.planners.values import FilterUse
from lamina.planners.vocabularies import place_of
from lamina.plans.explain import layer_of
from lamina.recipe.settings import START, Position, Setting, setting_at
from lamina.recipe.steps import Put, Remove
from lamina.recipe.text import Way
from lamina.wording import in_bytes, spans


def tell_of_blends(jobs: Jobs, findings: Findings) -> None:
    """Averaging layers that lie at different depths averages different functions: it may ruin a model."""
    distances: dict[int, set[int]] = defaultdict(set)
    for job in jobs.all:
        if job.layer is not None:
            depths = {depth for share in shares(job.expr) if (depth := layer_of(share.read.name)) is not None}
            distances[job.layer] |= {max(depths) - depth for depth in depths} - {0}
    blended = {layer: apart for layer, apart in distances.items() if apart}
    if blended:
        apart = sorted(set().union(*blended.values()))
        advice = " `overlap: cut` blends nothing." if findings.recipe.schema.stack is not None else ""
        findings.notice(
            "unlike-depths",
            f"output layer{'s' if len(blended) > 1 else ''} {spans(sorted(blended))}: layers are blended that lie "
            f"{', '.join(map(str, apart))} apart: "
            f"different functions, so expect a loss until it is trained.{advice}",
        )


def tell_of_configs(request: Request, jobs: Jobs, findings: Findings) -> None:
    """Parents whose configs disagree about what the weights compute: the result has the donor's, for all layers."""
    own = config_values(request.donor.config)
    refs = dict.fromkeys(source.ref for entry in request.slices for source in entry.sources)
    others = {ref: config_values(request.models[ref].config) for ref in refs}
    for key in dict.fromkeys(key for values in (own, *others.values()) for key in values):
        if key.startswith(SHARED):
            continue  # a fault, where they differ
        if key == "architectures" and any(_differ(own, values, "model_type") for values in others.values()):
            continue  # says the same once more
        unlike = {ref: values[key] for ref, values in others.items() if _differ(own, values, key)}
        if unlike:
            theirs = ", ".join(f"{_written(value)} in `{request.models[ref].name}`" for ref, value in unlike.items())
            ours = f"{_written(own[key])} in `{request.donor.name}`, whose config.json the result has"
            follows = _CONSEQUENCES.get(key, "the same weights compute something else")
            findings.notice(
                "unlike-configs",
                f"{spelled(key, request.donor.config)} is {ours}, and {theirs}: {follows}.",
                place_of(request, request.models[next(iter(unlike))]),
            )
    _tell_of_tying(request, jobs, findings)


_CONSEQUENCES = {
    "model_type": "the layers run as the code of the former, which may not be what they were trained in",
    "max_position_embeddings": "layers of the latter were trained on texts of another length",
}


def _differ(own: Mapping[str, object], other: Mapping[str, object], key: str) -> bool:
    return key in own and key in other and own[key] != other[key]


def _written(value: object) -> str:
    """A value of config.json in words: `factor 8.0, low_freq_factor 1.0`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {part}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "not set" if value is None else str(value)


def _tell_of_tying(request: Request, jobs: Jobs, findings: Findings) -> None:
    """Models of which some use their embedding as the head and some have a head of its own."""
    refs = dict.fromkeys(source.ref for entry in (request.slices[0], request.slices[-1]) for source in entry.sources)
    tied = {ref: request.models[ref].architecture.tied for ref in refs}
    if len(set(tied.values())) > 1:
        shared, own = ([f"`{ref}`" for ref, is_tied in tied.items() if is_tied is wanted] for wanted in (True, False))
        follows = "so it is in the result" if jobs.tied else "the result has a head of its own"
        findings.notice(
            "unlike-configs",
            f"tie_word_embeddings: the embedding is the head in {', '.join(shared)}, and not in {', '.join(own)}; "
            f"{follows}, and its config.json says so.",
        )


USUAL_SUM = (0.9, 1.1)  # within it, weights were meant to add up to 1 and a digit was left off


def tell_of_weight_sums(request: Request, jobs: Jobs, findings: Findings) -> None:
    """Weights that add up to far from 1 and are not divided by their sum."""
    low, high = USUAL_SUM
    layers = {job.name: job.layer for job in jobs.all}
    unusual = {name: total for name, total in jobs.weight_sums.items() if not low <= total <= high and name in layers}
    if unusual:
        sums = " to ".join(dict.fromkeys(f"{pick(unusual.values()):.4g}" for pick in (min, max)))
        numbers = sorted({layer for name in unusual if (layer := layers[name]) is not None})
        where = [f"output layer{'s' if len(numbers) > 1 else ''} {spans(numbers)}"] if numbers else []
        where += ["the ends"] if any(layers[name] is None for name in unusual) else []
        findings.notice(
            "weight-sum",
            f"on {' and '.join(where)} the weights add up to {sums}, and nothing divides by it (`normalize: false`): "
            "the tensors are so many times as large. Weights that add up to 1, or `normalize: true`, keep their size.",
            ("parameters", "normalize") if "normalize" in request.parameters else request.slices[0].way,
        )


def tell_of_lone_weights(request: Request, findings: Findings) -> None:
    """A weight of the only source of its slice, which the method divides by itself."""
    method = request.method
    if "weight" not in method.parameters or method.space != "weights":
        return
    if request.recipe.schema.stack is not None:
        _tell_of_uncrossed_weights(request, findings)
        return
    for entry in request.slices:
        if len(entry.sources) > 1:
            continue
        source = entry.sources[0]
        normalize = entry.parameters.get("normalize") or request.parameters.get("normalize", ())
        divided = all(value is True for rule in normalize for value in rule.values)
        if divided and _is_not_one(source.parameters.get("weight", ())):
            findings.without_effect(
                "no-effect",
                f"`weight` of `{source.ref}` has no effect: it is the only source here, and `normalize` divides by "
                "its weight. `scale` multiplies a source's tensors.",
                (way := (*source.way, "parameters", "weight")),
                steps=[Put(way, 1)],
            )


def _tell_of_uncrossed_weights(request: Request, findings: Findings) -> None:
    """The weight of an entry of a stack that no other entry is blended with."""
    blended = {source.way for entry in request.slices if len(entry.sources) > 1 for source in entry.sources}
    for number, entry in enumerate(request.recipe.schema.stack or ()):
        weight = entry.weight or entry.parameters.get("weight", ())
        if ("stack", number) not in blended and _is_not_one(weight):
            message = f"`weight` of `{entry.model}` has no effect: nothing is blended with this entry."
            way = ("stack", number, "weight")
            message += " `scale` multiplies its tensors."
            findings.without_effect("no-effect", message, way, steps=[Remove(way)])


def _is_not_one(weight: Setting) -> bool:
    return any(value != 1 for rule in weight for value in rule.values)


def tell_of_uneven_layers(request: Request, findings: Findings) -> None:
    """Layers that hold other tensors than their neighbours, where config.json knows of no kinds of layers."""
    for model in request.models.values():
        layers = model.architecture.layers
        held = [frozenset(layer) for layer in layers]
        [(usual, _)] = Counter(held).most_common(1)
        uneven = {index: usual ^ layer for index, layer in enumerate(held) if layer != usual}
        if uneven and not has_layer_kinds(model.decoder):
            index, names = next(iter(uneven.items()))
            findings.notice(
                "uneven-layers",
                f"layers {spans(list(uneven))} of `{model.name}` do not hold the same tensors as the others "
                f"(layer {index}: {', '.join(sorted(names)[:3])}), and its config.json does not say why.",
            )


def tell_of_rhythm(request: Request, findings: Findings) -> None:
    """Layer kinds that no longer come round as they do in the model, which not every runtime can be told."""
    kinds = {ref: kinds_of(model.config, model.architecture.depth) for ref, model in request.models.items()}
    sources = [(entry.sources[0], index) for entry in request.slices for index in range(entry.depth)]
    stack = [(source.start + index, kinds[source.ref][source.start + index]) for source, index in sources]
    found = lapse(kinds_of(request.donor.config, request.donor.architecture.depth), stack)
    if found is not None:
        layers = f"output layer{'s' if len(found.out) > 1 else ''} {spans(found.out)}"
        instead = " or ".join(map(str, found.instead))
        where = "at the bottom" if found.ends is None else f"behind layer {found.ends}"
        findings.notice(
            "rhythm",
            f"layer kinds come round every {found.period} layers in `{request.donor.name}`, and {layers} of the result "
            "are not what that rhythm has in their place. transformers and vLLM read the kinds from config.json, where "
            "they are right; llama.cpp takes them from a period for an architecture, and would run these layers as "
            f"what they are not. It is lost at output layer {found.place}, where layer {found.begins} stands {where}; "
            f"layer {instead} in its place keeps it.",
            sources[found.place][0].way,
        )


def tell_of_next_token(request: Request, findings: Findings) -> None:
    """Layers that predict further tokens (`num_nextn_predict_layers`): dropped, or behind another depth than theirs."""
    refs = dict.fromkeys(source.ref for source in request.slices[-1].sources)
    models = [request.donor, *(request.models[ref] for ref in refs)]
    owner = next((model for model in models if model.architecture.next_token), None)
    if owner is None:
        return
    own, way = owner.architecture, request.slices[-1].way
    if not request.keeps_next_token:
        findings.notice(
            "next-token",
            f"`{owner.name}` predicts further tokens from what its layer {own.depth - 1} gives. The result does not "
            "end in the last layers of models that are alike in this, so those tensors are dropped, and config.json "
            "says so: it drafts no tokens for speculative decoding.",
            way,
        )
    elif request.depth != own.depth and any(own.next_token_name(name, 0) != name for name in own.next_token):
        findings.notice(
            "next-token",
            f"the layers of `{owner.name}` that predict further tokens go on behind the last layer, from "
            f"{own.layer_name(own.depth, '*')} to {own.layer_name(request.depth, '*')}: there vLLM and SGLang look for "
            "them. transformers does not use them, and may say of some that it knows no such tensors.",
            way,
        )


def tell_of_filters(request: Request, matched: Set[FilterUse], findings: Findings) -> None:
    """Filters that no tensor name contains: nothing is set by them."""
    levels: list[tuple[Mapping[str, Setting], Way]] = [(request.parameters, ())]
    for entry in request.slices:
        levels += [(entry.parameters, entry.way), *((source.parameters, source.way) for source in entry.sources)]
    parts = list(dict.fromkeys(part for name in request.donor.checkpoint.specs for part in name.split(".")))
    for parameters, way in levels:
        for name, setting in parameters.items():
            for number, rule in enumerate(setting):
                if rule.filter is not None and (way, name, rule.filter) not in matched:
                    message = f"no tensor's name contains `{rule.filter}`, so this filter of `{name}` sets nothing."
                    meant = nearest(rule.filter, parts)
                    hint = f" Did you mean `{meant}`?" if meant else ""
                    place = (*way, "parameters", name)
                    condition = (*place, number) if len(setting) > 1 else place
                    step = Put((*condition, "filter"), meant) if meant else Remove(condition)
                    findings.without_effect("unmatched-filter", message + hint, place, meant or "", [step])


def tell_of_ends(request: Request, jobs: Jobs, findings: Findings) -> None:
    """What happens to norm and head where one would not guess it."""
    if jobs.sources_tied and not jobs.tied:
        head = jobs.all[-1]
        findings.notice(
            "untied",
            f"the head is no longer the embedding: {head.name} is written ({in_bytes(head.expr.spec.nbytes)}), "
            "and config.json says so.",
        )
    schema, first, last = request.recipe.schema, request.slices[0], request.slices[-1]
    surplus = len(last.sources) > len(first.sources) > 0 and schema.slices is not None
    if surplus and (schema.norm is None or schema.head is None):
        findings.notice(
            "ends",
            f"final norm and head are made of all {len(last.sources)} sources of the last slice; MergeKit takes "
            f"only as many as the first slice has ({len(first.sources)}).",
        )
    if request.gradient_ends == "first" and schema.norm is None:
        end = Position(last.depth - 1, last.depth)
        levels = [last.parameters, request.parameters, *(source.parameters for source in last.sources)]
        settings = [setting for level in levels for setting in level.values()]
        if any(setting_at(setting, "", START) != setting_at(setting, "", end) for setting in settings):
            findings.notice(
                "gradient-ends",
                "final norm and head take the first value of their gradients, as in MergeKit; "
                "`gradient_ends: own` gives them the last layer's.",
            )


def tell_of_scale(request: Request, findings: Findings) -> None:
    """`scale` under linear, which MergeKit passes over."""
    levels = [request.parameters, *(entry.parameters for entry in request.slices)]
    levels += [source.parameters for entry in request.slices for source in entry.sources]
    if (
        request.method.name == "linear"
        and findings.recipe.schema.stack is None
        and any("scale" in level for level in levels)
    ):
        findings.notice("scale", "`scale` multiplies the tensors of its source; under linear, MergeKit ignores it.")
