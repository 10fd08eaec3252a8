"""How a model behaves beside its parents: loss on three texts, what its layers receive, answers, its cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lamina.check.asked import ROW, prompts, token_rows
from lamina.check.descent import Descent
from lamina.check.findings import Finding, Level, Section
from lamina.check.naming import short_name
from lamina.check.running import Answer, Observation, RunningModel, Tokens
from lamina.errors import CheckpointError, MissingExtra
from lamina.models.plain import PlainModel
from lamina.planners.small_files import small_files
from lamina.tokenizers.vocabulary import VOCABULARY_FILES, Vocabulary
from lamina.wording import counted, in_bytes, listed, spans

WATCHED = 8  # positions of each row at which layers are watched; the first tokens are unlike all others
FIRST_WATCHED = 16
LOST = 0.1  # nats a token: more is a loss that wants an explanation
OF_SOME_MODELS = ("code", "chat")  # texts that a sound model may know nothing of
ANSWER_TOKENS = 48
QUICK = "left out of a quick check"  # why a model was asked for no answers
LONGEST_PERIOD = 12  # tokens that come again and again
LOOP = 24  # tokens at the end of an answer that are nothing but repeats
CACHE_TAIL = 8
# Of the largest logit. A layer that reads another's cache makes 0.07 to 0.18; fp32 below 1e-5, bf16 0.006 to 0.017.
CACHE_TOLERANCE, ROUNDED_CACHE_TOLERANCE = 0.005, 0.05


@dataclass(frozen=True)
class Behaviour:
    """What one model does with the texts and prompts."""

    name: str
    observed: Mapping[str, Observation]
    answers: tuple[Answer, ...]
    cached: float | None
    not_run: str = ""
    is_rounded: bool = False  # computed in half precision


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences of loss, nats a token, with its 95% interval over rows."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        mean, low, high = (round(each, 2) + 0.0 for each in (self.mean, self.low, self.high))  # 0.00, never -0.00
        return f"{mean:+.2f} ({low:.2f} to {high:.2f})"


def check_behaviour(
    model: PlainModel,
    descent: Descent,
    *,
    memory: int | None = None,
    device: str = "cpu",
    texts: Mapping[str, str] | None = None,
    quick: bool = False,
    hint: str = "",
    progress: Callable[[str], None] = lambda _what: None,
) -> list[Section]:
    """Run the model and its parents, one after the other, on the same tokens. Needs the extra `hf`.

    Sections: loads, language, seams, answers, cache. A parent in whose tokenizer the tokens mean something else is
    left out of what needs the same tokens, and so is one whose loss is not finite. `quick`: a quarter of the tokens,
    and no answers. `hint` goes with a loss that nothing explains.
    """
    progress(f"loading {short_name(model.name)}")
    try:
        running = _loaded(model, memory, device)
    except MissingExtra as error:
        return [Section("behaviour", not_run=str(error))]
    except CheckpointError as error:
        return [Section("loads", findings=(Finding(Level.BROKEN, "not-loaded", str(error)),))]
    sections = [_loads(running)]
    if running.tokenizer is None:
        return [*sections, Section("language", not_run="the folder has no tokenizer")]
    rows = token_rows(running, texts, quick=quick)
    if not rows:
        return [*sections, Section("language", not_run="the texts have too few tokens for this tokenizer")]
    own = _behaviour(model, running, rows, quick, progress)
    tokens = _tokens(running, rows)
    del running
    parents = []
    for parent in descent.parents:
        progress(f"loading {short_name(parent.name)}")
        try:
            other = _loaded(parent, memory, device)
        except CheckpointError as error:
            sections.append(Section("parent", not_run=str(error)))
            continue
        if other.tokenizer is None:
            sections.append(Section("parent", not_run=f"{short_name(parent.name)} has no tokenizer"))
        elif _tokens(other, rows) == tokens:
            theirs = _behaviour(parent, other, rows, quick, progress)
            if all(np.isfinite(each.losses).all() for each in theirs.observed.values()):
                parents.append(theirs)
            else:
                told = f"{short_name(parent.name)} has no finite loss: `lamina check {parent.name}` looks into it"
                sections.append(Section("parent", not_run=told))
        else:
            told = f"{short_name(parent.name)} has another tokenizer: its loss is not comparable token by token"
            sections.append(Section("parent", not_run=told))
    lost = _lost(own, parents)
    sections.append(_language(own, parents, rows, descent, lost, hint))
    if parents:
        sections.append(_received(own, parents, descent, lost))
    return [*sections, _answers(own, parents), _cache(own)]


def _loaded(model: PlainModel, memory: int | None, device: str) -> RunningModel:
    elements = sum(spec.count for spec in model.checkpoint.specs.values())
    folder = model.checkpoint.folder
    has_tokenizer = Vocabulary(small_files(model, VOCABULARY_FILES)).is_there
    return RunningModel(
        folder, model.architecture.depth, elements, has_tokenizer=has_tokenizer, memory=memory, device=device
    )


def _tokens(running: RunningModel, rows: Mapping[str, Tokens]) -> dict[str, int]:
    """The tokens that the rows are made of; what else a tokenizer knows does not matter to them."""
    used = set(np.unique(np.concatenate([each.ravel() for each in rows.values()])).tolist())
    return {token: number for token, number in running.tokenizer.get_vocab().items() if number in used}


def _behaviour(
    model: PlainModel,
    running: RunningModel,
    rows: Mapping[str, Tokens],
    quick: bool,
    progress: Callable[[str], None],
) -> Behaviour:
    length = next(iter(rows.values())).shape[1]
    first = min(FIRST_WATCHED, length // 2)
    watched = [first + (length - first) * index // WATCHED for index in range(min(WATCHED, length - first))]
    observed = {}
    for name, tokens in rows.items():
        progress(f"{short_name(model.name)}: {name}, {counted(tokens.size, 'token')}")
        observed[name] = running.observe(tokens, watched)
    if running.is_streamed:
        size = sum(spec.nbytes for spec in model.checkpoint.specs.values())
        return Behaviour(model.name, observed, (), None, f"needs {in_bytes(size)} of memory")
    answers: tuple[Answer, ...] = ()
    if not quick:
        progress(f"{short_name(model.name)}: {counted(len(prompts()), 'answer')}")
        answers = tuple(running.answer(prompt, ANSWER_TOKENS) for prompt in prompts())
    longer = min(running.longest, max(ROW // 2, running.window + 4 * CACHE_TAIL))
    tokens = np.concatenate([each.ravel() for each in rows.values()])[:longer]
    cached = running.cached_difference(tokens, CACHE_TAIL)
    return Behaviour(model.name, observed, answers, cached, QUICK if quick else "", running.is_rounded)


def _loads(running: RunningModel) -> Section:
    """Findings where transformers missed tensors, found others, or others' shapes."""
    loading, findings = running.loading, []
    for names, what in (
        (loading.missing, "are wanted by transformers and not there"),
        (loading.mismatched, "have another shape than transformers wants"),
    ):
        if names:
            findings.append(Finding(Level.BROKEN, "lost-tensor", f"{listed(names)} {what}.", key=names[0]))
    if loading.unexpected:
        message = f"{listed(loading.unexpected)}: transformers does not use it."
        findings.append(Finding(Level.SUSPICIOUS, "unused-tensor", message, key=loading.unexpected[0]))
    return Section("loads", "transformers finds every tensor that it wants", tuple(findings))


