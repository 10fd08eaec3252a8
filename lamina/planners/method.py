"""Which method a recipe asks for, and whether it asks for one kind of layers: told before any model is opened."""

from __future__ import annotations

from pathlib import PurePath

from lamina.errors import did_you_mean, nearest
from lamina.merge_methods import METHODS, MergeMethod
from lamina.planners.advice import OTHER_NAMES, likely_method, without_modules
from lamina.planners.own_code import NoSuchMethod, names_code, offered_methods, own_method
from lamina.planners.request import Findings
from lamina.recipe.load import CARRIED_RECIPES, Recipe
from lamina.recipe.steps import Put, Remove
from lamina.recipe.text import KEY


def method_of(recipe: Recipe, findings: Findings, *, own_code: bool) -> MergeMethod | None:
    """The method that the recipe names, once it asks for something that can be done at all. Faults go to `findings`.

    `own_code` lets a recipe that came with a model run the code that it names.
    """
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
