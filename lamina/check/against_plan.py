"""Are the tensors what their recipe makes of the parents? To the bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from lamina.check.descent import Descent
from lamina.check.findings import Finding, Level, Section
from lamina.check.likeness import Progress, Tensors
from lamina.check.naming import short_name
from lamina.check.parallel import each
from lamina.execute.run import Source
from lamina.expressions.compute import Worker, Workspace, compute, measure
from lamina.expressions.inspect import block_bytes, blocks, is_copy
from lamina.expressions.nodes import Read
from lamina.kernels.numpy_kernels import NumpyKernels
from lamina.models.plain import PlainModel
from lamina.plans.explain import layer_of
from lamina.plans.plan import Job, Plan
from lamina.wording import counted, listed


def check_against_plan(
    model: PlainModel,
    plan: Plan,
    sources: Mapping[str, Source],
    descent: Descent,
    *,
    workers: int | None = None,
    progress: Progress = lambda _name, _nbytes: None,
) -> Section:
    """Compare a folder with what its recipe makes: copied tensors whole, blended ones in a block or two."""
    specs, own = plan.specs, model.checkpoint.specs
    lost = [name for name in specs if name not in own]
    findings = [
        Finding(Level.BROKEN, "lost-tensor", f"{name} is in the recipe and not in the folder.", layer_of(name), name)
        for name in lost
    ]
    findings += [
        Finding(
            Level.BROKEN, "unlike-tensor", f"{name} is {own[name]} and the recipe makes {spec}.", layer_of(name), name
        )
        for name, spec in specs.items()
        if name in own and own[name] != spec
    ]
    jobs = [job for job in plan.jobs if own.get(job.name) == job.expr.spec]

    def worker() -> Callable[[Job], bool]:
        comparer = _Comparer(model.checkpoint, sources, jobs, progress)
        return comparer.is_as_planned

    same = each(jobs, worker, workers)
    wrong = [job for job, as_planned in same.items() if not as_planned]
    for layer, group in groupby(sorted(wrong, key=lambda job: (job.layer is None, job.layer)), lambda job: job.layer):
        findings.append(_not_as_planned(layer, list(group), descent))
    copied = sum(is_copy(job.expr) for job in plan.jobs)
    computed = len(plan.jobs) - copied
    parts = [f"{counted(copied, 'tensor')} copied byte for byte"] if copied else []
    parts += (
        [f"{counted(computed, 'tensor')} with the values that the recipe gives, in sampled blocks"] if computed else []
    )
    told = " and ".join(parts)
    return Section("identity", told, tuple(findings))


class _Comparer:
    """One worker: computes what the plan says and compares it with what lies in the folder."""

    def __init__(self, folder: Tensors, sources: Mapping[str, Source], jobs: Sequence[Job], progress: Progress) -> None:
        self._folder, self._progress = folder, progress
        nbytes = max((block_bytes(job.expr) for job in jobs), default=0)

        def read(tensor: Read, first_byte: int, buffer: memoryview) -> None:
            sources[tensor.model].read_into(tensor.name, first_byte, buffer)

        self._worker = Worker(read, NumpyKernels(), Workspace(nbytes))

    def is_as_planned(self, job: Job) -> bool:
        every = blocks(job.expr) or [(0, 0)]
        chosen = every if is_copy(job.expr) else list(dict.fromkeys((every[0], every[len(every) // 2])))
        measured = measure(job.expr, self._worker)
        for start, stop in chosen:
            self._worker.workspace.clear()
            wanted, _ = compute(job.expr, start, stop, measured, self._worker)
            found = bytearray(len(wanted.raw))
            self._folder.read_into(job.name, start * job.expr.spec.dtype.bits // 8, memoryview(found))
            self._progress(job.name, len(found))
            if found != wanted.raw:
                return False
        return True


def _not_as_planned(layer: int | None, jobs: Sequence[Job], descent: Descent) -> Finding:
    names = [job.name for job in jobs]
    if layer is None:
        message = f"{listed(names)}: not what the recipe makes."
        return Finding(Level.BROKEN, "not-as-planned", message, None, names[0])
    kin = descent.origins[layer]
    like = (
        f"; it is most like {short_name(kin[0].model)}'s layer {kin[0].layer}"
        if kin
        else "; it is like no layer of the parents"
    )
    suffixes = [name.removeprefix(descent.model.architecture.layer_name(layer, "")) for name in names]
    message = f"layer {layer} is not what the recipe makes ({listed(suffixes)}){like}."
    return Finding(Level.BROKEN, "not-as-planned", message, layer, names[0])