def _lost(own: Behaviour, parents: Sequence[Behaviour]) -> Difference | None:
    """What is lost over all texts, beside the parent that loses most: a blend lies between its parents."""
    differences = [_difference(own, parent, list(own.observed)) for parent in parents]
    return min(differences, key=lambda each: each.mean, default=None)


def _difference(own: Behaviour, parent: Behaviour, names: Sequence[str]) -> Difference:
    rows = np.concatenate(
        [(own.observed[name].losses - parent.observed[name].losses).mean(axis=1, dtype=np.float64) for name in names]
    )
    error = 1.96 * float(rows.std(ddof=1)) / math.sqrt(len(rows)) if len(rows) > 1 else math.inf
    mean = float(rows.mean())
    return Difference(mean, mean - error, mean + error)


def _language(
    own: Behaviour,
    parents: Sequence[Behaviour],
    rows: Mapping[str, Tokens],
    descent: Descent,
    lost: Difference | None,
    hint: str,
) -> Section:
    findings = [*_no_better_than_counting(own, parents, rows)]
    told = "; ".join(_told_loss(own, parent) for parent in parents) or ", ".join(
        f"{_mean(seen):.2f} nats a token on {name}" for name, seen in own.observed.items()
    )
    if lost is not None and not lost.mean <= LOST:
        explained = " and ".join(
            what for what, there in (("seams", descent.seams), ("blends", descent.blends)) if there
        )
        why = f"as its {explained} explain." if explained else "no seam or blend of unlike depths explains it."
        why += "" if explained else hint
        level = Level.NEEDS_TRAINING if explained else Level.SUSPICIOUS
        findings.append(Finding(level, "lost", f"{told}: {why}"))
    return Section("language", told, tuple(findings))


def _told_loss(own: Behaviour, parent: Behaviour) -> str:
    parts = [f"{_difference(own, parent, [name])} on {name}" for name in own.observed]
    of_parent = ", ".join(f"{_mean(parent.observed[name]):.2f}" for name in own.observed)
    return f"{', '.join(parts)} nats a token beside {short_name(parent.name)} ({of_parent})"


def _mean(seen: Observation) -> float:
    return float(seen.losses.mean(dtype=np.float64))


