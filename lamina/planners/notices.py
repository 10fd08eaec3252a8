"""What a user should know of a merge that can be carried out: nothing wrong, nothing silent."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Set

from lamina.architectures.infer import text_config
from lamina.architectures.layer_config import has_layer_kinds
from lamina.expressions.inspect import shares
from lamina.planners.request import Findings, Request
from lamina.planners.slices import FilterUse, Jobs
from lamina.recipe.settings import START, Position, Setting, setting_at
from lamina.recipe.text import Way
from lamina.wording import in_bytes, spans

_LAYER = re.compile(r"\.(\d+)\.")


def tell_of_blends(jobs: Jobs, findings: Findings) -> None:
    """Averaging layers that lie at different depths averages different functions: it may ruin a model."""
    distances: dict[int, set[int]] = defaultdict(set)
    for job in jobs.all:
        if job.layer is not None:
            depths = {int(found[1]) for share in shares(job.expr) if (found := _LAYER.search(share.read.name))}
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


# Values of config.json that change what the same weights compute. The result has the donor's.
FUNCTION_KEYS = (
    "model_type", "architectures",
    "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "sliding_window",
    "use_sliding_window", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "attn_logit_softcapping",
    "final_logit_softcapping", "query_pre_attn_scalar", "residual_multiplier", "embedding_multiplier",
    "attention_multiplier", "logits_scaling", "max_position_embeddings",
)  # fmt: skip


def tell_of_configs(request: Request, findings: Findings) -> None:
    """Parents whose configs disagree about what the weights compute."""
    donor = text_config(request.donor.config)
    for model in request.models.values():
        other = text_config(model.config)
        for key in FUNCTION_KEYS:
            if key in donor and key in other and donor[key] != other[key]:
                findings.notice(
                    "unlike-configs",
                    f"`{model.name}` has {key} {other[key]}, and the result has {donor[key]} of "
                    f"`{request.donor.name}`: the same weights compute something else.",
                )


def tell_of_uneven_layers(request: Request, findings: Findings) -> None:
    """Layers that hold other tensors than their neighbours, where config.json knows of no kinds of layers."""
    for model in request.models.values():
        layers = model.architecture.layers
        usual = max((set(layer) for layer in layers), key=lambda layer: sum(set(other) == layer for other in layers))
        uneven = {index: usual ^ set(layer) for index, layer in enumerate(layers) if set(layer) != usual}
        if uneven and not has_layer_kinds(model.config):
            index, names = next(iter(uneven.items()))
            findings.notice(
                "uneven-layers",
                f"layers {spans(list(uneven))} of `{model.name}` do not hold the same tensors as the others "
                f"(layer {index}: {', '.join(sorted(names)[:3])}), and its config.json does not say why.",
            )


def tell_of_filters(request: Request, matched: Set[FilterUse], findings: Findings) -> None:
    """Filters that no tensor name contains: nothing is set by them."""
    levels: list[tuple[Mapping[str, Setting], Way]] = [(request.parameters, ())]
    for entry in request.slices:
        levels += [(entry.parameters, entry.way), *((source.parameters, source.way) for source in entry.sources)]
    for parameters, way in levels:
        for name, setting in parameters.items():
            for rule in setting:
                if rule.filter is not None and (way, name, rule.filter) not in matched:
                    message = f"no tensor's name contains `{rule.filter}`, so this filter of `{name}` sets nothing."
                    findings.without_effect("unmatched-filter", message, (*way, "parameters", name))


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
