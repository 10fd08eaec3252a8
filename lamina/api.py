"""The program's story, top to bottom: a recipe is read, planned, laid out, computed, published."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypedDict, Unpack

import xxhash

from lamina.checkpoints.checkpoint import Checkpoint, FetchProgress
from lamina.checkpoints.files import free_bytes
from lamina.checkpoints.hub_client import HubOptions
from lamina.checkpoints.journal import FileState
from lamina.checkpoints.layout import DEFAULT_SHARD_SIZE, Layout, lay_out
from lamina.checkpoints.staging import clear, occupants, restore, staging_of
from lamina.checkpoints.writer import MADE_BY, CheckpointWriter, bytes_staged, check_output, damage, made_by
from lamina.errors import CheckpointError, InputChanged, OutputError, Problem, RecipeError
from lamina.execute.memory import memory_bound, peak_memory, predicted_memory, workers_that_fit
from lamina.execute.provenance import own_files, record, what_is_read
from lamina.execute.reproduce import Digests, Record, checked_record, differing_digests, differing_in_place
from lamina.execute.run import Progress, run
from lamina.execute.tensors import Tensors
from lamina.expressions.shared import Shared
from lamina.ledger.notebook import Notebook
from lamina.ledger.noting import merge_run
from lamina.model_ref import ModelRef, parse_model_ref
from lamina.models.plain import PlainModel, files_of, folder_like, open_model
from lamina.planners.merge import plan_merge
from lamina.planners.origins import explanation
from lamina.planners.ranges import slices_of
from lamina.planners.request import Findings
from lamina.planners.side_files import TOKENIZER_FILES
from lamina.planners.values import Trace
from lamina.plans.origin import Explanation
from lamina.plans.plan import Plan
from lamina.recipe.faults_of_changes import faults_of_changes
from lamina.recipe.load import (
    CARRIED_RECIPES,
    RECIPE_ENDINGS,
    Border,
    Recipe,
    RecipeLike,
    load_recipe,
    parse_recipe,
    recipe_like,
)
from lamina.recipe.slices import as_yaml


@dataclass(frozen=True)
class Result:
    """What a merge did. `seconds` of wall time; `peak_memory` of the whole process, in bytes.

    `resumed` is the number of bytes of tensors that an earlier run of the same merge had left.
    """

    out: Path
    plan: Plan
    recipe: Recipe
    layout: Layout
    seconds: float
    peak_memory: int
    already_there: bool = False
    non_finite: tuple[str, ...] = ()
    resumed: int = 0


@dataclass(frozen=True)
class Forecast:
    """A plan, and what carrying it out takes here. In bytes: `memory` of the process at its peak, its bound, disk.

    `staged` is what an earlier run of the same merge has left whole. `refusal` is why `merge` would refuse the output
    now, None where it would not.
    """

    plan: Plan
    memory: int
    memory_bound: int
    disk_needed: int
    disk_free: int
    shards: int
    staged: int
    tensor_bytes: int
    already_there: bool
    refusal: OutputError | InputChanged | None


class Options(TypedDict, total=False):
    """What can be said of a recipe beside what stands in it. All verbs take these.

    `set_values` change it (`["stack[1].at=8"]`); `border` says which slips are errors: "strict", "normal" or
    "lenient". `seed` is of the random draws. `unlike_models` lets models be merged whose configs disagree
    about what they compute, if their tensors have equal shapes. `assume_per_layer` names keys of config.json
    whose lists go with the layers, where Lamina does not know them. `allow_own_code` lets a recipe that came with
    a model run the merge method that it brings; other recipes may anyway. Without `copy_tokenizer` no tokenizer is
    written; without `write_model_card` neither README.md, its picture, nor a copy of the recipe. `cache_dir`, `token`
    and `offline` are for models of the Hub, by default as huggingface_hub is set up; `revision` is of those that
    are named without one. `commits` has, by the name in the recipe, at which commit a model of the Hub is read
    whatever the recipe says: as a record of a merge has it.
    """

    set_values: Sequence[str]
    border: Border
    seed: int
    unlike_models: bool
    assume_per_layer: Sequence[str]
    allow_own_code: bool
    copy_tokenizer: bool
    write_model_card: bool
    cache_dir: str | Path | None
    token: str | None
    offline: bool
    revision: str | None
    commits: Mapping[str, str]


def plan(recipe: RecipeLike, **options: Unpack[Options]) -> Plan:
    """What merging a recipe would do. Reads configs and headers only.

    A recipe is a file, the folder of a published merge, YAML text of more than one line, a mapping, or a
    Recipe. Raises RecipeError with all that is wrong.
    """
    return _planned(recipe, options).plan


def merge(
    recipe: RecipeLike,
    out: str | Path,
    *,
    workers: int | None = None,
    memory: int | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    force: bool = False,
    on_plan: Callable[[Plan], None] = lambda _plan: None,
    fetching: FetchProgress = lambda _file, _nbytes: None,
    resuming: Callable[[int, int], None] = lambda _kept, _discarded: None,
    progress: Progress = lambda _name, _nbytes: None,
    notebook: Notebook | None = None,
    **options: Unpack[Options],
) -> Result:
    """Merge a recipe into the folder `out`, which appears whole or not at all, and note it in the ledger.

    `memory` bounds the whole process (default: 200 MB; 600 MB where a method of one's own works on tensors of
    torch) and `shard_size` the files, in bytes. The bytes of the tensors depend
    on neither, nor on `workers` (default: the machine's cores). What the same plan made before is left as it
    is; any other content of `out` is refused unless `force`. `on_plan` is called before anything is read.
    What the plan reads of models of the Hub is fetched first (`fetching`), into `cache_dir`. A run that was
    stopped or died is gone on with: `resuming` is called with the bytes of the tensors that it left whole, and of
    those that are of no use for this merge. The row of the ledger goes where `notebook` says, by default into the
    user's own; `Notebook(wanted=False)` notes nothing.
    Raises LaminaError, and KeyboardInterrupt when stopped; then nothing is visible at `out`.
    """
    started, out = time.monotonic(), Path(out)
    planned = _planned(recipe, options)
    found, checkpoints = planned.plan, planned.checkpoints
    layout = lay_out(found.specs, shard_size)
    memory = memory_bound(found, memory)
    workers_that_fit(found, workers, memory)
    try:
        if not out.is_symlink():
            restore(out)
        check_output(out, _disk_needed(found, layout), planned.precious, beside=planned.to_fetch)
        already_there = not force and _is_there(out, found)
        if not already_there:
            on_plan(found)
        for name, checkpoint in checkpoints.items():
            checkpoint.fetch(found.reads_of(name), fetching)
        inputs = what_is_read(found, {name: each.sample(found.reads_of(name)) for name, each in checkpoints.items()})
        resumed = 0
        non_finite: tuple[str, ...] = ()
        if already_there:
            _check_unchanged(out, inputs)
            clear(staging_of(out))
        else:
            with CheckpointWriter(layout, out, plan=found.digest, inputs=planned.input_states, anew=force) as sink:
                resumed = sum(layout.places[name].nbytes for name in sink.done())
                resuming(resumed, sink.discarded)
                run(found, checkpoints, sink, workers=workers, memory=memory, progress=progress)
                made = record(found, layout, inputs, _recorded(options), sink.finished, sink.input_digests)
                sink.publish({**{file.name: file.content for file in found.files}, MADE_BY: made})
                non_finite = tuple(sorted(name for name, each in sink.finished.items() if not each.finite))
    finally:
        planned.close()
    took, peak = time.monotonic() - started, peak_memory()
    row = merge_run(found, planned.recipe, out, seconds=took, peak_memory=peak, non_finite=non_finite)
    notebook = notebook or Notebook()
    if already_there:
        notebook.note_once(row)
    else:
        notebook.note(row)
    return Result(out, found, planned.recipe, layout, took, peak, already_there, non_finite, resumed)


def forecast(
    recipe: RecipeLike,
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    force: bool = False,
    **options: Unpack[Options],
) -> Forecast:
    """The plan of a recipe and what it takes here. Without `out` the working directory's disk counts.

    Raises what `merge` would raise before it reads a tensor, but for what stands at `out`: see `refusal`.
    """
    planned = _planned(recipe, options)
    memory = memory_bound(planned.plan, memory)
    layout = lay_out(planned.plan.specs, shard_size)
    needed = _disk_needed(planned.plan, layout)
    folder = Path() if out is None else Path(out)
    refusal: OutputError | InputChanged | None = None
    already_there, staged = False, 0
    if out is not None:
        try:
            check_output(folder, needed, planned.precious, beside=planned.to_fetch)
            already_there = not force and _is_there(folder, planned.plan)
            if not already_there and not planned.plan.bytes_to_fetch:  # a run that was stopped had fetched everything
                states = planned.input_states()
                staged = bytes_staged(folder, layout, plan=planned.plan.digest, inputs=states, anew=force)
        except (OutputError, InputChanged) as error:
            refusal = error
    return Forecast(
        planned.plan,
        predicted_memory(planned.plan, workers, memory),
        memory,
        needed,
        free_bytes(folder.absolute()),
        len(layout.shards),
        staged,
        sum(place.nbytes for place in layout.places.values()),
        already_there,
        refusal,
    )


@dataclass(frozen=True)
class Reproduction:
    """What of a published folder differs from its record, or from what its recipe makes; nothing, if all is well."""

    out: Path
    digests_only: bool
    differing: tuple[str, ...]
    tensors: int
    nbytes: int
    seconds: float


def reproduce(
    out: str | Path,
    *,
    digests_only: bool = False,
    recipe: RecipeLike | None = None,
    beside: Sequence[str | Path] = (),
    workers: int | None = None,
    memory: int | None = None,
    on_start: Callable[[int], None] = lambda _nbytes: None,
    progress: Progress = lambda _name, _nbytes: None,
    **options: Unpack[Options],
) -> Reproduction:
    """Check a published folder against its `lamina.json`, and make its merge again to compare. Writes nothing.

    `recipe` is by default the copy that the folder holds; seed and other options are those of its record, and models
    of the Hub are read at the commits that it has. Where the folder's own recipe counts, its models are looked for in
    the folders `beside` first: where the recipe lay when it was merged, for instance.
    `on_start` is called with the number of bytes to come. Raises CheckpointError where there is no record.
    """
    started, out = time.monotonic(), Path(out)
    if not out.is_dir():
        raise CheckpointError(_no_folder(out))
    known = checked_record(made_by(out), str(out / MADE_BY))
    nbytes = sum(size for name, size in known.files.items() if name not in known.file_digests)
    on_start(nbytes if digests_only else 2 * nbytes)
    differing = differing_in_place(out, known, progress)
    if not digests_only:
        asked = Options(**{**known.options, **options})  # type: ignore[typeddict-item]
        first = [Path(folder) for folder in beside if recipe is None]
        planned = _planned(out if recipe is None else recipe, asked, beside=first)
        differing += _made_again(planned, known, workers, memory, progress)
    took = time.monotonic() - started
    return Reproduction(out, digests_only, tuple(differing), len(known.tensors), nbytes, took)


def _no_folder(out: Path) -> str:
    """The letter for what is no folder that could be made again."""
    takes = f"what is made again is the folder of a merge, in which {MADE_BY} lies"
    if out.suffix in RECIPE_ENDINGS and out.is_file():
        return f"{out} is a recipe, and {takes}. It goes with a recipe that is not its own by `--recipe {out}`."
    meant = folder_like(str(out), Path())
    return f"there is no folder {out}, and {takes}.{f' Did you mean `{meant}`?' if meant else ''}"


def _made_again(
    planned: _Planned, known: Record, workers: int | None, memory: int | None, progress: Progress
) -> list[str]:
    """What differs between a record and what its merge makes now."""
    sink = Digests()
    try:
        for name, checkpoint in planned.checkpoints.items():
            checkpoint.fetch(planned.plan.reads_of(name))
        memory = memory_bound(planned.plan, memory)
        run(planned.plan, planned.checkpoints, sink, workers=workers, memory=memory, progress=progress)
    finally:
        planned.close()
    files = {file.name: xxhash.xxh3_128_hexdigest(file.content) for file in own_files(planned.plan.files)}
    found = [f"{told} when it is made again" for told in differing_digests(sink.made, known)]
    return found + [
        f"{name}: another content when it is made again"
        for name in sorted({*files, *known.file_digests})
        if files.get(name) != known.file_digests.get(name)
    ]


def tensors(
    recipe: RecipeLike, *, workers: int | None = None, memory: int | None = None, **options: Unpack[Options]
) -> Tensors:
    """The merged tensors by name, as numpy arrays that are computed when they are asked for.

    `memory` bounds what computing takes; the arrays themselves come on top. `.spec(name)` computes nothing.
    """
    planned = _planned(recipe, options)
    bound = memory_bound(planned.plan, memory)
    return Tensors(planned.plan, planned.checkpoints, workers=workers, memory=bound)


@dataclass(frozen=True)
class Variation:
    """A recipe with some values changed: what was changed, as `set_values` has it, and the tensors of it."""

    set_values: tuple[str, ...]
    recipe: Recipe
    tensors: Tensors


@contextmanager
def variations(
    recipe: RecipeLike,
    changes: Iterable[Sequence[str]],
    *,
    workers: int | None = None,
    memory: int | None = None,
    **options: Unpack[Options],
) -> Iterator[tuple[Variation, ...]]:
    """The tensors of a recipe under each of several changes, all planned before any is computed.

    The models are opened once for all of them, and closed at the end of the `with`. What variations have in common,
    tensors and what is measured of them, is made once, as far as there is room for it: what `memory` leaves beside the
    blocks in flight. Raises RecipeError with the faults of the recipe under no change, where that is one of them and
    has some, else with those of all variations together, each once.
    """
    opened: dict[ModelRef, PlainModel] = {}
    given = tuple(options.get("set_values", ()))
    found: list[tuple[tuple[str, ...], _Planned]] = []
    faults: list[tuple[tuple[str, ...], Sequence[Problem]]] = []
    every = [*map(tuple, changes)]
    try:
        for change in every:
            try:
                found.append((change, _planned(recipe, {**options, "set_values": given + change}, opened=opened)))
            except RecipeError as error:
                if not change:
                    raise
                faults.append((change, error.problems))
        if faults:
            raise RecipeError(faults_of_changes(faults, [change for change in every if change]))
        yield _sharing(found, workers, memory)
    finally:
        for model in opened.values():
            model.checkpoint.close()


def _sharing(
    found: Sequence[tuple[tuple[str, ...], _Planned]], workers: int | None, memory: int | None
) -> tuple[Variation, ...]:
    plans = [planned.plan for _, planned in found]
    bounds = [memory_bound(plan, memory) for plan in plans]
    room = min(
        (bound - predicted_memory(plan, workers, bound) for plan, bound in zip(plans, bounds, strict=True)), default=0
    )
    shared = Shared((job.expr for plan in plans for job in plan.jobs), room)
    return tuple(
        Variation(
            change,
            planned.recipe,
            Tensors(
                planned.plan,
                {each.name: planned.checkpoints[each.name] for each in planned.plan.inputs},
                workers=workers,
                memory=bound,
                shared=shared,
            ),
        )
        for (change, planned), bound in zip(found, bounds, strict=True)
    )


def load_model(
    recipe: RecipeLike,
    *,
    device: str = "cpu",
    workers: int | None = None,
    memory: int | None = None,
    **options: Unpack[Options],
) -> Any:
    """The merge as a live transformers model, ready to run; nothing is written to disk.

    It computes what the published folder would compute when loaded, to the bit. Holds the whole model in
    memory, on top of `memory`. Needs the extra `hf`: raises MissingExtra without it, and DeviceError where there is no
    such `device`, before anything is opened.
    """
    from lamina.execute.live_model import device_here, live_model

    device_here(device)
    with tensors(recipe, workers=workers, memory=memory, **options) as merged:
        return live_model(merged, device)


def explain(recipe: RecipeLike, tensor: str, **options: Unpack[Options]) -> Explanation:
    """How one output tensor is made, and where the recipe sets every value that enters.

    Raises RecipeError, with near names, where the merge has no tensor of that name.
    """
    trace = Trace(tensor)
    planned = _planned(recipe, options, trace)
    return explanation(planned.plan, planned.recipe, trace)


def as_slices(recipe: RecipeLike, **options: Unpack[Options]) -> str:
    """The recipe with its layers spelled as `slices`, as YAML: it plans to the same digest."""
    planned = _planned(recipe, options)
    return as_yaml(planned.recipe, slices_of(planned.recipe, planned.models, Findings(planned.recipe)))


def check_method(method: str | Callable[..., Any], **parameters: Any) -> tuple[str, ...]:
    """Try the laws on a merge method: those that hold of every one, and those that it declares. Returns their names.

    `method` is a function under `@lamina.merge_method`, or what a recipe calls it, relative to the working directory.
    `parameters` are values to try it with, by the names that a recipe uses. Raises LawBroken with the case that breaks
    a law, and RecipeError where there is no such method. Made for a test: `lamina.check_method(mine, density=0.4)`.
    """
    from lamina.merge_methods.laws import tried
    from lamina.planners.own_code import checked, method_named

    return tried(method_named(method, Path()) if isinstance(method, str) else checked(method), parameters)


@dataclass(frozen=True)
class _Planned:
    """A plan with the recipe and the open models that it comes from."""

    plan: Plan
    recipe: Recipe
    models: Mapping[ModelRef, PlainModel]

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """The open checkpoints, as the plan calls them."""
        return {model.name: model.checkpoint for model in self.models.values()}

    @property
    def precious(self) -> list[Path]:
        """What an output must not take the place of: the recipe's file and the models' folders."""
        file = Path(self.recipe.file)
        return [*([file] if file.exists() else []), *(each.folder for each in self.checkpoints.values())]

    def input_states(self) -> dict[str, FileState]:
        """What every file that the plan reads is like now. Raises InputChanged where one is gone."""
        return {
            f"{source.name}/{file}": state
            for source in self.plan.inputs
            for file, state in self.checkpoints[source.name].states(self.plan.reads_of(source.name)).items()
        }

    @property
    def to_fetch(self) -> list[tuple[Path, int]]:
        """What is still to be fetched from the Hub: the folder that gets it, and how many bytes."""
        return [(self.checkpoints[source.name].folder, source.bytes_to_fetch) for source in self.plan.inputs]

    def close(self) -> None:
        for checkpoint in self.checkpoints.values():
            checkpoint.close()


def planning_options(options: Options) -> dict[str, Any]:
    """What of the options `plan_merge` takes, as it calls it."""
    return {
        "seed": options.get("seed", 0),
        "unlike_models": options.get("unlike_models", False),
        "assume_per_layer": tuple(options.get("assume_per_layer", ())),
        "own_code": options.get("allow_own_code", False),
    }


def _planned(
    source: RecipeLike,
    options: Options,
    trace: Trace | None = None,
    opened: dict[ModelRef, PlainModel] | None = None,
    beside: Sequence[Path] = (),
) -> _Planned:
    """Read a recipe, open its models, plan it. `opened` has the models that are open already, and gets the others.

    Models are looked for in the folders `beside` first.
    """
    hub = hub_options(options)
    recipe = _recipe(source, hub, border=options.get("border", "normal"), set_values=options.get("set_values", ()))
    opened = {} if opened is None else opened

    def open_once(ref: ModelRef) -> PlainModel:
        if ref not in opened:
            opened[ref] = open_model(str(ref), files_of(ref, recipe.folder, hub, first=beside))
        return opened[ref]

    found = plan_merge(
        recipe,
        open_once,
        trace=trace,
        **planning_options(options),
    )
    files = found.files
    if not options.get("copy_tokenizer", True):
        files = tuple(file for file in files if not any(fnmatch(file.name, each) for each in TOKENIZER_FILES))
    if not options.get("write_model_card", True):
        files = tuple(file for file in files if not file.about_the_merge)
    return _Planned(found if files is found.files else replace(found, files=files), recipe, opened)


def _recipe(source: RecipeLike, hub: HubOptions, *, border: Border, set_values: Sequence[str]) -> Recipe:
    """The recipe; a name `org/name` of no file is a published merge on the Hub, and the recipe that it carries.

    Not so where it is near a recipe's file: then it is a slip, and the Hub is not asked.
    """
    is_name = isinstance(source, str | Path) and "\n" not in str(source) and Path(source).suffix not in RECIPE_ENDINGS
    if is_name and not Path(str(source)).exists():
        with suppress(ValueError):
            ref = parse_model_ref(str(source))
            if ref.is_hub_id and recipe_like(Path(str(source))) is None:
                return _carried_recipe(ref, hub, border, set_values)
    return load_recipe(source, border=border, set_values=set_values)


def _carried_recipe(ref: ModelRef, hub: HubOptions, border: Border, set_values: Sequence[str]) -> Recipe:
    try:
        files = files_of(ref, Path(), hub)
        names = [name for name in CARRIED_RECIPES if name in files.names()]
        if names:
            text = files.read(names[0]).decode("utf-8-sig", errors="replace")
            return parse_recipe(text, f"{ref}/{names[0]}", border, set_values)
    except CheckpointError as error:
        raise RecipeError([Problem("no-recipe", str(error))]) from error
    raise RecipeError([Problem("no-recipe", f"{ref} is a model without a recipe ({' or '.join(CARRIED_RECIPES)}).")])


def hub_options(options: Options) -> HubOptions:
    """What of the options is about the Hub."""
    cache_dir = options.get("cache_dir")
    return HubOptions(
        None if cache_dir is None else Path(cache_dir),
        options.get("token"),
        options.get("offline", False),
        options.get("revision"),
        options.get("commits", {}),
    )


def _disk_needed(found: Plan, layout: Layout) -> int:
    return layout.size + sum(len(file.content) for file in found.files)


def _recorded(options: Options) -> dict[str, Any]:
    """What of the options is needed to make the same folder again: what is no default, and not in the recipe."""
    defaults: dict[str, Any] = {"border": "normal", "unlike_models": False, "copy_tokenizer": True}
    asked = {name: options.get(name, default) for name, default in defaults.items()}
    recorded = {name: value for name, value in asked.items() if value != defaults[name]}
    lists = list(options.get("assume_per_layer", ()))
    return recorded | ({"assume_per_layer": lists} if lists else {})


def _is_there(out: Path, found: Plan) -> bool:
    """True when the same plan made `out` before. Raises OutputError for what is not absent, empty or that."""
    if not out.is_dir() or not occupants(out):
        return False
    if made_by(out).get("plan") != found.digest:
        seed = made_by(out).get("seed")
        other = f", but by another one or with another seed ({seed})" if seed not in (None, found.seed) else ""
        raise _refused(out, f"exists and was not made by this recipe{other}")
    return True


def _check_unchanged(out: Path, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Raises OutputError where `out` is not whole, or other models went into it."""
    then = made_by(out).get("inputs")
    known = [{**each, "tensors": None} for each in then if isinstance(each, dict)] if isinstance(then, list) else []
    now = [{**each, "tensors": None} for each in inputs]
    if known != now:
        other = ", ".join(str(each["model"]) for each in now if each not in known) or "other models"
        # Models of one shape plan alike: a weight of 0, or an end of a slerp, leaves one of them out.
        reason = f"what is read of {other} is not what was read for it: a model has changed, or the recipe has"
        raise _refused(out, f"was made by a plan like this one, but {reason}")
    if damaged := damage(out):
        raise _refused(out, f"was made by this recipe, and is no longer whole ({', '.join(damaged[:3])})")


def _refused(out: Path, reason: str) -> OutputError:
    return OutputError(f"{out} {reason}; name another output, or replace it: --force")