def _no_better_than_counting(
    own: Behaviour, parents: Sequence[Behaviour], rows: Mapping[str, Tokens]
) -> Iterator[Finding]:
    """Texts on which the model is no better than the frequencies of the tokens, and its parents are."""
    for name, seen in own.observed.items():
        counted_alone = unigram_loss(rows[name])
        if _mean(seen) < counted_alone:
            continue
        better = [parent for parent in parents if _mean(parent.observed[name]) < counted_alone]
        if better or (not parents and name not in OF_SOME_MODELS):
            message = f"{_mean(seen):.2f} nats a token on {name}; how often each token occurs alone gives"
            message += f" {counted_alone:.2f}."
            yield Finding(Level.BROKEN, "no-language", message)


def unigram_loss(rows: Tokens) -> float:
    """What a model loses that knows how often each token occurs in the rows, and nothing else. Nats a token."""
    _, counts = np.unique(rows[:, 1:], return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _received(own: Behaviour, parents: Sequence[Behaviour], descent: Descent, lost: Difference | None) -> Section:
    """What each layer receives, against what the layer that it comes from receives in its parent.

    Seams and blends are worth training where anything is lost; else they are only told.
    """
    shifts = input_shifts(own, parents, descent)
    level = Level.NEEDS_TRAINING if lost is not None and not lost.mean <= LOST else Level.HEALTHY
    findings = []
    for layer, kin in descent.seams:
        what = f"layer {layer} ({short_name(kin.model)} {kin.layer}) follows on a layer that it did not follow on there"
        shift = f" and receives {shifts[layer]:.2f} of what it was trained on" if layer in shifts else ""
        findings.append(Finding(level, "seam", f"{what}{shift}.", layer))
    if descent.blends:
        many = len(descent.blends) > 1
        least = min((shifts[layer] for layer in descent.blends if layer in shifts), default=1.0)
        what = f"layer{'s' * many} {spans(descent.blends)} blend{'' if many else 's'} unlike depths"
        findings.append(Finding(level, "blend", f"{what}; received there: down to {least:.2f}.", descent.blends[0]))
    least = min(shifts.values(), default=1.0)
    told = f"every layer receives at least {least:.2f} of what it was trained on"
    return Section("seams", told, tuple(findings), by_layer=shifts)


def input_shifts(own: Behaviour, parents: Sequence[Behaviour], descent: Descent) -> dict[int, float]:
    """For each layer with an origin: the mean cosine of what it receives and what its origin receives there.

    The same positions of the same tokens are compared.
    """
    known = {parent.name: parent for parent in parents}
    found = {}
    for layer, kin in descent.path:
        if kin.model not in known:
            continue
        cosines = []
        for name, seen in own.observed.items():
            here, there = seen.inputs[layer], known[kin.model].observed[name].inputs[kin.layer]
            norms = np.linalg.norm(here, axis=1) * np.linalg.norm(there, axis=1)
            cosines.append((here * there).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny))
        found[layer] = float(np.concatenate(cosines).mean(dtype=np.float64))
    return found


def _answers(own: Behaviour, parents: Sequence[Behaviour]) -> Section:
    """Greedy answers that turn in a loop, against the parents'."""
    if not own.answers:
        return Section("answers", not_run=own.not_run, unasked=own.not_run == QUICK)
    looping = _loops(own)
    least = min((_loops(parent) for parent in parents if parent.answers), default=None)
    beside = "" if least is None else f", the best parent's {least}"
    stopped = sum(answer.stopped for answer in own.answers)
    told = f"{looping} of {len(own.answers)} answers turn in a loop{beside}; {stopped} end by themselves"
    findings: tuple[Finding, ...] = ()
    if least is not None and looping >= 0.8 * len(own.answers) and least <= 0.2 * len(own.answers):
        findings = (Finding(Level.BROKEN, "loops", f"{told}."),)
    return Section("answers", told, findings)


def _loops(behaviour: Behaviour) -> int:
    return sum(is_loop(answer.tokens) for answer in behaviour.answers)


def is_loop(tokens: Sequence[int]) -> bool:
    """True where the last 24 tokens are nothing but repeats of at most 12 tokens."""
    tail = list(tokens[-LOOP:])
    return len(tail) == LOOP and any(tail[period:] == tail[:-period] for period in range(1, LONGEST_PERIOD + 1))


def _cache(own: Behaviour) -> Section:
    """Whether a cache changes what the model computes."""
    if own.cached is None:
        return Section("cache", not_run=own.not_run)
    told = f"logits with a cache are those without, to {own.cached:.1e} of the largest"
    if own.cached <= (ROUNDED_CACHE_TOLERANCE if own.is_rounded else CACHE_TOLERANCE):
        return Section("cache", told)
    message = f"a cache changes the logits by {own.cached:.2f} of the largest: layers do not know their places."
    return Section("cache", findings=(Finding(Level.BROKEN, "cache", message),))
